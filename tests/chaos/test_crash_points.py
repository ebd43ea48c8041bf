"""
Promise 1 at every point where a worker can be lost or a request can go wrong: one attempt, one job.

The real supervisor and runner are killed or frozen there, and then the scheduler retries.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_apify.emulator import Emulator, Fault
from rig.network import ForwardProxy, self_signed
from tests.chaos.airflow_stub import Airflow
from tests.chaos.rig import Rig, Task
from tests.kinds import Kind
from tests.rows import count_jobs, jobs_are

NEVER = 60.0

#: Prepares that a try gets stuck; what it gives waits until the try is there, and lets it go on.
Stuck = Callable[[Rig], tuple[Callable[[], None], Callable[[], None]]]


def in_airflow(method: str, path: str, *, after_work: bool = False, body: str = "*") -> Stuck:
    """At a request to Airflow, in which ``ID`` stands for the name of a job's id."""

    def prepare(rig: Rig) -> tuple[Callable[[], None], Callable[[], None]]:
        names = {name: text.replace("ID", rig.kind.id) for name, text in {"path": path, "body": body}.items()}
        gate = rig.airflow.hold(method, after_work=after_work, **names)
        return gate.reach, gate.opened.set

    return prepare


def in_apify(fault: dict[str, Any], reached: Callable[[Kind], bool], *, start: bool = True) -> Stuck:
    """By a fault; ``start``: which meets a start."""

    def prepare(rig: Rig) -> tuple[Callable[[], None], Callable[[], None]]:
        kind = rig.kind
        kind.apify.add_fault(Fault(**fault, **(kind.start_request if start else {})))
        return lambda: kind.apify.wait_for(lambda _: reached(kind), timeout=20), lambda: None

    return prepare


def start_is_sent(kind: Kind) -> bool:
    return kind.starts > 0


def list_is_asked_for(kind: Kind) -> bool:
    path = kind.starts_of("~hello-world")
    return any((record.method, record.path) == ("GET", path) for record in kind.requests)


def actor_is_asked_for(kind: Kind) -> bool:
    return any(record.path == "/v2/acts/~hello-world" for record in kind.requests)


def polled(kind: Kind) -> bool:
    return any("waitForFinish" in record.query for record in kind.requests)


def started(kind: Kind) -> bool:
    return bool(kind.jobs)


REWRITTEN: dict[str, Any] = {"kind": "user-agent", "value": "corporate-proxy/1.0", "times": None}
KNOWS_THE_ID = '*"ID": "*'

BEFORE_THE_START = {
    "before the connection is known": in_airflow("GET", "connections/apify_default"),
    "before the intent is kept": in_airflow("PUT", "store/*"),
    "after the intent is kept": in_airflow("PUT", "store/*", after_work=True),
    "start that gets lost on its way": in_apify({"kind": "delay", "seconds": NEVER}, start_is_sent),
}
START_NOT_KEPT = {
    "start worked on but not answered": in_apify({"kind": "delay", "seconds": NEVER, "after_work": True}, started),
    "before the id is kept": in_airflow("PUT", "store/*", body=KNOWS_THE_ID),
}
START_KEPT = {
    "after the id is kept": in_airflow("PUT", "store/*", body=KNOWS_THE_ID, after_work=True),
    "before the id is passed on": in_airflow("POST", "xcoms/*/ID"),
    "after the id is passed on": in_airflow("POST", "xcoms/*/_link_*", after_work=True),
}
WAITING = {"while it waits": in_apify({"kind": "delay", "method": "HEAD"}, polled, start=False)}
DEFERRING = {"before Airflow knows that it deferred": in_airflow("PATCH", "task-instances/*/state")}

KEPT = {**START_KEPT, **DEFERRING}

STORES = {"with the task store": 0, "on an older Airflow": 404, "with a broken store": 500}


