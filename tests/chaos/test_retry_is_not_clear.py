"""
Promise 1, the other half: a retry belongs to the attempt that it retries, a clear is a new one, and no two tasks mix.

Tries run in the real supervisor and runner; Airflow's moves between them are those of its scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_apify.emulator import Emulator, Fault, jobs
from rig.waiting import wait_until
from tests.chaos.airflow_stub import Airflow
from tests.chaos.rig import Rig, Task
from tests.rows import builds_are

LIST: dict[str, Any] = {"method": "GET", "path": "/v2/acts/*/builds"}

WAYS = {
    "in the worker, with the task store": (False, 0),
    "in the worker, on an older Airflow": (False, 404),
    "deferred, with the task store": (True, 0),
    "deferred, on an older Airflow": (True, 404),
}


@pytest.fixture(params=WAYS.values(), ids=list(WAYS))
def way(request: pytest.FixtureRequest, rig: Rig) -> dict[str, Any]:
    """Each test on each way of waiting, with the task store and without; gives the operator's options."""
    deferrable, rig.airflow.store = request.param
    return {"deferrable": deferrable}


def ends_well(task: Task, apify: Emulator, *builds: str) -> None:
    """The task succeeds with the newest build; Apify has exactly these."""
    state = task.finish()
    builds_are(apify, *builds, timeout=10)
    assert state == "success", task.log
    assert task.build_id == apify.builds[-1]["id"]


def lose_while_it_waits(task: Task) -> str:
    """Run a try until it waits and lose it; a deferred one is lost by its triggerer."""
    worker = task.start()
    build_id = task.waits_for()
    worker.lose()
    if task.instance.state == "deferred":
        task.instance.state = "running"  # as the scheduler takes it when the trigger fails
    return str(build_id)


#: What becomes of the first try's build before the retry looks, and what the retry then has.
ADOPTED = {
    "READY": ["SUCCEEDED"],
    "RUNNING": ["SUCCEEDED"],
    "HIBERNATING": ["SUCCEEDED"],
    "SUCCEEDED": ["SUCCEEDED"],
    "FAILED": ["FAILED", "SUCCEEDED"],
    "ABORTED": ["ABORTED", "SUCCEEDED"],
    "TIMED-OUT": ["TIMED-OUT", "SUCCEEDED"],
}


@pytest.mark.parametrize(("status", "builds"), ADOPTED.items(), ids=ADOPTED)
def test_a_retry_adopts_what_can_succeed(
    status: str, builds: list[str], way: dict[str, Any], rig: Rig, apify: Emulator
) -> None:
    task = rig.task(retries=1, **way)
    build_id = lose_while_it_waits(task)
    if status in ("READY", "HIBERNATING"):
        apify.add_fault(Fault("unknown-status", value=status, **LIST))
    elif status != "RUNNING":
        apify.finish_build(build_id, status)
    task.retry()
    ends_well(task, apify, *builds)


