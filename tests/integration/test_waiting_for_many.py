"""Promise 6 over real sockets: any number of builds is waited for cheaply, also where no long-poll is allowed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_apify.api.builds import BUILD
from airflow_provider_apify.client import polls, triggerer
from airflow_provider_apify.emulator import Emulator, Fault
from airflow_provider_apify.exceptions import ApifyJobTimeout
from airflow_provider_apify.hooks.apify import ApifyHook
from rig.network import self_signed
from tests.integration.conftest import client, start_build
from tests.runner import Supervisor


@pytest.fixture(autouse=True)
def quick_list(apify: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polls, "LIST_INTERVAL", 0.2)
    apify.memory_mbytes = 4096 * 1000


def connect(supervisor: Supervisor, **extra: Any) -> None:
    supervisor.connections["apify_default"]["extra"] = json.dumps(extra)


async def wait_for(ids: list[str], *, deadline: float | None = None) -> list[str]:
    builds = await asyncio.gather(*(client().wait_async(BUILD, build_id, deadline=deadline) for build_id in ids))
    return [build.status for build in builds]


async def until(reached: Callable[[], bool]) -> None:
    while not reached():  # noqa: ASYNC110 - what it waits for happens in other threads
        await asyncio.sleep(0.01)


def long_polls(apify: Emulator) -> int:
    return sum("waitForFinish" in request.query for request in apify.requests)


def looks_at_the_list(apify: Emulator) -> int:
    return sum(request.path == "/v2/actor-builds" for request in apify.requests)


def test_without_long_polls_the_list_serves_all(apify: Emulator, supervisor: Supervisor) -> None:
    """As behind a proxy that cuts every request that takes long."""
    connect(supervisor, wait_seconds=0)
    apify.build_seconds = 1
    ids = [start_build(apify) for _ in range(10)]
    assert asyncio.run(wait_for(ids)) == ["SUCCEEDED"] * 10
    assert long_polls(apify) == 0
    assert len(apify.requests) - looks_at_the_list(apify) == 20, "one to start it, one when it has ended"


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", status=403, times=None),  # a token that may see builds but not list them
        Fault("status", status=200, body={"data": {"items": []}}, times=None),  # builds of somebody else's Actor
        Fault("status", status=200, body={"data": {"items": ["?"]}}, times=2),
        Fault("status", status=500, times=2),
        Fault("html", times=2),
    ],
    ids=["refused", "not in it", "odd", "500", "HTML"],
)
def test_builds_that_the_list_does_not_show_are_noticed_too(
    fault: Fault, apify: Emulator, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polls, "REFUSED_PAUSE", 0.5)
    # What is not in the list is asked for after the time of a long-poll.
    monkeypatch.setattr("airflow_provider_apify.client.client.MAX_WAIT_SECONDS", 2)
    connect(supervisor, wait_seconds=0)
    apify.build_seconds = 1.5
    fault.method, fault.path = "GET", "/v2/actor-builds"
    apify.add_fault(fault)
    ids = [start_build(apify) for _ in range(4)]
    assert asyncio.run(asyncio.wait_for(wait_for(ids), 20)) == ["SUCCEEDED"] * 4
    assert looks_at_the_list(apify) > 1, "what was refused or odd is tried again"


def test_an_odd_status_in_the_list_does_not_end_the_looks(apify: Emulator, supervisor: Supervisor) -> None:
    connect(supervisor, wait_seconds=0)
    apify.build_seconds = 60
    ids = [start_build(apify) for _ in range(2)]
    odd = {"data": {"items": [{"id": build_id, "status": {}} for build_id in ids]}}
    apify.add_fault(Fault("status", status=200, body=odd, method="GET", path="/v2/actor-builds", times=1))

    async def run() -> None:
        waiting = asyncio.create_task(wait_for(ids))
        await until(lambda: looks_at_the_list(apify) > 1)
        for build_id in ids:
            apify.finish_build(build_id)
        assert await asyncio.wait_for(waiting, 10) == ["SUCCEEDED"] * 2

    asyncio.run(run())


def test_when_nobody_waits_any_more_nobody_looks_at_the_list(apify: Emulator, supervisor: Supervisor) -> None:
    connect(supervisor, wait_seconds=0)
    apify.build_seconds = 60
    first, second = start_build(apify), start_build(apify)

    async def run() -> None:
        waiting = [asyncio.create_task(wait_for([build_id])) for build_id in (first, second)]
        await until(lambda: looks_at_the_list(apify) > 0)
        waiting[0].cancel()  # as when its task is cleared
        seen = looks_at_the_list(apify)
        await until(lambda: looks_at_the_list(apify) > seen)
        waiting[1].cancel()
        await asyncio.sleep(0.3)
        seen = looks_at_the_list(apify)
        await asyncio.sleep(0.5)
        assert looks_at_the_list(apify) == seen

    asyncio.run(asyncio.wait_for(run(), 20))


def test_the_deadline_comes_without_long_polls_too(apify: Emulator, supervisor: Supervisor) -> None:
    connect(supervisor, wait_seconds=0)
    apify.build_seconds = 60
    ids = [start_build(apify) for _ in range(2)]

    async def run() -> list[Any]:
        waits = [client().wait_async(BUILD, build_id, deadline=time.time() + 1) for build_id in ids]
        return await asyncio.gather(*waits, return_exceptions=True)

    begun = time.monotonic()
    assert [type(result) for result in asyncio.run(run())] == [ApifyJobTimeout] * 2
    assert time.monotonic() - begun >= 1


def test_a_tls_connection_is_lean(supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It depends on private names: if this fails, a release of aiohttp or Python has changed them."""
    certificate = tmp_path / "certificate.pem"
    certificate.write_bytes(self_signed())
    seen: list[Any] = []
    wrap = triggerer._LeanConnector._wrap_create_connection

    async def spy(self: Any, *args: Any, **kwargs: Any) -> Any:
        transport, protocol = await wrap(self, *args, **kwargs)
        seen.append(transport._ssl_protocol)
        return transport, protocol

    monkeypatch.setattr(triggerer._LeanConnector, "_wrap_create_connection", spy)
    with Emulator(ssl_certfile=str(certificate), build_seconds=0.2) as apify:
        supervisor.connections["apify_default"] = {
            "host": apify.url,
            "password": apify.token,
            "extra": json.dumps({"ca_bundle": str(certificate)}),
        }
        build_id = ApifyHook().start_build("~hello-world", version="0.0").id
        assert asyncio.run(wait_for([build_id])) == ["SUCCEEDED"]
    (tls,) = seen
    if hasattr(tls, "_ssl_buffer"):  # since Python 3.11
        assert len(tls._ssl_buffer) == tls.max_size == triggerer.TLS_RECORD
