"""
Promise 1, the other half: a retry belongs to the attempt that it retries, a clear is a new one, and no two tasks mix.

Tries run in the real supervisor and runner; Airflow's moves between them are those of its scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_apify.emulator import Emulator, Fault
from airflow_provider_apify.emulator.jobs import Jobs
from rig.waiting import wait_until
from tests.chaos.airflow_stub import Airflow
from tests.chaos.rig import Rig, Task
from tests.kinds import Kind
from tests.rows import jobs_are

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


def ends_well(task: Task, kind: Kind, *jobs: str) -> None:
    """The task succeeds with the newest job; Apify has exactly these."""
    state = task.finish()
    jobs_are(kind, *jobs, timeout=10)
    assert state == "success", task.log
    assert task.job_id == kind.jobs[-1]["id"]


def lose_while_it_waits(task: Task) -> str:
    """Run a try until it waits and lose it; a deferred one is lost by its triggerer."""
    worker = task.start()
    job_id = task.waits_for()
    worker.lose()
    if task.instance.state == "deferred":
        task.instance.state = "running"  # as the scheduler takes it when the trigger fails
    return str(job_id)


#: What becomes of the first try's job before the retry looks, and what the retry then has.
ADOPTED = {
    "READY": ["SUCCEEDED"],
    "RUNNING": ["SUCCEEDED"],
    "HIBERNATING": ["SUCCEEDED"],
    "SUCCEEDED": ["SUCCEEDED"],
    "FAILED": ["FAILED", "SUCCEEDED"],
    "ABORTED": ["ABORTED", "SUCCEEDED"],
    "TIMED-OUT": ["TIMED-OUT", "SUCCEEDED"],
}


@pytest.mark.parametrize(("status", "jobs"), ADOPTED.items(), ids=ADOPTED)
def test_a_retry_adopts_what_can_succeed(
    status: str, jobs: list[str], way: dict[str, Any], rig: Rig, kind: Kind, apify: Emulator
) -> None:
    task = rig.task(retries=1, **way)
    job_id = lose_while_it_waits(task)
    if status in ("READY", "HIBERNATING"):
        apify.add_fault(Fault("unknown-status", value=status, **kind.list_request))
    elif status != "RUNNING":
        kind.finish(job_id, status)
    task.retry()
    ends_well(task, kind, *jobs)


@pytest.mark.parametrize("store", [0, 404], ids=["with the task store", "on an older Airflow"])
def test_a_retry_waits_for_no_job_that_is_being_aborted(
    store: int, rig: Rig, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish_later = Jobs._finish_later

    def finish_never(self: Any, job: Any, transitional: str, seconds: float, status: str) -> None:
        finish_later(self, job, transitional, 3600, status)

    monkeypatch.setattr(Jobs, "_finish_later", finish_never)
    rig.airflow.store = store
    task = rig.task(retries=1)
    job_id = lose_while_it_waits(task)
    kind.abort(job_id)
    task.retry()
    ends_well(task, kind, "ABORTING", "SUCCEEDED")


@pytest.mark.parametrize("store", [0, 404], ids=["with the task store", "on an older Airflow"])
def test_a_retry_waits_for_no_job_that_is_timing_out(store: int, rig: Rig, kind: Kind, apify: Emulator) -> None:
    rig.airflow.store = store
    task = rig.task(retries=1)
    job_id = lose_while_it_waits(task)
    apify.add_fault(Fault("unknown-status", value="TIMING-OUT", **kind.list_request))
    task.retry()
    kind.finish(job_id, "TIMED-OUT")
    ends_well(task, kind, "TIMED-OUT", "SUCCEEDED")


def failed(task: Task, kind: Kind) -> str:
    job_id = lose_while_it_waits(task)
    kind.finish(job_id, "FAILED")
    task.retry()
    kind.finish(str(task.waits_for()), "FAILED")
    assert task.run_to_end() == "failed"
    return "FAILED FAILED"


def failed_and_left_a_job(task: Task, kind: Kind) -> str:
    """The last worker was lost, so that nobody could abort anything."""
    lose_while_it_waits(task)
    lose_while_it_waits(task)
    task.mark("failed")
    return "ABORTED"


def succeeded(task: Task, kind: Kind) -> str:
    task.start()
    assert task.finish() == "success"
    return "SUCCEEDED"


def running(task: Task, kind: Kind) -> str:
    task.start()
    task.waits_for()
    return "ABORTED"


#: In which state a task is cleared, and what the ledger then shows of the attempt.
CLEARED = {
    "failed": failed,
    "failed with its last worker lost": failed_and_left_a_job,
    "succeeded": succeeded,
    "running": running,
}


@pytest.mark.parametrize("map_index", [-1, 0], ids=["", "mapped"])
@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
@pytest.mark.parametrize("attempt", CLEARED.values(), ids=CLEARED)
@pytest.mark.parametrize("store", [0, 404], ids=["with the task store", "on an older Airflow"])
def test_a_clear_starts_another(
    store: int, attempt: Callable[[Task, Kind], str], times: int, map_index: int, rig: Rig, kind: Kind
) -> None:
    """And ends what was left; a retry then belongs to the new attempt. A task deferred when cleared: see below."""
    rig.airflow.store = store
    task = rig.task(retries=1, map_index=map_index)
    before: list[str] = []
    for _ in range(times):
        before += attempt(task, kind).split()
        clear(task)
    job_id = lose_while_it_waits(task)
    task.retry()
    ends_well(task, kind, *before, "SUCCEEDED")
    assert task.job_id == job_id


def clear(task: Task) -> None:
    task.clear()
    task.workers[-1].ends()


def test_a_clear_of_a_run_that_had_ended_knows_its_jobs(way: dict[str, Any], rig: Rig, kind: Kind) -> None:
    """The run gets a new start date then, which is part of the fingerprint; the task store remembers the old one."""
    task = rig.task(**way)
    lose_while_it_waits(task)
    task.mark("failed")
    task.clear()
    task.instance.run_started = "2026-11-24T10:00:00+00:00"
    task.start()
    ends_well(task, kind, "RUNNING" if rig.airflow.store else "ABORTED", "SUCCEEDED")


def test_a_clear_of_a_run_that_had_ended_knows_a_job_whose_id_nobody_kept(
    rig: Rig, kind: Kind, apify: Emulator
) -> None:
    """The worker was lost with the answer under way; it had written down under which fingerprint it starts."""
    apify.add_fault(Fault("delay", **kind.start_request, seconds=60, after_work=True))
    task = rig.task()
    worker = task.start()
    kind.started(1)
    worker.lose()
    task.mark("failed")
    task.clear()
    task.instance.run_started = "2026-11-24T10:00:00+00:00"
    task.start()
    ends_well(task, kind, "ABORTED", "SUCCEEDED")


@pytest.mark.parametrize("store", [0, 404], ids=["with the task store", "on an older Airflow"])
def test_a_clear_of_a_deferred_task_aborts_its_job(store: int, rig: Rig, kind: Kind) -> None:
    """At the latest when the new attempt looks: here the trigger's on_kill never came."""
    rig.airflow.store = store
    task = rig.task(retries=1, deferrable=True)
    task.start()
    task.waits_for()
    task.clear()
    task.start()
    ends_well(task, kind, "ABORTED", "SUCCEEDED")


