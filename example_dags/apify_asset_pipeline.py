"""
Run a pipeline whenever an Actor has a fresh, good build.

The rebuild emits an asset event only when its build has succeeded, with the build's summary in the event.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import DAG, Asset, task

from airflow_provider_apify.operators.build import ApifyBuildOperator

fresh_build = Asset(name="hello_world_build", uri="apify://actors/hello-world")

with DAG(
    dag_id="apify_rebuild_asset",
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
    schedule=fresh_build,
    start_date=datetime(2026, 1, 1),
    tags=["apify", "example"],
):

    @task
    def scrape(triggering_asset_events: Any = None) -> list[str]:
        events = [event for of_asset in triggering_asset_events.values() for event in of_asset]
        return [event.extra["build_number"] for event in events]

    scrape()
