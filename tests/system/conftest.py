"""One real Airflow for all system tests, and an Apify to talk to."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import socketserver
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from airflow_provider_apify.emulator import Actor, Emulator
from airflow_provider_apify.emulator.call import RequestRecord
from rig.local_airflow import LocalAirflow
from tests.features import WATCHERS
from tests.kinds import Builds
from tests.rows import jobs_are

ROOT = Path(__file__).resolve().parents[2]

#: The token that must appear nowhere.
CANARY = "apify_api_CANARY0aVtGzQ7yXk2mW9sPdL4hNcR"
#: Seconds that a build or run takes, but for those of ``endless``, which take until the test ends them.
BUILD_SECONDS = 2.0

#: Whether the test has failed so far.
FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let fixtures know whether their test has failed."""
    report = yield
    item.stash[FAILED] = report.failed
    return report


def pytest_itemcollected(item: pytest.Item) -> None:
    """Have one Airflow for all, however many processes run tests."""
    item.add_marker(pytest.mark.xdist_group("airflow"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Look for the token after everything else has happened."""
    items.sort(key=lambda item: item.path == Path(__file__).with_name("test_token_stays_inside.py"))


@pytest.fixture(scope="session")
def apify_server() -> Iterator[Emulator]:
    with Emulator(token=CANARY, memory_mbytes=4096 * 1000) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def other_apify_server() -> Iterator[Emulator]:
    with Emulator(token=CANARY, build_seconds=BUILD_SECONDS) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def statsd_server() -> Iterator[tuple[int, list[str]]]:
    """A statsd server: its UDP port, and the metrics that it has received."""
    received: list[str] = []

    class Receive(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            received.extend(self.request[0].decode().splitlines())

    with socketserver.UDPServer(("127.0.0.1", 0), Receive) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], received
        server.shutdown()


@pytest.fixture(scope="session")
def airflow(
    apify_server: Emulator, other_apify_server: Emulator, statsd_server: tuple[int, list[str]]
) -> Iterator[LocalAirflow]:
    home = Path(tempfile.mkdtemp(prefix="airflow-system-"))
    dags = home / "dags"
    shutil.copytree(ROOT / "example_dags", dags)
    if not WATCHERS.there:
        dags.joinpath("on_run_finished.py").unlink()
    shutil.copytree(ROOT / "tests" / "system" / "dags", dags, dirs_exist_ok=True)
    env = {
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
        # How soon a triggerer whose loop is stalled counts as dead.
        "AIRFLOW__TRIGGERER__RUNNER_HEALTH_CHECK_THRESHOLD": "5",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_PORT": str(statsd_server[0]),
        "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
        # Triggers are imported by their names, and the DAGs' folder is no place to find them.
        "PYTHONPATH": os.pathsep.join(filter(None, [str(dags), os.environ.get("PYTHONPATH")])),
    }
    with LocalAirflow(home, dags, env=env, say=print) as local:
        for connection_id, server in {"apify_default": apify_server, "apify_other": other_apify_server}.items():
            local.add_connection(host=server.url, password=CANARY, connection_id=connection_id)
        local.wait_for_dag("apify_pipeline_on_build")
        yield local
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def earlier_requests() -> list[RequestRecord]:
    """What the tests before this one have sent."""
    return []


@pytest.fixture
def apify(apify_server: Emulator, airflow: LocalAirflow, earlier_requests: list[RequestRecord]) -> Iterator[Emulator]:
    """Apify without builds, requests and faults of earlier tests."""
    apify_server.reset()
    apify_server.token = CANARY
    apify_server.build_seconds = apify_server.run_seconds = BUILD_SECONDS
    for name in ("endless", "late", "slow-to-answer"):
        apify_server.add_actor(Actor(name=name, build_seconds=3600, run_seconds=3600))
    yield apify_server
    earlier_requests += apify_server.requests
    for build in apify_server.builds:
        if not build["finishedAt"]:
            apify_server.finish_build(build["id"], status="ABORTED")
    for run in apify_server.runs:
        if not run["finishedAt"]:
            apify_server.finish_run(run["id"], status="ABORTED")


@pytest.fixture
def other_apify(other_apify_server: Emulator) -> Emulator:
    """Another Apify, of the connection ``apify_other``."""
    other_apify_server.reset()
    other_apify_server.token, other_apify_server.build_seconds = CANARY, BUILD_SECONDS
    return other_apify_server


@pytest.fixture
def statsd(statsd_server: tuple[int, list[str]]) -> list[str]:
    """The metrics received so far."""
    return statsd_server[1]


@pytest.fixture
def start(airflow: LocalAirflow, request: pytest.FixtureRequest) -> Iterator[Callable[..., str]]:
    """
    Start a run of a DAG; gives its id.

    Of a test that fails, Airflow's logs are shown, and what it leaves of the run does not disturb the next test.
    """
    started: list[tuple[str, str]] = []

    def start(dag_id: str, actor: str | None = None) -> str:
        run = airflow.trigger(dag_id, {"actor": actor} if actor else None)
        started.append((dag_id, run))
        return run

    yield start
    if request.node.stash[FAILED]:
        print((airflow.home / "scheduler.log").read_text()[-5000:])
    for dag_id, run in started:
        if request.node.stash[FAILED]:
            for key, task in airflow.tasks(dag_id, run).items():
                print(f"--- {dag_id}, {key}, try {task['try_number']}: {task['state']}\n{airflow.log_end(task)}")
        if airflow.run_state(dag_id, run) not in ("success", "failed"):
            airflow.mark_run(dag_id, run, "failed")


def builds_are(apify: Emulator, *expected: str, timeout: float = 60) -> None:
    """Wait until there are exactly these builds, oldest first."""
    jobs_are(Builds(apify), *expected, timeout=timeout)


def finish(apify: Emulator, build_id: str | None = None) -> None:
    """Let this build succeed; by default the newest."""
    apify.finish_build(build_id or apify.builds[-1]["id"])


def finish_all(apify: Emulator) -> None:
    """Let every build succeed that has not ended."""
    for build in apify.builds:
        apify.finish_build(build["id"])


def long_polls(apify: Emulator, build_id: str = "") -> int:
    """How often a task has begun to wait for this build, or for any."""
    return sum("waitForFinish" in request.query and build_id in request.path for request in apify.requests)


def aborts(apify: Emulator) -> list[str]:
    """Ids of the builds whose abort was asked for, in that order."""
    return [request.path.split("/")[-2] for request in apify.requests if request.path.endswith("/abort")]


def seconds(moment: str) -> float:
    """Give a time of Apify's or Airflow's as seconds since the epoch."""
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()


def build_of(apify: Emulator, actor: str) -> dict[str, Any]:
    """The only build of the Actor with this name."""
    (build,) = builds_of(apify, actor)
    return build


def builds_of(apify: Emulator, actor: str) -> list[dict[str, Any]]:
    """The builds of the Actor with this name, oldest first."""
    actor_id = _actor_id(apify.url, actor)
    return [build for build in apify.builds if build["actId"] == actor_id]


@functools.cache
def _actor_id(url: str, name: str) -> str:
    headers = {"Authorization": f"Bearer {CANARY}"}
    answer = httpx.get(f"{url}/v2/acts/~{name}", headers=headers, trust_env=False).raise_for_status()
    return str(answer.json()["data"]["id"])


@contextlib.contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """Processes that get no time inside the ``with`` block, like those of a machine that hangs."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


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