def lose(rig: Rig, stuck: Stuck, task: Task | None = None, **options: Any) -> Task:
    """Run the next try of a task until it is stuck, and lose its worker there, with the request that it is stuck in."""
    task = task or rig.task(retries=1, **options)
    reach, _ = stuck(rig)
    worker = task.start()
    reach()
    worker.lose()
    return task


def ends_well(task: Task, kind: Kind, *jobs: str) -> None:
    """The task succeeds with the job that did; Apify has exactly these."""
    state = task.finish()
    jobs_are(kind, *jobs, timeout=10)
    assert state == "success", task.log
    assert task.job_id == kind.jobs[jobs.index("SUCCEEDED")]["id"]


def cells() -> Iterator[Any]:
    """Each point on each way of waiting that passes it, with and without the store; a broken store where it counts."""
    for name, point in {
        **BEFORE_THE_START,
        **START_NOT_KEPT,
        **START_KEPT,
        **WAITING,
        **DEFERRING,
    }.items():
        for way, deferrable in {"in the worker": False, "deferrable": True}.items():
            if name in ({**WAITING} if deferrable else {**DEFERRING}):
                continue
            for store, status in STORES.items():
                if status != 500 or name in START_NOT_KEPT:
                    yield pytest.param(point, deferrable, status, id=f"{name}, {way}, {store}")


@pytest.mark.parametrize(("point", "deferrable", "store"), list(cells()))
def test_a_lost_worker(point: Stuck, deferrable: bool, store: int, rig: Rig, kind: Kind) -> None:
    rig.airflow.store = store
    task = lose(rig, point, deferrable=deferrable)
    task.retry()
    ends_well(task, kind, "SUCCEEDED")


@pytest.mark.parametrize("store", [0, 404], ids=["with the task store", "on an older Airflow"])
@pytest.mark.parametrize("point", START_NOT_KEPT.values(), ids=START_NOT_KEPT)
def test_a_lost_worker_where_lists_show_all(point: Stuck, store: int, rig: Rig, kind: Kind, apify: Emulator) -> None:
    rig.airflow.store = store
    apify.full_lists = True
    task = lose(rig, point)
    apify.clear_ledger()
    task.retry()
    ends_well(task, kind, "SUCCEEDED")
    asked = [record for record in apify.requests if record.path.startswith(kind.path(""))]
    assert all("waitForFinish" in record.query for record in asked), "nobody had to be asked whose the job is"


#: Airflow's task store, and how many starts: without it, each retry asks about all of them.
LOST = {"200, with the task store": (0, 200), "40, on an older Airflow": (404, 40)}


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("store", "count"), LOST.values(), ids=LOST)
def test_starts_of_one_actor_whose_workers_are_all_lost(
    store: int, count: int, rig: Rig, kind: Kind, apify: Emulator, record_property: Callable[[str, object], None]
) -> None:
    """Mapped, with lists that do not show who started a job: each finds its own among all."""
    kind.seconds, apify.memory_mbytes, apify.max_concurrent_jobs = 3600, count * 4096, count
    rig.airflow.store = store
    apify.add_fault(Fault("delay", seconds=NEVER, after_work=True, times=count, **kind.start_request))
    tasks = [rig.task(retries=1, map_index=index) for index in range(count)]
    for batch in batches(tasks):
        expected = len(kind.jobs) + len(batch)
        workers = [task.start() for task in batch]
        kind.started(expected, timeout=60)
        for worker in workers:
            worker.lose()
    apify.clear_ledger()
    for batch in batches(tasks):
        for task in batch:
            task.retry()
        for task in batch:
            task.waits_for(timeout=120)
            task.workers[-1].lose()
    record_property("requests", len(apify.requests))
    print(f"{len(apify.requests)} requests for {count} lost workers")
    count_jobs(count, len(kind.jobs))
    assert len({task.instance.told[2] for task in tasks}) == count


def batches(tasks: list[Task]) -> list[list[Task]]:
    return [tasks[first : first + 10] for first in range(0, len(tasks), 10)]


