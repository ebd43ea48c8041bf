"""Promise 3 over real sockets: what passes never fails a task whose job goes on to succeed, on either transport."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_apify import compat
from airflow_provider_apify.client import polls
from airflow_provider_apify.emulator import Emulator
from airflow_provider_apify.exceptions import ApifyApiError, ApifyJobTimeout
from airflow_provider_apify.lifecycle.deferral import EARLIEST_EVENT
from tests.integration.conftest import client
from tests.kinds import Kind
from tests.runner import RUN_ID, Runner, Supervisor


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their growth is tested with plain values (tests/unit/test_wait.py)."""
    monkeypatch.setattr("airflow_provider_apify.jobs.wait.LONGEST_PAUSE", 0.5)


def wait_sync(kind: Kind, job_id: str, timeout: float | None) -> Any:
    return kind.of_hook("wait_for_{}")(job_id, timeout=timeout)


def wait_async(kind: Kind, job_id: str, timeout: float | None) -> Any:
    deadline = None if timeout is None else time.time() + timeout
    return asyncio.run(client().wait_async(kind.job_kind, job_id, deadline=deadline))


TRANSPORTS = pytest.mark.parametrize("wait", [wait_sync, wait_async], ids=["worker", "triggerer"])


@TRANSPORTS
def test_a_refused_connection_passes_too(
    wait: Callable[..., Any], kind: Kind, supervisor: Supervisor, unused_tcp_port: int
) -> None:
    """Apify is away for a while and comes back at the same address."""
    supervisor.connections["apify_default"]["host"] = f"http://127.0.0.1:{unused_tcp_port}"
    later: list[Emulator] = []

    def come_back() -> None:
        time.sleep(1.5)
        emulator = Emulator(port=unused_tcp_port).__enter__()
        later.append(emulator)

    thread = threading.Thread(target=come_back)
    thread.start()
    try:
        with pytest.raises(ApifyApiError) as raised:  # the job is not there any more, which is final
            wait(kind, "gone", 60)
        assert raised.value.status == 404
    finally:
        thread.join()
        later[0].__exit__(None, None, None)


