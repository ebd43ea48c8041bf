"""A task that Apify refuses for lack of room waits for it, and then has its one job as any other."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import pkgutil
import re
import signal
import threading
import time
import warnings
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import requests
from airflow.sdk import DAG

from airflow_provider_apify.emulator import Emulator, Fault
from airflow_provider_apify.jobs import room
from airflow_provider_apify.operators.run import ApifyRunTaskOperator
from airflow_provider_apify.triggers.capacity import ApifyCapacityTrigger
from tests.features import START_DATE
from tests.kinds import Kind
from tests.runner import Outcome, Runner, Supervisor, fire, unwrapped

WAYS = pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
LIMITS_PATH = "/v2/users/me/limits"
#: What a start meets that Apify has no room for.
NO_ROOM: dict[str, Any] = {
    "status": 402,
    "body": {"error": {"type": "actor-memory-limit-exceeded", "message": "By launching this job you will exceed it."}},
}
FULL_OF_JOBS: dict[str, Any] = {
    "status": 402,
    "body": {"error": {"type": "concurrent-runs-limit-exceeded", "message": "Too many runs."}},
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "INTERVAL", 0.2)
    monkeypatch.setattr(room, "GIVEN_FOR", 0.5)


@pytest.fixture
def occupant(kind: Kind, apify: Emulator) -> str:
    """A job of somebody else's that takes all there is."""
    apify.memory_mbytes = {"build": 4096, "run": 1024}[kind.name]
    return occupy(kind)


def occupy(kind: Kind) -> str:
    seconds, kind.seconds = kind.seconds, 60
    job_id = kind.start()
    kind.seconds = seconds
    kind.apify.clear_ledger()
    return job_id


def task(kind: Kind, **options: Any) -> Any:
    return kind.operator(**{**kind.one_request, "wait_for_completion": True, "wait_for_capacity": 60, **options})


def make_room(kind: Kind, occupant: str, *, after: float) -> None:
    """End somebody else's job, some seconds after a start was refused."""

    def finish() -> None:
        kind.apify.wait_for(lambda _: kind.starts > 0, timeout=30)
        time.sleep(after)
        kind.finish(occupant)

    threading.Thread(target=finish, daemon=True).start()


def asked_for_limits(kind: Kind) -> int:
    return sum(request.path == LIMITS_PATH for request in kind.requests)


def events_of(outcome: Outcome) -> list[str]:
    return [event["status"] for event in outcome.events]


def run_until_the_trigger(kind: Kind, runner: Runner, **options: Any) -> Outcome:
    outcome = runner.run(task(kind, deferrable=True, **options))
    assert outcome.state == "deferred"
    assert isinstance(outcome.trigger, ApifyCapacityTrigger)
    return outcome


NO_TRIGGERER = {"next_method": "__fail__", "next_kwargs": {"error": "Trigger/execution timeout"}}
CRASHED = {"next_method": "__fail__", "next_kwargs": {"error": "Trigger failure"}}


# -- waiting and starting ---------------------------------------------------------------------------------------------


@WAYS
@pytest.mark.parametrize("waits", [False, True], ids=["start only", "to the end"])
def test_a_task_waits_until_there_is_room_and_starts_once(
    waits: bool, deferrable: bool, occupant: str, kind: Kind, runner: Runner
) -> None:
    make_room(kind, occupant, after=1.0)
    outcome = runner.run_to_end(lambda: task(kind, deferrable=deferrable, wait_for_completion=waits))
    assert (outcome.state, len(kind.jobs)) == ("success", 2)
    assert outcome.xcoms["return_value"] == outcome.xcoms[kind.id] == kind.jobs[1]["id"]
    assert events_of(outcome) == (["room", "ended"] if waits else ["room"])[: 9 * deferrable]
    assert kind.starts == 2, "it starts again only when there is room"
    assert asked_for_limits(kind) >= 1