@pytest.mark.parametrize("point", KEPT.values(), ids=KEPT)
def test_a_lost_worker_behind_a_proxy_that_rewrites_the_user_agent(
    point: Stuck, rig: Rig, kind: Kind, apify: Emulator
) -> None:
    """Where the id is kept in the task store, nothing needs to be found."""
    apify.add_fault(Fault(**REWRITTEN, **kind.start_request))
    task = lose(rig, point, deferrable=True)
    task.retry()
    ends_well(task, kind, "SUCCEEDED")


@pytest.mark.parametrize("point", START_NOT_KEPT.values(), ids=START_NOT_KEPT)
def test_the_limit_is_a_rewritten_user_agent_and_an_id_that_nobody_kept(
    point: Stuck, rig: Rig, kind: Kind, apify: Emulator
) -> None:
    """Documented: then nothing tells the job from others. The retry starts another one and touches no other job."""
    apify.add_fault(Fault(**REWRITTEN, **kind.start_request))
    task = lose(rig, point)
    task.retry()
    ends_well(task, kind, "RUNNING", "SUCCEEDED")


@pytest.mark.parametrize("store", [0, 404], ids=["with the task store", "on an older Airflow"])
def test_a_worker_lost_after_the_job_has_ended(store: int, rig: Rig, kind: Kind) -> None:
    """The retry finds the job that succeeded."""
    rig.airflow.store = store
    task = rig.task(retries=1)
    gate = rig.airflow.hold("PATCH", "task-instances/*/state")
    worker = task.start()
    kind.finish(str(task.waits_for()))
    gate.reach()
    worker.lose()
    task.retry()
    ends_well(task, kind, "SUCCEEDED")


@pytest.mark.parametrize("store", [0, 404], ids=["with the task store", "on an older Airflow"])
def test_a_worker_lost_while_it_finishes_a_deferred_task(store: int, rig: Rig, kind: Kind) -> None:
    rig.airflow.store = store
    task = rig.task(retries=1, deferrable=True)
    task.start()
    kind.finish(str(task.waits_for()))
    gate = rig.airflow.hold("POST", "xcoms/*/summary")
    worker = task.fire_trigger()
    gate.reach()
    worker.lose()
    task.retry()
    ends_well(task, kind, "SUCCEEDED")


def test_a_runner_killed_for_want_of_memory(rig: Rig, kind: Kind) -> None:
    """Its supervisor lives to tell."""
    task = rig.task(retries=1)
    worker = task.start()
    task.waits_for()
    worker.kill_runner()
    worker.ends()
    task.retry()
    ends_well(task, kind, "SUCCEEDED")


def test_workers_lost_again_and_again(rig: Rig, kind: Kind) -> None:
    points = [*START_NOT_KEPT.values(), *START_KEPT.values()]
    task = rig.task(retries=len(points))
    for point in points:
        lose(rig, point, task)
    task.retry()
    ends_well(task, kind, "SUCCEEDED")


LATE = in_apify({"kind": "delay", "seconds": 1.5}, start_is_sent)


def test_a_start_that_arrives_while_the_retry_looks(rig: Rig, kind: Kind) -> None:
    """The lost try wrote down that it was about to start, so the retry looks for longer."""
    task = lose(rig, LATE)
    task.retry()
    ends_well(task, kind, "SUCCEEDED")


def test_a_start_that_arrives_after_the_retry_has_looked(rig: Rig, kind: Kind) -> None:
    """Nobody can foresee it, so there are two jobs; the next look keeps the older one."""
    rig.airflow.store = 404
    task = lose(rig, in_apify({"kind": "delay", "seconds": 12}, start_is_sent), rig.task(retries=2))
    task.retry()
    task.waits_for()
    kind.started(2, timeout=30)
    task.workers[-1].lose()
    task.retry()
    ends_well(task, kind, "SUCCEEDED", "ABORTED")


