"""
What a release leaves behind, the next one takes over: deferred tasks and their events, records of jobs, fingerprints.

``releases/`` has it for each release and kind of job, as it stands in users' databases: never change a file there.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import pkgutil
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_apify import __version__
from airflow_provider_apify.emulator import Emulator, Fault
from tests.features import STORE
from tests.kinds import KINDS, Kind
from tests.runner import Runner, Supervisor, fire

RELEASES = {path.stem: json.loads(path.read_text()) for path in Path(__file__).with_name("releases").glob("*.json")}

#: How each event ends a task with a retry left: of the operator, of the sensor.
ENDS = {
    "succeeded": (("success", None), ("success", None)),
    "failed": (("up_for_retry", "Apify{Kind}Failed"), ("failed", "Apify{Kind}FailedFinal")),
    "deadline": (("up_for_retry", "ApifyJobTimeout"), ("failed", "ApifyJobSensorTimeout")),
    "gone": (("failed", "ApifyNotFoundError"), ("failed", "ApifyNotFoundError")),
}


@pytest.fixture(params=RELEASES.values(), ids=list(RELEASES))
def left(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What a release has left behind."""
    return dict(request.param)


@pytest.fixture
def kind(left: dict[str, Any], apify: Emulator) -> Kind:
    """The kind of job that it is about."""
    return KINDS["run" if "run_id" in left["trigger"]["kwargs"] else "build"](apify)


@pytest.mark.parametrize("name", KINDS)
def test_this_release_is_among_them(name: str, apify: Emulator) -> None:
    _, kwargs = KINDS[name](apify).trigger("x").serialize()
    assert RELEASES[f"{__version__}-{name}"]["trigger"]["kwargs"].keys() == kwargs.keys()


def test_a_task_that_was_deferred_goes_on(left: dict[str, Any], kind: Kind, runner: Runner) -> None:
    now = {kind.id: kind.start(), "deadline": time.time() + 60}
    trigger = pkgutil.resolve_name(left["trigger"]["classpath"])(**left["trigger"]["kwargs"] | now)
    event = asyncio.run(fire(trigger))
    task = kind.operator(wait_for_completion=True, deferrable=True)
    outcome = runner.run(task, next_method=left["next_method"], next_kwargs={"event": event})
    assert (outcome.state, outcome.xcoms["return_value"]) == ("success", now[kind.id])


@pytest.mark.parametrize("event", ENDS)
def test_an_event_that_was_sent_is_understood(event: str, left: dict[str, Any], kind: Kind, runner: Runner) -> None:
    kind.seconds = 60
    job_id = kind.start()
    sent = json.loads(json.dumps(left["events"][event]).replace(left["trigger"]["kwargs"][kind.id], job_id))
    resume = {"next_method": left["next_method"], "next_kwargs": {"event": sent}}
    tasks = (
        kind.operator(wait_for_completion=True, deferrable=True, retries=1),
        kind.sensor(job_id, deferrable=True, retries=1),
    )
    # The sensor first: out of time, the operator aborts the job.
    for task, (state, error) in reversed([*zip(tasks, ENDS[event], strict=True)]):
        outcome = runner.run(task, **resume)
        assert outcome.state == state
        assert type(outcome.error).__name__ == (error or "NoneType").format(Kind=kind.title)


@STORE.needed
def test_a_retry_finds_the_job_that_was_written_down(
    left: dict[str, Any], kind: Kind, apify: Emulator, supervisor: Supervisor, runner: Runner
) -> None:
    apify.add_fault(Fault("user-agent", value="corporate-proxy/1.0"))
    job_id = kind.start()
    ((key, record),) = left["task_state_store"].items()
    supervisor.store[key] = {**record, kind.id: job_id}
    runner.retry()
    assert runner.run(kind.operator(retries=1)).xcoms[kind.id] == job_id
    assert kind.starts == 1


def test_a_fingerprint_is_still_made_alike(left: dict[str, Any], kind: Kind, supervisor: Supervisor) -> None:
    runner = Runner(supervisor, run_started=dt.datetime(2026, 11, 23, 3, tzinfo=dt.timezone.utc))
    runner.run(kind.operator(retries=1))
    assert left["fingerprint"] in kind.jobs[0]["meta"]["userAgent"].split()
