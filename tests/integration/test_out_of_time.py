"""Promise 3: one deadline a try, on every path, and no word of it without a last look at the job."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from airflow_provider_apify.emulator import Emulator, Fault
from airflow_provider_apify.jobs.wait import PATIENCE
from airflow_provider_apify.lifecycle import deferral
from tests.features import START_DATE
from tests.kinds import Kind
from tests.runner import Outcome, Runner, Supervisor, fire

#: What takes two seconds before the wait (requests, as ``Kind`` names them), and whether the job is known before it.
DELAYS: dict[str, tuple[str | None, bool]] = {
    "wait_for_finish": (None, True),
    "a slow start": ("start_request", False),
    "an earlier try's job that comes slowly": ("get_request", False),
}
LIMITS: dict[str, Any] = {"timeout": 3.5, "execution_timeout": dt.timedelta(seconds=3.5)}
WAYS = pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])


@pytest.fixture(autouse=True)
def slow(kind: Kind) -> None:
    kind.seconds = 30


def run_to_the_limit(apify: Emulator, runner: Runner, task: Callable[[], Any]) -> tuple[Outcome, float, float]:
    """
    Run a task that its limit ends, and say after how many seconds: from its begin, and from its first request.

    The one is never too short, the other not too long on a busy machine. For a deferred task its trigger says so.
    """
    apify.clear_ledger()
    begun = time.time()
    outcome = runner.run(task())
    ends = time.time()
    if outcome.state == "deferred":
        limit = outcome.trigger.limits.first
        assert outcome.message.trigger_timeout.total_seconds() == pytest.approx(limit - ends + 60, abs=1)
        event = asyncio.run(fire(outcome.trigger))
        outcome = runner.run(task(), next_method="execute_complete", next_kwargs={"event": event})
        ends = limit
    return outcome, ends - begun, ends - apify.requests[0].at


@WAYS
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("delay", DELAYS)
def test_an_operator_has_one_deadline_a_try(
    delay: str, limit: str, deferrable: bool, kind: Kind, apify: Emulator, runner: Runner
) -> None:
    slow_request, known = DELAYS[delay]
    options: dict[str, Any] = {**kind.one_request, "retries": 1, limit: LIMITS[limit]}
    if "earlier" in delay:
        assert runner.run(kind.operator(retries=1, **kind.one_request)).state == "success"
        runner.retry()
    if slow_request:
        apify.add_fault(Fault("delay", **getattr(kind, slow_request), seconds=2))
    else:
        options["wait_for_finish"] = 2
    task = partial(kind.operator, wait_for_completion=True, deferrable=deferrable, **options)
    outcome, at_least, at_most = run_to_the_limit(apify, runner, task)
    assert type(outcome.error).__name__ == ("ApifyJobTimeout" if limit == "timeout" else "AirflowTaskTimeout")
    due = 3.5 if known or limit == "execution_timeout" else 5.5
    assert due - 0.1 < at_least
    assert at_most < due + 1.8
    kind.ended()
    assert kind.statuses == ["ABORTED"]


@WAYS
def test_a_short_timeout_cuts_wait_for_finish(deferrable: bool, kind: Kind, runner: Runner) -> None:
    begun = time.monotonic()
    options: dict[str, Any] = {
        "wait_for_completion": True,
        "deferrable": deferrable,
        "timeout": 1,
        "wait_for_finish": 20,
    }
    outcome = runner.run_to_end(lambda: kind.operator(**options))
    assert type(outcome.error).__name__ == "ApifyJobTimeout"
    assert time.monotonic() - begun < 10


@WAYS
@pytest.mark.parametrize("limit", LIMITS)
def test_the_first_look_of_a_sensor_counts(
    limit: str, deferrable: bool, kind: Kind, apify: Emulator, runner: Runner
) -> None:
    job_id = kind.start()
    apify.add_fault(Fault("delay", **kind.get_request, seconds=2))
    options: dict[str, Any] = {"deferrable": deferrable, limit: LIMITS[limit]}
    outcome, at_least, at_most = run_to_the_limit(apify, runner, partial(kind.sensor, job_id, **options))
    assert type(outcome.error).__name__ == ("ApifyJobSensorTimeout" if limit == "timeout" else "AirflowTaskTimeout")
    assert at_least > 3.4
    assert at_most < 5.3


#: How a deferral may end without the job's end.
TIME_OUT: dict[str, Any] = {"next_method": "__fail__", "next_kwargs": {"error": "Trigger timeout"}}
CRASH: dict[str, Any] = {"next_method": "__fail__", "next_kwargs": {"error": "Trigger failure", "traceback": ["boom"]}}
UNREADABLE: dict[str, Any] = {"next_method": "execute_complete", "next_kwargs": {"event": {"status": "?"}}}
UNFORESEEN: dict[str, Any] = {
    "next_method": "execute_complete",
    "next_kwargs": {"event": {"status": "error", "exception": "ApifyException", "message": "(KeyError)"}},
}
OUT_OF_TIME: dict[str, Any] = {
    "next_method": "execute_complete",
    "next_kwargs": {"event": {"status": "error", "exception": "ApifyJobTimeout", "message": "it could not be seen"}},
}


@pytest.fixture(params=["operator", "sensor"])
def deferred(request: pytest.FixtureRequest, kind: Kind, runner: Runner) -> Callable[..., Outcome]:
    """Defer a task with these options at once; the function that this gives takes it up again."""

    def defer_and_resume(resume: dict[str, Any], meanwhile: Callable[[], object] = bool, **options: Any) -> Outcome:
        options = {"deferrable": True, "timeout": 60, **options}
        task: Callable[[], Any]
        if request.param == "operator":
            task = partial(kind.operator, wait_for_completion=True, **options)
        else:
            task = partial(kind.sensor, kind.start(), **options)
        assert runner.run(task()).state == "deferred"
        meanwhile()
        return runner.run(task(), **resume)

    return defer_and_resume


def is_aborted(kind: Kind, request: Any) -> bool:
    """Whether the job is, as it should be for an operator and never for a sensor."""
    if "operator" in request.node.name:
        kind.ended()
        return kind.statuses == ["ABORTED"]
    return kind.statuses != ["ABORTED"]


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("resume", [TIME_OUT, OUT_OF_TIME, CRASH, UNREADABLE], ids=str)
def test_a_job_that_has_ended_meanwhile_ends_the_task(
    resume: dict[str, Any], retries: int, deferred: Callable[..., Outcome], kind: Kind
) -> None:
    outcome = deferred(resume, lambda: kind.finish(kind.jobs[0]["id"]), retries=retries)
    assert (outcome.state, outcome.error) == ("success", None)
    assert outcome.xcoms["summary"]["status"] == "SUCCEEDED"


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("limit", LIMITS)
def test_an_unfinished_job_is_out_of_time(
    limit: str, retries: int, deferred: Callable[..., Outcome], kind: Kind, request: pytest.FixtureRequest
) -> None:
    begun = time.monotonic()
    outcome = deferred(TIME_OUT, retries=retries, **{limit: LIMITS[limit]})
    assert time.monotonic() - begun < 3, "one look"
    assert "not ended within the task's timeout; it is " in str(outcome.error)
    of_sensor = "sensor" in request.node.name
    name = "AirflowTaskTimeout" if "execution" in limit else f"ApifyJob{'Sensor' * of_sensor}Timeout"
    assert type(outcome.error).__name__ == name
    assert outcome.state == ("up_for_retry" if retries and name != "ApifyJobSensorTimeout" else "failed")
    assert is_aborted(kind, request)


@pytest.mark.parametrize("resume", [TIME_OUT, OUT_OF_TIME], ids=["no event", "event"])
@pytest.mark.parametrize("seconds", [1, 60])
def test_a_job_that_cannot_be_seen_gets_a_minute(
    seconds: int,
    resume: dict[str, Any],
    deferred: Callable[..., Outcome],
    kind: Kind,
    apify: Emulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And one that is seen within it, and has ended, is no time-out."""
    assert PATIENCE == 60
    monkeypatch.setattr(deferral, "PATIENCE", 2.0)
    begun = time.monotonic()

    def trouble() -> None:
        kind.finish(kind.jobs[0]["id"])
        down = Fault("status", status=503, **kind.get_request, times=None)
        apify.add_fault(down)
        threading.Timer(seconds, apify.clear_faults).start()

    outcome = deferred(resume, trouble, retries=1)
    if seconds == 1:
        assert (outcome.state, outcome.error) == ("success", None)
    else:
        assert type(outcome.error).__name__ in ("ApifyJobTimeout", "ApifyJobSensorTimeout")
        assert "it could not be seen.\nApify answered GET" in str(outcome.error)
        assert 2 <= time.monotonic() - begun < 8


