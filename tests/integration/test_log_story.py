"""A task's log reads like a short story: what is started, where to look, what changed, how it ended, what it cost."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_apify.emulator import Emulator, Fault
from tests.integration.test_no_orphans import sigterm_when, waits
from tests.kinds import Kind
from tests.runner import Runner, Supervisor

WAYS = pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
CHOSEN = "Building version 0.0 of Actor ~hello-world: it is the only version."
ENDED = "{Kind} {short} of Actor {name} ({actor}) SUCCEEDED after N s,{exit} using N compute units, at N {cost}."
READY = "{Kind} {short} is READY."
ENDED_WELL = ENDED + "{tagged}"


@pytest.fixture
def story(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """What this provider has logged since the last look, without times and amounts."""

    def story() -> list[str]:
        said = capsys.readouterr().out
        lines = re.findall(r"^\[.*?\] [A-Z]+ (.*) \[[\w.]*airflow_provider_apify[\w.]*\]", said, re.MULTILINE)
        return [re.sub(r"\d\S* (s|compute units|USD)\b", r"N \1", line) for line in lines]

    return story


def told(kind: Kind, *lines: str, name: str = "hello-world") -> list[str]:
    """Give lines about the first job; a run needs no choice of a version."""
    job = kind.jobs[0]
    names = {"name": name, "id": job["id"], "actor": job["actId"], "url": kind.console_url(job), **kind.words(job)}
    names |= {"kind": kind.name, "Kind": kind.title}
    return [line.format(**names) for line in lines if kind.one_request or not line.startswith("Building version")]


@WAYS
def test_a_success(deferrable: bool, kind: Kind, runner: Runner, story: Callable[[], list[str]]) -> None:
    runner.run_to_end(lambda: kind.operator(wait_for_completion=True, deferrable=deferrable))
    assert story() == told(kind, CHOSEN, "Started {kind} {long} of Actor ~hello-world: {url}", READY, ENDED_WELL)


@WAYS
def test_a_failure_says_why(deferrable: bool, kind: Kind, runner: Runner, story: Callable[[], list[str]]) -> None:
    outcome = runner.run_to_end(lambda: kind.operator("~always-fails", wait_for_completion=True, deferrable=deferrable))
    assert story() == told(
        kind,
        CHOSEN.replace("~hello-world", "~always-fails"),
        "Started {kind} {long} of Actor ~always-fails: {url}",
        READY,
    )
    # Airflow prints it below that.
    first, *more = re.sub(r"\d\S* (s|compute units|USD)\b", r"N \1", str(outcome.error)).splitlines()
    assert first == told(kind, ENDED.replace("SUCCEEDED", "FAILED"), name="always-fails")[0]
    if kind.name == "run":
        assert more.pop(0) == f"Its status message: {kind.jobs[0]['statusMessage']}"
    assert more[:2] == told(kind, "See {url}", "The end of its log:")
    assert more[-1].endswith(kind.said)


def test_a_job_adopted_after_a_lost_answer(
    kind: Kind, apify: Emulator, runner: Runner, story: Callable[[], list[str]]
) -> None:
    kind.seconds = 5  # of which it is READY for half a second
    apify.add_fault(Fault("lost-answer", **kind.start_request))
    runner.run(kind.operator(wait_for_completion=True))
    assert story() == told(
        kind,
        CHOSEN,
        "No answer from Apify to POST /v2/acts/~hello-world/{kind}s: the connection was cut before the whole answer had"
        " come. Apify may have started the {kind}: looking for it before sending again.",
        "Continuing with {kind} {long} of Actor ~hello-world, which this task had started before: {url}",
        READY,
        ENDED_WELL,
    )


def test_a_job_adopted_by_the_next_try(
    kind: Kind, apify: Emulator, supervisor: Supervisor, runner: Runner, story: Callable[[], list[str]]
) -> None:
    kind.seconds = 3
    runner.run(kind.operator(retries=1))
    apify.wait_for(lambda emulator: kind.jobs[0]["status"] == "RUNNING")
    story()
    runner.retry()
    runner.run(kind.operator(wait_for_completion=True, retries=1))
    assert story() == told(
        kind,
        "Continuing with {kind} {long} of Actor ~hello-world, which this task had started before: {url}",
        "{Kind} {short} is RUNNING.{progress}",
        ENDED_WELL,
    )


def test_an_abort(
    kind: Kind, apify: Emulator, supervisor: Supervisor, runner: Runner, story: Callable[[], list[str]]
) -> None:
    supervisor.state = "failed"
    kind.seconds = 30
    with sigterm_when(apify, waits):
        runner.run(kind.operator(wait_for_completion=True))
    assert story() == told(
        kind,
        CHOSEN,
        "Started {kind} {long} of Actor ~hello-world: {url}",
        READY,
        "{Kind} {long} is being aborted, since its task no longer waits for it.",
    )


def test_an_abort_whose_first_answer_was_lost(
    kind: Kind, apify: Emulator, supervisor: Supervisor, runner: Runner, story: Callable[[], list[str]]
) -> None:
    """Then the next answer says that the job has ended, by our own doing."""
    supervisor.state = "failed"
    kind.seconds = 30
    apify.add_fault(Fault("lost-answer", method="POST", path=kind.path("*/abort")))
    with sigterm_when(apify, waits):
        runner.run(kind.operator(wait_for_completion=True))
    assert story()[-1:] == told(kind, "{Kind} {long} is being aborted, since its task no longer waits for it.")


@WAYS
def test_a_timeout(deferrable: bool, kind: Kind, runner: Runner, story: Callable[[], list[str]]) -> None:
    kind.seconds = 30
    outcome = runner.run_to_end(lambda: kind.operator(wait_for_completion=True, deferrable=deferrable, timeout=1))
    assert story() == told(
        kind,
        CHOSEN,
        "Started {kind} {long} of Actor ~hello-world: {url}",
        READY,
        "{Kind} {short} is RUNNING.{progress}",
        "{Kind} {long} is being aborted, since its task no longer waits for it.",
    )
    assert [str(outcome.error)] == told(kind, "{Kind} {long} has not ended within the task's timeout; it is RUNNING.")


@pytest.mark.parametrize(
    "options",
    [{}, {"mode": "reschedule", "poke_interval": 1}, {"deferrable": True}],
    ids=["worker", "reschedule", "deferred"],
)
def test_a_sensor_says_where_to_look_first(
    options: dict[str, Any], kind: Kind, apify: Emulator, runner: Runner, story: Callable[[], list[str]]
) -> None:
    kind.seconds = 30
    job_id = kind.start()
    apify.wait_for(lambda emulator: kind.jobs[0]["status"] == "RUNNING")
    threading.Thread(target=finish_once_seen, args=(kind, job_id), daemon=True).start()
    runner.run_to_end(lambda: kind.sensor(job_id, **options))
    first, *rest = story()
    assert [first] == told(kind, "{Kind} {long} of Actor {actor} is RUNNING: {url}")
    # In reschedule mode, Airflow has the last word.
    assert told(kind, ENDED)[0] in rest[-2:]


def finish_once_seen(kind: Kind, job_id: str) -> None:
    path = kind.path(job_id)
    kind.apify.wait_for(
        lambda emulator: any(request.path == path and request.status for request in emulator.requests), 30
    )
    kind.finish(job_id)


def test_a_sensor_that_comes_late(kind: Kind, runner: Runner, story: Callable[[], list[str]]) -> None:
    job_id = kind.start()
    kind.ended()
    runner.run(kind.sensor(job_id))
    assert story() == told(kind, "{Kind} {long} of Actor {actor} is SUCCEEDED: {url}", ENDED)
