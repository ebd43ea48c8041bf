"""A pytest fixture; opt in with ``pytest_plugins = ["airflow_provider_apify.emulator.pytest_plugin"]``."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from airflow_provider_apify.emulator.server import Emulator


@pytest.fixture
def apify_emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """A started emulator with builds of 0.2 s, which the Airflow connection ``apify_default`` points to."""
    with Emulator(build_seconds=0.2) as emulator:
        connection = {"conn_type": "apify", "host": emulator.url, "password": emulator.token}
        monkeypatch.setenv("AIRFLOW_CONN_APIFY_DEFAULT", json.dumps(connection))
        yield emulator