@WAYS
def test_refused_again_it_waits_again(deferrable: bool, kind: Kind, apify: Emulator, runner: Runner) -> None:
    apify.add_fault(Fault("status", **kind.start_request, **FULL_OF_JOBS, times=3))
    outcome = runner.run_to_end(lambda: task(kind, deferrable=deferrable))
    assert (outcome.state, kind.starts, len(kind.jobs)) == ("success", 4, 1)
    assert events_of(outcome) == ["room", "room", "room", "ended"][: 9 * deferrable]
    assert runner.try_number == 1


def test_without_wait_for_capacity_it_fails_as_ever(occupant: str, kind: Kind, runner: Runner) -> None:
    outcome = runner.run(task(kind, wait_for_capacity=None, deferrable=True, retries=1))
    assert (outcome.state, type(outcome.error).__name__) == ("up_for_retry", "ApifyCapacityError")
    assert asked_for_limits(kind) == 0


def test_a_full_number_of_jobs_is_waited_out_too(kind: Kind, apify: Emulator, runner: Runner) -> None:
    if kind.name == "build":
        pytest.skip("the emulator limits the number of runs only")
    occupant = occupy(kind)
    apify.max_concurrent_jobs = 1
    make_room(kind, occupant, after=1.0)
    outcome = runner.run_to_end(lambda: task(kind, deferrable=True))
    assert (outcome.state, kind.starts) == ("success", 2)


def test_an_apify_task_waits_with_the_memory_that_apify_says_it_takes(apify: Emulator, runner: Runner) -> None:
    apify.memory_mbytes = 1024
    apify.run_seconds = 60
    headers = authorization(apify)
    requests.post(f"{apify.url}/v2/acts/~scraper/runs", headers=headers, timeout=5).raise_for_status()

    def operator() -> Any:
        with DAG("dag", start_date=dt.datetime(2026, 1, 1)):
            return ApifyRunTaskOperator(
                task_id="run", actor_task_id="~ten-products", wait_for_capacity=60, deferrable=True
            )

    outcome = runner.run(operator())
    assert outcome.trigger.memory_mbytes == 1024


@WAYS
def test_the_limits_in_a_template_or_a_timedelta(deferrable: bool, occupant: str, kind: Kind, runner: Runner) -> None:
    for value in ("{{ 1 }}", dt.timedelta(seconds=1)):
        outcome = runner.run_to_end(partial(task, kind, deferrable=deferrable, wait_for_capacity=value))
        assert type(outcome.error).__name__ == "ApifyCapacityError"


def test_deferrable_has_an_effect_then(kind: Kind) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task(kind, deferrable=True, wait_for_completion=False)
    with pytest.warns(UserWarning, match="ignores deferrable"):
        task(kind, deferrable=True, wait_for_completion=False, wait_for_capacity=None)


# -- how long ---------------------------------------------------------------------------------------------------------


@WAYS
@pytest.mark.parametrize("limit", ["wait_for_capacity", "execution_timeout"])
def test_out_of_time_it_tries_once_more_and_says_how_long_it_waited(
    limit: str, deferrable: bool, occupant: str, kind: Kind, runner: Runner
) -> None:
    options: dict[str, Any] = {limit: dt.timedelta(seconds=2)}
    begun = time.time()
    outcome = runner.run_to_end(lambda: task(kind, deferrable=deferrable, retries=1, **options))
    assert 1.9 < time.time() - begun < 8
    assert (outcome.state, len(kind.jobs)) == ("up_for_retry", 1)
    if limit == "wait_for_capacity" or deferrable:  # else Airflow's own alarm comes first
        assert re.search(r"Apify has had no room for it for [2-8] s", str(outcome.error))
        assert kind.starts == 2
    error = "ApifyCapacityError" if limit == "wait_for_capacity" else "AirflowTaskTimeout"
    assert type(outcome.error).__name__ == error
    if deferrable:
        assert events_of(outcome) == ["timeout"]


def test_several_rounds_have_one_limit(kind: Kind, apify: Emulator, runner: Runner) -> None:
    apify.add_fault(Fault("status", **kind.start_request, **FULL_OF_JOBS, times=None))
    begun = time.time()
    outcome = runner.run_to_end(lambda: task(kind, deferrable=True, wait_for_capacity=3))
    assert 2.9 < time.time() - begun < 12
    assert type(outcome.error).__name__ == "ApifyCapacityError"
    assert len(outcome.events) >= 2


