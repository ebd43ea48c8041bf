"""Promise 6 over real sockets: beyond the budget of connections builds are noticed too, fairly and cheaply."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_apify.emulator import Emulator, Fault
from airflow_provider_apify.exceptions import ApifyBuildTimeout
from airflow_provider_apify.hooks import async_transport, polls
from airflow_provider_apify.hooks.apify import ApifyHook
from rig.network import self_signed
from tests.integration.conftest import start_build
from tests.runner import Supervisor


@pytest.fixture(autouse=True)
def quick_list(apify: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polls, "LIST_INTERVAL", 0.2)
    apify.memory_mbytes = 4096 * 1000


def connect(supervisor: Supervisor, **extra: Any) -> None:
    supervisor.connections["apify_default"]["extra"] = json.dumps(extra)


async def wait_for(ids: list[str], *, deadline: float | None = None) -> list[str]:
    hook = ApifyHook()
    builds = await asyncio.gather(*(hook.wait_for_build_async(build_id, deadline=deadline) for build_id in ids))
    return [build.status for build in builds]


async def until(reached: Callable[[], bool]) -> None:
    while not reached():  # noqa: ASYNC110 - what it waits for happens in other threads
        await asyncio.sleep(0.01)


def long_polls(apify: Emulator) -> int:
    return sum("waitForFinish" in request.query for request in apify.requests)


def looks_at_the_list(apify: Emulator) -> int:
    return sum(request.path == "/v2/actor-builds" for request in apify.requests)


def test_builds_beyond_the_budget_cost_one_request_each_and_one_for_all(
    apify: Emulator, supervisor: Supervisor
) -> None:
    connect(supervisor, connections=3)
    apify.build_seconds = 2
    ids = [start_build(apify) for _ in range(40)]
    apify.clear_ledger()
    assert asyncio.run(wait_for(ids)) == ["SUCCEEDED"] * 40
    requests = len(apify.requests) - looks_at_the_list(apify)
    assert requests <= 44
    assert 1 <= looks_at_the_list(apify) <= 20


def test_no_build_waits_behind_the_long_polls_of_others(apify: Emulator, supervisor: Supervisor) -> None:
    """Two builds that never end hold both connections; the third is noticed all the same."""
    connect(supervisor, connections=2)
    apify.build_seconds = 60
    endless = [start_build(apify) for _ in range(2)]

    async def run() -> None:
        holding = [asyncio.create_task(wait_for([build_id])) for build_id in endless]
        await until(lambda: long_polls(apify) == 2)
        apify.build_seconds = 0.5
        short = await asyncio.to_thread(start_build, apify)
        assert await asyncio.wait_for(wait_for([short]), 10) == ["SUCCEEDED"]
        assert not any(task.done() for task in holding)
        assert long_polls(apify) == 2
        for task in holding:
            task.cancel()

    asyncio.run(run())


def test_a_free_connection_goes_to_the_first_in_line(apify: Emulator, supervisor: Supervisor) -> None:
    connect(supervisor, connections=1)
    apify.build_seconds = 60
    first, second = start_build(apify), start_build(apify)

    async def run() -> None:
        waiting = [asyncio.create_task(wait_for([build_id])) for build_id in (first, second)]
        await until(lambda: long_polls(apify) == 1 and looks_at_the_list(apify) > 0)
        waiting[0].cancel()  # as when its task is cleared
        await until(lambda: long_polls(apify) == 2)
        seen = looks_at_the_list(apify)
        apify.finish_build(second)
        assert await waiting[1] == ["SUCCEEDED"]
        assert looks_at_the_list(apify) <= seen + 1, "without a line nobody looks at the list"

    asyncio.run(run())


def test_a_place_given_to_one_who_leaves_is_not_lost(apify: Emulator, supervisor: Supervisor) -> None:
    connect(supervisor, connections=1)
    apify.build_seconds = 60
    ids = [start_build(apify) for _ in range(3)]

    async def run() -> None:
        waiting = [asyncio.create_task(wait_for([build_id])) for build_id in ids]
        await until(lambda: long_polls(apify) == 1 and looks_at_the_list(apify) > 0)
        waiting[0].cancel()
        await asyncio.sleep(0)  # its place is passed on to the second, who leaves before it can take it
        waiting[1].cancel()
        await until(lambda: long_polls(apify) == 2)
        assert apify.requests[-1].path.endswith(ids[2])
        waiting[2].cancel()

    asyncio.run(asyncio.wait_for(run(), 20))


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
    """Though another build never ends, and so holds the only connection."""
    monkeypatch.setattr("airflow_provider_apify.jobs.wait.LEAST_INTERVAL", 0.3)
    monkeypatch.setattr(polls, "REFUSED_PAUSE", 0.5)
    monkeypatch.setattr(polls, "UNLISTED_AT_ONCE", 1)
    connect(supervisor, connections=1)
    apify.build_seconds = 60
    endless = start_build(apify)
    fault.method, fault.path = "GET", "/v2/actor-builds"
    apify.add_fault(fault)

    async def run() -> None:
        holding = asyncio.create_task(wait_for([endless]))
        await until(lambda: long_polls(apify) == 1)
        apify.build_seconds = 1.5
        ids = [start_build(apify) for _ in range(4)]
        assert await asyncio.wait_for(wait_for(ids), 20) == ["SUCCEEDED"] * 4
        assert looks_at_the_list(apify) > 1, "what was refused or odd is tried again"
        holding.cancel()

    asyncio.run(run())


def test_an_odd_status_in_the_list_does_not_end_the_looks(apify: Emulator, supervisor: Supervisor) -> None:
    connect(supervisor, connections=1)
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


def test_a_lowered_budget_closes_connections_though_there_is_a_line() -> None:
    """Long-polls that are over are passed on only while they are within it."""
    waits: dict[str, asyncio.Event] = {}

    async def send(request: Any) -> Any:
        if request.path.endswith("/actor-builds"):
            return {"items": []}
        if request.query:
            await waits.setdefault(request.path.rsplit("/", 1)[1], asyncio.Event()).wait()
        return {}

    async def run() -> None:
        engine = polls.Polls(send)

        def ask(build_id: int, budget: int) -> asyncio.Task[Any]:
            return asyncio.create_task(engine.ask(f"b{build_id}", 60, budget=budget, longest=60))

        first = [ask(number, 4) for number in range(6)]
        await until(lambda: len(waits) == 4)
        last = ask(6, 2)
        await asyncio.sleep(0)
        for number in range(2):
            waits[f"b{number}"].set()
            await first[number]
        await asyncio.sleep(0.1)
        assert len(waits) == 4, "two were over the budget"
        waits["b2"].set()
        await until(lambda: len(waits) == 5)
        for task in [*first, last]:
            task.cancel()

    asyncio.run(asyncio.wait_for(run(), 20))


def test_without_long_polls_the_list_serves_all(apify: Emulator, supervisor: Supervisor) -> None:
    """As behind a proxy that cuts every request that takes long."""
    connect(supervisor, wait_seconds=0)
    apify.build_seconds = 1
    ids = [start_build(apify) for _ in range(10)]
    assert asyncio.run(wait_for(ids)) == ["SUCCEEDED"] * 10
    assert long_polls(apify) == 0
    assert len(apify.requests) - looks_at_the_list(apify) == 20, "one to start it, one when it has ended"


def test_a_list_of_several_pages_is_read_as_far_as_needed(
    apify: Emulator, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_apify.api.requests.PAGE_LIMIT", 4)
    monkeypatch.setattr(polls.api.list_user_builds, "__kwdefaults__", {"limit": 4, "offset": 0})
    connect(supervisor, wait_seconds=0)
    apify.build_seconds = 1
    ids = [start_build(apify) for _ in range(10)]
    apify.clear_ledger()
    assert asyncio.run(wait_for(ids)) == ["SUCCEEDED"] * 10
    assert {"offset=4", "offset=8"} <= {request.query.rpartition("&")[2] for request in apify.requests}
    assert len(apify.requests) - looks_at_the_list(apify) == 10


def test_the_deadline_comes_in_line_too(apify: Emulator, supervisor: Supervisor) -> None:
    connect(supervisor, connections=1)
    apify.build_seconds = 60
    ids = [start_build(apify) for _ in range(2)]

    async def run() -> list[Any]:
        hook = ApifyHook()
        waits = [hook.wait_for_build_async(build_id, deadline=time.time() + 1) for build_id in ids]
        return await asyncio.gather(*waits, return_exceptions=True)

    begun = time.monotonic()
    assert [type(result) for result in asyncio.run(run())] == [ApifyBuildTimeout] * 2
    assert time.monotonic() - begun >= 1


def test_a_tls_connection_is_lean(supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It depends on private names: if this fails, a release of aiohttp or Python has changed them."""
    certificate = tmp_path / "certificate.pem"
    certificate.write_bytes(self_signed())
    seen: list[Any] = []
    wrap = async_transport._LeanConnector._wrap_create_connection

    async def spy(self: Any, *args: Any, **kwargs: Any) -> Any:
        transport, protocol = await wrap(self, *args, **kwargs)
        seen.append(transport._ssl_protocol)
        return transport, protocol

    monkeypatch.setattr(async_transport._LeanConnector, "_wrap_create_connection", spy)
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
        assert len(tls._ssl_buffer) == tls.max_size == async_transport.TLS_RECORD
