"""
What a release leaves behind, the next one takes over: deferred tasks and their events, records of builds, fingerprints.

``releases/`` has it for each release, as it stands in users' databases: never change a file there.
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
from airflow_provider_apify.triggers.build import ApifyBuildTrigger
from tests.features import STORE
from tests.integration.conftest import operator, sensor, start_build, starts
from tests.runner import Runner, Supervisor, fire

RELEASES = {path.stem: json.loads(path.read_text()) for path in Path(__file__).with_name("releases").glob("*.json")}

#: How each event ends a task with a retry left: of the operator, of the sensor.
ENDS = {
    "succeeded": (("success", None), ("success", None)),
    "failed": (("up_for_retry", "ApifyBuildFailed"), ("failed", "ApifyBuildFailedFinal")),
    "deadline": (("up_for_retry", "ApifyJobTimeout"), ("failed", "ApifyJobSensorTimeout")),
    "gone": (("failed", "ApifyNotFoundError"), ("failed", "ApifyNotFoundError")),
}


@pytest.fixture(params=RELEASES.values(), ids=list(RELEASES))
def left(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What a release has left behind."""
    return dict(request.param)


def test_this_release_is_among_them() -> None:
    _, kwargs = ApifyBuildTrigger(build_id="x", apify_conn_id="y").serialize()
    assert RELEASES[__version__]["trigger"]["kwargs"].keys() == kwargs.keys()


def test_a_task_that_was_deferred_goes_on(left: dict[str, Any], apify: Emulator, runner: Runner) -> None:
    now = {"build_id": start_build(apify), "deadline": time.time() + 60}
    trigger = pkgutil.resolve_name(left["trigger"]["classpath"])(**left["trigger"]["kwargs"] | now)
    event = asyncio.run(fire(trigger))
    task = operator(wait_for_completion=True, deferrable=True)
    outcome = runner.run(task, next_method=left["next_method"], next_kwargs={"event": event})
    assert (outcome.state, outcome.xcoms["return_value"]) == ("success", now["build_id"])


@pytest.mark.parametrize("event", ENDS)
def test_an_event_that_was_sent_is_understood(
    event: str, left: dict[str, Any], apify: Emulator, runner: Runner
) -> None:
    apify.build_seconds = 60
    build_id = start_build(apify)
    sent = json.loads(json.dumps(left["events"][event]).replace(left["trigger"]["kwargs"]["build_id"], build_id))
    resume = {"next_method": left["next_method"], "next_kwargs": {"event": sent}}
    tasks = operator(wait_for_completion=True, deferrable=True, retries=1), sensor(build_id, deferrable=True, retries=1)
    # The sensor first: out of time, the operator aborts the build.
    for task, (state, error) in reversed([*zip(tasks, ENDS[event], strict=True)]):
        outcome = runner.run(task, **resume)
        assert outcome.state == state
        assert type(outcome.error).__name__ == (error or "NoneType")


@STORE.needed
def test_a_retry_finds_the_build_that_was_written_down(
    left: dict[str, Any], apify: Emulator, supervisor: Supervisor, runner: Runner
) -> None:
    apify.add_fault(Fault("user-agent", value="corporate-proxy/1.0"))
    build_id = start_build(apify)
    ((key, record),) = left["task_state_store"].items()
    supervisor.store[key] = {**record, "build_id": build_id}
    runner.retry()
    assert runner.run(operator(retries=1)).xcoms["build_id"] == build_id
    assert starts(apify) == 1


def test_a_fingerprint_is_still_made_alike(left: dict[str, Any], apify: Emulator, supervisor: Supervisor) -> None:
    runner = Runner(supervisor, run_started=dt.datetime(2026, 11, 23, 3, tzinfo=dt.timezone.utc))
    runner.run(operator(retries=1))
    assert left["fingerprint"] in apify.builds[0]["meta"]["userAgent"].split()
