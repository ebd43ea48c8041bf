"""Success means that the tag has moved: what a waiting operator sees of the Actor once its build has succeeded."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_apify.emulator import Actor, Emulator, Fault
from airflow_provider_apify.lifecycle import tag_seen
from tests.integration.conftest import operator, sensor, start_build
from tests.runner import Runner

ACTOR: dict[str, Any] = {"method": "GET", "path": "/v2/acts/*"}
PATHS: dict[str, dict[str, Any]] = {
    "in the worker": {"wait_for_completion": True},
    "deferred": {"wait_for_completion": True, "deferrable": True},
    "with wait_for_finish alone": {"wait_for_finish": 30},
}


@pytest.fixture(params=PATHS.values(), ids=list(PATHS))
def build(request: pytest.FixtureRequest, runner: Runner) -> Callable[..., Any]:
    """Run a build on each way of waiting, and give its outcome."""
    return lambda actor="~hello-world", **options: runner.run_to_end(
        lambda: operator(actor, **{"version": "0.0", **request.param, **options})
    )


def seen(outcome: Any) -> tuple[Any, ...]:
    assert outcome.state == "success", outcome.error
    return tuple(outcome.xcoms["summary"][name] for name in ("actor_name", "tag", "tag_seen"))


@pytest.mark.parametrize("tag", [None, "candidate"])
def test_the_operator_ends_when_the_tag_is_on_the_build(
    tag: str | None, build: Callable[..., Any], apify: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """What runs the tag next gets this build."""
    apify.tag_seconds = 1.2
    assert seen(build(tag=tag)) == ("hello-world", tag or "latest", True)
    assert f"The tag {tag or 'latest'!r} is on it." in capsys.readouterr().out
    last = max(number for number, request in enumerate(apify.requests) if request.path.startswith("/v2/acts/"))
    assert apify.requests[last].at >= apify_time(apify.builds[0]["finishedAt"]) + 1.1


def apify_time(text: str) -> float:
    return dt.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def test_a_tag_that_does_not_come_is_a_warning(
    build: Callable[..., Any], apify: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tag_seen, "TAG_LIMIT", 2.0)
    apify.tag_seconds = 60
    assert seen(build()) == ("hello-world", "latest", False)
    assert "The tag 'latest' of Actor hello-world is not on build 0.0.1 yet" in capsys.readouterr().out


def test_a_tag_that_a_later_build_has_is_said_so_at_once(
    build: Callable[..., Any], apify: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    apify.tag_seconds = 1
    apify.add_actor(Actor("two", versions={"0.0": "latest", "0.1": "latest"}))

    def overtake() -> None:
        apify.wait_for(lambda apify: any(each["status"] == "SUCCEEDED" for each in apify.builds), timeout=20)
        apify.tag_seconds = 0
        start_build(apify, "two")

    apify.build_seconds = 0
    apify.set_actor("two", build_seconds=0.3)
    thread = threading.Thread(target=overtake)
    thread.start()
    result = build("~two")
    thread.join()
    assert seen(result) == ("two", "latest", False)
    assert "is on build 0.0.2, which ended later than build 0.0.1" in capsys.readouterr().out


def test_a_build_without_a_tag_is_not_waited_for(build: Callable[..., Any], apify: Emulator) -> None:
    apify.add_actor(Actor("untagged", versions={"0.0": None}))
    assert seen(build("~untagged")) == ("untagged", None, None)
    assert sum(request.path.startswith("/v2/acts/") for request in apify.requests) == 2, "the start, and the Actor"


TROUBLE = {
    "403": Fault("status", status=403, times=None, **ACTOR),
    "404": Fault("status", status=404, times=None, **ACTOR),
    "5xx all the time": Fault("status", status=503, times=None, **ACTOR),
    "HTML all the time": Fault("html", times=None, **ACTOR),
    "no answer": Fault("stall", times=None, **ACTOR),
}


@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE)
def test_no_trouble_with_the_actor_fails_the_task(
    trouble: Fault,
    build: Callable[..., Any],
    apify: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tag_seen, "TAG_LIMIT", 2.0)
    apify.add_fault(trouble)
    assert seen(build(tag="candidate")) == (None, "candidate", None)
    assert f"Actor {apify.builds[0]['actId']} could not be read" in capsys.readouterr().out


def test_trouble_that_passes_is_waited_out(build: Callable[..., Any], apify: Emulator) -> None:
    apify.add_fault(Fault("status", status=503, times=2, **ACTOR))
    assert seen(build()) == ("hello-world", "latest", True)


@pytest.mark.parametrize("limit", ["timeout", "execution_timeout"])
def test_the_deadline_bounds_the_wait_for_the_tag(limit: str, build: Callable[..., Any], apify: Emulator) -> None:
    """The build has succeeded in time, so the task does."""
    apify.tag_seconds = 60
    seconds = dt.timedelta(seconds=5)
    assert seen(build(wait_for_completion=True, **{limit: seconds}))[1:] in (("latest", False), (None, None))


def test_a_failed_build_has_its_actors_name(build: Callable[..., Any], apify: Emulator) -> None:
    result = build("~always-fails")
    assert result.state == "failed"
    assert [result.xcoms["summary"][name] for name in ("actor_name", "tag", "tag_seen")] == [
        "always-fails",
        "latest",
        None,
    ]


@pytest.mark.parametrize("mode", [{}, {"mode": "reschedule", "poke_interval": 0}, {"deferrable": True}])
def test_a_sensor_waits_for_no_tag(mode: dict[str, Any], apify: Emulator, runner: Runner) -> None:
    """It does not know what the build is to be called."""
    apify.tag_seconds = 60
    build_id = start_build(apify)
    result = runner.run_to_end(lambda: sensor(build_id, **mode))
    assert seen(result) == ("hello-world", "latest", None)
