"""Promise 1 on a real Airflow: a retry goes on with the build, a clear starts a new one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from airflow_provider_apify.emulator import Emulator, Fault
from demo.local_airflow import LocalAirflow
from tests.system.conftest import builds, finish, long_polls, statuses, wait_for_statuses


def test_a_worker_killed_while_waiting_costs_no_second_build(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    run = start("in_worker", "~endless")
    wait_for_statuses(apify, "RUNNING")
    apify.wait_for(lambda emulator: long_polls(emulator) == 1)
    os.kill(airflow.task_process("in_worker", run, "build"), signal.SIGKILL)
    apify.wait_for(lambda emulator: long_polls(emulator) == 2, timeout=30)
    finish(apify)

    assert airflow.wait_for_run("in_worker", run) == "success"
    ((build_id, status),) = builds(apify)
    assert status == "SUCCEEDED"
    assert airflow.tasks("in_worker", run)["build"]["try_number"] == 2
    assert airflow.xcom("in_worker", run, "build") == build_id
    assert f"Going on with build {apify.builds[0]['buildNumber']}" in airflow.task_log("in_worker", run, "build", 2)


def test_a_worker_killed_while_the_start_is_in_flight_costs_no_second_build(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    apify.add_fault(Fault("delay", method="POST", path="/v2/acts/*/builds", seconds=20, after_work=True))
    run = start("deferred", "~endless")
    apify.wait_for(lambda emulator: len(emulator.builds) == 1, timeout=30)
    os.kill(airflow.task_process("deferred", run, "build"), signal.SIGKILL)
    apify.wait_for(lambda emulator: long_polls(emulator) == 1, timeout=30)
    finish(apify)

    assert airflow.wait_for_run("deferred", run) == "success"
    ((build_id, status),) = builds(apify)
    assert status == "SUCCEEDED"
    assert airflow.xcom("deferred", run, "build") == build_id


def test_a_lost_answer_costs_no_second_build(airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]) -> None:
    apify.add_fault(Fault("lost-answer", method="POST", path="/v2/acts/*/builds"))
    run = start("deferred")
    assert airflow.wait_for_run("deferred", run) == "success"
    assert statuses(apify) == ["SUCCEEDED"]
    assert airflow.tasks("deferred", run)["build"]["try_number"] == 1


def test_a_restart_of_the_triggerer_loses_and_aborts_nothing(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    run = start("deferred", "~endless")
    airflow.wait_for_task("deferred", run, "build", {"deferred"})
    apify.wait_for(lambda emulator: long_polls(emulator) == 1)
    airflow.restart("triggerer")
    apify.wait_for(lambda emulator: long_polls(emulator) == 2, timeout=30)
    assert statuses(apify) == ["RUNNING"]
    finish(apify)
    assert airflow.wait_for_run("deferred", run) == "success"
    assert statuses(apify) == ["SUCCEEDED"]


def test_a_clear_of_a_finished_task_builds_anew(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    run = start("deferred")
    assert airflow.wait_for_run("deferred", run) == "success"
    first = airflow.xcom("deferred", run, "build")

    airflow.clear("deferred", run, "build")
    apify.wait_for(lambda emulator: len(emulator.builds) == 2, timeout=30)
    assert airflow.wait_for_run("deferred", run) == "success"

    assert statuses(apify) == ["SUCCEEDED", "SUCCEEDED"]
    assert airflow.xcom("deferred", run, "build") == builds(apify)[1][0] != first


def test_a_clear_of_a_task_waiting_in_the_worker_aborts_its_build_and_builds_anew(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    run = start("in_worker", "~endless")
    wait_for_statuses(apify, "RUNNING")
    airflow.clear("in_worker", run, "build")

    wait_for_statuses(apify, "ABORTED", "RUNNING")
    finish(apify)
    assert airflow.wait_for_run("in_worker", run) == "success"
    assert statuses(apify) == ["ABORTED", "SUCCEEDED"]
    assert airflow.xcom("in_worker", run, "build") == builds(apify)[1][0]


def test_a_clear_of_a_deferred_task_aborts_its_build_and_builds_anew(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    run = start("deferred", "~endless")
    airflow.wait_for_task("deferred", run, "build", {"deferred"})
    airflow.clear("deferred", run, "build")

    wait_for_statuses(apify, "ABORTED", "RUNNING")
    finish(apify)
    assert airflow.wait_for_run("deferred", run) == "success"
    assert statuses(apify) == ["ABORTED", "SUCCEEDED"]
