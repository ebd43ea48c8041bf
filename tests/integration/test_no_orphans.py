"""Promise 2 over real sockets: who ends a task early has its job aborted, and nobody else has."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.triggers.base import BaseTrigger

from airflow_provider_apify.emulator import Emulator, Fault
from airflow_provider_apify.jobs.wait import Limits
from tests.features import ON_KILL
from tests.kinds import Kind
from tests.runner import RUN_ID, Outcome, Runner, Supervisor

ENDED = ["failed", "success", "skipped", "restarting", None]
GOES_ON = ["running", "queued", "deferred", "up_for_retry"]


@contextmanager
def sigterm_when(apify: Emulator, condition: Callable[[Emulator], bool]) -> Iterator[None]:
    """Send this process, which runs the task, a SIGTERM once ``condition`` holds."""
    thread = threading.Thread(target=send_sigterm_when, args=(apify, condition), daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(30)


def send_sigterm_when(apify: Emulator, condition: Callable[[Emulator], bool]) -> None:
    apify.wait_for(condition, timeout=30)
    # Python handles a signal that comes just before a blocking call only after it (docs/reliability.md).
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGTERM)


def waits(apify: Emulator) -> bool:
    return any("waitForFinish" in request.query for request in apify.requests)


@pytest.fixture(autouse=True)
def slow(kind: Kind) -> None:
    kind.seconds = 30


def run_and_terminate(kind: Kind, runner: Runner, **options: Any) -> Outcome:
    with sigterm_when(kind.apify, waits):
        return runner.run(kind.operator(wait_for_completion=True, **options))


@pytest.mark.parametrize("state", ENDED)
def test_a_worker_told_to_stop_aborts_the_job_of_a_task_that_has_ended(
    state: str | None, kind: Kind, supervisor: Supervisor, runner: Runner
) -> None:
    supervisor.state = state
    run_and_terminate(kind, runner, retries=1)
    kind.ended()
    assert kind.statuses == ["ABORTED"]


def test_a_worker_told_to_stop_waits_for_an_airflow_that_hesitates(
    kind: Kind, supervisor: Supervisor, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = supervisor.send

    def hesitate(msg: Any) -> Any:
        if type(msg).__name__ == "GetTaskStates":
            time.sleep(1.5)
        return send(msg)

    monkeypatch.setattr(supervisor, "send", hesitate)
    supervisor.state = "failed"
    run_and_terminate(kind, runner, retries=1)
    kind.ended()
    assert kind.statuses == ["ABORTED"]


@pytest.mark.parametrize("state", [*GOES_ON, RuntimeError("no answer")])
def test_an_evicted_worker_leaves_the_job_to_the_next_try(
    state: Any, kind: Kind, supervisor: Supervisor, runner: Runner
) -> None:
    supervisor.state = state
    finisher = threading.Thread(target=finish_after_on_kill, args=(kind, supervisor), daemon=True)
    finisher.start()
    outcome = run_and_terminate(kind, runner, retries=1)
    assert outcome.state == "success", "the worker goes on until it is gone"
    assert kind.statuses == ["SUCCEEDED"]


def finish_after_on_kill(kind: Kind, supervisor: Supervisor) -> None:
    asked = "GetTaskStates"
    kind.apify.wait_for(lambda _: any(type(msg).__name__ == asked for msg in supervisor.sent), timeout=30)
    kind.finish(kind.jobs[0]["id"])


@pytest.mark.parametrize("state", [*GOES_ON, RuntimeError("no answer")])
def test_without_a_try_left_the_job_is_aborted(state: Any, kind: Kind, supervisor: Supervisor, runner: Runner) -> None:
    supervisor.state = state
    run_and_terminate(kind, runner)
    kind.ended()
    assert kind.statuses == ["ABORTED"]


def test_abort_on_kill_false_is_honoured(kind: Kind, apify: Emulator, supervisor: Supervisor, runner: Runner) -> None:
    supervisor.state = "failed"
    with sigterm_when(apify, waits):
        threading.Thread(target=finish_when_waiting, args=(kind,), daemon=True).start()
        outcome = runner.run(kind.operator(wait_for_completion=True, abort_on_kill=False))
    assert outcome.state == "success"
    assert kind.aborts == 0


def finish_when_waiting(kind: Kind) -> None:
    kind.apify.wait_for(waits, timeout=30)
    threading.Event().wait(1.0)  # the SIGTERM comes first; if it did not, the test would prove less, not fail
    kind.finish(kind.jobs[0]["id"])


def test_a_start_in_flight_is_aborted_when_its_answer_comes(
    kind: Kind, apify: Emulator, supervisor: Supervisor, runner: Runner
) -> None:
    supervisor.state = "failed"
    apify.add_fault(Fault("delay", **kind.start_request, seconds=1.5, after_work=True))
    with sigterm_when(apify, lambda emulator: len(kind.jobs) == 1):
        runner.run(kind.operator(**kind.one_request))
    kind.ended()
    assert (kind.starts, kind.statuses) == (1, ["ABORTED"])


def test_a_start_that_neither_answers_nor_is_listed_tells_what_to_look_for(
    kind: Kind, apify: Emulator, supervisor: Supervisor, runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor.state = "failed"
    supervisor.connections["apify_default"]["extra"] = '{"timeout": 7}'
    apify.add_fault(Fault("stall", **kind.start_request, after_work=True))
    apify.add_fault(Fault("stale-list", **kind.list_request, seconds=60, times=None))
    with sigterm_when(apify, lambda emulator: len(kind.jobs) == 1):
        runner.run(kind.operator(**kind.one_request))
    assert kind.starts == 1
    fingerprint = kind.jobs[0]["meta"]["userAgent"].split()[-1]
    assert fingerprint.startswith("airflow/")
    assert fingerprint in capsys.readouterr().out


@pytest.mark.parametrize("abort_on_kill", [True, False])
def test_no_start_is_sent_again_once_the_task_has_ended(
    abort_on_kill: bool, kind: Kind, apify: Emulator, supervisor: Supervisor, runner: Runner
) -> None:
    supervisor.state = "failed"
    apify.add_fault(Fault("status", status=429, headers={"Retry-After": "2"}, times=None, **kind.start_request))
    with sigterm_when(apify, lambda emulator: kind.starts == 1):
        runner.run(kind.operator(**kind.one_request, abort_on_kill=abort_on_kill))
    assert (kind.starts, kind.jobs) == (1, [])


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
@pytest.mark.parametrize("retries", [0, 2])
def test_the_timeout_aborts_the_job(deferrable: bool, retries: int, kind: Kind, runner: Runner) -> None:
    outcome = runner.run_to_end(
        lambda: kind.operator(wait_for_completion=True, deferrable=deferrable, timeout=1, retries=retries)
    )
    assert outcome.state == ("up_for_retry" if retries else "failed")
    kind.ended()
    assert kind.statuses == ["ABORTED"]


@pytest.mark.parametrize(
    "resume",
    [
        {"next_method": "__fail__", "next_kwargs": {"error": "Trigger timeout"}},
        {"next_method": "__fail__", "next_kwargs": {"error": "Trigger failure"}},
        {"next_method": "execute_complete", "next_kwargs": {"event": None}},
        {"next_method": "execute_complete", "next_kwargs": {"event": {}}},
        {"next_method": "execute_complete", "next_kwargs": {"event": ["odd"]}},
    ],
    ids=str,
)
def test_a_deferral_that_ends_without_an_event_leaves_no_orphan(
    resume: dict[str, Any], kind: Kind, runner: Runner
) -> None:
    """As when no triggerer runs until Airflow's own limit, or the trigger cannot be loaded there: out of time, then."""
    options: dict[str, Any] = {"wait_for_completion": True, "deferrable": True, "timeout": 1}
    assert runner.run(kind.operator(**options)).state == "deferred"
    outcome = runner.run(kind.operator(**options), **resume)
    assert (outcome.state, type(outcome.error).__name__) == ("failed", "ApifyJobTimeout")
    kind.ended()
    assert kind.statuses == ["ABORTED"]


