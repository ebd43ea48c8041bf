"""
Promise 2 with the real supervisor: a task that is ended early has its job aborted within seconds, and only then.

Airflow's part is real: the heartbeat is refused, the supervisor sends SIGTERM, and SIGKILL five seconds later.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import TaskStatesResult

from airflow_provider_apify.emulator import Emulator, Fault
from tests.chaos.airflow_stub import Airflow
from tests.chaos.rig import Rig, Task
from tests.chaos.worker import HEARTBEAT
from tests.kinds import Kind
from tests.rows import jobs_are

#: Seconds from a mark to the abort at Apify: the next heartbeat, and what Airflow leaves before SIGKILL.
LIMIT = HEARTBEAT + 5


def waiting(task: Task, kind: Kind) -> None:
    task.start()
    task.waits_for()


def start_unanswered(task: Task, kind: Kind) -> None:
    """Apify has worked on the start; its answer comes 1.5 s later."""
    kind.apify.add_fault(Fault("delay", seconds=1.5, after_work=True, **kind.start_request))
    task.start()
    kind.started(1)


def start_under_way(task: Task, kind: Kind) -> None:
    """Apify begins to work on the start only 1.5 s later, when the worker has long been told to stop."""
    kind.apify.add_fault(Fault("delay", seconds=1.5, **kind.start_request))
    task.start()
    kind.apify.wait_for(lambda _: any(request.method == "POST" for request in kind.requests))


def start_under_way_for_long(task: Task, kind: Kind) -> None:
    """The same 3.5 s later: on_kill has given up, but the worker lives for a little longer."""
    kind.apify.add_fault(Fault("delay", seconds=3.5, **kind.start_request))
    task.start()
    kind.apify.wait_for(lambda _: any(request.method == "POST" for request in kind.requests))


def start_unanswered_for_good(task: Task, kind: Kind) -> None:
    """Only the list shows the job."""
    kind.apify.add_fault(Fault("delay", seconds=60, after_work=True, **kind.start_request))
    task.start()
    kind.started(1)


PHASES: dict[str, Callable[[Task, Kind], None]] = {
    "waiting": waiting,
    "start unanswered": start_unanswered,
    "start under way": start_under_way,
    "start under way for long": start_under_way_for_long,
    "start unanswered for good": start_unanswered_for_good,
}

#: What a user or the scheduler does to a running task, by the state that it then has.
ENDS: dict[str, Callable[[Task], None]] = {
    "marked failed": lambda task: task.mark("failed"),
    "marked success": lambda task: task.mark("success"),
    "run set to failed": lambda task: task.mark("failed"),
    "run timed out": lambda task: task.mark("skipped"),
    "removed": lambda task: task.mark("removed"),
    "cleared": lambda task: task.clear(),
}


def aborts(kind: Kind) -> list[float]:
    return [request.at for request in kind.requests if request.path.endswith("/abort")]


def in_pairs() -> list[Any]:
    """Each end while waiting; each phase with two ends; with and without retries in turn."""
    cells = [("waiting", end) for end in ENDS]
    cells += [(phase, end) for phase in PHASES if phase != "waiting" for end in ("marked failed", "cleared")]
    return [
        pytest.param(PHASES[phase], ENDS[end], number % 2, id=f"{end}, {phase}, {number % 2} retries")
        for number, (phase, end) in enumerate(cells)
    ]


@pytest.mark.parametrize(("phase", "end", "retries"), in_pairs())
def test_a_task_ended_by_somebody(
    phase: Callable[[Task, Kind], None], end: Callable[[Task], None], retries: int, rig: Rig, kind: Kind
) -> None:
    task = rig.task(retries=retries)
    phase(task, kind)
    ended = time.time()
    end(task)
    state = task.instance.state
    jobs_are(kind, "ABORTED", timeout=10)
    assert aborts(kind)[0] - ended < LIMIT
    task.workers[-1].ends()
    assert task.instance.state == state, "Airflow's mark stands"
    jobs_are(kind, "ABORTED")


def test_the_log_tells_which_job_is_aborted(rig: Rig, kind: Kind) -> None:
    """Though its id was not known yet when the worker was told to stop: nobody needs to look for it."""
    task = rig.task()
    start_under_way(task, kind)
    task.mark("failed")
    task.workers[-1].ends()
    assert f"{kind.words(kind.jobs[0])['long']} is being aborted" in task.log
    assert "Apify Console" not in task.log
    jobs_are(kind, "ABORTED")


@pytest.mark.parametrize("end", [ENDS["marked failed"], ENDS["cleared"]], ids=["marked failed", "cleared"])
@pytest.mark.parametrize("phase", [waiting, start_unanswered], ids=["waiting", "start unanswered"])
def test_without_abort_on_kill_the_job_goes_on(
    phase: Callable[[Task, Kind], None], end: Callable[[Task], None], rig: Rig, kind: Kind
) -> None:
    task = rig.task(retries=1, abort_on_kill=False)
    phase(task, kind)
    end(task)
    task.workers[-1].ends()
    kind.finish(kind.jobs[0]["id"])
    jobs_are(kind, "SUCCEEDED")
    assert not aborts(kind)


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("limit", ["execution_timeout", "timeout"])
@pytest.mark.parametrize("phase", [waiting, start_unanswered, start_under_way])
def test_a_task_out_of_time(
    phase: Callable[[Task, Kind], None], limit: str, retries: int, rig: Rig, kind: Kind
) -> None:
    """Its job is aborted even if a try is left, which then starts a fresh one."""
    options: dict[str, Any] = {limit: 1}
    task = rig.task(retries=retries, retry_delay=0, **options)
    phase(task, kind)
    state = task.run_to_end()
    assert state == ("up_for_retry" if retries else "failed"), task.log
    if retries:
        kind.seconds = 0.2
        task.options[limit] = 30  # the retry may take as long as a busy machine needs
        task.retry()
        assert task.run_to_end() == "success"
    jobs_are(kind, *["ABORTED", "SUCCEEDED"][: 1 + retries])


@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
def test_an_evicted_worker_with_a_try_left(
    phase: Callable[[Task, Kind], None], rig: Rig, kind: Kind, apify: Emulator
) -> None:
    """The next try goes on with its job."""
    task = rig.task(retries=1)
    phase(task, kind)
    worker = task.workers[-1]
    worker.evict()
    said = "GET task-instances/states"
    asked = rig.airflow.asked
    apify.wait_for(lambda _: said in asked)
    kind.started(1)
    worker.lose()
    task.retry()
    assert task.finish() == "success"
    jobs_are(kind, "SUCCEEDED")
    assert task.job_id == kind.jobs[0]["id"]


@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
def test_an_evicted_worker_with_no_try_left(phase: Callable[[Task, Kind], None], rig: Rig, kind: Kind) -> None:
    task = rig.task()
    phase(task, kind)
    evicted = time.time()
    task.workers[-1].evict()
    jobs_are(kind, "ABORTED", timeout=10)
    assert aborts(kind)[0] - evicted < 5


def test_a_task_marked_while_airflow_does_not_answer(rig: Rig, kind: Kind) -> None:
    """With no try left nobody else can go on with the job, so the worker aborts it unasked."""
    task = rig.task()
    waiting(task, kind)
    rig.airflow.hold("GET", "task-instances/states")
    task.mark("failed")
    jobs_are(kind, "ABORTED")


@pytest.mark.parametrize("end", [ENDS["marked failed"], ENDS["cleared"]], ids=["marked failed", "cleared"])
def test_a_task_ended_before_its_start(end: Callable[[Task], None], rig: Rig, kind: Kind) -> None:
    """The worker is told while it asks for its connection: it starts nothing."""
    task = rig.task(retries=1)
    gate = rig.airflow.hold("GET", "connections/apify_default")
    worker = task.start()
    gate.reach()
    end(task)
    time.sleep(HEARTBEAT)  # the supervisor waits at the gate, too: a heartbeat is now due as soon as it opens
    gate.opened.set()
    worker.ends()
    jobs_are(kind)


def test_the_limit_is_a_task_ended_while_nobody_holds_its_job(rig: Rig, kind: Kind) -> None:
    """Documented: between a lost worker and the retry there is no process to tell. A clear sees to the job."""
    task = rig.task(retries=1)
    waiting(task, kind)
    task.workers[-1].lose()
    task.mark("failed")
    task.clear()
    jobs_are(kind, "RUNNING")
    task.start()
    assert task.finish() == "success"
    jobs_are(kind, "ABORTED", "SUCCEEDED")


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_sensor_ended_by_somebody_leaves_the_job(
    end: Callable[[Task], None], rig: Rig, kind: Kind, apify: Emulator
) -> None:
    job_id = kind.start()
    task = rig.task(waits_for=job_id)
    worker = task.start()
    apify.wait_for(lambda apify: any("waitForFinish" in request.query for request in apify.requests))
    end(task)
    apify.wait_for(lambda _: "Terminating process" in task.log)
    kind.finish(job_id)
    worker.ends()
    jobs_are(kind, "SUCCEEDED")
    assert not aborts(kind)


@pytest.mark.parametrize("limit", ["execution_timeout", "timeout"])
def test_a_sensor_out_of_time_leaves_the_job(limit: str, rig: Rig, kind: Kind) -> None:
    job_id = kind.start()
    options: dict[str, Any] = {limit: 1}
    task = rig.task(waits_for=job_id, **options)
    task.start()
    assert task.run_to_end() == "failed"
    kind.finish(job_id)
    jobs_are(kind, "SUCCEEDED")
    assert not aborts(kind)


class TriggererComms:
    """The triggerer's way to ask Airflow."""

    def __init__(self, airflow: Airflow) -> None:
        self._airflow = airflow

    async def asend(self, msg: Any) -> TaskStatesResult:
        query = {"dag_id": [msg.dag_id], "task_ids": msg.task_ids, "run_ids": msg.run_ids}
        query["map_index"] = [str(msg.map_index)]
        _, answer = self._airflow.answer("GET", "task-instances/states", query, None)
        return TaskStatesResult(**answer)


DEFERRED = {
    **{name: (end, "ABORTED") for name, end in ENDS.items()},
    "moved to another triggerer": (lambda task: None, "SUCCEEDED"),
    "resumed in between": (lambda task: task.mark("scheduled"), "SUCCEEDED"),
}


@pytest.mark.parametrize("map_index", [-1, 3], ids=["", "mapped"])
@pytest.mark.parametrize(("end", "status"), DEFERRED.values(), ids=DEFERRED)
def test_a_deferred_task_ended_by_somebody(
    end: Callable[[Task], None],
    status: str,
    map_index: int,
    rig: Rig,
    kind: Kind,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = rig.task(deferrable=True, retries=1, map_index=map_index)
    task.start()
    job_id = str(task.waits_for())
    trigger = task.trigger
    trigger.task_instance = task.instance
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", TriggererComms(rig.airflow), raising=False)
    end(task)
    asyncio.run(trigger.on_kill())
    if status == "SUCCEEDED":
        jobs_are(kind, "RUNNING")
        kind.finish(job_id)
    jobs_are(kind, status)
