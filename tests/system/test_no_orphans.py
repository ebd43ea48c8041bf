"""Promise 2 on a real Airflow: the build of a task that has ended or was cleared is aborted, and no other."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from functools import partial

import pytest

from airflow_provider_apify.emulator import Emulator, Fault
from rig.local_airflow import LocalAirflow
from rig.waiting import wait_until
from tests.system.conftest import aborts, build_of, builds_are, finish, finish_all, long_polls, seconds

#: Seconds from a task's end, as Airflow says it, to that of its build: the worker hears of it at its next heartbeat.
IN_WORKER, DEFERRED = 7, 30


def wait_until_held(dag_id: str, run: str, airflow: LocalAirflow, apify: Emulator) -> None:
    """Wait until the build runs and its task waits for it."""
    if dag_id.startswith("deferred"):
        airflow.wait_for_task(dag_id, run, "build", {"deferred"})
    builds_are(apify, "RUNNING")
    wait_until(lambda: long_polls(apify) > 0, "its task waits for it")


def wait_until_both_held(dag_id: str, run: str, airflow: LocalAirflow, apify: Emulator) -> dict[str, str]:
    """Wait until the one build is waited for in the worker and the other in the triggerer: their ids by task."""
    airflow.wait_for_task(dag_id, run, "in_worker", {"running"})
    airflow.wait_for_task(dag_id, run, "deferred", {"deferred"})
    held: dict[str, str] = {}

    def both() -> bool:
        for task in {"in_worker", "deferred"} - held.keys():
            with contextlib.suppress(KeyError):
                held[task] = airflow.xcom(dag_id, run, task, "build_id")
        return len(held) == 2 and all(long_polls(apify, build_id) for build_id in held.values())

    wait_until(both, f"both builds are waited for: {held}")
    return held


def ended(apify: Emulator, build_id: str) -> float:
    """When this build ended, seconds since the epoch."""
    (at,) = [build["finishedAt"] for build in apify.builds if build["id"] == build_id]
    return seconds(at)


@pytest.mark.parametrize("state", ["failed", "success"])
@pytest.mark.parametrize(("dag_id", "within"), [("in_worker", IN_WORKER), ("deferred", DEFERRED)])
def test_a_marked_task_has_its_build_aborted(
    dag_id: str, within: float, state: str, airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    run = start(dag_id, "~endless")
    wait_until_held(dag_id, run, airflow, apify)
    airflow.mark(dag_id, run, "build", state)
    builds_are(apify, "ABORTED", timeout=within)
    airflow.wait_for_run(dag_id, run)
    builds_are(apify, "ABORTED")


def test_an_abort_that_takes_seconds_is_carried_through(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    run = start("deferred", "~endless")
    wait_until_held("deferred", run, airflow, apify)
    apify.add_fault(Fault("status", "POST", "*/abort", status=503, headers={"Retry-After": "3"}))
    airflow.mark("deferred", run, "build", "failed")
    builds_are(apify, "ABORTED", timeout=DEFERRED)


@pytest.mark.parametrize("dag_id", ["in_worker_not_aborted", "deferred_not_aborted"])
def test_abort_on_kill_false_leaves_the_build_running(
    dag_id: str, airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    run = start(dag_id, "~endless")
    wait_until_held(dag_id, run, airflow, apify)
    airflow.mark(dag_id, run, "build", "failed")
    airflow.wait_for_run(dag_id, run)
    builds_are(apify, "RUNNING")
    assert aborts(apify) == []


@pytest.mark.parametrize("dag_id", ["sensor_poke", "sensor_deferred"])
def test_a_sensor_never_aborts(dag_id: str, airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]) -> None:
    run = start(dag_id, "~endless")
    airflow.wait_for_task(dag_id, run, "wait", {"deferred" if dag_id == "sensor_deferred" else "running"})
    wait_until(lambda: long_polls(apify) > 0, "it waits for the build")
    airflow.mark(dag_id, run, "wait", "failed")
    airflow.wait_for_run(dag_id, run)
    builds_are(apify, "RUNNING")
    assert aborts(apify) == []


def test_the_deadline_of_a_deferred_task_aborts_its_build(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    run = start("deferred_with_timeout", "~endless")
    assert airflow.wait_for_run("deferred_with_timeout", run) == "failed"
    builds_are(apify, "ABORTED")
    assert "ApifyJobTimeout" in airflow.task_log("deferred_with_timeout", run, "build")


def test_an_evicted_worker_leaves_the_build_to_the_retry(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    """A SIGTERM from outside Airflow, as Kubernetes sends it: Airflow still says that the task runs."""
    run = start("in_worker", "~endless")
    wait_until_held("in_worker", run, airflow, apify)
    pid = airflow.task_process("in_worker", run, "build")
    os.kill(pid, signal.SIGTERM)
    log = partial(airflow.task_log, "in_worker", run, "build")
    wait_until(lambda: "its build is left running" in log(), log, timeout=20)
    os.kill(pid, signal.SIGKILL)
    apify.wait_for(lambda emulator: long_polls(emulator) == 2, timeout=60)
    finish(apify)
    assert airflow.wait_for_run("in_worker", run) == "success"
    builds_are(apify, "SUCCEEDED")
    assert airflow.tasks("in_worker", run)["build"]["try_number"] == 2


def test_an_evicted_worker_without_a_retry_aborts_the_build(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    run = start("no_retry_left", "~endless")
    wait_until_held("no_retry_left", run, airflow, apify)
    os.kill(airflow.task_process("no_retry_left", run, "build"), signal.SIGTERM)
    builds_are(apify, "ABORTED")
    assert airflow.wait_for_run("no_retry_left", run) == "failed"


def test_a_run_set_to_failed_has_all_its_builds_aborted(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    """One is waited for in the worker, one in the triggerer, and of one Apify has not said yet that it is there."""
    apify.add_fault(Fault("delay", method="POST", path="/v2/acts/~slow-to-answer/builds", seconds=30, after_work=True))
    run = start("all_ways")
    held = wait_until_both_held("all_ways", run, airflow, apify)
    wait_until(lambda: len(apify.builds) == 3, "the third start is in flight")
    held["starting"] = build_of(apify, "slow-to-answer")["id"]
    marked = time.time()
    airflow.mark_run("all_ways", run, "failed")

    builds_are(apify, *["ABORTED"] * 3, timeout=DEFERRED)
    for task in ("in_worker", "starting"):
        assert ended(apify, held[task]) - marked <= IN_WORKER, task
    assert {task["state"] for task in airflow.tasks("all_ways", run).values()} == {"failed"}


def test_a_task_marked_while_its_start_is_in_flight_leaves_no_build(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    apify.add_fault(Fault("delay", method="POST", path="/v2/acts/*/builds", seconds=30, after_work=True))
    run = start("in_worker", "~endless")
    apify.wait_for(lambda emulator: len(emulator.builds) == 1, timeout=60)
    airflow.mark("in_worker", run, "build", "failed")
    builds_are(apify, "ABORTED", timeout=IN_WORKER)
    assert airflow.wait_for_run("in_worker", run) == "failed"


def test_a_run_out_of_time_has_its_builds_aborted(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    """By ``dagrun_timeout``: Airflow calls its tasks skipped."""
    run = start("short_run")
    held = wait_until_both_held("short_run", run, airflow, apify)
    assert airflow.wait_for_run("short_run", run) == "failed"
    over = seconds(airflow.api("GET", f"/dags/short_run/dagRuns/{run}")["end_date"])

    builds_are(apify, "ABORTED", "ABORTED", timeout=DEFERRED)
    assert ended(apify, held["in_worker"]) - over <= IN_WORKER
    assert {task["state"] for task in airflow.tasks("short_run", run).values()} == {"skipped"}


def test_execution_timeout_aborts_the_build(airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]) -> None:
    """In the worker Airflow counts it from the task's start, while deferred we do it from the deferral."""
    run = start("short_tasks")
    assert airflow.wait_for_run("short_tasks", run) == "failed"

    builds_are(apify, "ABORTED", "ABORTED")
    started = {build["id"]: seconds(build["startedAt"]) for build in apify.builds}
    for task, within in (("in_worker", IN_WORKER), ("deferred", DEFERRED)):
        build_id = airflow.xcom("short_tasks", run, task, "build_id")
        assert ended(apify, build_id) - started[build_id] <= 6 + within, task
        assert "AirflowTaskTimeout" in airflow.task_log("short_tasks", run, task)