def test_an_error_that_no_retry_follows_aborts_the_job(
    kind: Kind, supervisor: Supervisor, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any error between start and end, such as an API server that takes no XCom."""
    send = supervisor.send

    def refuse_xcoms(msg: Any) -> Any:
        if type(msg).__name__ == "SetXCom" and msg.key == kind.id:
            raise RuntimeError("no XCom today")
        return send(msg)

    monkeypatch.setattr(supervisor, "send", refuse_xcoms)
    assert runner.run(kind.operator()).state == "failed"
    kind.ended()
    assert kind.statuses == ["ABORTED"]


def trigger_of(kind: Kind, *, abort_on_kill: bool = True) -> Any:
    """Give the trigger that waits for a job just started."""
    trigger = kind.trigger(kind.start(), abort_on_kill=abort_on_kill)
    trigger.task_instance = ti_of(kind)
    return trigger


def ti_of(kind: Kind) -> Any:
    return SimpleNamespace(dag_id="dag", task_id=kind.name, run_id=RUN_ID, map_index=-1, try_number=1)


@pytest.mark.parametrize("state", ENDED)
def test_a_trigger_told_to_go_aborts_the_job_of_a_task_that_has_ended(
    state: str | None, kind: Kind, supervisor: Supervisor
) -> None:
    supervisor.state = state
    asyncio.run(trigger_of(kind).on_kill())
    kind.ended()
    assert kind.statuses == ["ABORTED"]


@pytest.mark.parametrize("state", [*GOES_ON, RuntimeError("no answer")])
def test_a_trigger_that_moves_to_another_triggerer_aborts_nothing(
    state: Any, kind: Kind, supervisor: Supervisor
) -> None:
    supervisor.state = state
    asyncio.run(trigger_of(kind).on_kill())
    assert kind.aborts == 0


@pytest.mark.parametrize("slow", ["Airflow", "Apify", "Apify, by a minute"])
def test_an_abort_that_takes_seconds_is_not_cut_short(
    slow: str, kind: Kind, apify: Emulator, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow 3.3.2 cancels a trigger again every second until it is gone."""
    supervisor.state = "failed"
    kind.seconds = 60
    if slow != "Airflow":
        later = {"Retry-After": "60" if "minute" in slow else "1"}
        apify.add_fault(Fault("status", method="POST", path="*/abort", status=429, headers=later))
    else:

        async def asend(msg: Any) -> Any:
            await asyncio.sleep(1)
            return supervisor.send(msg)

        monkeypatch.setattr(supervisor, "asend", asend)

    begun = time.monotonic()

    async def end() -> None:
        ending = asyncio.create_task(trigger_of(kind).on_kill())
        while not (await asyncio.wait([ending], timeout=0.3))[0]:
            ending.cancel()

    asyncio.run(end())
    kind.ended()
    assert kind.statuses == ["ABORTED"]
    assert time.monotonic() - begun < 20, "Airflow gives it 30 s"


def test_a_trigger_that_has_fired_aborts_nothing(kind: Kind, supervisor: Supervisor) -> None:
    supervisor.state = "success"
    kind.seconds = 0.2

    async def fire_then_kill() -> None:
        trigger = trigger_of(kind)
        [event async for event in trigger.run()]
        await trigger.on_kill()

    asyncio.run(fire_then_kill())
    assert kind.aborts == 0


@pytest.mark.parametrize(("state", "aborts"), [*((state, 1) for state in ENDED), *((state, 0) for state in GOES_ON)])
def test_a_trigger_cancelled_by_an_airflow_that_says_no_more_asks_what_became_of_the_task(
    state: str | None, aborts: int, kind: Kind, apify: Emulator, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Airflow does before 3.3, when the task is ended or cleared, the trigger moves, or the triggerer stops."""
    monkeypatch.delattr(BaseTrigger, "on_kill", raising=False)
    supervisor.state = state

    async def cancel() -> None:
        waiting = asyncio.ensure_future(anext(trigger_of(kind).run()))
        await asyncio.to_thread(apify.wait_for, waits)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(cancel())
    assert kind.aborts == aborts


@pytest.mark.parametrize(("of_task", "abort_on_kill", "aborts"), [(False, True, 1), (False, False, 0), (True, True, 0)])
def test_ctrl_c_aborts_in_a_run_inside_one_process_and_never_in_a_triggerer(
    of_task: bool, abort_on_kill: bool, aborts: int, kind: Kind, apify: Emulator, supervisor: Supervisor
) -> None:
    """A triggerer knows the task of each trigger; a run inside one process gives it none."""
    supervisor.state = "deferred"

    async def interrupt() -> None:
        trigger = trigger_of(kind, abort_on_kill=abort_on_kill)
        if not of_task:
            trigger.task_instance = None
        waiting = asyncio.ensure_future(anext(trigger.run()))
        await asyncio.to_thread(apify.wait_for, waits)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(interrupt())
    assert kind.aborts == aborts


@pytest.mark.parametrize(("deadline", "aborts"), [(None, 0), (0.5, 1)], ids=["the job has ended", "it is out of time"])
def test_a_trigger_that_holds_its_event_back_aborts_what_has_not_ended(
    deadline: float | None, aborts: int, kind: Kind, supervisor: Supervisor
) -> None:
    supervisor.state = "failed"
    kind.seconds = 30 if deadline else 0.2
    trigger = trigger_of(kind)
    trigger.limits = Limits(deadline and time.time() + deadline)
    trigger.not_before = time.time() + 10

    async def kill() -> None:
        waiting = asyncio.ensure_future(anext(trigger.run()))
        await asyncio.wait({waiting}, timeout=2)
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        if ON_KILL.there:  # else its cancellation is all that it hears
            await trigger.on_kill()

    asyncio.run(kill())
    assert kind.aborts == aborts


def test_the_trigger_of_a_sensor_aborts_nothing(kind: Kind, supervisor: Supervisor, runner: Runner) -> None:
    supervisor.state = "failed"
    outcome = runner.run(kind.sensor(kind.start(), deferrable=True))
    outcome.trigger.task_instance = ti_of(kind)
    asyncio.run(outcome.trigger.on_kill())
    assert kind.aborts == 0


def test_a_sigterm_before_the_start_starts_nothing(
    kind: Kind, apify: Emulator, supervisor: Supervisor, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor.state = "failed"
    send = supervisor.send

    def slow_secrets_backend(msg: Any) -> Any:
        if type(msg).__name__ == "GetConnection":
            os.kill(os.getpid(), signal.SIGTERM)
        return send(msg)

    monkeypatch.setattr(supervisor, "send", slow_secrets_backend)
    outcome = runner.run(kind.operator(**kind.one_request))
    assert (outcome.state, type(outcome.error).__name__) == ("failed", "ApifySupersededError")
    assert apify.requests == []


def test_an_eviction_is_followed_by_a_mark(kind: Kind, apify: Emulator, supervisor: Supervisor, runner: Runner) -> None:
    """The first SIGTERM leaves the job to the next try; the second, with the task marked, aborts it."""

    def mark() -> None:
        send_sigterm_when(apify, waits)
        asked = "GetTaskStates"
        apify.wait_for(lambda _: any(type(msg).__name__ == asked for msg in supervisor.sent), timeout=30)
        supervisor.state = "failed"
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=mark, daemon=True)
    thread.start()
    runner.run(kind.operator(wait_for_completion=True, retries=1))
    thread.join()
    kind.ended()
    assert kind.statuses == ["ABORTED"]


def test_a_start_whose_answer_does_not_come_is_found_in_the_list(
    kind: Kind, apify: Emulator, supervisor: Supervisor, runner: Runner
) -> None:
    supervisor.state = "failed"
    supervisor.connections["apify_default"]["extra"] = '{"timeout": 8}'
    apify.add_fault(Fault("stall", **kind.start_request, after_work=True))
    with sigterm_when(apify, lambda emulator: len(kind.jobs) == 1):
        runner.run(kind.operator(**kind.one_request))
    kind.ended()
    assert (kind.starts, kind.statuses) == (1, ["ABORTED"])


def test_a_worker_told_to_stop_after_deferring_leaves_the_job(
    kind: Kind, supervisor: Supervisor, runner: Runner
) -> None:
    supervisor.state = "deferred"
    task = kind.operator(wait_for_completion=True, deferrable=True)
    assert runner.run(task).state == "deferred"
    task.on_kill()
    assert kind.aborts == 0
