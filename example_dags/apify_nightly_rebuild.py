"""
Rebuild an Actor every night, and use the build's stats in the next task.

One task starts the build and waits for it, deferred: no worker is held meanwhile. If the build fails, a retry of the
task starts a fresh one; if a worker dies, the retry goes on with the build that is there.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_apify.operators.build import ApifyBuildOperator

with DAG(
    dag_id="apify_nightly_rebuild",
    # Without a start date the first run is the next at 03:00, not at once for the night past.
    schedule="0 3 * * *",
    catchup=False,
    params={"actor": Param("~hello-world", type="string", description="id, user/name, or ~name for an own Actor")},
    tags=["apify", "example"],
):
    rebuild = ApifyBuildOperator(
        task_id="rebuild",
        actor_id="{{ params.actor }}",
        use_cache=False,
        wait_for_completion=True,
        deferrable=True,
        timeout=timedelta(hours=1),
        retries=2,
        retry_delay=timedelta(minutes=1),
    )

    @task
    def report(summary: dict[str, Any]) -> str:
        stats = summary["stats"] or {}
        return (
            f"Build {summary['build_number']} {summary['status']} in {summary['duration_seconds']} s,"
            f" computeUnits: {stats.get('computeUnits')}, image: {stats.get('imageSizeBytes')} bytes"
        )

    report(rebuild.output["summary"])  # type: ignore[index]
