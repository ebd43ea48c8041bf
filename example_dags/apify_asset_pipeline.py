"""
Run a pipeline whenever an Actor has a fresh, good build.

`apify_rebuild_asset` emits an asset event, but only when its build has succeeded. The
event starts `apify_pipeline_on_build`, which finds the build's summary in it. To try
it: trigger the first DAG, and watch the second one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import DAG, Asset, task

from airflow_provider_apify.operators.build import ApifyBuildOperator

fresh_build = Asset(name="hello_world_build", uri="apify://actors/hello-world")

with DAG(
    dag_id="apify_rebuild_asset",
    dag_display_name="4 Rebuild an Actor, and announce its good build",
    description="A build that succeeds emits an asset event: it starts DAG 5.",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2026, 1, 1),
    tags=["apify", "example"],
):
    ApifyBuildOperator(
        task_id="rebuild",
        actor_id="~hello-world",
        wait_for_completion=True,
        deferrable=True,
        retries=2,
        outlets=[fresh_build],
    )

with DAG(
    dag_id="apify_pipeline_on_build",
    dag_display_name="5 Run on each good build",
    description="Started by the asset event of DAG 4: trigger that one.",
    doc_md=__doc__,
    schedule=fresh_build,
    start_date=datetime(2026, 1, 1),
    tags=["apify", "example"],
):

    @task
    def scrape(triggering_asset_events: Any = None) -> list[str]:
        """Work with the builds that the events announce."""
        events = [event for of in triggering_asset_events.values() for event in of]
        return [event.extra["build_number"] for event in events]

    scrape()
