"""Airflow's command line and nothing but a database: the README's connection, and each example in one process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from airflow_provider_apify.emulator import Emulator
from rig.local_airflow import LocalAirflow
from rig.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(
    dag_id
    for path in ROOT.joinpath("example_dags").glob("*.py")
    for dag_id in re.findall(r'dag_id="(\w+)"', path.read_text())
)
#: Those that need more than Apify: a database, a release before. tests/system/test_release.py and make scale run them.
NEED_MORE = {"apify_into_postgresql", "apify_rollback"}
#: Builds that a run makes; the pipeline runs on what a rebuild has announced.
BUILDS = {"apify_many_actors": 2, "apify_pipeline_on_build": 0, "apify_run_and_load": 0, "apify_on_run_finished": 0}


@pytest.fixture(scope="module")
def local_apify() -> Iterator[Emulator]:
    with Emulator(build_seconds=0.5) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def command_line(tmp_path_factory: pytest.TempPathFactory) -> LocalAirflow:
    """Airflow with a database; none of its services is started."""
    home = tmp_path_factory.mktemp("airflow")
    local = LocalAirflow(home, ROOT / "example_dags")
    local.cli("db", "migrate")
    return local


@pytest.fixture(scope="module")
def connection(command_line: LocalAirflow, local_apify: Emulator) -> str:
    """What ``airflow connections test`` says of the connection that the README's line makes."""
    (line,) = re.findall(r"`(airflow connections add [^`]+)`", (ROOT / "README.md").read_text())
    subprocess.run(
        ["bash", "-euc", f"{line} --conn-host {local_apify.url}"],
        env=command_line.environment
        | {"APIFY_TOKEN": local_apify.token, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        check=True,
        capture_output=True,
    )
    # Airflow forbids it by default, on the command line, too.
    command_line.environment["AIRFLOW__CORE__TEST_CONNECTION"] = "Enabled"
    return command_line.cli("connections", "test", "apify_default").stdout


def test_the_connection_of_the_readme_works(connection: str, local_apify: Emulator) -> None:
    assert "Connection success!" in connection
    assert "/v2/users/me" in {request.path for request in local_apify.requests}
    assert local_apify.token not in connection


@pytest.mark.parametrize("dag_id", sorted(set(EXAMPLES) - NEED_MORE))
def test_airflow_dags_test(dag_id: str, command_line: LocalAirflow, connection: str, local_apify: Emulator) -> None:
    local_apify.reset()
    local_apify.build_seconds = 0.5
    done = command_line.cli("dags", "test", dag_id, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert [build["status"] for build in local_apify.builds] == ["SUCCEEDED"] * BUILDS.get(dag_id, 1)
    assert local_apify.token not in done.stdout + done.stderr


@contextmanager
def running(airflow: LocalAirflow, *command: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Run ``airflow COMMAND`` with the DAGs of the system tests, and give its process and what it says."""
    said = airflow.home / "said.txt"
    dags = str(ROOT / "tests/system/dags")
    env = airflow.environment | {"AIRFLOW__CORE__DAGS_FOLDER": dags, "PYTHONPATH": dags}
    with said.open("w") as output:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("airflow"), *command],
            env=env,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # A shell that starts the tests in the background has them ignore it, and so all that they start.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        yield process, said
    finally:
        process.kill()
        process.wait()


def interrupt(process: subprocess.Popen[str], apify: Emulator, said: Path) -> None:
    """Press Ctrl-C once the process waits for its build."""
    path = "/v2/actor-builds/"
    try:
        apify.wait_for(lambda emulator: any(path in request.path for request in emulator.requests), timeout=90)
    except TimeoutError:
        pytest.fail(said.read_text()[-3000:])
    time.sleep(1)
    process.send_signal(signal.SIGINT)


@pytest.mark.parametrize(
    "command",
    [("dags", "test", "no_retry_left"), ("dags", "test", "deferred"), ("tasks", "test", "in_worker", "build")],
    ids=" ".join,
)
def test_ctrl_c_aborts_the_build_where_no_try_follows(
    command: tuple[str, ...], command_line: LocalAirflow, connection: str, local_apify: Emulator
) -> None:
    """Also with retries, of which a command that ends makes none."""
    local_apify.reset()
    local_apify.build_seconds = 600
    with running(command_line, *command) as (process, said):
        interrupt(process, local_apify, said)
        process.wait(60)
    assert [build["status"] for build in local_apify.builds] == ["ABORTED"], said.read_text()[-3000:]
    assert "is being aborted, since" in said.read_text()


def test_ctrl_c_leaves_the_build_to_the_try_that_follows(
    command_line: LocalAirflow, connection: str, local_apify: Emulator
) -> None:
    local_apify.reset()
    local_apify.build_seconds = 600
    with running(command_line, "dags", "test", "in_worker") as (process, said):
        interrupt(process, local_apify, said)
        wait_until(lambda: "is left to the next try of this task" in said.read_text(), said.read_text)
        wait_until(lambda: "Continuing with build" in said.read_text(), said.read_text)
        local_apify.finish_build(local_apify.builds[0]["id"])
        assert process.wait(60) == 0
    assert [build["status"] for build in local_apify.builds] == ["SUCCEEDED"]