@pytest.mark.parametrize("way", ["worker", "reschedule", "deferred", "operator", "deferred operator"])
def test_an_outage_at_the_deadline_is_no_time_out(
    way: str, kind: Kind, apify: Emulator, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job ends in time, and Apify does not answer from before that until after the deadline."""
    monkeypatch.setattr("airflow_provider_apify.jobs.wait.LONGEST_PAUSE", 0.5)
    kind.seconds = 1.5

    def outage(seconds: float) -> None:
        apify.add_fault(Fault("status", status=503, **kind.get_request, times=None))
        threading.Timer(seconds, apify.clear_faults).start()

    task: Callable[[], Any]
    if "operator" in way:
        task = partial(kind.operator, wait_for_completion=True, deferrable="deferred" in way, timeout=2)
        outage(5)
    else:
        options: dict[str, dict[str, Any]] = {
            "worker": {},
            "deferred": {"deferrable": True},
            "reschedule": {"mode": way, "poke_interval": 0.5},
        }
        task = partial(kind.sensor, kind.start(), timeout=2, **options[way])
        outage(4)
    outcome = runner.run_to_end(task)
    assert (outcome.state, outcome.error) == ("success", None)


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("resume", [CRASH, UNREADABLE, UNFORESEEN], ids=["crash", "unreadable", "unforeseen"])
def test_a_trigger_that_crashed_leaves_the_rest_of_the_wait_to_the_worker(
    resume: dict[str, Any], retries: int, deferred: Callable[..., Outcome], kind: Kind, capsys: Any
) -> None:
    """It is not deferred again: a trigger that cannot be imported would come back for ever."""
    finish = threading.Timer(1.0, lambda: kind.finish(kind.jobs[0]["id"]))
    outcome = deferred(resume, finish.start, retries=retries)
    assert (outcome.state, outcome.error) == ("success", None)
    assert f"Waiting for {kind.name} {kind.jobs[0]['id']} in the worker." in capsys.readouterr().out


@START_DATE.needed
@pytest.mark.parametrize("limit", LIMITS)
def test_a_trigger_that_crashed_leaves_what_is_left_of_the_time(
    limit: str, deferred: Callable[..., Outcome], kind: Kind, request: pytest.FixtureRequest
) -> None:
    begun = time.monotonic()
    outcome = deferred(CRASH, lambda: time.sleep(2), retries=1, **{limit: LIMITS[limit]})
    assert "Timeout" in type(outcome.error).__name__
    assert 3.3 < time.monotonic() - begun < 5.3
    assert is_aborted(kind, request)


def test_an_event_gives_what_is_left_of_the_time(kind: Kind, runner: Runner) -> None:
    """Also where Airflow does not know any more when the try began."""
    options: dict[str, Any] = {"wait_for_completion": True, "deferrable": True, "timeout": 60}
    assert runner.run(kind.operator(**options)).state == "deferred"
    event = {"status": "?", "deadline": None, "execution_deadline": time.time() + 1}
    begun = time.monotonic()
    outcome = runner.run(kind.operator(**options), next_method="execute_complete", next_kwargs={"event": event})
    assert type(outcome.error).__name__ == "AirflowTaskTimeout"
    assert time.monotonic() - begun < 3


def test_a_job_whose_id_is_not_passed_on_is_waited_for_too(kind: Kind, supervisor: Supervisor, runner: Runner) -> None:
    supervisor.has_store = False
    options: dict[str, Any] = {"wait_for_completion": True, "deferrable": True, "do_xcom_push": False, "retries": 1}
    kind.seconds = 1
    assert runner.run(kind.operator(**options)).state == "deferred"
    outcome = runner.run(kind.operator(**options), **CRASH)
    assert (outcome.state, outcome.error) == ("success", None)
    assert kind.jobs[0]["status"] == "SUCCEEDED"
