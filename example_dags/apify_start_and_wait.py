"""
Start a build in one task and wait for it in another.

It lets other tasks run while the build does, and shows both steps in the grid. The
price: a retry of the sensor can only look at the same build again, which never
changes once it has failed, so the sensor is not retried. To rebuild, clear both
tasks; or start and wait in one task, as the nightly rebuild does.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_apify.operators.build import ApifyBuildOperator
from airflow_provider_apify.sensors.build import ApifyBuildSensor

#: Actors of the emulator, for the form. Put your own in their place.
ACTORS = {
    "~hello-world": "~hello-world: the build succeeds",
    "~always-fails": "~always-fails: the build fails, and so does the sensor",
    "~slow-build": "~slow-build: takes so long that you can watch",
}

with DAG(
    dag_id="apify_start_and_wait",
    dag_display_name="3 Start a build, wait for it in another task",
    description="Other tasks run while Apify builds.",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2026, 1, 1),
    params={
        "actor": Param(
            "~hello-world",
            title="Actor to build",
            type="string",
            enum=list(ACTORS),
            values_display=ACTORS,
        ),
        "own_actor": Param(
            None,
            title="Or an Actor of yours",
            type=["null", "string"],
            description="id, user/name, or ~name; built in place of the one above",
        ),
    },
    tags=["apify", "example"],
):
    start = ApifyBuildOperator(
        task_id="start",
        actor_id="{{ params.own_actor or params.actor }}",
        retries=2,
    )

    wait = ApifyBuildSensor(
        task_id="wait",
        build_id=start.output,
        deferrable=True,
        timeout=timedelta(hours=1),
    )

    @task
    def prepare() -> str:
        """Do other work while Apify builds."""
        return "ready before the build is"

    @task
    def use(build: dict[str, Any], prepared: str) -> str:
        """Run only if the build has succeeded."""
        return f"{prepared}: {build['actor_name']} has build {build['build_number']}"

    use(wait.output, prepare())  # type: ignore[arg-type]
