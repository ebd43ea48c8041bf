"""Two tasks, mapped over as many builds and runs as the storm has."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG

from airflow_provider_apify.operators.build import ApifyBuildOperator
from airflow_provider_apify.operators.run import ApifyRunActorOperator

SHARED: dict[str, Any] = {"wait_for_completion": True, "retries": 10, "retry_delay": timedelta(seconds=2)}

#: A few wait in the worker, where each holds a slot.
JOBS: list[dict[str, Any]] = [
    {"actor_id": f"~storm-{index % 2}", "deferrable": index % 20 != 0} for index in range(int(os.environ["STORM_JOBS"]))
]

with DAG("storm", schedule=None, start_date=datetime(2026, 1, 1)):
    # The tag says for whom a request starts a build, and max_items for whom it starts a run.
    ApifyBuildOperator.partial(task_id="build", **SHARED).expand_kwargs(
        [{**job, "tag": f"index-{index}"} for index, job in enumerate(JOBS)]
    )
    ApifyRunActorOperator.partial(task_id="run", **SHARED).expand_kwargs(
        [{**job, "max_items": index + 1} for index, job in enumerate(JOBS)]
    )