@pytest.mark.parametrize("store", [0, 404], ids=["with the task store", "on an older Airflow"])
def test_a_retry_waits_for_no_build_that_is_being_aborted(
    store: int, rig: Rig, apify: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_ABORTING_SECONDS", 3600)
    rig.airflow.store = store
    task = rig.task(retries=1)
    build_id = lose_while_it_waits(task)
    abort(apify, build_id)
    task.retry()
    ends_well(task, apify, "ABORTING", "SUCCEEDED")


@pytest.mark.parametrize("store", [0, 404], ids=["with the task store", "on an older Airflow"])
def test_a_retry_waits_for_no_build_that_is_timing_out(store: int, rig: Rig, apify: Emulator) -> None:
    rig.airflow.store = store
    task = rig.task(retries=1)
    build_id = lose_while_it_waits(task)
    apify.add_fault(Fault("unknown-status", value="TIMING-OUT", **LIST))
    task.retry()
    apify.finish_build(build_id, "TIMED-OUT")
    ends_well(task, apify, "TIMED-OUT", "SUCCEEDED")


def abort(apify: Emulator, build_id: str) -> None:
    """As somebody in Apify Console."""
    import requests

    headers = {"Authorization": f"Bearer {apify.token}"}
    requests.post(f"{apify.url}/v2/actor-builds/{build_id}/abort", headers=headers, timeout=5).raise_for_status()


def failed(task: Task, apify: Emulator) -> str:
    build_id = lose_while_it_waits(task)
    apify.finish_build(build_id, "FAILED")
    task.retry()
    apify.finish_build(str(task.waits_for()), "FAILED")
    assert task.run_to_end() == "failed"
    return "FAILED FAILED"


def failed_and_left_a_build(task: Task, apify: Emulator) -> str:
    """The last worker was lost, so that nobody could abort anything."""
    lose_while_it_waits(task)
    lose_while_it_waits(task)
    task.mark("failed")
    return "ABORTED"


def succeeded(task: Task, apify: Emulator) -> str:
    task.start()
    assert task.finish() == "success"
    return "SUCCEEDED"


def running(task: Task, apify: Emulator) -> str:
    task.start()
    task.waits_for()
    return "ABORTED"


#: In which state a task is cleared, and what the ledger then shows of the attempt.
CLEARED = {
    "failed": failed,
    "failed with its last worker lost": failed_and_left_a_build,
    "succeeded": succeeded,
    "running": running,
}


@pytest.mark.parametrize("map_index", [-1, 0], ids=["", "mapped"])
@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
@pytest.mark.parametrize("attempt", CLEARED.values(), ids=CLEARED)
@pytest.mark.parametrize("store", [0, 404], ids=["with the task store", "on an older Airflow"])
def test_a_clear_builds_anew(
    store: int, attempt: Callable[[Task, Emulator], str], times: int, map_index: int, rig: Rig, apify: Emulator
) -> None:
    """And ends what was left; a retry then belongs to the new attempt. A task deferred when cleared: see below."""
    rig.airflow.store = store
    task = rig.task(retries=1, map_index=map_index)
    before: list[str] = []
    for _ in range(times):
        before += attempt(task, apify).split()
        clear(task)
    build_id = lose_while_it_waits(task)
    task.retry()
    ends_well(task, apify, *before, "SUCCEEDED")
    assert task.build_id == build_id


def clear(task: Task) -> None:
    task.clear()
    task.workers[-1].ends()


def test_a_clear_of_a_run_that_had_ended_knows_its_builds(way: dict[str, Any], rig: Rig, apify: Emulator) -> None:
    """The run gets a new start date then, which is part of the fingerprint; the task store remembers the old one."""
    task = rig.task(**way)
    lose_while_it_waits(task)
    task.mark("failed")
    task.clear()
    task.instance.run_started = "2026-11-24T10:00:00+00:00"
    task.start()
    ends_well(task, apify, "RUNNING" if rig.airflow.store else "ABORTED", "SUCCEEDED")


def test_a_clear_of_a_run_that_had_ended_knows_a_build_whose_id_nobody_kept(rig: Rig, apify: Emulator) -> None:
    """The worker was lost with the answer under way; it had written down under which fingerprint it starts."""
    apify.add_fault(Fault("delay", method="POST", path="/v2/acts/*/builds", seconds=60, after_work=True))
    task = rig.task()
    worker = task.start()
    apify.wait_for(lambda apify: len(apify.builds) == 1)
    worker.lose()
    task.mark("failed")
    task.clear()
    task.instance.run_started = "2026-11-24T10:00:00+00:00"
    task.start()
    ends_well(task, apify, "ABORTED", "SUCCEEDED")


@pytest.mark.parametrize("store", [0, 404], ids=["with the task store", "on an older Airflow"])
def test_a_clear_of_a_deferred_task_aborts_its_build(store: int, rig: Rig, apify: Emulator) -> None:
    """At the latest when the new attempt looks: here the trigger's on_kill never came."""
    rig.airflow.store = store
    task = rig.task(retries=1, deferrable=True)
    task.start()
    task.waits_for()
    task.clear()
    task.start()
    ends_well(task, apify, "ABORTED", "SUCCEEDED")


def test_the_limit_is_a_clear_whose_worker_dies_before_it_reports(rig: Rig, apify: Emulator) -> None:
    """Documented: Airflow then gives the new try the number of a retry, so it goes on with the build."""
    task = rig.task(retries=1)
    worker = task.start()
    task.waits_for()
    worker.freeze()
    task.clear()
    worker.lose()
    task.mark("up_for_retry")
    task.start()
    ends_well(task, apify, "SUCCEEDED")


@pytest.fixture
def elsewhere(rig: Rig, apify: Emulator) -> Iterator[Rig]:
    """Another Airflow on the same account."""
    with Airflow(rig.airflow.connection) as airflow:
        other = Rig(rig.forkserver, airflow, apify, rig.folder)
        yield other
        other.stop()


STRANGERS = {
    "two mapped tasks": [{"map_index": 0}, {"map_index": 1}],
    "two runs": [{"run_id": "scheduled__2026-11-22"}, {"run_id": "scheduled__2026-11-23"}],
    "two DAGs": [{"dag_id": "nightly"}, {"dag_id": "weekly"}],
    "two tasks": [{"task_id": "build"}, {"task_id": "build_again"}],
    "two deployments with the same DAG": [{}, {"elsewhere": True}],
}


@pytest.mark.parametrize("store", [0, 404], ids=["with the task store", "on an older Airflow"])
@pytest.mark.parametrize("two", STRANGERS.values(), ids=STRANGERS)
def test_strangers_on_one_account(
    two: list[dict[str, Any]], store: int, rig: Rig, elsewhere: Rig, apify: Emulator
) -> None:
    """A retry and a clear of the one take nothing from the other and abort nothing of it."""
    rig.airflow.store = elsewhere.airflow.store = store
    tasks = []
    for options in two:
        options = dict(options)
        owner = elsewhere if options.pop("elsewhere", False) else rig
        tasks.append(owner.task(retries=1, **options))
        if owner is elsewhere:
            tasks[-1].instance.run_started = "2026-11-23T03:00:01+00:00"  # all that tells the two apart
    builds = [lose_while_it_waits(task) for task in tasks]
    for task in tasks:
        task.retry()
    assert [task.waits_for() for task in tasks] == builds
    tasks[0].clear()
    tasks[0].workers[-1].ends()
    tasks[0].start()
    wait_until(lambda: len(apify.builds) == 3, "the clear has started its build", timeout=20)
    assert tasks[1].finish() == "success"
    assert tasks[1].build_id == builds[1]
    ends_well(tasks[0], apify, "ABORTED", "SUCCEEDED", "SUCCEEDED")
