"""
Promise 2 with the real supervisor: a task that is ended early has its build aborted within seconds, and only then.

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
from tests.integration.conftest import start_build
from tests.rows import builds_are

START: dict[str, Any] = {"method": "POST", "path": "/v2/acts/*/builds"}
#: Seconds from a mark to the abort at Apify: the next heartbeat, and what Airflow leaves before SIGKILL.
LIMIT = HEARTBEAT + 5


def waiting(task: Task, apify: Emulator) -> None:
    task.start()
    task.waits_for()


def start_unanswered(task: Task, apify: Emulator) -> None:
    """Apify has worked on the start; its answer comes 1.5 s later."""
    apify.add_fault(Fault("delay", seconds=1.5, after_work=True, **START))
    task.start()
    apify.wait_for(lambda apify: len(apify.builds) == 1)


def start_under_way(task: Task, apify: Emulator) -> None:
    """Apify begins to work on the start only 1.5 s later, when the worker has long been told to stop."""
    apify.add_fault(Fault("delay", seconds=1.5, **START))
    task.start()
    apify.wait_for(lambda apify: any(request.method == "POST" for request in apify.requests))


def start_under_way_for_long(task: Task, apify: Emulator) -> None:
    """The same 3.5 s later: on_kill has given up, but the worker lives for a little longer."""
    apify.add_fault(Fault("delay", seconds=3.5, **START))
    task.start()
    apify.wait_for(lambda apify: any(request.method == "POST" for request in apify.requests))


def start_unanswered_for_good(task: Task, apify: Emulator) -> None:
    """Only the list shows the build."""
    apify.add_fault(Fault("delay", seconds=60, after_work=True, **START))
    task.start()
    apify.wait_for(lambda apify: len(apify.builds) == 1)


PHASES: dict[str, Callable[[Task, Emulator], None]] = {
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


def aborts(apify: Emulator) -> list[float]:
    return [request.at for request in apify.requests if request.path.endswith("/abort")]


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
    phase: Callable[[Task, Emulator], None], end: Callable[[Task], None], retries: int, rig: Rig, apify: Emulator
) -> None:
    task = rig.task(retries=retries)
    phase(task, apify)
    ended = time.time()
    end(task)
    state = task.instance.state
    builds_are(apify, "ABORTED", timeout=10)
    assert aborts(apify)[0] - ended < LIMIT
    task.workers[-1].ends()
    assert task.instance.state == state, "Airflow's mark stands"
    builds_are(apify, "ABORTED")


def test_the_log_tells_which_build_is_aborted(rig: Rig, apify: Emulator) -> None:
    """Though its id was not known yet when the worker was told to stop: nobody needs to look for it."""
    task = rig.task()
    start_under_way(task, apify)
    task.mark("failed")
    task.workers[-1].ends()
    assert f"({apify.builds[0]['id']}) is being aborted" in task.log
    assert "Apify Console" not in task.log
    builds_are(apify, "ABORTED")


@pytest.mark.parametrize("end", [ENDS["marked failed"], ENDS["cleared"]], ids=["marked failed", "cleared"])
@pytest.mark.parametrize("phase", [waiting, start_unanswered], ids=["waiting", "start unanswered"])
def test_without_abort_on_kill_the_build_goes_on(
    phase: Callable[[Task, Emulator], None], end: Callable[[Task], None], rig: Rig, apify: Emulator
) -> None:
    task = rig.task(retries=1, abort_on_kill=False)
    phase(task, apify)
    end(task)
    task.workers[-1].ends()
    apify.finish_build(apify.builds[0]["id"])
    builds_are(apify, "SUCCEEDED")
    assert not aborts(apify)


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("limit", ["execution_timeout", "timeout"])
@pytest.mark.parametrize("phase", [waiting, start_unanswered, start_under_way])
def test_a_task_out_of_time(
    phase: Callable[[Task, Emulator], None], limit: str, retries: int, rig: Rig, apify: Emulator
) -> None:
    """Its build is aborted even if a try is left, which then starts a fresh one."""
    options: dict[str, Any] = {limit: 1}
    task = rig.task(retries=retries, retry_delay=0, **options)
    phase(task, apify)
    state = task.run_to_end()
    assert state == ("up_for_retry" if retries else "failed"), task.log
    if retries:
        apify.build_seconds = 0.2
        task.options[limit] = 30  # the retry may take as long as a busy machine needs
        task.retry()
        assert task.run_to_end() == "success"
    builds_are(apify, *["ABORTED", "SUCCEEDED"][: 1 + retries])


@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
def test_an_evicted_worker_with_a_try_left(phase: Callable[[Task, Emulator], None], rig: Rig, apify: Emulator) -> None:
    """The next try goes on with its build."""
    task = rig.task(retries=1)
    phase(task, apify)
    worker = task.workers[-1]
    worker.evict()
    said = "GET task-instances/states"
    asked = rig.airflow.asked
    apify.wait_for(lambda _: said in asked)
    apify.wait_for(lambda apify: len(apify.builds) == 1)
    worker.lose()
    task.retry()
    assert task.finish() == "success"
    builds_are(apify, "SUCCEEDED")
    assert task.build_id == apify.builds[0]["id"]


@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
def test_an_evicted_worker_with_no_try_left(phase: Callable[[Task, Emulator], None], rig: Rig, apify: Emulator) -> None:
    task = rig.task()
    phase(task, apify)
    evicted = time.time()
    task.workers[-1].evict()
    builds_are(apify, "ABORTED", timeout=10)
    assert aborts(apify)[0] - evicted < 5


def test_a_task_marked_while_airflow_does_not_answer(rig: Rig, apify: Emulator) -> None:
    """With no try left nobody else can go on with the build, so the worker aborts it unasked."""
    task = rig.task()
    waiting(task, apify)
    rig.airflow.hold("GET", "task-instances/states")
    task.mark("failed")
    builds_are(apify, "ABORTED")


@pytest.mark.parametrize("end", [ENDS["marked failed"], ENDS["cleared"]], ids=["marked failed", "cleared"])
def test_a_task_ended_before_its_start(end: Callable[[Task], None], rig: Rig, apify: Emulator) -> None:
    """The worker is told while it asks for its connection: it starts nothing."""
    task = rig.task(retries=1)
    gate = rig.airflow.hold("GET", "connections/apify_default")
    worker = task.start()
    gate.reach()
    end(task)
    time.sleep(HEARTBEAT)  # the supervisor waits at the gate, too: a heartbeat is now due as soon as it opens
    gate.opened.set()
    worker.ends()
    builds_are(apify)


def test_the_limit_is_a_task_ended_while_nobody_holds_its_build(rig: Rig, apify: Emulator) -> None:
    """Documented: between a lost worker and the retry there is no process to tell. A clear sees to the build."""
    task = rig.task(retries=1)
    waiting(task, apify)
    task.workers[-1].lose()
    task.mark("failed")
    task.clear()
    builds_are(apify, "RUNNING")
    task.start()
    assert task.finish() == "success"
    builds_are(apify, "ABORTED", "SUCCEEDED")


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_sensor_ended_by_somebody_leaves_the_build(end: Callable[[Task], None], rig: Rig, apify: Emulator) -> None:
    build_id = start_build(apify)
    task = rig.task(build_id=build_id)
    worker = task.start()
    apify.wait_for(lambda apify: any("waitForFinish" in request.query for request in apify.requests))
    end(task)
    apify.wait_for(lambda _: "Terminating process" in task.log)
    apify.finish_build(build_id)
    worker.ends()
    builds_are(apify, "SUCCEEDED")
    assert not aborts(apify)


@pytest.mark.parametrize("limit", ["execution_timeout", "timeout"])
def test_a_sensor_out_of_time_leaves_the_build(limit: str, rig: Rig, apify: Emulator) -> None:
    build_id = start_build(apify)
    options: dict[str, Any] = {limit: 1}
    task = rig.task(build_id=build_id, **options)
    task.start()
    assert task.run_to_end() == "failed"
    apify.finish_build(build_id)
    builds_are(apify, "SUCCEEDED")
    assert not aborts(apify)


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
    apify: Emulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = rig.task(deferrable=True, retries=1, map_index=map_index)
    task.start()
    build_id = str(task.waits_for())
    trigger = task.trigger
    trigger.task_instance = task.instance
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", TriggererComms(rig.airflow), raising=False)
    end(task)
    asyncio.run(trigger.on_kill())
    if status == "SUCCEEDED":
        builds_are(apify, "RUNNING")
        apify.finish_build(build_id)
    builds_are(apify, status)
