"""Counters of jobs among Airflow's own metrics; docs/metrics.md has their names."""

from __future__ import annotations

import logging
from typing import Any

from airflow_provider_apify import compat
from airflow_provider_apify.api.job import Job, JobKind

log = logging.getLogger(__name__)


def count(kind: JobKind[Job], what: str, ti: Any, actor_id: str | None, **tags: str) -> None:
    """
    Count a job as ``apify.<kind>.<what>``. No trouble with metrics may cost a task its job, so nothing is raised.

    :param ti: the task instance that has to do with it, as a worker or a triggerer knows it.
    """
    try:
        # Where DAG files are parsed nobody counts.
        from airflow.providers.common.compat.sdk import Stats

        Stats.incr(f"apify.{kind.name}.{what}", tags={**compat.metric_tags(ti), "actor_id": actor_id or "", **tags})
    except Exception:
        log.warning("Airflow's metrics could not count a %s.", kind.name, exc_info=True)
