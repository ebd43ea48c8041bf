"""Promise 1 over real sockets: one start, one job, whatever happens to the request, the worker or the store."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from airflow_provider_apify.emulator import Emulator, Fault
from tests.features import STORE
from tests.kinds import Kind
from tests.rows import jobs_are
from tests.runner import Runner, Supervisor

WORK_DONE = {
    "lost answer": Fault("lost-answer"),
    "reset after the work": Fault("reset", after_work=True),
    "500 after the work": Fault("status", status=500, after_work=True),
    "502 page after the work": Fault("html", status=502, after_work=True),
    "HTML with status 200": Fault("html", after_work=True),
    "408": Fault("status", status=408, after_work=True),
    "cut JSON": Fault("cut-json"),
}
NOTHING_DONE = {
    "reset before the work": Fault("reset"),
    "502 before the work": Fault("status", status=502),
    "429": Fault("status", status=429, headers={"Retry-After": "0"}, times=2),
}


@pytest.mark.parametrize("fault", WORK_DONE.values(), ids=WORK_DONE)
def test_an_unusable_answer_starts_no_second_job(fault: Fault, kind: Kind, apify: Emulator, runner: Runner) -> None:
    apify.add_fault(replace(fault, **kind.start_request))
    outcome = runner.run_to_end(lambda: kind.operator(wait_for_completion=True))
    assert outcome.state == "success"
    assert (kind.starts, kind.statuses) == (1, ["SUCCEEDED"])
    assert outcome.xcoms[kind.id] == kind.jobs[0]["id"]


@pytest.mark.parametrize("fault", NOTHING_DONE.values(), ids=NOTHING_DONE)
def test_a_request_that_did_nothing_is_sent_again(fault: Fault, kind: Kind, apify: Emulator, runner: Runner) -> None:
    apify.add_fault(replace(fault, **kind.start_request))
    outcome = runner.run_to_end(lambda: kind.operator(wait_for_completion=True))
    assert outcome.state == "success"
    assert kind.statuses == ["SUCCEEDED"]


def test_no_answer_at_all_starts_no_second_job(
    kind: Kind, apify: Emulator, supervisor: Supervisor, runner: Runner
) -> None:
    supervisor.connections["apify_default"]["extra"] = '{"timeout": 1}'
    apify.add_fault(Fault("stall", after_work=True, **kind.start_request))
    outcome = runner.run_to_end(kind.operator)
    assert outcome.state == "success"
    assert (kind.starts, len(kind.jobs)) == (1, 1)


def test_a_job_that_the_list_shows_late_is_found(kind: Kind, apify: Emulator, runner: Runner) -> None:
    kind.seconds = 30
    apify.add_fault(Fault("lost-answer", **kind.start_request))
    apify.add_fault(Fault("stale-list", path=kind.starts_of("*"), seconds=1.0, times=None))
    outcome = runner.run_to_end(kind.operator)
    assert outcome.state == "success"
    assert (kind.starts, len(kind.jobs)) == (1, 1)


def test_a_second_job_that_got_through_is_aborted_by_the_next_try(
    kind: Kind, apify: Emulator, supervisor: Supervisor, runner: Runner
) -> None:
    """As when the list lags longer than a try looks, or a fenced-out worker sends late."""
    kind.seconds = 30
    supervisor.has_store = False
    assert runner.run(kind.operator(retries=2)).state == "success"
    runner.try_number = 1
    assert runner.run(kind.operator(retries=2)).state == "success"
    assert len(kind.jobs) == 2

    runner.retry()
    outcome = runner.run(kind.operator(retries=2))

    assert outcome.xcoms[kind.id] == kind.jobs[0]["id"], "the oldest stays"
    apify.wait_for(lambda emulator: kind.jobs[1]["status"] == "ABORTED")
    assert kind.jobs[0]["status"] in ("READY", "RUNNING")


STORES = pytest.mark.parametrize(
    "store", [pytest.param(True, marks=STORE.needed), False], ids=["with the task store", "without"]
)


@STORES
@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])
def test_a_retry_goes_on_with_the_job(
    store: bool, deferrable: bool, kind: Kind, supervisor: Supervisor, runner: Runner
) -> None:
    supervisor.has_store = store
    options: dict[str, Any] = {"retries": 1, "wait_for_completion": True, "deferrable": True}
    first = runner.run(kind.operator(**options))
    assert first.state == "deferred"  # and then the triggerer and its database were lost

    runner.retry()
    outcome = runner.run_to_end(lambda: kind.operator(**{**options, "deferrable": deferrable}))

    assert outcome.state == "success"
    assert outcome.xcoms[kind.id] == first.xcoms[kind.id]
    assert (kind.starts, kind.statuses) == (1, ["SUCCEEDED"])


@STORE.needed
def test_a_retry_finds_a_job_whose_user_agent_a_proxy_rewrote(kind: Kind, apify: Emulator, runner: Runner) -> None:
    apify.add_fault(Fault("user-agent", value="corporate-proxy/1.0", **kind.start_request))
    first = runner.run(kind.operator(retries=1, wait_for_completion=True, deferrable=True))
    runner.retry()
    outcome = runner.run_to_end(lambda: kind.operator(retries=1, wait_for_completion=True))
    assert outcome.xcoms[kind.id] == first.xcoms[kind.id]
    assert kind.starts == 1


@STORES
def test_a_retry_after_success_gives_the_same_job(
    store: bool, kind: Kind, supervisor: Supervisor, runner: Runner
) -> None:
    """As when the worker dies after the job has ended and before Airflow knows."""
    supervisor.has_store = store
    first = runner.run_to_end(lambda: kind.operator(retries=1, wait_for_completion=True))
    runner.retry()
    outcome = runner.run_to_end(lambda: kind.operator(retries=1, wait_for_completion=True))
    assert outcome.xcoms == first.xcoms
    assert kind.starts == 1


def test_a_retry_replaces_a_job_that_failed(kind: Kind, apify: Emulator, runner: Runner) -> None:
    kind.set_actor("hello-world", outcome="FAILED")
    assert runner.run_to_end(lambda: kind.operator(retries=1, wait_for_completion=True)).state == "up_for_retry"
    kind.set_actor("hello-world", outcome="SUCCEEDED")
    runner.retry()
    assert runner.run_to_end(lambda: kind.operator(retries=1, wait_for_completion=True)).state == "success"
    assert kind.statuses == ["FAILED", "SUCCEEDED"]


@STORES
def test_a_clear_starts_another_and_ends_what_was_left(
    store: bool, kind: Kind, supervisor: Supervisor, runner: Runner
) -> None:
    supervisor.has_store = store
    kind.seconds = 30
    first = runner.run(kind.operator(retries=1, wait_for_completion=True, deferrable=True))
    runner.clear(kind.operator(retries=1))
    second = runner.run(kind.operator(retries=1, wait_for_completion=True, deferrable=True))
    assert second.xcoms[kind.id] != first.xcoms[kind.id]
    kind.ended()
    assert kind.statuses[0] == "ABORTED"
    assert kind.statuses[1] in ("READY", "RUNNING")

    runner.retry()
    third = runner.run(kind.operator(retries=1, wait_for_completion=True, deferrable=True))
    assert third.xcoms[kind.id] == second.xcoms[kind.id], "a retry after the clear belongs to it"


@STORE.needed
@pytest.mark.parametrize("died_at_once", [False, True], ids=["", "although the worker died before it knew the id"])
def test_a_clear_of_a_finished_run_still_knows_its_jobs(
    died_at_once: bool, kind: Kind, supervisor: Supervisor, runner: Runner
) -> None:
    """Airflow gives the run a new start date then, which is part of the fingerprint."""
    import datetime as dt

    kind.seconds = 30
    runner.run(kind.operator(wait_for_completion=True, deferrable=True))
    if died_at_once:
        supervisor.store[f"apify_{kind.name}"][kind.id] = None
    runner.clear(kind.operator())
    runner.run_started += dt.timedelta(hours=1)
    runner.run(kind.operator(wait_for_completion=True, deferrable=True))
    kind.ended()
    assert kind.statuses[0] == "ABORTED"


def test_mapped_tasks_and_other_dags_never_share_a_job(kind: Kind, supervisor: Supervisor) -> None:
    kind.seconds = 30
    runners = [Runner(supervisor, map_index=index) for index in range(2)] + [Runner(supervisor)]
    tasks = [partial(kind.operator, retries=1, dag_id=dag_id) for dag_id in ("dag", "dag", "other")]
    supervisor.has_store = False
    ids = [runner.run(task()).xcoms[kind.id] for runner, task in zip(runners, tasks, strict=True)]
    assert len(set(ids)) == 3
    for runner, task, job_id in zip(runners, tasks, ids, strict=True):
        runner.retry()
        assert runner.run(task()).xcoms[kind.id] == job_id
    assert kind.starts == 3


def test_the_start_carries_no_wait_for_finish(kind: Kind, apify: Emulator, runner: Runner) -> None:
    assert runner.run_to_end(lambda: kind.operator(wait_for_finish=30)).xcoms["summary"]["status"] == "SUCCEEDED"
    (start,) = [request for request in apify.requests if request.method == "POST"]
    assert start.query == kind.query


@pytest.mark.parametrize("full_lists", [False, True], ids=["plain lists", "full lists"])
def test_a_lost_answer_costs_a_list_and_where_that_shows_no_user_agent_each_job_of_that_time(
    full_lists: bool, kind: Kind, apify: Emulator, runner: Runner
) -> None:
    kind.seconds = 30
    apify.full_lists = full_lists
    other = kind.start()
    apify.clear_ledger()
    apify.add_fault(Fault("lost-answer", **kind.start_request))
    outcome = runner.run(kind.operator(**kind.one_request))
    list_ = kind.starts_of("~hello-world")
    asked = [request.path for request in apify.requests if request.path != list_]
    assert len(apify.requests) - len(asked) == 2
    # The nearest first: which of the two that is depends on milliseconds.
    found = kind.path(outcome.xcoms[kind.id])
    assert asked == [] if full_lists else asked in ([found], [kind.path(other), found])
    assert (outcome.xcoms[kind.id], len(kind.jobs)) == (kind.jobs[1]["id"], 2)


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_job_is_found_by_apifys_clock(hours: int, kind: Kind, apify: Emulator, runner: Runner) -> None:
    """Though it has ended by then, and this machine's clock tells another time."""
    kind.seconds, apify.clock_offset = 0, hours * 3600
    apify.add_fault(Fault("lost-answer", **kind.start_request))
    outcome = runner.run_to_end(lambda: kind.operator(wait_for_completion=True))
    jobs_are(kind, "SUCCEEDED")
    assert outcome.xcoms[kind.id] == kind.jobs[0]["id"]


