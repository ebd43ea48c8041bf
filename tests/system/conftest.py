"""One real Airflow for all system tests, and an Apify to talk to."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_apify.emulator import Actor, Emulator
from demo.local_airflow import LocalAirflow

ROOT = Path(__file__).resolve().parents[2]

#: The token that must appear nowhere.
CANARY = "apify_api_CANARY0aVtGzQ7yXk2mW9sPdL4hNcR"
#: Seconds that a build takes, but for ``endless`` builds, which take until the test ends them.
BUILD_SECONDS = 2.0


@pytest.fixture(scope="session")
def apify_server() -> Iterator[Emulator]:
    with Emulator(token=CANARY, build_seconds=BUILD_SECONDS, memory_mbytes=4096 * 1000) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def airflow(apify_server: Emulator) -> Iterator[LocalAirflow]:
    home = Path(tempfile.mkdtemp(prefix="airflow-system-"))
    dags = home / "dags"
    shutil.copytree(ROOT / "example_dags", dags)
    shutil.copytree(ROOT / "tests" / "system" / "dags", dags, dirs_exist_ok=True)
    env = {
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
    }
    with LocalAirflow(home, dags, env=env, say=print) as local:
        local.api(
            "POST",
            "/connections",
            json={
                "connection_id": "apify_default",
                "conn_type": "apify",
                "host": apify_server.url,
                "password": CANARY,
            },
        )
        local.wait_for_dag("sensor_deferred")
        local.wait_for_dag("apify_pipeline_on_build")
        yield local
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def apify(apify_server: Emulator, airflow: LocalAirflow) -> Iterator[Emulator]:
    """Apify without builds, requests and faults of earlier tests."""
    apify_server.reset()
    apify_server.token, apify_server.build_seconds = CANARY, BUILD_SECONDS
    apify_server.add_actor(Actor(name="endless", build_seconds=3600))
    yield apify_server
    for build in apify_server.builds:
        if not build["finishedAt"]:
            apify_server.finish_build(build["id"], status="ABORTED")


@pytest.fixture
def start(airflow: LocalAirflow) -> Callable[..., str]:
    """Start a run of a DAG; gives its id."""

    def start(dag_id: str, actor: str | None = None) -> str:
        return airflow.trigger(dag_id, {"actor": actor} if actor else None)

    return start


def builds(apify: Emulator) -> list[tuple[str, str]]:
    """Ids and statuses of all builds, oldest first."""
    return [(build["id"], build["status"]) for build in apify.builds]


def statuses(apify: Emulator) -> list[str]:
    return [build["status"] for build in apify.builds]


def finish(apify: Emulator) -> None:
    """Let the newest build succeed."""
    apify.finish_build(apify.builds[-1]["id"])


def long_polls(apify: Emulator) -> int:
    """How often a task has begun to wait for a build."""
    return sum("waitForFinish" in request.query for request in apify.requests)


def wait_for_statuses(apify: Emulator, *expected: str, timeout: float = 30) -> None:
    apify.wait_for(lambda emulator: statuses(emulator) == list(expected), timeout=timeout)


def expected_summary(build: dict[str, Any]) -> dict[str, Any]:
    """The parts of the summary that Apify's own object determines word for word."""
    return {
        "build_id": build["id"],
        "actor_id": build["actId"],
        "build_number": build["buildNumber"],
        "status": build["status"],
        "stats": build["stats"],
        "usage": build["usage"],
        "usage_total_usd": build["usageTotalUsd"],
    }
