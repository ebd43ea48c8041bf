"""Promises 1 to 3 on a real Airflow for runs of Actors: what differs from builds is tested faster elsewhere."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from airflow_provider_apify.emulator import Emulator
from rig.local_airflow import LocalAirflow
from rig.waiting import wait_until
from tests.kinds import Runs
from tests.rows import jobs_are
from tests.system.conftest import aborts, long_polls


@pytest.fixture
def kind(apify: Emulator) -> Runs:
    return Runs(apify)


def wait_until_held(dag_id: str, run: str, airflow: LocalAirflow, kind: Runs) -> str:
    """Wait until the run is waited for; gives its id."""
    airflow.wait_for_task(dag_id, run, "run", {"deferred" if dag_id == "run_deferred" else "running"})
    jobs_are(kind, "RUNNING")
    wait_until(lambda: long_polls(kind.apify) > 0, "its task waits for it")
    return str(kind.jobs[0]["id"])


@pytest.mark.parametrize("dag_id", ["run_in_worker", "run_deferred"])
def test_a_run_is_waited_for_and_passed_on(
    dag_id: str, airflow: LocalAirflow, kind: Runs, start: Callable[..., str]
) -> None:
    run = start(dag_id, "~scraper")
    assert airflow.wait_for_run(dag_id, run) == "success"
    jobs_are(kind, "SUCCEEDED")
    (job,) = kind.jobs
    assert airflow.xcom(dag_id, run, "run") == airflow.xcom(dag_id, run, "run", "run_id") == job["id"]
    assert airflow.xcom(dag_id, run, "run", "dataset_id") == job["defaultDatasetId"]
    assert airflow.xcom(dag_id, run, "run", "summary")["status_message"] == job["statusMessage"]


def test_a_worker_killed_while_waiting_costs_no_second_run(
    airflow: LocalAirflow, kind: Runs, start: Callable[..., str]
) -> None:
    run = start("run_in_worker", "~endless")
    run_id = wait_until_held("run_in_worker", run, airflow, kind)
    os.kill(airflow.task_process("run_in_worker", run, "run"), signal.SIGKILL)
    kind.apify.wait_for(lambda emulator: long_polls(emulator) == 2, timeout=60)
    kind.finish(run_id)
    assert airflow.wait_for_run("run_in_worker", run) == "success"
    jobs_are(kind, "SUCCEEDED")
    assert airflow.tasks("run_in_worker", run)["run"]["try_number"] == 2
    assert f"Continuing with run {run_id}" in airflow.task_log("run_in_worker", run, "run", 2)


def test_a_run_whose_task_is_cleared_while_deferred_is_aborted_and_another_started(
    airflow: LocalAirflow, kind: Runs, start: Callable[..., str]
) -> None:
    run = start("run_deferred", "~endless")
    first = wait_until_held("run_deferred", run, airflow, kind)
    airflow.clear("run_deferred", run, "run")
    jobs_are(kind, "ABORTED", "RUNNING")
    assert aborts(kind.apify) == [first]
    kind.finish(kind.jobs[1]["id"])
    assert airflow.wait_for_run("run_deferred", run) == "success"
    jobs_are(kind, "ABORTED", "SUCCEEDED")


def test_a_run_that_ends_while_no_triggerer_runs(airflow: LocalAirflow, kind: Runs, start: Callable[..., str]) -> None:
    run = start("run_deferred", "~endless")
    run_id = wait_until_held("run_deferred", run, airflow, kind)
    airflow.stop("triggerer", signal.SIGKILL)
    kind.finish(run_id)
    airflow.launch("triggerer")
    assert airflow.wait_for_run("run_deferred", run) == "success"
    jobs_are(kind, "SUCCEEDED")
    assert airflow.tasks("run_deferred", run)["run"]["try_number"] == 1
    assert aborts(kind.apify) == []