@pytest.mark.parametrize("after", ["a lost answer", "a lost worker"])
def test_doubt_starts_no_job_and_leaves_the_next_try_to_ask_again(
    after: str, kind: Kind, apify: Emulator, supervisor: Supervisor, runner: Runner
) -> None:
    kind.seconds = 30
    supervisor.has_store = after == "a lost answer"
    if after == "a lost worker":
        runner.run(kind.operator(**kind.one_request, retries=2))
        runner.retry()
    else:
        apify.add_fault(Fault("lost-answer", **kind.start_request))
    refusal = {"error": {"type": "invalid-request", "message": "Not now."}}
    apify.add_fault(Fault("status", status=400, body=refusal, **kind.get_request, times=None))
    outcome = runner.run(kind.operator(**kind.one_request, retries=2))
    assert (outcome.state, type(outcome.error).__name__) == ("up_for_retry", "ApifyStartUnclearError")
    assert f"No {kind.name} of Actor ~hello-world was started" in str(outcome.error)
    assert "(connection 'apify_default').\nA retry asks again." in str(outcome.error)
    apify.clear_faults()
    runner.retry()
    assert runner.run(kind.operator(**kind.one_request, retries=2)).xcoms[kind.id] == kind.jobs[0]["id"]
    jobs_are(kind, "RUNNING")


