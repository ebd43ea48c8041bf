"""What all tests share: Airflow in its own home, no database, no leftovers of the caller's environment."""

from __future__ import annotations

import os
import tempfile

import hypothesis
import pytest

for name in [name for name in os.environ if name.startswith("AIRFLOW_") or name.lower().endswith("_proxy")]:
    del os.environ[name]
os.environ.update(
    AIRFLOW_HOME=tempfile.mkdtemp(prefix="airflow-"),
    AIRFLOW__CORE__UNIT_TEST_MODE="False",
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__LOGGING__COLORED_CONSOLE_LOG="False",
    AIRFLOW__LOGGING__LOG_FORMAT="[%(asctime)s] %(levelname)s %(message)s [%(name)s]",  # one for every Airflow
    NO_PROXY="127.0.0.1,localhost",
)

# How long an example takes says nothing on a busy machine.
hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")

pytest.register_assert_rewrite("tests.rows")

from tests.rows import pytest_addoption, pytest_runtest_call, pytest_terminal_summary, seed  # noqa: E402, F401


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that take a minute: at the end, one worker would have them all to itself."""
    items.sort(key=lambda item: "long" not in item.keywords)
