"""A started emulator and a plain HTTP client of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from airflow_provider_apify.emulator import Emulator


class Api:
    """Apify's API as seen with the valid token; answers come as they are."""

    def __init__(self, emulator: Emulator) -> None:
        headers = {"Authorization": f"Bearer {emulator.token}", "User-Agent": "tests/1"}
        self.http = httpx.Client(base_url=f"{emulator.url}/v2", headers=headers, timeout=10, verify=False)

    def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.http.request(method, path, **options)

    def start(self, actor: str = "hello-world", version: str = "0.0", **params: Any) -> dict[str, Any]:
        answer = self("POST", f"/actors/~{actor}/builds", params={"version": version, **params})
        assert answer.status_code == 201, answer.text
        return dict(answer.json()["data"])

    def build(self, build_id: str, wait: float = 0) -> dict[str, Any]:
        return dict(self("GET", f"/actor-builds/{build_id}", params={"waitForFinish": wait}).json()["data"])

    def built(self, actor: str = "hello-world", version: str = "0.0", **params: Any) -> dict[str, Any]:
        return self.build(self.start(actor, version, **params)["id"], wait=60)

    def start_run(
        self, actor: str = "hello-world", run_input: dict[str, Any] | None = None, **params: Any
    ) -> dict[str, Any]:
        answer = self("POST", f"/actors/~{actor}/runs", params=params, json=run_input)
        assert answer.status_code == 201, answer.text
        return dict(answer.json()["data"])

    def run(self, run_id: str, wait: float = 0) -> dict[str, Any]:
        return dict(self("GET", f"/actor-runs/{run_id}", params={"waitForFinish": wait}).json()["data"])

    def ran(self, actor: str = "hello-world", run_input: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
        return self.run(self.start_run(actor, run_input, **params)["id"], wait=60)

    def tags(self, actor: str = "hello-world") -> dict[str, str]:
        tagged = self("GET", f"/actors/~{actor}").json()["data"]["taggedBuilds"]
        return {tag: build["buildNumber"] for tag, build in tagged.items()}


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(build_seconds=0.1, run_seconds=0.1) as emulator:
        yield emulator


@pytest.fixture
def api(emulator: Emulator) -> Iterator[Api]:
    api = Api(emulator)
    with api.http:
        yield api


anyone = httpx.Client(verify=False, timeout=10)
"""A client without a token; without certificates, whose loading would slow every test down."""


def streamed(url: str, end: Callable[[], object]) -> tuple[str, str]:
    """Read a log that is streamed: give what came first, and what came after ``end`` was called."""
    with anyone.stream("GET", url) as stream:
        chunks = stream.iter_text()
        first = next(chunks)
        end()
        return first, "".join(chunks)


def error(answer: httpx.Response) -> tuple[int, str]:
    """Status and error type of a refusal."""
    body = answer.json()["error"]
    assert isinstance(body["message"], str)
    return answer.status_code, body["type"]