def test_the_limit_is_a_clear_whose_worker_dies_before_it_reports(rig: Rig, kind: Kind) -> None:
    """Documented: Airflow then gives the new try the number of a retry, so it goes on with the job."""
    task = rig.task(retries=1)
    worker = task.start()
    task.waits_for()
    worker.freeze()
    task.clear()
    worker.lose()
    task.mark("up_for_retry")
    task.start()
    ends_well(task, kind, "SUCCEEDED")


@pytest.fixture
def elsewhere(rig: Rig, kind: Kind) -> Iterator[Rig]:
    """Another Airflow on the same account."""
    with Airflow(rig.airflow.connection) as airflow:
        other = Rig(rig.forkserver, airflow, kind, rig.folder)
        yield other
        other.stop()


STRANGERS = {
    "two mapped tasks": [{"map_index": 0}, {"map_index": 1}],
    "two runs": [{"run_id": "scheduled__2026-11-22"}, {"run_id": "scheduled__2026-11-23"}],
    "two DAGs": [{"dag_id": "nightly"}, {"dag_id": "weekly"}],
    "two tasks": [{"task_id": "task"}, {"task_id": "task_again"}],
    "two deployments with the same DAG": [{}, {"elsewhere": True}],
}


@pytest.mark.parametrize("store", [0, 404], ids=["with the task store", "on an older Airflow"])
@pytest.mark.parametrize("two", STRANGERS.values(), ids=STRANGERS)
def test_strangers_on_one_account(two: list[dict[str, Any]], store: int, rig: Rig, elsewhere: Rig, kind: Kind) -> None:
    """A retry and a clear of the one take nothing from the other and abort nothing of it."""
    rig.airflow.store = elsewhere.airflow.store = store
    tasks = []
    for options in two:
        options = dict(options)
        owner = elsewhere if options.pop("elsewhere", False) else rig
        tasks.append(owner.task(retries=1, **options))
        if owner is elsewhere:
            tasks[-1].instance.run_started = "2026-11-23T03:00:01+00:00"  # all that tells the two apart
    ids = [lose_while_it_waits(task) for task in tasks]
    for task in tasks:
        task.retry()
    assert [task.waits_for() for task in tasks] == ids
    tasks[0].clear()
    tasks[0].workers[-1].ends()
    tasks[0].start()
    wait_until(lambda: len(kind.jobs) == 3, "the clear has started its job", timeout=20)
    assert tasks[1].finish() == "success"
    assert tasks[1].job_id == ids[1]
    ends_well(tasks[0], kind, "ABORTED", "SUCCEEDED", "SUCCEEDED")
