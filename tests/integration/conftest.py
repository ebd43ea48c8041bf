"""A local Apify, and Airflow's task runner with a connection to it."""

from __future__ import annotations

import datetime as dt
import logging
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider_apify.client.client import Client
from airflow_provider_apify.client.settings import Source
from airflow_provider_apify.emulator import Emulator
from airflow_provider_apify.operators.build import ApifyBuildOperator
from airflow_provider_apify.sensors.build import ApifyBuildSensor
from tests.kinds import KINDS, Kind
from tests.runner import Runner, Supervisor, install


@pytest.fixture
def apify() -> Iterator[Emulator]:
    with Emulator(build_seconds=0.4, run_seconds=0.4) as emulator:
        yield emulator


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, apify: Emulator) -> Kind:
    """Each kind of job in turn."""
    return KINDS[request.param](apify)


@pytest.fixture
def supervisor(apify: Emulator, monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    supervisor = Supervisor()
    supervisor.connections["apify_default"] = {"host": apify.url, "password": apify.token}
    install(supervisor, monkeypatch)
    return supervisor


@pytest.fixture
def runner(supervisor: Supervisor) -> Iterator[Runner]:
    handler = signal.getsignal(signal.SIGTERM)
    yield Runner(supervisor)
    signal.signal(signal.SIGTERM, handler)  # Airflow's task runner leaves its own behind


def operator(actor_id: str = "~hello-world", *, dag_id: str = "dag", **kwargs: Any) -> ApifyBuildOperator:
    with DAG(dag_id, start_date=dt.datetime(2026, 1, 1)):
        return ApifyBuildOperator(task_id="build", actor_id=actor_id, **kwargs)


def sensor(build_id: str, **kwargs: Any) -> ApifyBuildSensor:
    with DAG("dag", start_date=dt.datetime(2026, 1, 1)):
        return ApifyBuildSensor(task_id="wait", build_id=build_id, **kwargs)


def client(conn_id: str = "apify_default") -> Client:
    """What tasks and triggers use below the hook."""
    return Client(Source(conn_id), logging.getLogger("client"))  # type: ignore[arg-type]


def start_build(apify: Emulator, actor: str = "hello-world") -> str:
    """Start a build as somebody else would."""
    import requests

    answer = requests.post(
        f"{apify.url}/v2/acts/~{actor}/builds?version=0.0",
        headers={"Authorization": f"Bearer {apify.token}"},
        timeout=5,
    )
    return str(answer.json()["data"]["id"])


def starts(apify: Emulator) -> int:
    """How many requests to start a build have reached Apify."""
    return sum(1 for request in apify.requests if request.method == "POST" and request.path.endswith("/builds"))


def statuses(apify: Emulator) -> list[str]:
    return [build["status"] for build in apify.builds]


def ended(apify: Emulator, count: int = 1) -> None:
    """Wait until ``count`` builds have ended."""
    terminal = {"SUCCEEDED", "FAILED", "ABORTED", "TIMED-OUT"}
    apify.wait_for(lambda emulator: sum(status in terminal for status in statuses(emulator)) >= count)