def test_one_map_index_ends_without_the_others(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    """Of three in the worker and three deferred, the first is marked, the second cleared, the third left alone."""
    run = start("mapped")
    wait_until(lambda: len(apify.builds) == 6 and all(long_polls(apify, build["id"]) for build in apify.builds), "held")
    for index in (3, 4, 5):
        airflow.wait_for_task("mapped", run, f"build[{index}]", {"deferred"})
    first = [airflow.xcom("mapped", run, "build", "build_id", map_index=index) for index in range(6)]
    for index in (0, 3):
        airflow.mark("mapped", run, "build", "failed", map_index=index)
    airflow.clear("mapped", run, ("build", 1), ("build", 4))

    builds_are(apify, *["ABORTED" if build in (*first[:2], *first[3:5]) else "RUNNING" for build in order(apify, 8)])
    assert sorted(aborts(apify)) == sorted((*first[:2], *first[3:5]))
    wait_until(lambda: all(long_polls(apify, build["id"]) for build in apify.builds), "the new ones are waited for")
    finish_all(apify)
    assert airflow.wait_for_run("mapped", run) == "failed"  # for the sake of those that were marked
    now = [airflow.xcom("mapped", run, "build", "build_id", map_index=index) for index in range(6)]
    again = [old != new for old, new in zip(first, now, strict=True)]
    assert again == [False, True, False, False, True, False]
    builds_are(apify, *["ABORTED" if build in (*first[:2], *first[3:5]) else "SUCCEEDED" for build in order(apify, 8)])


def order(apify: Emulator, count: int) -> list[str]:
    """The ids of all builds, oldest first, once there are ``count``."""
    apify.wait_for(lambda emulator: len(emulator.builds) >= count, timeout=60)
    return [build["id"] for build in apify.builds]