ANSWERS: dict[str, dict[str, Any]] = {
    "lost": {"kind": "lost-answer"},
    "reset before the work": {"kind": "reset"},
    "reset after the work": {"kind": "reset", "after_work": True},
    "500 after the work": {"kind": "status", "status": 500, "after_work": True},
    "502 before the work": {"kind": "status", "status": 502},
    "502 page after the work": {"kind": "html", "status": 502, "after_work": True},
    "page with status 200": {"kind": "html", "after_work": True},
    "408 after the work": {"kind": "status", "status": 408, "after_work": True},
    "cut in the middle": {"kind": "cut-json"},
    "none within the read timeout": {"kind": "stall", "after_work": True},
    "slower than the read timeout": {"kind": "delay", "seconds": 1.5, "after_work": True},
    "429": {"kind": "status", "status": 429, "headers": {"Retry-After": "0"}, "times": 2},
}
NOT_LISTED: dict[str, Any] = {"kind": "stale-list", "times": None}


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferrable"])
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_an_odd_answer_to_the_start(
    answer: dict[str, Any], deferrable: bool, rig: Rig, kind: Kind, apify: Emulator
) -> None:
    rig.airflow.connection["extra"] = '{"timeout": 1}'
    apify.add_fault(Fault(**answer, **kind.start_request))
    task = rig.task(deferrable=deferrable)
    task.start()
    ends_well(task, kind, "SUCCEEDED")


@pytest.mark.parametrize("answer", ["lost", "reset before the work", "reset after the work", "500 after the work"])
def test_an_odd_answer_to_the_start_behind_a_forward_proxy(
    answer: str, airflow: Airflow, rig: Rig, kind: Kind, tmp_path: Path
) -> None:
    """urllib3 calls it trouble with the proxy when a connection through one is cut, whenever that is."""
    certificate = tmp_path / "certificate.pem"
    certificate.write_bytes(self_signed())
    with Emulator(build_seconds=60, run_seconds=60, ssl_certfile=str(certificate)) as apify, ForwardProxy() as proxy:
        extra = {"proxy": proxy.url, "ca_bundle": str(certificate)}
        airflow.connection.update(host=apify.url, password=apify.token, extra=json.dumps(extra))
        apify.add_fault(Fault(**ANSWERS[answer], **kind.start_request))
        kind.apify = apify
        task = rig.task()
        task.start()
        ends_well(task, kind, "SUCCEEDED")


#: What comes before the try whose start is in doubt, and what the ledger then has of it.
BEFORE = {"a retry that replaces a failed job": "FAILED", "a clear": "SUCCEEDED"}


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
def test_a_lost_worker_and_a_list_that_lags_after(before: str, rig: Rig, kind: Kind, apify: Emulator) -> None:
    """Each start is written down before it is sent, not only a task's first."""
    task = rig.task(retries=2)
    task.start()
    kind.finish(str(task.waits_for()), before)
    task.run_to_end()
    if before == "SUCCEEDED":
        task.clear()
    apify.add_fault(Fault(**NOT_LISTED, **kind.list_request, seconds=2))
    apify.add_fault(Fault("delay", seconds=NEVER, after_work=True, **kind.start_request))
    worker = task.start()
    kind.started(2, timeout=20)
    worker.lose()
    task.retry()
    job_id = task.waits_for()
    kind.finish(str(job_id))
    assert task.run_to_end() == "success", task.log
    jobs_are(kind, before, "SUCCEEDED", timeout=10)
    assert task.job_id == kind.jobs[1]["id"]


@pytest.mark.parametrize("store", STORES.values(), ids=STORES)
def test_a_lost_answer_and_a_list_that_lags(store: int, rig: Rig, kind: Kind, apify: Emulator) -> None:
    rig.airflow.store = store
    apify.add_fault(Fault("lost-answer", **kind.start_request))
    apify.add_fault(Fault(**NOT_LISTED, **kind.list_request, seconds=1.5))
    task = rig.task()
    task.start()
    ends_well(task, kind, "SUCCEEDED")


