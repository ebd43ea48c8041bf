"""Promise 1 over real sockets: one start, one build, whatever happens to the request, the worker or the store."""

from __future__ import annotations

import datetime as dt
from functools import partial
from typing import Any

import pytest

from airflow_provider_apify.emulator import Emulator, Fault
from tests.features import STORE
from tests.integration.conftest import ended, operator, start_build, starts, statuses
from tests.rows import builds_are
from tests.runner import Runner, Supervisor

START: dict[str, Any] = {"method": "POST", "path": "/v2/acts/*/builds"}

WORK_DONE = {
    "lost answer": Fault("lost-answer", **START),
    "reset after the work": Fault("reset", after_work=True, **START),
    "500 after the work": Fault("status", status=500, after_work=True, **START),
    "502 page after the work": Fault("html", status=502, after_work=True, **START),
    "HTML with status 200": Fault("html", after_work=True, **START),
    "408": Fault("status", status=408, after_work=True, **START),
    "cut JSON": Fault("cut-json", **START),
}
NOTHING_DONE = {
    "reset before the work": Fault("reset", **START),
    "502 before the work": Fault("status", status=502, **START),
    "429": Fault("status", status=429, headers={"Retry-After": "0"}, times=2, **START),
}


@pytest.mark.parametrize("fault", WORK_DONE.values(), ids=WORK_DONE)
def test_an_unusable_answer_starts_no_second_build(fault: Fault, apify: Emulator, runner: Runner) -> None:
    apify.add_fault(fault)
    outcome = runner.run_to_end(lambda: operator(wait_for_completion=True))
    assert outcome.state == "success"
    assert (starts(apify), statuses(apify)) == (1, ["SUCCEEDED"])
    assert outcome.xcoms["build_id"] == apify.builds[0]["id"]


@pytest.mark.parametrize("fault", NOTHING_DONE.values(), ids=NOTHING_DONE)
def test_a_request_that_did_nothing_is_sent_again(fault: Fault, apify: Emulator, runner: Runner) -> None:
    apify.add_fault(fault)
    outcome = runner.run_to_end(lambda: operator(wait_for_completion=True))
    assert outcome.state == "success"
    assert statuses(apify) == ["SUCCEEDED"]


def test_no_answer_at_all_starts_no_second_build(apify: Emulator, supervisor: Supervisor, runner: Runner) -> None:
    supervisor.connections["apify_default"]["extra"] = '{"timeout": 1}'
    apify.add_fault(Fault("stall", after_work=True, **START))
    outcome = runner.run_to_end(operator)
    assert outcome.state == "success"
    assert (starts(apify), len(apify.builds)) == (1, 1)


def test_a_build_that_the_list_shows_late_is_found(apify: Emulator, runner: Runner) -> None:
    apify.build_seconds = 30
    apify.add_fault(Fault("lost-answer", **START))
    apify.add_fault(Fault("stale-list", path="/v2/acts/*/builds", seconds=1.0, times=None))
    outcome = runner.run_to_end(operator)
    assert outcome.state == "success"
    assert (starts(apify), len(apify.builds)) == (1, 1)


def test_a_second_build_that_got_through_is_aborted_by_the_next_try(
    apify: Emulator, supervisor: Supervisor, runner: Runner
) -> None:
    """As when the list lags longer than a try looks, or a fenced-out worker sends late."""
    apify.build_seconds = 30
    supervisor.has_store = False
    assert runner.run(operator(retries=2)).state == "success"
    runner.try_number = 1
    assert runner.run(operator(retries=2)).state == "success"
    assert len(apify.builds) == 2

    runner.retry()
    outcome = runner.run(operator(retries=2))

    assert outcome.xcoms["build_id"] == apify.builds[0]["id"], "the oldest stays"
    apify.wait_for(lambda emulator: emulator.builds[1]["status"] == "ABORTED")
    assert apify.builds[0]["status"] in ("READY", "RUNNING")


STORES = pytest.mark.parametrize(
    "store", [pytest.param(True, marks=STORE.needed), False], ids=["with the task store", "without"]
)


@STORES
@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])
def test_a_retry_goes_on_with_the_build(
    store: bool, deferrable: bool, apify: Emulator, supervisor: Supervisor, runner: Runner
) -> None:
    supervisor.has_store = store
    options: dict[str, Any] = {"retries": 1, "wait_for_completion": True, "deferrable": True}
    first = runner.run(operator(**options))
    assert first.state == "deferred"  # and then the triggerer and its database were lost

    runner.retry()
    outcome = runner.run_to_end(lambda: operator(**{**options, "deferrable": deferrable}))

    assert outcome.state == "success"
    assert outcome.xcoms["build_id"] == first.xcoms["build_id"]
    assert (starts(apify), statuses(apify)) == (1, ["SUCCEEDED"])


