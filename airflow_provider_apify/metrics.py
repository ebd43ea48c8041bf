"""Counters of builds among Airflow's own metrics; docs/metrics.md has their names."""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger(__name__)


def count(what: str, ti: Any, actor_id: str | None, **tags: str) -> None:
    """
    Count a build as ``apify.build.<what>``. No trouble with metrics may cost a task its build, so nothing is raised.

    :param ti: the task instance that has to do with it, as a worker or a triggerer knows it.
    """
    try:
        # Where DAG files are parsed nobody counts.
        from airflow.providers.common.compat.sdk import Stats

        # Airflow 3.3 names the team, too.
        of_task = getattr(ti, "stats_tags", None) or {"dag_id": ti.dag_id, "task_id": ti.task_id}
        Stats.incr(f"apify.build.{what}", tags={**of_task, "actor_id": actor_id or "", **tags})
    except Exception:
        log.warning("Airflow's metrics could not count a build.", exc_info=True)
