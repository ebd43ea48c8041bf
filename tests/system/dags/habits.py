"""The provider inside what Airflow offers to any operator."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Param, TaskGroup, task, task_group

from airflow_provider_apify.operators.build import ApifyBuildOperator
from airflow_provider_apify.sensors.build import ApifyBuildSensor

with DAG(
    "habits",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    default_args={
        "wait_for_completion": True,
        "deferrable": True,
        "tag": "{{ params.tag }}",
        "apify_conn_id": "apify_other",
        "retries": 1,
        "retry_delay": timedelta(seconds=1),
    },
    params={
        "actor": Param("~hello-world", type="string", minLength=1),
        "tag": Param("from-default", type="string", pattern="^[a-z-]+$"),
        "use_cache": Param(False, type="boolean"),
    },
):
    with TaskGroup("group"):
        ApifyBuildOperator(task_id="params", actor_id="{{ params.actor }}", use_cache="{{ params.use_cache }}")
        ApifyBuildOperator.partial(task_id="expand", version="0.0").expand(actor_id=["~hello-world", "~two-versions"])
        ApifyBuildOperator.partial(task_id="expand_kwargs").expand_kwargs(
            [{"actor_id": "~two-versions", "version": "1.0"}, {"actor_id": "~hello-world", "tag": "own"}]
        )

    @task_group
    def start_and_wait(actor: str) -> None:
        start = ApifyBuildOperator(
            task_id="start", actor_id=actor, version="0.0", wait_for_completion=False, apify_conn_id="apify_default"
        )
        ApifyBuildSensor(task_id="wait", build_id=start.output, apify_conn_id="apify_default")

    start_and_wait.expand(actor=["~hello-world", "~two-versions"])

with DAG("setup_and_teardown", schedule=None, start_date=datetime(2026, 1, 1)):
    candidate = ApifyBuildOperator(
        task_id="candidate", actor_id="~two-versions", version="1.0", wait_for_completion=True
    ).as_setup()  # type: ignore[no-untyped-call]
    stable = ApifyBuildOperator(
        task_id="stable", actor_id="~two-versions", version="0.0", wait_for_completion=True, deferrable=True
    ).as_teardown(setups=candidate)

    @task
    def try_out(summary: dict[str, Any]) -> None:
        raise RuntimeError(f"{summary['build_number']} is not good enough")

    try_out(candidate.output["summary"]) >> stable
