"""Answers have the shapes that Apify's OpenAPI definition gives them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_apify.emulator import Emulator

from .conftest import Api

DEFINITION = Path(__file__).parents[3].parent / "shared" / "apify-openapi.json"

pytestmark = pytest.mark.skipif(
    not DEFINITION.exists(), reason="needs Apify's OpenAPI definition beside the repository"
)


class Definition:
    """Checks an answer against what the definition says about its route and status."""

    def __init__(self) -> None:
        from jsonschema import Draft202012Validator, FormatChecker
        from referencing import Registry
        from referencing.jsonschema import DRAFT202012

        self.document = json.loads(DEFINITION.read_text())
        resource = DRAFT202012.create_resource(self.document)
        self.registry = Registry().with_resource("apify", resource)
        self.validator, self.formats = Draft202012Validator, FormatChecker()

    def check(self, api: Api, method: str, route: str, status: int, **options: Any) -> Any:
        path = route.format(**options.pop("ids", {}))
        answer = api(method, path, **options)
        assert answer.status_code == status, answer.text
        responses = self.document["paths"]["/v2" + route][method.lower()]["responses"]
        response = responses[str(status)]
        if "$ref" in response:
            response = self.document["components"]["responses"][response["$ref"].rpartition("/")[2]]
        media_type = answer.headers.get("Content-Type", "").partition(";")[0]
        if status == 204:
            assert answer.content == b""
            return None
        schema = response["content"][media_type]["schema"]
        body = answer.json() if media_type == "application/json" else answer.text
        rooted = json.loads(json.dumps(schema).replace('"#/', '"apify#/'))
        self.validator(rooted, registry=self.registry, format_checker=self.formats).validate(body)
        return body["data"] if isinstance(body, dict) and "data" in body else body


@pytest.fixture(scope="module")
def definition() -> Definition:
    pytest.importorskip("jsonschema")
    return Definition()


def test_actors(api: Api, definition: Definition) -> None:
    ids = {"actorId": "~two-versions", "versionNumber": "1.0"}
    build = api.built("two-versions")
    change = {"taggedBuilds": {"stable": {"buildId": build["id"]}}}
    definition.check(api, "GET", "/actors", 200)
    definition.check(api, "GET", "/actors/{actorId}", 200, ids=ids)
    definition.check(api, "PUT", "/actors/{actorId}", 200, ids=ids, json=change)
    definition.check(api, "GET", "/actors/{actorId}/versions", 200, ids=ids)
    definition.check(api, "GET", "/actors/{actorId}/versions/{versionNumber}", 200, ids=ids)


@pytest.mark.parametrize("actor", ["hello-world", "always-fails", "times-out"])
def test_builds_unfinished_and_finished(api: Api, definition: Definition, actor: str) -> None:
    ids = {"actorId": f"~{actor}"}
    build = definition.check(api, "POST", "/actors/{actorId}/builds", 201, ids=ids, params={"version": "0.0"})
    ids |= {"buildId": build["id"], "buildOrRunId": build["id"]}
    for wait in (0, 60):
        definition.check(api, "GET", "/actor-builds/{buildId}", 200, ids=ids, params={"waitForFinish": wait})
        definition.check(api, "GET", "/actors/{actorId}/builds/{buildId}", 200, ids=ids)
        definition.check(api, "GET", "/actors/{actorId}/builds", 200, ids=ids)
        definition.check(api, "GET", "/actor-builds", 200)
        definition.check(api, "GET", "/actor-builds/{buildId}/log", 200, ids=ids)
        definition.check(api, "GET", "/logs/{buildOrRunId}", 200, ids=ids)
    if actor == "hello-world":
        definition.check(api, "GET", "/actors/{actorId}/builds/default", 200, ids=ids)
    else:
        definition.check(api, "DELETE", "/actor-builds/{buildId}", 204, ids=ids)


def test_aborted_builds(api: Api, definition: Definition) -> None:
    for route in ("/actor-builds/{buildId}/abort", "/actors/{actorId}/builds/{buildId}/abort"):
        ids = {"actorId": "~slow-build", "buildId": api.start("slow-build")["id"]}
        definition.check(api, "POST", route, 200, ids=ids)
        definition.check(api, "GET", "/actor-builds/{buildId}", 200, ids=ids, params={"waitForFinish": 60})


RUNNABLE = ["hello-world", "scraper", "fails-half-way", "finds-nothing", "needs-input", "charges-events"]


@pytest.mark.parametrize("full_lists", [False, True])
@pytest.mark.parametrize("actor", RUNNABLE)
def test_runs_unfinished_and_finished(
    api: Api, emulator: Emulator, definition: Definition, actor: str, full_lists: bool
) -> None:
    emulator.full_lists = full_lists
    ids = {"actorId": f"~{actor}"}
    options = {"memory": 512, "timeout": 60, "maxItems": 3, "maxTotalChargeUsd": 2.5, "build": "latest"}
    run_input = {"startUrls": [{"url": "https://example.com"}]}
    run = definition.check(api, "POST", "/actors/{actorId}/runs", 201, ids=ids, params=options, json=run_input)
    ids |= {"runId": run["id"], "buildOrRunId": run["id"]}
    for wait in (0, 60):
        definition.check(api, "GET", "/actor-runs/{runId}", 200, ids=ids, params={"waitForFinish": wait})
        definition.check(api, "GET", "/actors/{actorId}/runs", 200, ids=ids)
        definition.check(api, "GET", "/actor-runs", 200)
        definition.check(api, "GET", "/actors/{actorId}/runs/last", 200, ids=ids)
        definition.check(api, "GET", "/actor-runs/{runId}/log", 200, ids=ids)
        definition.check(api, "GET", "/logs/{buildOrRunId}", 200, ids=ids)
    definition.check(api, "GET", "/actor-runs/{runId}/dataset", 200, ids=ids)
    definition.check(api, "GET", "/actor-runs/{runId}/dataset/items", 200, ids=ids)
    definition.check(api, "GET", "/actors/{actorId}/runs/last/key-value-store", 200, ids=ids)
    definition.check(api, "POST", "/actor-runs/{runId}/resurrect", 200, ids=ids)
    definition.check(api, "POST", "/actor-runs/{runId}/abort", 200, ids=ids, params={"gracefully": "true"})
    definition.check(api, "POST", "/actor-runs/{runId}/abort", 200, ids=ids)
    definition.check(api, "GET", "/actor-runs/{runId}", 200, ids=ids, params={"waitForFinish": 60})
    definition.check(api, "DELETE", "/actor-runs/{runId}", 204, ids=ids)


def test_tasks(api: Api, definition: Definition) -> None:
    ids = {"actorTaskId": "~ten-products"}
    definition.check(api, "GET", "/actor-tasks", 200)
    definition.check(api, "GET", "/actor-tasks/{actorTaskId}", 200, ids=ids)
    definition.check(api, "GET", "/actor-tasks/{actorTaskId}/input", 200, ids=ids)
    definition.check(api, "POST", "/actor-tasks/{actorTaskId}/runs", 201, ids=ids, json={"items": 1})
    definition.check(api, "GET", "/actor-tasks/{actorTaskId}/runs", 200, ids=ids, params={"status": "READY,RUNNING"})
    definition.check(api, "GET", "/actor-tasks/{actorTaskId}/runs/last", 200, ids=ids)


def test_errors_of_runs(api: Api, emulator: Emulator, definition: Definition) -> None:
    ids, unknown = {"actorId": "~needs-input"}, {"actorId": "~x", "runId": "x", "actorTaskId": "x"}
    valid = {"startUrls": [{"url": "https://example.com"}]}
    start, validate = "/actors/{actorId}/runs", "/actors/{actorId}/validate-input"
    definition.check(api, "POST", validate, 200, ids=ids, json=valid)
    for route in (start, validate):
        definition.check(api, "POST", route, 400, ids=ids, json={})
        definition.check(api, "POST", route, 403, ids=ids, json=valid, params={"build": "nope"})
        definition.check(api, "POST", route, 404, ids=unknown, json={})
        definition.check(api, "POST", route, 413, ids=ids, content=b"x" * 9_437_185)
        definition.check(api, "POST", route, 415, ids=ids, content=b"x", headers={"Content-Encoding": "zstd"})
    for query in ("memory=300", "maxItems=0", "maxTotalChargeUsd=0", "timeout=x"):
        definition.check(api, "POST", start, 400, ids=ids, params=query, json=valid)
    definition.check(api, "GET", "/actor-runs/{runId}", 404, ids=unknown)
    definition.check(api, "GET", "/actors/{actorId}/runs/last", 404, ids=ids)
    definition.check(api, "POST", "/actor-tasks/{actorTaskId}/runs", 404, ids=unknown, json={})
    running = {"runId": api.start_run("slow-run")["id"]}
    definition.check(api, "DELETE", "/actor-runs/{runId}", 400, ids=running)
    definition.check(api, "POST", "/actor-runs/{runId}/resurrect", 400, ids=running)
    emulator.max_concurrent_jobs = 0
    definition.check(api, "POST", start, 402, ids=ids, json=valid)
    emulator.max_concurrent_jobs, emulator.memory_mbytes = 9, 0
    definition.check(api, "POST", start, 402, ids=ids, json=valid)


def test_users(api: Api, definition: Definition) -> None:
    definition.check(api, "GET", "/users/me", 200)
    definition.check(api, "GET", "/users/me/limits", 200)


def test_errors(api: Api, emulator: Emulator, definition: Definition) -> None:
    known, unknown = {"actorId": "~hello-world"}, {"actorId": "~x", "buildId": "x"}
    tagged = {"buildId": api.built()["id"]}
    definition.check(api, "POST", "/actors/{actorId}/builds", 400, ids=known)
    definition.check(api, "DELETE", "/actor-builds/{buildId}", 400, ids=tagged)
    definition.check(api, "PUT", "/actors/{actorId}", 400, ids=known)
    definition.check(api, "GET", "/actors/{actorId}", 404, ids=unknown)
    definition.check(api, "GET", "/actor-builds/{buildId}", 404, ids=unknown)
    definition.check(api, "GET", "/actors/{actorId}/builds/default", 404, ids={"actorId": "~slow-build"})
    emulator.memory_mbytes = 0
    definition.check(api, "POST", "/actors/{actorId}/builds", 402, ids=known, params={"version": "0.0"})
    emulator.token = "rotated"
    definition.check(api, "GET", "/users/me", 401)
    del api.http.headers["Authorization"]
    definition.check(api, "GET", "/users/me", 401)


def test_storages(api: Api, emulator: Emulator, definition: Definition) -> None:
    ids = {
        "datasetId": emulator.add_dataset([{"a": 1}]),
        "storeId": emulator.add_key_value_store(),
        "recordKey": "OUTPUT",
    }
    definition.check(api, "POST", "/datasets/{datasetId}/items", 201, ids=ids, json=[{"a": 2}])
    definition.check(api, "GET", "/datasets/{datasetId}", 200, ids=ids)
    for format in ("json", "jsonl", "csv"):
        definition.check(api, "GET", "/datasets/{datasetId}/items", 200, ids=ids, params={"format": format})
    definition.check(api, "PUT", "/key-value-stores/{storeId}/records/{recordKey}", 201, ids=ids, json={"b": 1})
    definition.check(api, "GET", "/key-value-stores/{storeId}", 200, ids=ids)
    definition.check(api, "POST", "/key-value-stores", 201, params={"name": "urls"})
    definition.check(api, "POST", "/key-value-stores", 200, params={"name": "urls"})
    definition.check(api, "GET", "/key-value-stores/{storeId}/keys", 200, ids=ids)
    definition.check(api, "DELETE", "/key-value-stores/{storeId}/records/{recordKey}", 204, ids=ids)
    definition.check(api, "GET", "/key-value-stores/{storeId}/records/{recordKey}", 404, ids=ids)
    definition.check(api, "DELETE", "/datasets/{datasetId}", 204, ids=ids)
    definition.check(api, "GET", "/datasets/{datasetId}/items", 404, ids=ids)
