"""The protocol rig as fixtures: see :mod:`tests.chaos.rig`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_apify.emulator import Emulator
from tests.chaos.airflow_stub import Airflow
from tests.chaos.rig import Rig, start_forkserver


@pytest.fixture(scope="session")
def forkserver() -> Any:
    return start_forkserver()


@pytest.fixture
def apify() -> Iterator[Emulator]:
    """An Apify whose builds take until the test ends them, or a minute."""
    with Emulator(build_seconds=60) as emulator:
        yield emulator


@pytest.fixture
def airflow(apify: Emulator) -> Iterator[Airflow]:
    with Airflow({"host": apify.url, "password": apify.token}) as airflow:
        yield airflow
        assert not airflow.unknown


@pytest.fixture
def rig(
    forkserver: Any, airflow: Airflow, apify: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Rig]:
    connection = {"conn_type": "apify", **airflow.connection}
    monkeypatch.setenv("AIRFLOW_CONN_APIFY_DEFAULT", json.dumps(connection))  # for the triggers, which run here
    rig = Rig(forkserver, airflow, apify, tmp_path)
    yield rig
    rig.stop()
    written = [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(apify.token in text for text in [*written, repr(airflow.instances)]), "the token is inside"