def test_airflows_own_limit_of_the_deferral_is_a_minute_later(occupant: str, kind: Kind, runner: Runner) -> None:
    outcome = run_until_the_trigger(kind, runner)
    assert outcome.message.trigger_timeout.total_seconds() == pytest.approx(120, abs=1)
    assert outcome.trigger.limits.first == pytest.approx(time.time() + 60, abs=1)
    assert outcome.trigger.not_before == pytest.approx(time.time() + 15, abs=1)


@WAYS
def test_the_timeout_counts_from_the_start_of_the_job(
    deferrable: bool, occupant: str, kind: Kind, runner: Runner
) -> None:
    make_room(kind, occupant, after=2.0)
    outcome = runner.run_to_end(lambda: task(kind, deferrable=deferrable, timeout=1.5))
    assert outcome.state == "success"


def test_the_execution_timeout_counts_from_the_begin_of_the_try(occupant: str, kind: Kind, runner: Runner) -> None:
    outcome = run_until_the_trigger(kind, runner, execution_timeout=dt.timedelta(seconds=40))
    begun, kind.seconds = time.time(), 60
    time.sleep(1.0)
    kind.finish(occupant)
    event = asyncio.run(fire(outcome.trigger))
    outcome = runner.resume(task(kind, deferrable=True, execution_timeout=dt.timedelta(seconds=40)), outcome, event)
    assert outcome.trigger.limits.execution_deadline == pytest.approx(begun + 40, abs=0.9)


@WAYS
def test_what_can_never_fit_fails_at_once(deferrable: bool, kind: Kind, apify: Emulator, runner: Runner) -> None:
    apify.memory_mbytes = 2048
    options = {} if kind.name == "build" else {"memory_mbytes": 4096}
    outcome = runner.run(task(kind, deferrable=deferrable, retries=1, **options))
    assert (outcome.state, type(outcome.error).__name__) == ("failed", "ApifyConfigurationError")
    assert "takes 4096 MB of memory, and the account has 2048 MB in all" in str(outcome.error)
    assert (kind.starts, asked_for_limits(kind)) == (1, 1)


def test_nor_does_an_actor_that_chooses_too_much_memory_wait(kind: Kind, apify: Emulator, runner: Runner) -> None:
    """Apify's refusal says how much it is."""
    apify.memory_mbytes = 512
    outcome = runner.run(task(kind, deferrable=True, retries=1))
    assert (outcome.state, type(outcome.error).__name__) == ("failed", "ApifyConfigurationError")
    assert (kind.starts, asked_for_limits(kind)) == (1, 1)


def test_where_nobody_says_how_much_it_is_it_waits(kind: Kind, apify: Emulator, runner: Runner) -> None:
    if kind.name == "build":
        pytest.skip("a build takes what it takes")
    apify.add_fault(Fault("status", **kind.start_request, **NO_ROOM))
    run_until_the_trigger(kind, runner)
    assert asked_for_limits(kind) == 0


# -- what may be known ------------------------------------------------------------------------------------------------


@WAYS
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 403},
        {"status": 403, "body": {"error": {"type": "insufficient-permissions", "message": "No."}}},
        {"status": 200, "body": {"data": {"limits": {}, "current": {}}}},
    ],
    ids=["403", "insufficient-permissions", "without memory"],
)
def test_a_token_that_may_not_read_limits_tries_patiently(
    fault: dict[str, Any],
    deferrable: bool,
    occupant: str,
    kind: Kind,
    apify: Emulator,
    runner: Runner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room, "FIRST_PAUSE", 1.0)
    apify.add_fault(Fault("status", path=LIMITS_PATH, times=None, **fault))
    kind.finish(occupant)
    apify.add_fault(Fault("status", **kind.start_request, **NO_ROOM, times=2))
    outcome = runner.run_to_end(lambda: task(kind, deferrable=deferrable))
    assert (outcome.state, kind.starts, len(kind.jobs)) == ("success", 3, 2)
    sent = [request.at for request in kind.requests if request.method == "POST"]
    first, second = (later - earlier for earlier, later in pairwise(sent))
    assert first >= 0.5 and second >= 1.0, "at least half of what each may be, and that doubles"


