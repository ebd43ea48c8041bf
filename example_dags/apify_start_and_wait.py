"""
Start a build in one task and wait for it in another.

It lets other tasks run while the build does, and shows both steps in the grid. The price: a retry of the sensor can
only look at the same build again, which never changes once it has failed, so it is not retried. To rebuild, clear
both tasks; or start and wait in one task, as the nightly rebuild does.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_apify.operators.build import ApifyBuildOperator
from airflow_provider_apify.sensors.build import ApifyBuildSensor

with DAG(
    dag_id="apify_start_and_wait",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    params={"actor": Param("~hello-world", type="string", description="id, user/name, or ~name for an own Actor")},
    tags=["apify", "example"],
):
    start = ApifyBuildOperator(task_id="start", actor_id="{{ params.actor }}", retries=2)

    wait = ApifyBuildSensor(
        task_id="wait",
        build_id=start.output,
        deferrable=True,
        timeout=timedelta(hours=1),
    )

    @task
    def prepare() -> str:
        return "ready before the build is"

    @task
    def use(build: dict[str, Any], prepared: str) -> str:
        return f"{prepared}: Actor {build['actor_id']} has the build {build['build_number']}"

    use(wait.output, prepare())  # type: ignore[arg-type]
