"""
Rebuild many Actors at once, one mapped task each.

Every unfinished build takes 4 GB of the account's memory. A pool with a slot for each 4 GB that also counts deferred
tasks keeps the builds below the limit; create it once, with the size that fits your plan, and set ``pool`` below:

    airflow pools set apify_builds 16 "Apify builds at once" --include-deferred
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_apify.operators.build import ApifyBuildOperator

with DAG(
    dag_id="apify_many_actors",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    params={"actors": Param(["~hello-world", "~two-versions"], type="array", items={"type": "string"})},
    tags=["apify", "example"],
):

    @task
    def choose(params: dict[str, Any] | None = None) -> list[str]:
        return list((params or {})["actors"])

    rebuild = ApifyBuildOperator.partial(
        task_id="rebuild",
        tag="latest",
        wait_for_completion=True,
        deferrable=True,
        retries=2,
        retry_delay=timedelta(minutes=1),
        # pool="apify_builds",
        map_index_template="{{ task.actor_id }}",
    ).expand(actor_id=choose())

    @task
    def report(summaries: list[dict[str, Any]]) -> dict[str, float]:
        return {
            f"{summary['actor_id']} {summary['build_number']}": (summary["stats"] or {}).get("computeUnits", 0.0)
            for summary in summaries
        }

    report(rebuild.output["summary"])  # type: ignore[index]