def test_a_job_of_that_time_that_does_not_say_who_started_it_is_a_doubt(
    kind: Kind, apify: Emulator, runner: Runner
) -> None:
    kind.seconds = 30
    apify.add_fault(Fault("user-agent", value="", **kind.start_request))
    kind.start()
    apify.add_fault(Fault("reset", **kind.start_request))
    outcome = runner.run(kind.operator(**kind.one_request, retries=1))
    assert (outcome.state, type(outcome.error).__name__) == ("up_for_retry", "ApifyStartUnclearError")
    assert "Apify does not show who started it" in str(outcome.error)
    assert len(kind.jobs) == 1

    runner.clear(kind.operator(retries=1))
    assert runner.run(kind.operator(**kind.one_request, retries=1)).state == "success", "the advice works"
    assert len(kind.jobs) == 2


@STORE.needed
def test_another_process_finds_the_job_by_the_time_that_was_written_down(
    kind: Kind, apify: Emulator, supervisor: Supervisor, runner: Runner
) -> None:
    """Only what began since then is asked about, not all that began since the run did."""
    kind.seconds = 0
    runner.run_started -= dt.timedelta(days=3)
    apify.clock_offset = -7200
    for _ in range(3):
        kind.start()
    apify.clock_offset = 0
    runner.run(kind.operator(**kind.one_request, retries=1))
    supervisor.store[f"apify_{kind.name}"][kind.id] = None
    apify.clear_ledger()
    runner.retry()
    assert runner.run(kind.operator(**kind.one_request, retries=1)).state == "success"
    jobs_are(kind, *["SUCCEEDED"] * 4)
    assert sum(request.path.startswith(kind.path("")) for request in apify.requests) == 1


STORE_DOWN = pytest.mark.parametrize("store", [pytest.param(True, marks=STORE.needed), False], ids=["", "no store"])


@STORE_DOWN
def test_a_retry_that_knows_its_job_for_certain_asks_for_nothing_else(
    store: bool, kind: Kind, apify: Emulator, supervisor: Supervisor, runner: Runner
) -> None:
    kind.seconds = 30
    supervisor.has_store = store
    first = runner.run(kind.operator(**kind.one_request, retries=1))
    apify.clear_ledger()
    runner.retry()
    assert runner.run(kind.operator(**kind.one_request, retries=1)).xcoms[kind.id] == first.xcoms[kind.id]
    asked = [request.path for request in apify.requests]
    build = kind.path(first.xcoms[kind.id])
    assert asked == ([build] if store else [kind.starts_of("~hello-world"), build])
