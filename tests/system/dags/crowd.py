"""Builds and runs for which there is not enough room at once: half of each, each of them takes 4 GB."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG

from airflow_provider_apify.operators.build import ApifyBuildOperator
from airflow_provider_apify.operators.run import ApifyRunActorOperator

OPTIONS: dict[str, Any] = {
    "wait_for_completion": True,
    "deferrable": True,
    "wait_for_capacity": timedelta(minutes=20),
    "retries": 3,  # on a busy machine, Airflow loses tries before a task has begun
    "retry_delay": timedelta(seconds=1),
}

for size in (12, 60):
    with DAG(f"crowd_{size}", schedule=None, start_date=datetime(2026, 1, 1), max_active_tasks=100):
        actors = ["~hello-world", "~scraper"] * (size // 4)
        ApifyBuildOperator.partial(task_id="build", version="0.0", **OPTIONS).expand(actor_id=actors)
        ApifyRunActorOperator.partial(task_id="run", memory_mbytes=4096, **OPTIONS).expand(actor_id=actors)
