"""Promise 1 on a real Airflow: a retry goes on with the build, a clear starts a new one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import psutil

from airflow_provider_apify.emulator import Actor, Emulator, Fault
from rig.local_airflow import LocalAirflow
from rig.waiting import wait_until
from tests.system.conftest import aborts, build_of, builds_are, finish, finish_all, frozen, long_polls


def start_in_flight(seconds: float) -> Fault:
    """Apify starts the build, and answers later."""
    return Fault("delay", method="POST", path="/v2/acts/~slow-to-answer/builds", seconds=seconds, after_work=True)


def waited_for(apify: Emulator, times: int, *build_ids: str) -> None:
    """Wait until that many tries have begun to wait for each of these builds."""
    wait_until(lambda: all(long_polls(apify, build) == times for build in build_ids), f"{times} tries wait", 90)


def test_a_worker_killed_while_waiting_costs_no_second_build(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    run = start("in_worker", "~endless")
    apify.wait_for(lambda emulator: long_polls(emulator) == 1, timeout=60)
    os.kill(airflow.task_process("in_worker", run, "build"), signal.SIGKILL)
    apify.wait_for(lambda emulator: long_polls(emulator) == 2, timeout=60)
    finish(apify)

    assert airflow.wait_for_run("in_worker", run) == "success"
    builds_are(apify, "SUCCEEDED")
    (build_id,) = [build["id"] for build in apify.builds]
    assert airflow.tasks("in_worker", run)["build"]["try_number"] == 2
    assert airflow.xcom("in_worker", run, "build") == build_id
    assert f"Continuing with build {apify.builds[0]['buildNumber']}" in airflow.task_log("in_worker", run, "build", 2)


def test_a_worker_killed_while_the_start_is_in_flight_costs_no_second_build(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    apify.add_fault(Fault("delay", method="POST", path="/v2/acts/*/builds", seconds=20, after_work=True))
    run = start("deferred", "~endless")
    apify.wait_for(lambda emulator: len(emulator.builds) == 1, timeout=60)
    os.kill(airflow.task_process("deferred", run, "build"), signal.SIGKILL)
    apify.wait_for(lambda emulator: long_polls(emulator) == 1, timeout=60)
    finish(apify)

    assert airflow.wait_for_run("deferred", run) == "success"
    builds_are(apify, "SUCCEEDED")
    (build_id,) = [build["id"] for build in apify.builds]
    assert airflow.xcom("deferred", run, "build") == build_id


def test_a_lost_answer_costs_no_second_build(airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]) -> None:
    apify.add_fault(Fault("lost-answer", method="POST", path="/v2/acts/*/builds"))
    run = start("deferred")
    assert airflow.wait_for_run("deferred", run) == "success"
    builds_are(apify, "SUCCEEDED")
    assert airflow.tasks("deferred", run)["build"]["try_number"] == 1


def test_a_scheduler_lost_with_its_workers_costs_no_second_build(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    """One task waits in a worker, one in the triggerer, and one is just starting its build."""
    apify.add_fault(start_in_flight(60))
    run = start("all_ways")
    airflow.wait_for_task("all_ways", run, "deferred", {"deferred"})
    wait_until(lambda: len(apify.builds) == 3 and long_polls(apify) == 2, "two wait, one starts")
    starting = build_of(apify, "slow-to-answer")["id"]
    held = {task: airflow.xcom("all_ways", run, task, "build_id") for task in ("in_worker", "deferred")}
    airflow.restart("scheduler", signal.SIGKILL)
    waited_for(apify, 2, held["in_worker"])
    waited_for(apify, 1, held["deferred"], starting)
    finish_all(apify)

    assert airflow.wait_for_run("all_ways", run) == "success"
    tries = {task: found["try_number"] for task, found in airflow.tasks("all_ways", run).items()}
    assert tries == {"in_worker": 2, "deferred": 1, "starting": 2}
    for task, build_id in {**held, "starting": starting}.items():
        assert airflow.xcom("all_ways", run, task) == build_id
    builds_are(apify, *["SUCCEEDED"] * 3)
    assert aborts(apify) == []


def test_builds_that_end_while_no_api_server_runs_are_not_lost(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    run = start("all_ways")
    airflow.wait_for_task("all_ways", run, "deferred", {"deferred"})
    wait_until(lambda: len(apify.builds) == 3 and long_polls(apify) == 3, "all are waited for")
    tasks = ("in_worker", "deferred", "starting")
    held = {task: airflow.xcom("all_ways", run, task, "build_id") for task in tasks}
    airflow.stop("api-server")
    finish(apify, held["in_worker"])
    finish(apify, held["deferred"])
    airflow.launch("api-server")
    finish_all(apify)

    assert airflow.wait_for_run("all_ways", run) == "success"
    for task, build_id in held.items():
        assert airflow.xcom("all_ways", run, task) == build_id
    builds_are(apify, *["SUCCEEDED"] * 3)
    assert aborts(apify) == []


def test_workers_that_come_back_beside_the_next_try_cost_no_second_build(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    """
    Airflow gives three workers up and starts the next tries, while the first ones are not dead.

    Two were frozen, one waiting and one starting its build; of the third only the supervisor is dead, and so nobody
    tells what it supervised to stop.
    """
    apify.add_fault(start_in_flight(8))
    dag_id, run = "in_three_workers", start("in_three_workers")
    runners = {task: airflow.task_process(dag_id, run, task) for task in ("frozen", "starting", "orphaned")}
    supervisors = {task: psutil.Process(pid).ppid() for task, pid in runners.items()}
    wait_until(lambda: len(apify.builds) == 3 and long_polls(apify) == 2, "two wait, one starts")
    builds = {task: airflow.xcom(dag_id, run, task, "build_id") for task in ("frozen", "orphaned")}
    builds["starting"] = build_of(apify, "slow-to-answer")["id"]
    stopped = [pids[task] for pids in (supervisors, runners) for task in ("frozen", "starting")]
    with frozen(*stopped):
        os.kill(supervisors["orphaned"], signal.SIGKILL)
        waited_for(apify, 2, builds["frozen"], builds["orphaned"])
        waited_for(apify, 1, builds["starting"])
        assert psutil.pid_exists(runners["orphaned"])
    gone = [psutil.Process(pid) for pid in (runners["frozen"], runners["starting"]) if psutil.pid_exists(pid)]
    assert psutil.wait_procs(gone, timeout=30)[1] == [], "Airflow ends what comes back"
    assert aborts(apify) == []
    finish_all(apify)

    assert airflow.wait_for_run(dag_id, run) == "success"
    for task, build_id in builds.items():
        assert airflow.tasks(dag_id, run)[task]["try_number"] == 2
        assert airflow.xcom(dag_id, run, task) == build_id
    builds_are(apify, *["SUCCEEDED"] * 3)
    assert aborts(apify) == []


def test_a_clear_of_a_finished_task_builds_anew(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    run = start("deferred")
    assert airflow.wait_for_run("deferred", run) == "success"
    first = airflow.xcom("deferred", run, "build")

    airflow.clear("deferred", run, "build")
    apify.wait_for(lambda emulator: len(emulator.builds) == 2, timeout=60)
    assert airflow.wait_for_run("deferred", run) == "success"

    builds_are(apify, "SUCCEEDED", "SUCCEEDED")
    assert airflow.xcom("deferred", run, "build") == apify.builds[1]["id"] != first


def test_a_clear_of_a_task_waiting_in_the_worker_aborts_its_build_and_builds_anew(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    run = start("in_worker", "~endless")
    builds_are(apify, "RUNNING")
    airflow.clear("in_worker", run, "build")

    builds_are(apify, "ABORTED", "RUNNING")
    finish(apify)
    assert airflow.wait_for_run("in_worker", run) == "success"
    builds_are(apify, "ABORTED", "SUCCEEDED")
    assert airflow.xcom("in_worker", run, "build") == apify.builds[1]["id"]


def test_a_clear_of_a_deferred_task_aborts_its_build_and_builds_anew(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    run = start("deferred", "~endless")
    airflow.wait_for_task("deferred", run, "build", {"deferred"})
    airflow.clear("deferred", run, "build")

    builds_are(apify, "ABORTED", "RUNNING")
    finish(apify)
    assert airflow.wait_for_run("deferred", run) == "success"
    builds_are(apify, "ABORTED", "SUCCEEDED")


def test_every_clear_builds_anew(airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]) -> None:
    run = start("deferred", "~endless")
    for ended in (0, 1):
        wait_until(lambda: len(apify.builds) == ended + 1 and long_polls(apify) == ended + 1, "a build is held")  # noqa: B023
        airflow.clear("deferred", run, "build")
        builds_are(apify, *["ABORTED"] * (ended + 1), "RUNNING")
    finish(apify)
    assert airflow.wait_for_run("deferred", run) == "success"
    builds_are(apify, "ABORTED", "ABORTED", "SUCCEEDED")
    assert airflow.xcom("deferred", run, "build") == apify.builds[2]["id"]


def test_a_retry_after_a_clear_goes_on_with_the_build_of_that_clear(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    apify.add_actor(Actor(name="mended", outcome="FAILED", build_seconds=0.5))
    run = start("in_worker", "~mended")
    assert airflow.wait_for_run("in_worker", run) == "failed"
    apify.set_actor("mended", outcome="SUCCEEDED", build_seconds=3600)
    airflow.clear("in_worker", run, "build")
    wait_until(lambda: len(apify.builds) == 3, "a third build")
    third = apify.builds[2]["id"]
    waited_for(apify, 1, third)
    os.kill(airflow.task_process("in_worker", run, "build"), signal.SIGKILL)
    waited_for(apify, 2, third)
    finish(apify)

    assert airflow.wait_for_run("in_worker", run) == "success"
    builds_are(apify, "FAILED", "FAILED", "SUCCEEDED")
    assert airflow.xcom("in_worker", run, "build") == third
    assert airflow.tasks("in_worker", run)["build"]["try_number"] == 4
