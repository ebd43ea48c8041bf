"""A pytest fixture; opt in with ``pytest_plugins = ["airflow_provider_apify.emulator.pytest_plugin"]``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import pytest

from airflow_provider_apify.emulator.server import Emulator


@pytest.fixture
def apify_conn_ids() -> Iterable[str]:
    """The Airflow connections that lead to ``apify_emulator``. Define a fixture of this name to have others."""
    return ["apify_default"]


@pytest.fixture
def apify_emulator(apify_conn_ids: Iterable[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """A started emulator with builds and runs of 0.2 s, to which the Airflow connections ``apify_conn_ids`` lead."""
    with Emulator(build_seconds=0.2, run_seconds=0.2) as emulator:
        connection = {"conn_type": "apify", "host": emulator.url, "password": emulator.token}
        for conn_id in apify_conn_ids:
            monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))
        yield emulator
