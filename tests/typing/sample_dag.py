"""
A user's DAG, for the type checker only: what is right passes, and what is wrong is told.

Each ``type: ignore`` below is a mistake that the checker must find: one that it does not need is an error itself.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Context, task

from airflow_provider_apify.exceptions import ApifyBuildFailed, ApifyCapacityError
from airflow_provider_apify.hooks.apify import ApifyHook
from airflow_provider_apify.operators.build import ApifyBuildOperator
from airflow_provider_apify.sensors.build import ApifyBuildSensor


def alert(context: Context) -> None:
    error = context["exception"]
    if isinstance(error, ApifyBuildFailed):
        print(error.summary["status"], error.log_tail.upper())


with DAG("typed", schedule=None, start_date=datetime(2026, 1, 1)):

    @task
    def choose() -> str:
        return "~hello-world"

    start = ApifyBuildOperator(
        task_id="start",
        actor_id=choose(),
        version="0.1",
        use_cache="{{ params.use_cache }}",
        timeout=timedelta(hours=1),
        on_failure_callback=alert,
    )
    ApifyBuildSensor(task_id="wait", build_id=start.output, deferrable=True, timeout=3600)

    ApifyBuildOperator(task_id="no_actor")  # type: ignore[call-arg]
    ApifyBuildOperator(task_id="number", actor_id="~hello-world", version=0.1)  # type: ignore[arg-type]
    ApifyBuildOperator(task_id="text", actor_id="~hello-world", timeout=[60])  # type: ignore[arg-type]
    ApifyBuildSensor(task_id="nothing", build_id=None)  # type: ignore[arg-type]

    @task
    def by_hand() -> dict[str, Any]:
        hook = ApifyHook()
        try:
            build = hook.start_build("~hello-world", version="0.1", use_cache=True)
        except ApifyCapacityError:
            return {}
        build.id = "other"  # type: ignore[misc]
        build = hook.wait_for_build(build.id, timeout=600)
        size: int = build.build_number  # type: ignore[assignment]
        return build.summary() | {"size": size}

    by_hand()