def test_a_connection_that_takes_long_to_read_does_not_move_the_deadline(
    kind: Kind, apify: Emulator, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from a busy triggerer, which answered after 21 s."""
    off_the_loop = compat.off_the_loop

    async def slowly(call: Callable[[], Any]) -> Any:
        await asyncio.sleep(3)
        return await off_the_loop(call)

    monkeypatch.setattr(compat, "off_the_loop", slowly)
    kind.seconds = 60
    job_id = kind.start()
    with pytest.raises(ApifyJobTimeout):
        wait_async(kind, job_id, 4)
    assert [request.query for request in apify.requests if "waitForFinish" in request.query] == ["waitForFinish=1"]


@TRANSPORTS
def test_a_token_rotated_while_waiting_is_picked_up(
    wait: Callable[..., Any], kind: Kind, apify: Emulator, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_apify.client.settings.RENEW_AFTER", 0.1)
    supervisor.connections["apify_default"]["extra"] = '{"wait_seconds": 1}'
    kind.seconds = 7
    job_id = kind.start()

    def rotate() -> None:
        apify.wait_for(lambda emulator: any("waitForFinish" in request.query for request in emulator.requests))
        supervisor.connections["apify_default"]["password"] = "rotated"
        apify.token = "rotated"

    thread = threading.Thread(target=rotate)
    thread.start()
    assert wait(kind, job_id, 60).status == "SUCCEEDED"
    thread.join()


@TRANSPORTS
def test_a_token_that_stays_refused_is_final(
    wait: Callable[..., Any], kind: Kind, apify: Emulator, supervisor: Supervisor
) -> None:
    job_id = kind.start()
    apify.token = "rotated"
    with pytest.raises(ApifyApiError, match="password") as raised:
        wait(kind, job_id, 60)
    assert raised.value.status == 401


@TRANSPORTS
def test_a_job_deleted_while_waiting_is_final(
    wait: Callable[..., Any], kind: Kind, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_apify.jobs.wait.MISSING_GRACE", 1.0)
    job_id = kind.start()
    kind.delete(job_id)
    with pytest.raises(ApifyApiError, match="Check the ids") as raised:
        wait(kind, job_id, 60)
    assert raised.value.status == 404


@TRANSPORTS
def test_the_deadline_ends_the_wait_and_leaves_the_job(
    wait: Callable[..., Any], kind: Kind, supervisor: Supervisor
) -> None:
    kind.seconds = 30
    job_id = kind.start()
    with pytest.raises(ApifyJobTimeout, match="RUNNING"):
        wait(kind, job_id, 1.0)
    assert kind.jobs[0]["status"] == "RUNNING"


@TRANSPORTS
def test_a_job_costs_one_request_a_minute_and_is_noticed_at_once(
    wait: Callable[..., Any], kind: Kind, apify: Emulator, supervisor: Supervisor
) -> None:
    kind.seconds = 1.0
    job_id = kind.start()
    apify.clear_ledger()
    assert wait(kind, job_id, None).status == "SUCCEEDED"
    assert [request.query for request in apify.requests] == ["waitForFinish=60"]


def test_triggers_of_a_loop_share_one_session_and_leave_none_open(
    kind: Kind, apify: Emulator, supervisor: Supervisor
) -> None:
    kind.seconds = 2
    ids = [kind.start() for _ in range(10)]
    seen: set[int] = set()

    async def wait(job_id: str) -> None:
        async with polls.shared_polls("apify_default") as shared:
            seen.add(id(shared))
            await client().wait_async(kind.job_kind, job_id, deadline=None)

    async def all_of_them() -> None:
        tasks = [asyncio.create_task(wait(job_id)) for job_id in ids]
        while not any("waitForFinish" in request.query for request in apify.requests):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        tasks[0].cancel()  # one that goes takes no other with it
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result).__name__ for result in results] == ["CancelledError"] + ["NoneType"] * 9
        assert polls._shared[asyncio.get_running_loop()] == {}

    asyncio.run(all_of_them())
    assert len(seen) == 1
    lookups = [message for message in supervisor.sent if type(message).__name__ == "GetConnection"]
    assert len(lookups) == 1


def test_an_airflow_that_cannot_be_asked_for_the_connection_passes(
    kind: Kind, supervisor: Supervisor, runner: Runner
) -> None:
    kind.seconds = 60
    job_id = kind.start()
    outcome = runner.run(kind.sensor(job_id, deferrable=True))
    kept = supervisor.connections.pop("apify_default")

    def come_back() -> None:
        supervisor.connections["apify_default"] = kept
        kind.finish(job_id)

    threading.Timer(1.0, come_back).start()
    events = asyncio.run(_events(outcome.trigger))
    assert [event.payload["status"] for event in events] == ["ended"]


@pytest.mark.parametrize(("timeout", "status"), [(None, "ended"), (2, "error")])
def test_no_event_is_sent_within_seconds_of_the_deferral(
    timeout: float | None, status: str, kind: Kind, supervisor: Supervisor, runner: Runner
) -> None:
    """Airflow may not know yet that the process that deferred has ended, and would fail the task."""
    kind.seconds = 30 if timeout else 1
    trigger = runner.run(
        kind.sensor(kind.start(), deferrable=True, **({"timeout": timeout} if timeout else {}))
    ).trigger
    assert trigger.not_before == pytest.approx(time.time() + EARLIEST_EVENT, abs=1)
    run_by_a_triggerer(trigger)
    trigger.not_before = earliest = time.time() + 4
    events = asyncio.run(_events(trigger))
    assert [event.payload["status"] for event in events] == [status]
    assert earliest <= time.time() <= earliest + 2


def test_an_event_is_held_back_no_longer_than_that_where_clocks_differ(
    kind: Kind, supervisor: Supervisor, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_apify.triggers.job.EARLIEST_EVENT", 1.0)
    trigger = runner.run(kind.sensor(kind.start(), deferrable=True)).trigger
    run_by_a_triggerer(trigger)
    trigger.not_before = time.time() + 3600
    assert len(asyncio.run(asyncio.wait_for(_events(trigger), 10))) == 1


def test_a_run_inside_one_process_holds_no_event_back(kind: Kind, supervisor: Supervisor, runner: Runner) -> None:
    trigger = runner.run(kind.sensor(kind.start(), deferrable=True)).trigger
    assert len(asyncio.run(asyncio.wait_for(_events(trigger), 5))) == 1


def run_by_a_triggerer(trigger: Any) -> None:
    trigger.task_instance = SimpleNamespace(dag_id="dag", task_id="wait", run_id=RUN_ID, map_index=-1)


async def _events(trigger: Any) -> list[Any]:
    return [event async for event in trigger.run()]
