"""Counting builds may cost nobody a build."""

from __future__ import annotations

import logging

import airflow.providers.common.compat.sdk  # noqa: F401 - sets up logging, once
import pytest

from airflow_provider_apify import metrics
from airflow_provider_apify.api.builds import BUILD


def test_trouble_with_metrics_is_logged_and_goes_no_further(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, metrics.__name__):
        metrics.count(BUILD, "started", object(), "actor")
    assert "metrics could not count" in caplog.text
    assert "has no attribute 'dag_id'" in caplog.text
