"""A release is one move of a tag: nothing is done twice, nothing undone that somebody else has released."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
import requests
from airflow.sdk import DAG, Asset

from airflow_provider_apify.client import client
from airflow_provider_apify.client import tags as client_tags
from airflow_provider_apify.emulator import Actor, Emulator, Fault
from airflow_provider_apify.exceptions import (
    ApifyConfigurationError,
    ApifyException,
    ApifyNotFoundError,
    ApifyServerError,
    ApifyTagConflictError,
)
from airflow_provider_apify.hooks.apify import ApifyHook
from airflow_provider_apify.lifecycle import outcome
from airflow_provider_apify.operators.tag import ApifyTagBuildOperator
from tests.features import STORE
from tests.integration.conftest import operator
from tests.runner import Outcome, Runner, Supervisor

PUT: dict[str, Any] = {"method": "PUT", "path": "/v2/acts/*"}
READ: dict[str, Any] = {"method": "GET", "path": "/v2/acts/*"}


@pytest.fixture(autouse=True)
def quick(apify: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    apify.build_seconds = 0.05
    monkeypatch.setattr(client_tags, "READ_BACK_INTERVAL", 0.1)


class Shop:
    """The Actor ``hello-world``, as its author works on it."""

    def __init__(self, apify: Emulator) -> None:
        self._apify = apify

    def api(self, method: str, path: str, **kwargs: Any) -> Any:
        headers = {"Authorization": f"Bearer {self._apify.token}"}
        answer = requests.request(method, f"{self._apify.url}/v2{path}", headers=headers, timeout=90, **kwargs)
        answer.raise_for_status()
        return answer.json()["data"]

    def build(self, tag: str = "candidate", actor: str = "hello-world", version: str = "0.0", wait: int = 60) -> str:
        """Build it, and give the build's id."""
        params: dict[str, str | int] = {"version": version, "tag": tag, "waitForFinish": wait}
        return str(self.api("POST", f"/acts/~{actor}/builds", params=params)["id"])

    def tag(self, tag: str, build_id: str) -> None:
        self.api("PUT", "/acts/~hello-world", json={"taggedBuilds": {tag: {"buildId": build_id}}})

    @property
    def tags(self) -> dict[str, str]:
        """The ids of builds by tag."""
        tagged = self.api("GET", "/acts/~hello-world")["taggedBuilds"]
        return {tag: build["buildId"] for tag, build in tagged.items() if tag != "candidate"}

    @property
    def puts(self) -> int:
        """How often the provider has sent a change of an Actor."""
        sent = [request for request in self._apify.requests if request.method == "PUT"]
        return sum("airflow-provider-apify" in request.headers["user-agent"] for request in sent)


@pytest.fixture
def shop(apify: Emulator) -> Shop:
    return Shop(apify)


def release(build_id: str | None = None, **kwargs: Any) -> ApifyTagBuildOperator:
    with DAG("dag", start_date=dt.datetime(2026, 1, 1)):
        arguments: dict[str, Any] = {"actor_id": "~hello-world", "tag": "latest", "build_id": build_id, **kwargs}
        return ApifyTagBuildOperator(task_id="release", **arguments)


def failed(outcome: Outcome, error: type[BaseException], *words: str, state: str = "failed") -> None:
    assert (outcome.state, type(outcome.error)) == (state, error), outcome.error
    assert [word for word in words if word not in str(outcome.error)] == []


# -- a release ------------------------------------------------------------------------------------------------------


def test_a_release_moves_the_tag_and_keeps_the_build_before(shop: Shop, apify: Emulator, runner: Runner) -> None:
    old, new = shop.build("latest"), shop.build()
    outcome = runner.run_to_end(lambda: release(new, retries=1))
    assert outcome.state == "success", outcome.error
    assert shop.tags == {"latest": new, "previous": old}
    assert shop.puts == 1
    link = outcome.xcoms.pop("_link_ApifyConsoleLink")
    assert link.endswith("#/builds/0.0.2")
    assert outcome.xcoms == {
        "return_value": new,
        "build_id": new,
        "build_number": "0.0.2",
        "actor_id": apify.builds[0]["actId"],
        "previous_build_id": old,
        "previous_build_number": "0.0.1",
    }