def test_memory_that_nobody_says_is_waited_for_patiently(
    kind: Kind, apify: Emulator, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind.name == "build":
        pytest.skip("a build takes what it takes")
    monkeypatch.setattr(room, "FIRST_PAUSE", 0.5)
    apify.add_fault(Fault("status", **kind.start_request, **NO_ROOM, times=2))
    outcome = runner.run_to_end(lambda: task(kind, deferrable=True))
    assert (outcome.state, kind.starts, asked_for_limits(kind)) == ("success", 3, 0)


@WAYS
@pytest.mark.parametrize("fault", [{"kind": "status"}, {"kind": "html"}, {"kind": "reset"}], ids=str)
def test_limits_that_cannot_be_read_now_are_asked_for_again(
    fault: dict[str, Any], deferrable: bool, occupant: str, kind: Kind, apify: Emulator, runner: Runner
) -> None:
    apify.add_fault(Fault(path=LIMITS_PATH, skip=1, times=2, **fault))
    make_room(kind, occupant, after=1.0)
    outcome = runner.run_to_end(lambda: task(kind, deferrable=deferrable))
    assert (outcome.state, kind.starts) == ("success", 2)


@WAYS
def test_limits_that_are_wrong_do_not_keep_a_task_waiting_for_ever(
    deferrable: bool, occupant: str, kind: Kind, apify: Emulator, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "TRY_ANYWAY", 1.0)
    body = {"data": requests.get(apify.url + LIMITS_PATH, headers=authorization(apify), timeout=5).json()["data"]}
    apify.add_fault(Fault("status", path=LIMITS_PATH, status=200, body=body, times=None))
    kind.finish(occupant)
    apify.add_fault(Fault("status", **kind.start_request, **NO_ROOM))
    outcome = runner.run_to_end(lambda: task(kind, deferrable=deferrable, **memory(kind)))
    assert (outcome.state, kind.starts) == ("success", 2)


def memory(kind: Kind) -> dict[str, Any]:
    return {} if kind.name == "build" else {"memory_mbytes": 1024}


def authorization(apify: Emulator) -> dict[str, str]:
    return {"Authorization": f"Bearer {apify.token}"}


# -- without a triggerer ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("push", [True, False], ids=["XComs", "no XComs"])
@pytest.mark.parametrize("resume", [NO_TRIGGERER, CRASHED], ids=["no triggerer", "crashed"])
def test_a_resume_without_an_event_tries_once_more(
    resume: dict[str, Any], push: bool, occupant: str, kind: Kind, runner: Runner
) -> None:
    run_until_the_trigger(kind, runner, do_xcom_push=push)
    kind.finish(occupant)
    outcome = runner.run(task(kind, deferrable=True, do_xcom_push=push), **resume)
    assert outcome.state == "deferred", "there is a job now"
    event = asyncio.run(fire(outcome.trigger))
    outcome = runner.resume(task(kind, deferrable=True, do_xcom_push=push), outcome, event)
    assert (outcome.state, event["status"], len(kind.jobs)) == ("success", "ended", 2)


@START_DATE.needed
def test_no_triggerer_until_the_end_of_the_time(occupant: str, kind: Kind, runner: Runner) -> None:
    run_until_the_trigger(kind, runner, wait_for_capacity=1)
    runner.supervisor.first_start -= dt.timedelta(seconds=62)
    outcome = runner.run(task(kind, deferrable=True, wait_for_capacity=1), **NO_TRIGGERER)
    assert type(outcome.error).__name__ == "ApifyCapacityError"
    assert (kind.starts, len(kind.jobs)) == (2, 1)


@pytest.mark.parametrize("resume", ["crashed", "failed"])
def test_after_a_trigger_that_failed_the_worker_waits(
    resume: str, occupant: str, kind: Kind, runner: Runner, capfd: pytest.CaptureFixture[str]
) -> None:
    outcome = run_until_the_trigger(kind, runner, wait_for_completion=False)
    make_room(kind, occupant, after=1.5)
    again = task(kind, deferrable=True, wait_for_completion=False)
    if resume == "crashed":
        outcome = runner.run(again, **CRASHED)
    else:
        outcome = runner.resume(again, outcome, {"status": "error", "message": "Waiting for room failed (KeyError)."})
    assert (outcome.state, len(kind.jobs)) == ("success", 2)
    assert "Continuing in the worker" in "".join(capfd.readouterr())


def test_a_trigger_that_fails_says_so(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*args: object, **kwargs: object) -> None:
        raise KeyError("secret")

    monkeypatch.setattr("airflow_provider_apify.client.client.Client.wait_for_room_async", fail)
    event = asyncio.run(fire(ApifyCapacityTrigger(apify_conn_id="apify_default", since=0)))
    assert event == {"status": "error", "message": "Waiting for room failed (KeyError)."}


@pytest.mark.parametrize("resume", [NO_TRIGGERER, CRASHED], ids=["no triggerer", "crashed"])
def test_the_deferral_for_the_job_is_told_from_the_one_for_room(
    resume: dict[str, Any], occupant: str, kind: Kind, runner: Runner
) -> None:
    outcome = run_until_the_trigger(kind, runner)
    kind.finish(occupant)
    outcome = runner.resume(task(kind, deferrable=True), outcome, {"status": "room"})
    assert outcome.state == "deferred"
    assert not isinstance(outcome.trigger, ApifyCapacityTrigger)
    kind.ended(2)
    outcome = runner.run(task(kind, deferrable=True), **resume)
    assert (outcome.state, kind.starts) == ("success", 2)


# -- starting once ----------------------------------------------------------------------------------------------------


def start_as(kind: Kind, user_agent: str) -> str:
    """Start a job with a User-Agent, as a worker does that was frozen before it sent that."""
    url = f"{kind.apify.url}{kind.starts_of('~hello-world')}?{kind.query}"
    answer = requests.post(url, headers={**authorization(kind.apify), "User-Agent": user_agent}, timeout=5)
    return str(answer.json()["data"]["id"])


@pytest.mark.parametrize("full_lists", [True, False], ids=["lists with the User-Agent", "lists without"])
@pytest.mark.parametrize("resume", ["event", "no event"])
def test_a_task_that_was_given_room_looks_before_it_starts(
    resume: str, full_lists: bool, occupant: str, kind: Kind, apify: Emulator, runner: Runner
) -> None:
    apify.full_lists = full_lists
    outcome = run_until_the_trigger(kind, runner)
    kind.finish(occupant)
    (refused,) = [request for request in kind.requests if request.method == "POST"]
    kind.seconds = 60
    there = start_as(kind, refused.headers["user-agent"])
    if resume == "event":
        outcome = runner.resume(task(kind, deferrable=True), outcome, {"status": "room"})
    else:
        outcome = runner.run(task(kind, deferrable=True), **NO_TRIGGERER)
    assert outcome.state == "deferred"
    assert (outcome.trigger.job_id, kind.starts) == (there, 2)


def test_after_a_refusal_that_is_certain_only_newer_jobs_are_asked_for(
    kind: Kind, apify: Emulator, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_apify.jobs.start.SLACK", 0.0)
    for _ in range(5):
        kind.start()
    time.sleep(1.1)  # Apify's clock is known by the second
    apify.add_fault(Fault("status", **kind.start_request, **FULL_OF_JOBS))
    outcome = run_until_the_trigger(kind, runner)
    apify.clear_ledger()
    outcome = runner.resume(task(kind, deferrable=True), outcome, {"status": "room"})
    assert outcome.state == "deferred"
    assert [(request.method, request.path.split("/")[-1]) for request in kind.requests] == [
        ("GET", f"{kind.name}s"),
        ("POST", f"{kind.name}s"),
    ]


def test_a_start_that_may_be_on_its_way_is_waited_for_in_the_worker(
    occupant: str, kind: Kind, apify: Emulator, runner: Runner
) -> None:
    apify.add_fault(Fault("reset", **kind.start_request))
    make_room(kind, occupant, after=6.0)
    outcome = runner.run(task(kind, deferrable=True))
    assert outcome.state == "deferred"
    assert not isinstance(outcome.trigger, ApifyCapacityTrigger)
    assert (kind.starts, len(kind.jobs)) == (3, 2)


def test_a_retry_of_a_task_that_waited_has_one_job(occupant: str, kind: Kind, runner: Runner) -> None:
    outcome = runner.run_to_end(lambda: task(kind, deferrable=True, retries=1, wait_for_capacity=0.5))
    assert outcome.state == "up_for_retry"
    runner.retry()
    make_room(kind, occupant, after=1.0)
    outcome = runner.run_to_end(lambda: task(kind, deferrable=True, retries=1))
    assert (outcome.state, len(kind.jobs)) == ("success", 2)


def test_a_clear_while_it_waits_starts_one_job(occupant: str, kind: Kind, runner: Runner) -> None:
    run_until_the_trigger(kind, runner)
    runner.clear(task(kind))
    make_room(kind, occupant, after=1.0)
    outcome = runner.run_to_end(lambda: task(kind, deferrable=True))
    assert (outcome.state, len(kind.jobs)) == ("success", 2)
    assert kind.jobs[1]["meta"]["userAgent"].endswith(".2")


# -- ended while it waits ---------------------------------------------------------------------------------------------


def test_a_task_killed_while_it_waits_in_the_worker_leaves_nothing(
    occupant: str, kind: Kind, supervisor: Supervisor, runner: Runner
) -> None:
    supervisor.state = "failed"

    def kill() -> None:
        kind.apify.wait_for(lambda _: asked_for_limits(kind) > 2, timeout=30)
        os.kill(os.getpid(), signal.SIGTERM)
        kind.finish(occupant)

    threading.Thread(target=kill, daemon=True).start()
    outcome = runner.run(task(kind, retries=1))
    assert type(outcome.error).__name__ == "ApifySupersededError"
    assert (kind.starts, kind.aborts, len(kind.jobs)) == (1, 0, 1)


def test_a_task_killed_while_it_starts_after_its_wait_has_its_job_aborted(
    occupant: str, kind: Kind, apify: Emulator, supervisor: Supervisor, runner: Runner
) -> None:
    supervisor.state = "failed"
    kind.seconds = 60
    apify.add_fault(Fault("delay", **kind.start_request, skip=1, seconds=1.5, after_work=True))
    make_room(kind, occupant, after=0.5)

    def kill() -> None:
        apify.wait_for(lambda _: len(kind.jobs) == 2, timeout=30)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=kill, daemon=True).start()
    runner.run(task(kind, retries=1))
    kind.ended(2)
    assert kind.statuses == ["SUCCEEDED", "ABORTED"]


def test_a_task_killed_while_its_trigger_waits_leaves_nothing(occupant: str, kind: Kind, runner: Runner) -> None:
    trigger = run_until_the_trigger(kind, runner).trigger

    async def run_and_cancel() -> None:
        running = asyncio.ensure_future(fire(trigger))
        while asked_for_limits(kind) < 3:  # noqa: ASYNC110 - what it waits for happens in another thread
            await asyncio.sleep(0.05)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        if hasattr(trigger, "on_kill"):
            await trigger.on_kill()

    asyncio.run(run_and_cancel())
    assert (kind.starts, kind.aborts, len(kind.jobs)) == (1, 0, 1)


# -- many -------------------------------------------------------------------------------------------------------------


def waiting_trigger(number: int, **kwargs: Any) -> ApifyCapacityTrigger:
    return ApifyCapacityTrigger(
        **{"apify_conn_id": "apify_default", "since": 1000.0 + number, "memory_mbytes": 4096.0, **kwargs}
    )


async def first(triggers: list[ApifyCapacityTrigger], seconds: float) -> list[float]:
    """Run triggers, and give when those began to wait that have fired after some time, in the order of firing."""
    fired: list[float] = []

    async def run(trigger: ApifyCapacityTrigger) -> None:
        await fire(trigger)
        fired.append(trigger.since)

    running = [asyncio.ensure_future(run(trigger)) for trigger in triggers]
    await asyncio.sleep(seconds)
    for each in running:
        each.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return fired


def test_all_who_wait_share_one_request_and_the_oldest_come_first(apify: Emulator, supervisor: Supervisor) -> None:
    apify.memory_mbytes = 4096 * 3
    triggers = [waiting_trigger(number) for number in (7, 3, 9, 1, 5, 2, 8, 0, 6, 4)]
    fired = asyncio.run(first(triggers, 0.45))
    assert sorted(fired) == [1000.0, 1001.0, 1002.0]
    asked = [request.path for request in apify.requests]
    assert set(asked) == {LIMITS_PATH}
    assert 1 <= len(asked) <= 3


def test_what_was_given_and_not_used_goes_to_the_next(apify: Emulator, supervisor: Supervisor) -> None:
    apify.memory_mbytes = 4096
    fired = asyncio.run(first([waiting_trigger(number) for number in range(3)], 2.5))
    assert fired == [1000.0, 1001.0, 1002.0]


def test_nobody_waits_nobody_asks(apify: Emulator, supervisor: Supervisor) -> None:
    apify.memory_mbytes = 0

    async def run() -> int:
        await first([waiting_trigger(0)], 0.6)
        await asyncio.sleep(0.6)  # for a request that was on its way
        asked = len(apify.requests)
        await asyncio.sleep(0.6)
        return len(apify.requests) - asked

    assert asyncio.run(run()) == 0


def test_no_event_comes_before_its_time(apify: Emulator, supervisor: Supervisor) -> None:
    trigger = waiting_trigger(0, not_before=time.time() + 5)
    trigger.task_instance = cast(Any, SimpleNamespace(task_id="build"))  # as a triggerer gives it
    begun = time.time()
    assert asyncio.run(fire(trigger)) == {"status": "room"}
    assert time.time() - begun >= 4.9


def test_a_trigger_is_stored_without_its_token(apify: Emulator) -> None:
    path, kwargs = waiting_trigger(0, refusals=2, deadline=5.0, execution_deadline=6.0, not_before=7.0).serialize()
    assert path == "airflow_provider_apify.triggers.capacity.ApifyCapacityTrigger"
    assert ApifyCapacityTrigger(**kwargs).serialize() == (path, kwargs)


# -- what a release leaves behind -------------------------------------------------------------------------------------

LEFT = [
    found["capacity_trigger"]
    for path in sorted(Path(__file__).with_name("releases").glob("*.json"))
    if "capacity_trigger" in (found := json.loads(path.read_text()))
]


def test_what_is_stored_now_is_what_a_release_has_stored(kind: Kind, occupant: str, runner: Runner) -> None:
    outcome = run_until_the_trigger(kind, runner)
    stored = unwrapped(outcome.message.next_kwargs)
    assert LEFT[-1]["kwargs"].keys() == outcome.trigger.serialize()[1].keys()
    assert LEFT[-1]["next_method"] == outcome.message.next_method
    assert LEFT[-1]["next_kwargs"]["waiting"].keys() == stored["waiting"].keys()


@pytest.mark.parametrize("event", ["room", "timeout", "error"])
@pytest.mark.parametrize("left", LEFT)
def test_a_task_that_waited_for_room_when_a_release_came_continues(
    left: dict[str, Any], event: str, kind: Kind, runner: Runner
) -> None:
    trigger = pkgutil.resolve_name(left["classpath"])(**left["kwargs"] | {"deadline": time.time() + 60})
    assert asyncio.run(fire(trigger)) == left["events"]["room"]
    resume = left["next_kwargs"] | {"event": left["events"][event]}
    outcome = runner.run(task(kind), next_method=left["next_method"], next_kwargs=resume)
    assert (outcome.state, len(kind.jobs)) == ("success", 1)
