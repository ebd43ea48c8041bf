"""An Airflow with a database, in this process and for commands, and a local Apify that its connection leads to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_apify.emulator import Emulator
from airflow_provider_apify.emulator.pytest_plugin import apify_conn_ids, apify_emulator  # noqa: F401
from tests.docs.samples import Sample

# No sample is to wait minutes for its retry. Read when Airflow is imported, which the fixtures do.
os.environ["AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY"] = "0"


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    home = Path(os.environ["AIRFLOW_HOME"])
    home.joinpath("dags").mkdir()
    subprocess.run([Path(sys.executable).with_name("airflow"), "db", "migrate"], check=True, capture_output=True)
    return home


@pytest.fixture
def load(airflow_home: Path) -> Iterator[Callable[[Sample], dict[str, Any]]]:
    """Put a sample into the DAGs folder, and give its DAGs by id."""
    from airflow.dag_processing.dagbag import DagBag

    files: list[Path] = []

    def load(sample: Sample) -> dict[str, Any]:
        file = airflow_home / "dags" / f"sample_{len(files)}_{sample.line}.py"
        file.write_text(sample.text)
        files.append(file)
        bag = DagBag(file)
        assert not bag.import_errors
        return dict(bag.dags)

    yield load
    for file in files:
        file.unlink()


@pytest.fixture
def shell(
    airflow_home: Path,
    tmp_path: Path,
    apify_emulator: Emulator,  # noqa: F811
) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Run commands as a user with an Airflow in ``~/airflow``."""
    tmp_path.joinpath("airflow").mkdir()
    shutil.copy(airflow_home / "airflow.db", tmp_path / "airflow")
    environment = users_environment(tmp_path) | {
        "AIRFLOW_CONN_APIFY_DEFAULT": os.environ["AIRFLOW_CONN_APIFY_DEFAULT"],
        "APIFY_TOKEN": apify_emulator.token,
    }

    def run(commands: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    return run


def users_environment(home: Path) -> dict[str, str]:
    """The environment of somebody who has activated the environment that these tests run in, and nothing more."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTEST"))}
    return kept | {"HOME": str(home), "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