@STORE.needed
def test_a_retry_finds_a_build_whose_user_agent_a_proxy_rewrote(apify: Emulator, runner: Runner) -> None:
    apify.add_fault(Fault("user-agent", value="corporate-proxy/1.0", **START))
    first = runner.run(operator(retries=1, wait_for_completion=True, deferrable=True))
    runner.retry()
    outcome = runner.run_to_end(lambda: operator(retries=1, wait_for_completion=True))
    assert outcome.xcoms["build_id"] == first.xcoms["build_id"]
    assert starts(apify) == 1


@STORES
def test_a_retry_after_success_gives_the_same_build(
    store: bool, apify: Emulator, supervisor: Supervisor, runner: Runner
) -> None:
    """As when the worker dies after the build has ended and before Airflow knows."""
    supervisor.has_store = store
    first = runner.run_to_end(lambda: operator(retries=1, wait_for_completion=True))
    runner.retry()
    outcome = runner.run_to_end(lambda: operator(retries=1, wait_for_completion=True))
    assert outcome.xcoms == first.xcoms
    assert starts(apify) == 1


def test_a_retry_replaces_a_build_that_failed(apify: Emulator, runner: Runner) -> None:
    apify.set_actor("hello-world", outcome="FAILED")
    assert runner.run_to_end(lambda: operator(retries=1, wait_for_completion=True)).state == "up_for_retry"
    apify.set_actor("hello-world", outcome="SUCCEEDED")
    runner.retry()
    assert runner.run_to_end(lambda: operator(retries=1, wait_for_completion=True)).state == "success"
    assert statuses(apify) == ["FAILED", "SUCCEEDED"]


@STORES
def test_a_clear_builds_anew_and_ends_what_was_left(
    store: bool, apify: Emulator, supervisor: Supervisor, runner: Runner
) -> None:
    supervisor.has_store = store
    apify.build_seconds = 30
    first = runner.run(operator(retries=1, wait_for_completion=True, deferrable=True))
    runner.clear(operator(retries=1))
    second = runner.run(operator(retries=1, wait_for_completion=True, deferrable=True))
    assert second.xcoms["build_id"] != first.xcoms["build_id"]
    ended(apify)
    assert statuses(apify)[0] == "ABORTED"
    assert statuses(apify)[1] in ("READY", "RUNNING")

    runner.retry()
    third = runner.run(operator(retries=1, wait_for_completion=True, deferrable=True))
    assert third.xcoms["build_id"] == second.xcoms["build_id"], "a retry after the clear belongs to it"


@STORE.needed
@pytest.mark.parametrize("died_at_once", [False, True], ids=["", "although the worker died before it knew the id"])
def test_a_clear_of_a_finished_run_still_knows_its_builds(
    died_at_once: bool, apify: Emulator, supervisor: Supervisor, runner: Runner
) -> None:
    """Airflow gives the run a new start date then, which is part of the fingerprint."""
    import datetime as dt

    apify.build_seconds = 30
    runner.run(operator(wait_for_completion=True, deferrable=True))
    if died_at_once:
        supervisor.store["apify_build"]["build_id"] = None
    runner.clear(operator())
    runner.run_started += dt.timedelta(hours=1)
    runner.run(operator(wait_for_completion=True, deferrable=True))
    ended(apify)
    assert statuses(apify)[0] == "ABORTED"


def test_mapped_tasks_and_other_dags_never_share_a_build(apify: Emulator, supervisor: Supervisor) -> None:
    apify.build_seconds = 30
    runners = [Runner(supervisor, map_index=index) for index in range(2)] + [Runner(supervisor)]
    tasks = [partial(operator, retries=1, dag_id=dag_id) for dag_id in ("dag", "dag", "other")]
    supervisor.has_store = False
    ids = [runner.run(task()).xcoms["build_id"] for runner, task in zip(runners, tasks, strict=True)]
    assert len(set(ids)) == 3
    for runner, task, build_id in zip(runners, tasks, ids, strict=True):
        runner.retry()
        assert runner.run(task()).xcoms["build_id"] == build_id
    assert starts(apify) == 3


def test_the_start_carries_no_wait_for_finish(apify: Emulator, runner: Runner) -> None:
    assert runner.run_to_end(lambda: operator(wait_for_finish=30)).xcoms["summary"]["status"] == "SUCCEEDED"
    (start,) = [request for request in apify.requests if request.method == "POST"]
    assert start.query == "version=0.0"


