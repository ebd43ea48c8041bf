"""Promise 2 on a real Airflow: the build of a task that has ended or was cleared is aborted, and no other."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from airflow_provider_apify.emulator import Emulator
from demo.local_airflow import LocalAirflow
from tests.system.conftest import finish, long_polls, statuses, wait_for_statuses


def wait_until_held(dag_id: str, run: str, airflow: LocalAirflow, apify: Emulator) -> None:
    """Wait until the build runs and its task waits for it."""
    if dag_id.startswith("deferred"):
        airflow.wait_for_task(dag_id, run, "build", {"deferred"})
    wait_for_statuses(apify, "RUNNING")
    apify.wait_for(lambda emulator: long_polls(emulator) > 0)


@pytest.mark.parametrize("state", ["failed", "success"])
@pytest.mark.parametrize(("dag_id", "within"), [("in_worker", 10), ("deferred", 30)])
def test_a_marked_task_has_its_build_aborted(
    dag_id: str, within: float, state: str, airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    run = start(dag_id, "~endless")
    wait_until_held(dag_id, run, airflow, apify)
    airflow.mark(dag_id, run, "build", state)
    wait_for_statuses(apify, "ABORTED", timeout=within)
    airflow.wait_for_run(dag_id, run)
    assert statuses(apify) == ["ABORTED"]


@pytest.mark.parametrize("dag_id", ["in_worker_not_aborted", "deferred_not_aborted"])
def test_abort_on_kill_false_leaves_the_build_running(
    dag_id: str, airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    run = start(dag_id, "~endless")
    wait_until_held(dag_id, run, airflow, apify)
    airflow.mark(dag_id, run, "build", "failed")
    airflow.wait_for_run(dag_id, run)
    assert statuses(apify) == ["RUNNING"]
    assert not any(request.path.endswith("/abort") for request in apify.requests)


@pytest.mark.parametrize("dag_id", ["sensor_poke", "sensor_deferred"])
def test_a_sensor_never_aborts(dag_id: str, airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]) -> None:
    run = start(dag_id, "~endless")
    airflow.wait_for_task(dag_id, run, "wait", {"deferred" if dag_id == "sensor_deferred" else "running"})
    apify.wait_for(lambda emulator: long_polls(emulator) > 0)
    airflow.mark(dag_id, run, "wait", "failed")
    airflow.wait_for_run(dag_id, run)
    assert statuses(apify) == ["RUNNING"]
    assert not any(request.path.endswith("/abort") for request in apify.requests)


def test_the_deadline_of_a_deferred_task_aborts_its_build(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    run = start("deferred_with_timeout", "~endless")
    assert airflow.wait_for_run("deferred_with_timeout", run) == "failed"
    wait_for_statuses(apify, "ABORTED")
    assert "ApifyBuildTimeout" in airflow.task_log("deferred_with_timeout", run, "build")


def test_an_evicted_worker_leaves_the_build_to_the_retry(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    """A SIGTERM from outside Airflow, as Kubernetes sends it: Airflow still says that the task runs."""
    run = start("in_worker", "~endless")
    wait_until_held("in_worker", run, airflow, apify)
    pid = airflow.task_process("in_worker", run, "build")
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 20
    while "its build is left running" not in airflow.task_log("in_worker", run, "build"):
        assert time.monotonic() < deadline, airflow.task_log("in_worker", run, "build")
        time.sleep(0.2)
    os.kill(pid, signal.SIGKILL)
    apify.wait_for(lambda emulator: long_polls(emulator) == 2, timeout=30)
    finish(apify)
    assert airflow.wait_for_run("in_worker", run) == "success"
    assert statuses(apify) == ["SUCCEEDED"]
    assert airflow.tasks("in_worker", run)["build"]["try_number"] == 2


def test_an_evicted_worker_without_a_retry_aborts_the_build(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    run = start("no_retry_left", "~endless")
    wait_until_held("no_retry_left", run, airflow, apify)
    os.kill(airflow.task_process("no_retry_left", run, "build"), signal.SIGTERM)
    wait_for_statuses(apify, "ABORTED")
    assert airflow.wait_for_run("no_retry_left", run) == "failed"