def test_a_rollback_is_a_release_of_the_build_before(shop: Shop, runner: Runner) -> None:
    old, new = shop.build("latest"), shop.build()
    before = runner.run_to_end(lambda: release(new)).xcoms["previous_build_id"]
    outcome = runner.run_to_end(lambda: release(before, keep_previous_as="rolled-back"))
    assert (outcome.state, before, outcome.xcoms["previous_build_id"]) == ("success", old, new)
    assert shop.tags == {"latest": old, "previous": old, "rolled-back": new}


def test_a_build_can_be_named_by_its_number(shop: Shop, apify: Emulator, runner: Runner) -> None:
    by_tag, untagged = shop.build("candidate"), shop.build("x")
    shop.api("PUT", "/acts/~hello-world", json={"taggedBuilds": {"x": None}})
    for number, build in {"0.0.1": by_tag, "0.0.2": untagged}.items():
        outcome = runner.run_to_end(lambda number=number: release(build_number=number))  # type: ignore[misc]
        assert (outcome.state, outcome.xcoms["return_value"]) == ("success", build), outcome.error
    failed(runner.run_to_end(lambda: release(build_number="0.0.9")), ApifyConfigurationError, "no build 0.0.9")


def test_a_number_that_the_list_does_not_show_is_asked_for(
    shop: Shop, apify: Emulator, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_apify.emulator import builds

    shown = builds._build_item
    monkeypatch.setattr(builds, "_build_item", lambda *args, **kwargs: without_number(shown(*args, **kwargs)))
    wanted = shop.build("x")
    shop.build("x")
    outcome = runner.run_to_end(lambda: release(build_number="0.0.1"))
    assert (outcome.state, shop.tags["latest"]) == ("success", wanted), outcome.error


def without_number(item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name != "buildNumber"}


def test_the_first_release_has_no_build_before(shop: Shop, runner: Runner) -> None:
    build = shop.build()
    outcome = runner.run_to_end(lambda: release(build))
    assert (outcome.state, shop.tags) == ("success", {"latest": build})
    assert outcome.xcoms["previous_build_id"] is outcome.xcoms["previous_build_number"] is None


def test_nothing_is_kept_if_not_asked_for(shop: Shop, runner: Runner) -> None:
    old, new = shop.build("latest"), shop.build()
    outcome = runner.run_to_end(lambda: release(new, keep_previous_as=None))
    assert (shop.tags, outcome.xcoms["previous_build_id"]) == ({"latest": new}, old)


def test_only_the_tags_are_sent(shop: Shop, apify: Emulator, runner: Runner) -> None:
    old, new = shop.build("latest"), shop.build()
    shop.tag("stable", old)
    shop.api("PUT", "/acts/~hello-world", json={"title": "The shop"})
    assert runner.run_to_end(lambda: release(new)).state == "success"
    assert shop.tags == {"latest": new, "previous": old, "stable": old}
    assert shop.api("GET", "/acts/~hello-world")["title"] == "The shop"


def test_arguments_come_from_templates_and_other_tasks(shop: Shop, runner: Runner) -> None:
    old, new = shop.build("latest"), shop.build()

    def task() -> Any:
        task = release("{{ params.id }}", build_number="{{ params.number }}", tag="{{ params.tag }}")
        task.params = {"id": new, "number": None, "tag": "stable"}
        return task

    outcome = runner.run_to_end(task)
    assert (outcome.state, shop.tags) == ("success", {"latest": old, "stable": new}), outcome.error


def test_without_xcoms_none_is_pushed(shop: Shop, runner: Runner) -> None:
    build = shop.build()
    outcome = runner.run_to_end(lambda: release(build, do_xcom_push=False))
    assert (outcome.state, set(outcome.xcoms)) == ("success", {"_link_ApifyConsoleLink"})


def test_an_asset_event_says_what_was_released(shop: Shop, runner: Runner) -> None:
    old, new = shop.build("latest"), shop.build()
    outcome = runner.run_to_end(lambda: release(new, outlets=[Asset(name="live", uri="apify://actors/live")]))
    assert outcome.state == "success", outcome.error
    (event,) = outcome.message.outlet_events
    assert (event["extra"]["build_id"], event["extra"]["previous_build_id"]) == (new, old)


# -- what is not done twice -----------------------------------------------------------------------------------------


def test_a_clear_sends_nothing_and_leaves_the_build_before(
    shop: Shop, runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = shop.build("latest"), shop.build()
    first = runner.run_to_end(lambda: release(new))
    runner.clear(release(new))
    second = runner.run_to_end(lambda: release(new))
    assert (second.state, second.xcoms, shop.puts) == ("success", first.xcoms, 1)
    assert shop.tags == {"latest": new, "previous": old}
    assert "is on build 0.0.2" in capsys.readouterr().out


def test_a_lost_answer_changes_nothing_twice(shop: Shop, apify: Emulator, runner: Runner) -> None:
    old, new = shop.build("latest"), shop.build()
    apify.add_fault(Fault("lost-answer", **PUT))
    outcome = runner.run_to_end(lambda: release(new))
    assert (outcome.state, outcome.xcoms["previous_build_id"]) == ("success", old), outcome.error
    assert shop.tags == {"latest": new, "previous": old}
    assert shop.puts == 1


@pytest.mark.parametrize("fault", [Fault("reset", **PUT), Fault("status", **PUT, status=503), Fault("html", **PUT)])
def test_a_request_that_did_nothing_is_sent_again(fault: Fault, shop: Shop, apify: Emulator, runner: Runner) -> None:
    old, new = shop.build("latest"), shop.build()
    apify.add_fault(fault)
    assert runner.run_to_end(lambda: release(new)).state == "success"
    assert (shop.tags, shop.puts) == ({"latest": new, "previous": old}, 2)


def test_a_retry_after_a_lost_answer_keeps_the_build_before(shop: Shop, apify: Emulator, runner: Runner) -> None:
    """The worker died between the request and its answer."""
    old, new = shop.build("latest"), shop.build()
    shop.tag("latest", new)
    shop.tag("previous", old)
    runner.retry()
    outcome = runner.run_to_end(lambda: release(new, retries=1, expected_build_id=old))
    assert (outcome.state, outcome.xcoms["previous_build_id"], shop.puts) == ("success", old, 0)


def test_a_try_that_could_not_send_leaves_it_to_the_next(
    shop: Shop, apify: Emulator, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ATTEMPTS", 3)
    old, new = shop.build("latest"), shop.build()
    fault = apify.add_fault(Fault("status", **PUT, status=500, times=None))
    failed(runner.run_to_end(lambda: release(new, retries=1)), ApifyServerError, state="up_for_retry")
    assert (fault.fired, shop.tags) == (3, {"latest": old})
    apify.clear_faults()
    runner.retry()
    assert runner.run_to_end(lambda: release(new, retries=1)).state == "success"
    assert shop.tags == {"latest": new, "previous": old}


# -- what is not undone ---------------------------------------------------------------------------------------------


def meanwhile(apify: Emulator, when: Callable[[], bool], act: Callable[[], object]) -> threading.Thread:
    """Do something in a thread as soon as something is true."""

    def wait() -> None:
        apify.wait_for(lambda _: when())
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_tag_that_is_not_where_it_is_expected_stays(shop: Shop, runner: Runner) -> None:
    old, new, other = shop.build("latest"), shop.build(), shop.build()
    shop.tag("latest", other)
    outcome = runner.run_to_end(lambda: release(new, expected_build_id=old, retries=1))
    failed(outcome, ApifyTagConflictError, f"build 0.0.3 ({other})", f"expected_build_id is {old}")
    assert (shop.tags, shop.puts) == ({"latest": other}, 0)


@STORE.needed
def test_a_retry_does_not_undo_what_came_after_its_own_move(shop: Shop, runner: Runner) -> None:
    """The worker was lost after the move; before Airflow noticed, somebody has rolled back."""
    old, new = shop.build("latest"), shop.build()

    def promote() -> ApifyTagBuildOperator:
        return release(new, expected_build_id=old, retries=1)

    assert runner.run_to_end(promote).state == "success"
    # Frozen with the first release: the next one reads it.
    assert runner.supervisor.store == {"apify_tag": {"epoch": 1, "tag": "latest", "build_id": new}}
    shop.tag("latest", old)
    runner.retry()
    failed(runner.run_to_end(promote), ApifyTagConflictError, "in an earlier try", f"({old})", "clear the task")
    assert (shop.tags["latest"], shop.puts) == (old, 1)
    runner.clear(promote())
    assert runner.run_to_end(promote).state == "success"
    assert (shop.tags["latest"], shop.puts) == (new, 2)


def test_a_tag_where_it_is_expected_moves(shop: Shop, runner: Runner) -> None:
    old, new = shop.build("latest"), shop.build()
    assert runner.run_to_end(lambda: release(new, expected_build_id=old)).state == "success"
    assert shop.tags == {"latest": new, "previous": old}


def test_what_somebody_released_after_a_lost_request_is_not_undone(shop: Shop, apify: Emulator, runner: Runner) -> None:
    """The request has not arrived, and before it is sent again another release has come."""
    old, new, other = shop.build("latest"), shop.build(), shop.build()
    fault = apify.add_fault(Fault("status", **PUT, status=503))
    # The look after it, which gives the other release the time to come: Actor, builds and Actor were asked for before.
    apify.add_fault(Fault("delay", **READ, skip=3, seconds=2))
    other_release = meanwhile(apify, lambda: fault.fired == 1, lambda: shop.tag("latest", other))
    outcome = runner.run_to_end(lambda: release(new, retries=1))
    other_release.join()
    failed(outcome, ApifyTagConflictError, f"({old})", f"({other})", f"({new})")
    assert (shop.tags, shop.puts) == ({"latest": other}, 1)


def test_what_somebody_released_before_the_request_is_not_undone(shop: Shop, apify: Emulator, runner: Runner) -> None:
    """Between the first look at the Actor and the request, while the build is read."""
    new, other = shop.build(), shop.build()
    shop.build("latest")
    slow = apify.add_fault(Fault("delay", "GET", "/v2/actor-builds/*", seconds=2))
    other_release = meanwhile(apify, lambda: slow.fired == 1, lambda: shop.tag("latest", other))
    outcome = runner.run_to_end(lambda: release(new))
    other_release.join()
    failed(outcome, ApifyTagConflictError, "Somebody else has moved the tag 'latest'")
    assert (shop.tags, shop.puts) == ({"latest": other}, 0)


def test_a_release_that_another_one_has_overtaken_says_so(
    shop: Shop, apify: Emulator, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_tags, "READ_BACK_LIMIT", 1.0)
    new, other = shop.build(), shop.build()
    shop.build("latest")
    slow = apify.add_fault(Fault("delay", **PUT, seconds=2, after_work=True))
    other_release = meanwhile(
        apify, lambda: slow.fired == 1 and shop.tags["latest"] == new, lambda: shop.tag("latest", other)
    )
    failed(runner.run_to_end(lambda: release(new, retries=1)), ApifyTagConflictError, "Somebody else")
    other_release.join()
    assert shop.tags["latest"] == other


@pytest.mark.parametrize("expects", [False, True])
def test_releases_at_once_end_in_one_state(
    expects: bool, shop: Shop, apify: Emulator, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_tags, "READ_BACK_LIMIT", 1.0)
    old = shop.build("latest")
    new = [shop.build() for _ in range(4)]
    together = threading.Barrier(len(new))
    ended: dict[str, Any] = {}

    def run(build: str) -> None:
        together.wait()
        try:
            ended[build] = ApifyHook().tag_build(
                "~hello-world", "latest", build_id=build, expected_build_id=old if expects else None
            )
        except ApifyException as error:
            ended[build] = error

    threads = [threading.Thread(target=run, args=(build,)) for build in new]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tags = shop.tags
    released = [build for build, end in ended.items() if not isinstance(end, Exception)]
    assert {type(end) for end in ended.values() if isinstance(end, Exception)} <= {ApifyTagConflictError}
    assert len(ended) == len(new)
    assert tags["latest"] in released
    assert tags["previous"] in [old, *released]
    assert tags["previous"] == ended[tags["latest"]].previous_build_id != tags["latest"]


# -- read back ------------------------------------------------------------------------------------------------------


def test_a_release_ends_when_apify_shows_it(shop: Shop, apify: Emulator, runner: Runner) -> None:
    old, new = shop.build("latest"), shop.build()
    apify.tag_seconds = 1.5
    begun = time.monotonic()
    assert runner.run_to_end(lambda: release(new)).state == "success"
    assert (shop.tags, time.monotonic() - begun > 1.4) == ({"latest": new, "previous": old}, True)


def test_a_release_that_apify_does_not_show_is_looked_for_by_a_retry(
    shop: Shop, apify: Emulator, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_tags, "READ_BACK_LIMIT", 0.5)
    old, new = shop.build("latest"), shop.build()
    apify.tag_seconds = 2
    failed(
        runner.run_to_end(lambda: release(new, retries=1)),
        ApifyServerError,
        "does not show that",
        state="up_for_retry",
    )
    apify.wait_for(lambda _: shop.tags["latest"] == new)
    runner.retry()
    outcome = runner.run_to_end(lambda: release(new, retries=1))
    assert (outcome.state, outcome.xcoms["previous_build_id"], shop.puts) == ("success", old, 1)


def test_trouble_while_reading_back_is_waited_out(shop: Shop, apify: Emulator, runner: Runner) -> None:
    shop.build("latest")
    new = shop.build()
    # The first look, and the one just before the request, go well.
    faults = [apify.add_fault(Fault(kind, **READ, skip=3)) for kind in ("reset", "html")]
    assert runner.run_to_end(lambda: release(new)).state == "success"
    assert [fault.fired for fault in faults] == [1, 1]


# -- what is refused ------------------------------------------------------------------------------------------------


def test_a_number_is_no_id(shop: Shop, runner: Runner) -> None:
    shop.build("latest")
    outcome = runner.run_to_end(lambda: release(shop.build(), expected_build_id="0.0.1"))
    failed(outcome, ApifyConfigurationError, "expected_build_id must be the id of a build, not its number; got '0.0.1'")
    assert shop.puts == 0


def test_a_build_that_did_not_succeed_is_refused(shop: Shop, apify: Emulator, runner: Runner) -> None:
    old = shop.build("latest")
    apify.set_actor("hello-world", outcome="FAILED")
    bad = shop.build()
    apify.set_actor("hello-world", build_seconds=60)
    unfinished = shop.build(wait=0)
    for build, status in {bad: "FAILED", unfinished: "R"}.items():
        outcome = runner.run_to_end(lambda build=build: release(build, retries=1))  # type: ignore[misc]
        failed(outcome, ApifyConfigurationError, f"({build}) of Actor hello-world is {status}")
    assert (shop.tags, shop.puts) == ({"latest": old}, 0)


def test_a_build_of_another_actor_is_refused(shop: Shop, runner: Runner) -> None:
    foreign = shop.build(actor="two-versions")
    failed(runner.run_to_end(lambda: release(foreign, retries=1)), ApifyConfigurationError, "is of another Actor")
    assert shop.puts == 0


def test_a_build_that_is_not_there_is_refused(runner: Runner) -> None:
    failed(runner.run_to_end(lambda: release("x" * 17, retries=1)), ApifyNotFoundError)


def test_latest_is_refused_where_runs_take_a_number(shop: Shop, apify: Emulator, runner: Runner) -> None:
    apify.add_actor(Actor("pinned", default_build="0.0.1"))
    build = shop.build(actor="pinned")
    outcome = runner.run_to_end(lambda: release(build, actor_id="~pinned", retries=1))
    failed(outcome, ApifyConfigurationError, "Actor pinned runs build 0.0.1 by default")
    assert shop.puts == 0
    assert runner.run_to_end(lambda: release(build, actor_id="~pinned", tag="stable")).state == "success"


def test_a_token_that_may_not_change_the_actor_is_named(shop: Shop, apify: Emulator, runner: Runner) -> None:
    build = shop.build()
    apify.add_fault(Fault("status", **PUT, status=403))
    outcome = runner.run_to_end(lambda: release(build, retries=1))
    assert outcome.state == "failed"
    assert "scoped tokens cannot modify Actors" in str(outcome.error)


@pytest.mark.parametrize(
    "arguments",
    [
        {"build_id": "{{ None }}", "build_number": ""},
        {"build_id": "b1", "build_number": "0.0.1"},
        {"build_number": "latest"},
        {"build_id": "0.0.1"},
        {"build_id": "b1", "tag": "{{ '' }}"},
        {"build_id": "b1", "keep_previous_as": "latest"},
        {"build_id": "b1", "actor_id": ""},
    ],
    ids=repr,
)
def test_arguments_that_cannot_be_are_refused(arguments: dict[str, Any], apify: Emulator, runner: Runner) -> None:
    failed(runner.run_to_end(lambda: release(**arguments)), ApifyConfigurationError)
    assert apify.requests == []


def test_a_task_without_a_build_is_refused_when_it_is_parsed() -> None:
    with pytest.raises(ApifyConfigurationError, match="give one of them"):
        release()


# -- builds that take the tag later ---------------------------------------------------------------------------------


def test_an_unfinished_build_that_may_take_the_tag_is_named(
    shop: Shop, apify: Emulator, runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    new = shop.build()
    apify.set_actor("hello-world", build_seconds=1.5)
    nightly = shop.build("latest", wait=0)
    assert runner.run_to_end(lambda: release(new)).state == "success"
    assert f"Build 0.0.2 ({nightly}) of Actor hello-world is R" in capsys.readouterr().out
    assert shop.tags["latest"] == new
    # As Apify does: so the warning.
    apify.wait_for(lambda _: shop.tags["latest"] == nightly)


def test_other_unfinished_builds_are_not_named(
    shop: Shop, apify: Emulator, runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    apify.set_actor("two-versions", build_seconds=0.05)
    new = shop.build(actor="two-versions")
    apify.set_actor("two-versions", build_seconds=60)
    shop.build("beta", actor="two-versions", version="1.0", wait=0)
    assert runner.run_to_end(lambda: release(new, actor_id="~two-versions")).state == "success"
    assert "takes this one when it succeeds" not in capsys.readouterr().out


def test_a_list_that_cannot_be_read_does_not_keep_a_release(
    shop: Shop, apify: Emulator, runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    new = shop.build()
    apify.add_fault(Fault("status", "GET", "/v2/acts/*/builds", status=403))
    assert runner.run_to_end(lambda: release(new)).state == "success"
    assert "The unfinished builds of Actor hello-world are not known" in capsys.readouterr().out


# -- the hook -------------------------------------------------------------------------------------------------------


def test_the_hook_moves_tags_too(shop: Shop, supervisor: Supervisor) -> None:
    old, new = shop.build("latest"), shop.build()
    moved = ApifyHook().tag_build("~hello-world", "latest", build_number="0.0.2")
    assert (moved.moved, moved.build_id, moved.previous_build_id, moved.previous_build_number) == (
        True,
        new,
        old,
        "0.0.1",
    )
    assert not ApifyHook().tag_build("~hello-world", "latest", build_id=new).moved
    with pytest.raises(ApifyTagConflictError):
        ApifyHook().tag_build("~hello-world", "latest", build_id=old, expected_build_id=old[::-1])
    assert shop.tags == {"latest": new, "previous": old}


# -- a build that is young enough -----------------------------------------------------------------------------------


def build(actor: str = "~hello-world", **kwargs: Any) -> Any:
    return operator(actor, **{"reuse_if_younger_than": dt.timedelta(hours=1), "wait_for_completion": True, **kwargs})


def test_a_young_build_is_taken_in_place_of_a_new_one(
    shop: Shop,
    apify: Emulator,
    runner: Runner,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted: list[str] = []
    monkeypatch.setattr("airflow.providers.common.compat.sdk.Stats.incr", lambda name, **_: counted.append(name))
    new = runner.run_to_end(build)
    for waits in (True, False):
        again = Runner(runner.supervisor).run_to_end(lambda waits=waits: build(wait_for_completion=waits))  # type: ignore[misc]
        assert (again.state, again.xcoms) == ("success", new.xcoms)
    assert len(apify.builds) == 1
    # Older Airflows count by the same function.
    ours = [name for name in counted if name.startswith("apify.")]
    assert ours == ["apify.build.started", "apify.build.reused", "apify.build.reused"]
    assert f"Reusing build 0.0.1 ({new.xcoms['build_id']}) of Actor ~hello-world" in capsys.readouterr().out


@pytest.mark.parametrize("full_lists", [False, True])
@pytest.mark.parametrize(
    ("tag", "wanted", "count"),
    [("latest", None, 1), ("candidate", None, 2), ("latest", "candidate", 2), ("candidate", "candidate", 1)],
)
def test_a_build_is_reused_only_with_the_tag_of_a_new_one(
    tag: str, wanted: str | None, count: int, full_lists: bool, shop: Shop, apify: Emulator, runner: Runner
) -> None:
    apify.full_lists = full_lists
    shop.build(tag)
    outcome = runner.run_to_end(lambda: build(tag=wanted))
    assert (outcome.state, len(apify.builds)) == ("success", count), outcome.error
    assert outcome.xcoms["summary"]["tag_seen"] is True


@pytest.mark.parametrize("numbers", [True, False])
@pytest.mark.parametrize("full_lists", [False, True])
def test_without_any_tag_the_last_good_build_of_the_version_is_reused(
    full_lists: bool, numbers: bool, shop: Shop, apify: Emulator, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_apify.emulator import builds

    shown = builds._build_item
    if not numbers:
        monkeypatch.setattr(builds, "_build_item", lambda *args, **kwargs: without_number(shown(*args, **kwargs)))
    apify.full_lists = full_lists
    apify.add_actor(Actor("untagged", versions={"0.1": None, "0.10": None}))
    shop.build("x", actor="untagged", version="0.1")
    good = shop.build("x", actor="untagged", version="0.1")
    shop.build("x", actor="untagged", version="0.10")
    apify.set_actor("untagged", outcome="FAILED")
    shop.build("x", actor="untagged", version="0.1")
    outcome = runner.run_to_end(lambda: build("~untagged", version="0.1"))
    assert (outcome.state, outcome.xcoms["build_id"], len(apify.builds)) == ("success", good, 4), outcome.error
    assert outcome.xcoms["summary"]["build_number"] == "0.1.2"
    assert outcome.xcoms["stats"]["computeUnits"] is not None


def test_an_old_build_is_not_reused(shop: Shop, apify: Emulator, runner: Runner) -> None:
    shop.build("latest")
    apify.add_actor(Actor("untagged", versions={"0.1": None}))
    shop.build("x", actor="untagged", version="0.1")
    time.sleep(2.2)  # Apify's clock is known to the second
    for actor in ("~hello-world", "~untagged"):
        outcome = runner.run_to_end(lambda actor=actor: build(actor, reuse_if_younger_than=1))  # type: ignore[misc]
        assert (outcome.state, outcome.xcoms["build_number"].rpartition(".")[2]) == ("success", "2")
        runner.clear(build())


@pytest.mark.parametrize(("offset", "count"), [(7200.0, 1), (-7200.0, 1)])
def test_age_counts_by_apifys_clock(offset: float, count: int, shop: Shop, apify: Emulator, runner: Runner) -> None:
    apify.clock_offset = offset
    shop.build("latest")
    runner.run_to_end(build)
    assert len(apify.builds) == count


def test_a_build_that_does_not_succeed_is_not_reused(shop: Shop, apify: Emulator, runner: Runner) -> None:
    apify.set_actor("hello-world", outcome="FAILED")
    shop.build("latest")
    apify.set_actor("hello-world", outcome="SUCCEEDED", build_seconds=30)
    shop.build("latest", wait=0)
    apify.set_actor("hello-world", build_seconds=0.05)
    assert runner.run_to_end(build).xcoms["build_number"] == "0.0.3"


def test_a_build_of_another_version_is_not_reused(shop: Shop, apify: Emulator, runner: Runner) -> None:
    """Even if it has the tag."""
    shop.build("latest", actor="two-versions", version="1.0")
    assert runner.run_to_end(lambda: build("~two-versions")).xcoms["build_number"] == "0.0.1"


@pytest.mark.parametrize("has_store", [True, False])
def test_a_retry_takes_its_own_build_and_not_an_older_one(
    has_store: bool, shop: Shop, apify: Emulator, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build that others made meanwhile has the tag, and is young enough."""
    runner.supervisor.has_store = has_store
    with monkeypatch.context() as lost:
        lost.setattr(outcome, "announce", Mock(side_effect=RuntimeError("The worker is lost")))
        assert runner.run_to_end(lambda: build(retries=1)).state == "up_for_retry"
    shop.build("latest")
    runner.retry()
    second = runner.run_to_end(lambda: build(retries=1))
    assert (second.state, second.xcoms["build_number"], len(apify.builds)) == ("success", "0.0.1", 2)


def test_a_clear_may_reuse_the_build_of_the_attempt_before(shop: Shop, apify: Emulator, runner: Runner) -> None:
    first = runner.run_to_end(build)
    runner.clear(build())
    second = runner.run_to_end(build)
    assert (second.xcoms["build_id"], len(apify.builds)) == (first.xcoms["build_id"], 1)


@pytest.mark.parametrize("value", ["{{ 3600 }}", "3600", 3600, None, "", 0])
def test_the_age_is_seconds_or_nothing(value: Any, shop: Shop, apify: Emulator, runner: Runner) -> None:
    shop.build("latest")
    assert runner.run_to_end(lambda: build(reuse_if_younger_than=value)).state == "success"
    assert len(apify.builds) == (1 if value else 2)


def test_an_age_that_cannot_be_is_refused() -> None:
    with pytest.raises(ApifyConfigurationError, match="reuse_if_younger_than must be a timedelta"):
        build(reuse_if_younger_than="soon")