@pytest.mark.parametrize("full_lists", [False, True], ids=["plain lists", "full lists"])
def test_a_lost_answer_costs_a_list_and_where_that_shows_no_user_agent_each_build_of_that_time(
    full_lists: bool, apify: Emulator, runner: Runner
) -> None:
    apify.build_seconds = 30
    apify.full_lists = full_lists
    other = start_build(apify)
    apify.clear_ledger()
    apify.add_fault(Fault("lost-answer", **START))
    outcome = runner.run(operator(version="0.0"))
    list_ = "/v2/acts/~hello-world/builds"
    asked = [request.path for request in apify.requests if request.path != list_]
    assert len(apify.requests) - len(asked) == 2
    # The nearest first: which of the two that is depends on milliseconds.
    found = f"/v2/actor-builds/{outcome.xcoms['build_id']}"
    assert asked == [] if full_lists else asked in ([found], [f"/v2/actor-builds/{other}", found])
    assert (outcome.xcoms["build_id"], len(apify.builds)) == (apify.builds[1]["id"], 2)


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_build_is_found_by_apifys_clock(hours: int, supervisor: Supervisor, runner: Runner) -> None:
    """Though it has ended by then, and this machine's clock tells another time."""
    with Emulator(build_seconds=0, clock_offset=hours * 3600) as apify:
        supervisor.connections["apify_default"].update(host=apify.url)
        apify.add_fault(Fault("lost-answer", **START))
        outcome = runner.run_to_end(lambda: operator(wait_for_completion=True))
        builds_are(apify, "SUCCEEDED")
        assert outcome.xcoms["build_id"] == apify.builds[0]["id"]


@pytest.mark.parametrize("after", ["a lost answer", "a lost worker"])
def test_doubt_starts_no_build_and_leaves_the_next_try_to_ask_again(
    after: str, apify: Emulator, supervisor: Supervisor, runner: Runner
) -> None:
    apify.build_seconds = 30
    supervisor.has_store = after == "a lost answer"
    if after == "a lost worker":
        runner.run(operator(version="0.0", retries=2))
        runner.retry()
    else:
        apify.add_fault(Fault("lost-answer", **START))
    refusal = {"error": {"type": "invalid-request", "message": "Not now."}}
    apify.add_fault(Fault("status", status=400, body=refusal, method="GET", path="/v2/actor-builds/*", times=None))
    outcome = runner.run(operator(version="0.0", retries=2))
    assert (outcome.state, type(outcome.error).__name__) == ("up_for_retry", "ApifyStartUnclearError")
    assert "No build of Actor ~hello-world was started" in str(outcome.error)
    assert "(connection 'apify_default').\nA retry asks again." in str(outcome.error)
    apify.clear_faults()
    runner.retry()
    assert runner.run(operator(version="0.0", retries=2)).xcoms["build_id"] == apify.builds[0]["id"]
    builds_are(apify, "RUNNING")


def test_a_build_of_that_time_that_does_not_say_who_started_it_is_a_doubt(apify: Emulator, runner: Runner) -> None:
    apify.build_seconds = 30
    apify.add_fault(Fault("user-agent", value="", **START))
    start_build(apify)
    apify.add_fault(Fault("reset", **START))
    outcome = runner.run(operator(version="0.0", retries=1))
    assert (outcome.state, type(outcome.error).__name__) == ("up_for_retry", "ApifyStartUnclearError")
    assert "Apify does not show who started it" in str(outcome.error)
    assert len(apify.builds) == 1

    runner.clear(operator(retries=1))
    assert runner.run(operator(version="0.0", retries=1)).state == "success", "the advice works"
    assert len(apify.builds) == 2


@STORE.needed
def test_another_process_finds_the_build_by_the_time_that_was_written_down(
    apify: Emulator, supervisor: Supervisor, runner: Runner
) -> None:
    """Only what began since then is asked about, not all that began since the run did."""
    apify.build_seconds = 0
    runner.run_started -= dt.timedelta(days=3)
    apify.clock_offset = -7200
    for _ in range(3):
        start_build(apify)
    apify.clock_offset = 0
    runner.run(operator(version="0.0", retries=1))
    supervisor.store["apify_build"]["build_id"] = None
    apify.clear_ledger()
    runner.retry()
    assert runner.run(operator(version="0.0", retries=1)).state == "success"
    builds_are(apify, *["SUCCEEDED"] * 4)
    assert sum(request.path.startswith("/v2/actor-builds/") for request in apify.requests) == 1


STORE_DOWN = pytest.mark.parametrize("store", [pytest.param(True, marks=STORE.needed), False], ids=["", "no store"])


@STORE_DOWN
def test_a_retry_that_knows_its_build_for_certain_asks_for_nothing_else(
    store: bool, apify: Emulator, supervisor: Supervisor, runner: Runner
) -> None:
    apify.build_seconds = 30
    supervisor.has_store = store
    first = runner.run(operator(version="0.0", retries=1))
    apify.clear_ledger()
    runner.retry()
    assert runner.run(operator(version="0.0", retries=1)).xcoms["build_id"] == first.xcoms["build_id"]
    asked = [request.path for request in apify.requests]
    build = f"/v2/actor-builds/{first.xcoms['build_id']}"
    assert asked == ([build] if store else ["/v2/acts/~hello-world/builds", build])
