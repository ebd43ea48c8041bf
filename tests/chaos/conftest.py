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
from tests.kinds import KINDS, Kind

#: What is tested with runs in ``make test``, too. The rest of their rows is part of ``make chaos``.
SHORT = {
    "test_a_lost_worker",
    "test_a_task_ended_by_somebody",
    "test_a_deferred_task_ended_by_somebody",
    "test_a_sensor_ended_by_somebody_leaves_the_job",
    "test_an_evicted_worker_with_a_try_left",
    "test_a_clear_of_a_deferred_task_aborts_its_job",
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        params = getattr(getattr(item, "callspec", None), "params", {})
        of_runs = item.path.parent == here and params.get("kind") == "run"
        if of_runs and getattr(item, "originalname", None) not in SHORT:
            item.add_marker(pytest.mark.long)


@pytest.fixture(scope="session")
def forkserver() -> Any:
    return start_forkserver()


@pytest.fixture
def apify() -> Iterator[Emulator]:
    """An Apify whose jobs take until the test ends them, or a minute."""
    with Emulator(build_seconds=60, run_seconds=60) as emulator:
        yield emulator


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, apify: Emulator) -> Kind:
    """Each kind of job in turn."""
    return KINDS[request.param](apify)


@pytest.fixture
def airflow(apify: Emulator) -> Iterator[Airflow]:
    with Airflow({"host": apify.url, "password": apify.token}) as airflow:
        yield airflow
        assert not airflow.unknown


@pytest.fixture
def rig(
    forkserver: Any, airflow: Airflow, kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Rig]:
    connection = {"conn_type": "apify", **airflow.connection}
    monkeypatch.setenv("AIRFLOW_CONN_APIFY_DEFAULT", json.dumps(connection))  # for the triggers, which run here
    rig = Rig(forkserver, airflow, kind, tmp_path)
    yield rig
    rig.stop()
    written = [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(kind.apify.token in text for text in [*written, repr(airflow.instances)]), "the token is inside"
