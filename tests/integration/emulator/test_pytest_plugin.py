"""The fixture that users opt into, in a pytest run of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = """
import json, os, urllib.request

pytest_plugins = ["airflow_provider_apify.emulator.pytest_plugin"]


def test_the_connection_leads_to_the_emulator(apify_emulator):
    connection = json.loads(os.environ["AIRFLOW_CONN_APIFY_DEFAULT"])
    assert connection["conn_type"] == "apify"
    url = connection["host"] + "/v2/users/me?token=" + connection["password"]
    assert json.load(urllib.request.urlopen(url))["data"]["username"] == "emulator"
    assert len(apify_emulator.requests) == 1


def test_every_test_has_its_own(apify_emulator):
    assert apify_emulator.requests == []


def test_nothing_is_left_without_it():
    assert "AIRFLOW_CONN_APIFY_DEFAULT" not in os.environ
"""


OTHER_CONNECTIONS = """
import json, os
import pytest


@pytest.fixture
def apify_conn_ids():
    return ["apify_builds", "apify_scrapers"]


def test_each_leads_to_the_emulator(apify_emulator):
    for name in ("AIRFLOW_CONN_APIFY_BUILDS", "AIRFLOW_CONN_APIFY_SCRAPERS"):
        assert json.loads(os.environ[name])["host"] == apify_emulator.url
    assert "AIRFLOW_CONN_APIFY_DEFAULT" not in os.environ
"""


def test_a_user_can_opt_in(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(TESTS.split("\n\n\n")[0])
    (tmp_path / "test_mine.py").write_text(TESTS)
    (tmp_path / "test_connections.py").write_text(OTHER_CONNECTIONS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "4 passed" in ended.stdout