@pytest.mark.parametrize("store", STORES.values(), ids=STORES)
def test_a_lost_answer_and_then_a_lost_worker(store: int, rig: Rig, kind: Kind, apify: Emulator) -> None:
    """The worker is lost while it looks for the job that the list does not show yet."""
    rig.airflow.store = store
    apify.add_fault(Fault("lost-answer", **kind.start_request))
    apify.add_fault(Fault(**NOT_LISTED, **kind.list_request, seconds=NEVER))
    task = lose(rig, lambda rig: (lambda: kind.apify.wait_for(lambda _: list_is_asked_for(kind)), lambda: None))
    apify.clear_faults()
    task.retry()
    ends_well(task, kind, "SUCCEEDED")


def test_a_lost_worker_and_a_list_that_lags(rig: Rig, kind: Kind, apify: Emulator) -> None:
    """The try wrote down that it was about to start, so the retry looks for longer."""
    apify.add_fault(Fault(**NOT_LISTED, **kind.list_request, seconds=2))
    task = lose(rig, START_NOT_KEPT["start worked on but not answered"])
    task.retry()
    ends_well(task, kind, "SUCCEEDED")


#: Points, and whether Airflow has a task store there.
FROZEN = {
    "between a 429 and the next request": (
        in_apify({"kind": "status", "status": 429, "headers": {"Retry-After": "2"}}, start_is_sent),
        True,
    ),
    "in the question which version to build": (
        in_apify(
            {"kind": "delay", "seconds": 2, "method": "GET", "path": "/v2/acts/~hello-world"},
            actor_is_asked_for,
            start=False,
        ),
        True,
    ),
    "start worked on but not answered": (
        in_apify({"kind": "delay", "seconds": 1, "after_work": True}, started),
        False,
    ),
    "before the id is kept": (START_NOT_KEPT["before the id is kept"], True),
    "after the id is kept": (START_KEPT["after the id is kept"], True),
    "before the id is passed on": (START_KEPT["before the id is passed on"], False),
    "while it waits, with the task store": (WAITING["while it waits"], True),
    "while it waits, on an older Airflow": (WAITING["while it waits"], False),
}


def thaw_beside_the_retry(rig: Rig, point: Stuck) -> Task:
    """Freeze a worker, have it given up for dead and retried; thaw it, and let it come to its end beside the retry."""
    kind = rig.kind
    asks: dict[str, Any] = dict.fromkeys(kind.one_request)
    task = rig.task(retries=1, stale_after=0.5, **asks)
    reach, go_on = point(rig)
    frozen = task.start()
    reach()
    frozen.freeze()
    go_on()
    task.retry()
    job_id = task.waits_for()
    time.sleep(1)  # however fast the retry is: a freeze is long, by heartbeats and by what a try takes for stale
    frozen.thaw()
    frozen.ends()
    rig.kind.finish(str(job_id))
    return task


@pytest.mark.parametrize(("point", "store"), FROZEN.values(), ids=FROZEN)
def test_a_frozen_worker_that_thaws(point: Stuck, store: bool, rig: Rig, kind: Kind) -> None:
    """It goes on where it was, is told that it is gone, gets SIGTERM and SIGKILL, and leaves the job alone."""
    if point is FROZEN["in the question which version to build"][0] and kind.name == "run":
        pytest.skip("before it starts a run, a task asks for nothing")
    rig.airflow.store = 0 if store else 404
    ends_well(thaw_beside_the_retry(rig, point), kind, "SUCCEEDED")


@pytest.mark.parametrize("point", list(BEFORE_THE_START.values())[:3], ids=list(BEFORE_THE_START)[:3])
def test_a_worker_frozen_before_its_start_starts_nothing(point: Stuck, rig: Rig, kind: Kind) -> None:
    """Since the retry has started its job in between."""
    task = thaw_beside_the_retry(rig, point)
    task.run_to_end()
    ends_well(task, kind, "SUCCEEDED")
