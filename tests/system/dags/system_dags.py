"""DAGs that the system tests run: one per way of starting and waiting, the Actor given by the run's conf."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Asset, AssetAlias, Param, task
from stalling import StallingOperator  # type: ignore[import-not-found]

from airflow_provider_apify.operators.build import ApifyBuildOperator
from airflow_provider_apify.operators.run import ApifyRunActorOperator
from airflow_provider_apify.operators.tag import ApifyTagBuildOperator
from airflow_provider_apify.sensors.build import ApifyBuildSensor

DEFAULTS: dict[str, Any] = {"retries": 1, "retry_delay": timedelta(seconds=1)}


def dag(dag_id: str, **kwargs: Any) -> DAG:
    return DAG(
        dag_id,
        **kwargs,
        schedule=None,
        start_date=datetime(2026, 1, 1),
        default_args=DEFAULTS,
        params={"actor": Param("~hello-world", type="string")},
    )


def build(**kwargs: Any) -> ApifyBuildOperator:
    return ApifyBuildOperator(task_id="build", actor_id="{{ params.actor }}", **kwargs)


def both_ways(**kwargs: Any) -> None:
    """Wait for one build in the worker and for another in the triggerer."""
    for task_id in ("in_worker", "deferred"):
        ApifyBuildOperator(
            task_id=task_id,
            actor_id="~endless",
            wait_for_completion=True,
            deferrable=task_id == "deferred",
            **kwargs,
        )


with dag("in_worker"):
    build(wait_for_completion=True)

with dag("deferred"):
    build(wait_for_completion=True, deferrable=True)

with dag("in_worker_not_aborted"):
    build(wait_for_completion=True, abort_on_kill=False)

with dag("deferred_not_aborted"):
    build(wait_for_completion=True, deferrable=True, abort_on_kill=False)

with dag("no_retry_left"):
    build(wait_for_completion=True, retries=0)

with dag("deferred_with_timeout"):
    # Airflow fails a task that is queued again before its scheduler has read that the worker is done with the deferral.
    build(wait_for_completion=True, deferrable=True, timeout=8, retries=0)

with dag("deferred_with_assets"):
    build(
        wait_for_completion=True,
        deferrable=True,
        outlets=[Asset(name="built", uri="apify://actors/built"), AssetAlias("any_build")],
    )

with dag("mapped"):
    # Three wait in the worker, three in the triggerer.
    ApifyBuildOperator.partial(task_id="build", actor_id="~endless", wait_for_completion=True).expand(
        deferrable=[False] * 3 + [True] * 3
    )

with dag("all_ways"):
    both_ways()
    ApifyBuildOperator(task_id="starting", actor_id="~slow-to-answer", wait_for_completion=True)

with dag("short_run", dagrun_timeout=timedelta(seconds=25)):
    both_ways()

with dag("short_tasks"):
    both_ways(execution_timeout=timedelta(seconds=6), retries=0)

with dag("in_three_workers"):
    for task_id, actor_id in {"frozen": "~endless", "starting": "~slow-to-answer", "orphaned": "~endless"}.items():
        ApifyBuildOperator(task_id=task_id, actor_id=actor_id, wait_for_completion=True)

with dag("watched"):
    ApifyBuildOperator.partial(task_id="build", wait_for_completion=True, deferrable=True).expand(
        actor_id=["~endless"] * 3
    )
    ApifyBuildOperator(
        task_id="late", actor_id="~late", wait_for_completion=True, deferrable=True, timeout=20, retries=0
    )

for dag_id in ("run_in_worker", "run_deferred"):
    with dag(dag_id):
        ApifyRunActorOperator(
            task_id="run",
            actor_id="{{ params.actor }}",
            wait_for_completion=True,
            deferrable=dag_id == "run_deferred",
        )

with dag("stalling"):
    StallingOperator(task_id="stall", name="{{ run_id }}")

SENSORS: dict[str, dict[str, Any]] = {
    "sensor_poke": {"mode": "poke"},
    "sensor_reschedule": {"mode": "reschedule", "poke_interval": 4},
    "sensor_deferred": {"deferrable": True},
}
for dag_id, options in SENSORS.items():
    with dag(dag_id):
        start = ApifyBuildOperator(task_id="start", actor_id="{{ params.actor }}")
        wait = ApifyBuildSensor(task_id="wait", build_id=start.output, **options)

        @task
        def use(summary: dict[str, Any]) -> str:
            return f"{summary['build_number']} {summary['status']} {summary['stats']['computeUnits']}"

        use(wait.output)  # type: ignore[arg-type]

with dag("two_releases"):
    releases = ApifyTagBuildOperator.partial(task_id="promote", actor_id="{{ params.actor }}", tag="latest")
    releases.expand(build_number=["0.0.2", "0.0.3"])
