"""One task, mapped over as many builds as the storm has."""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from airflow.sdk import DAG

from airflow_provider_apify.operators.build import ApifyBuildOperator

with DAG("storm", schedule=None, start_date=datetime(2026, 1, 1)):
    ApifyBuildOperator.partial(
        task_id="build",
        wait_for_completion=True,
        retries=10,
        retry_delay=timedelta(seconds=2),
    ).expand_kwargs(
        [
            # The tag says for whom a request starts a build. A few wait in the worker, where each holds a slot.
            {"actor_id": f"~storm-{index % 2}", "tag": f"index-{index}", "deferrable": index % 20 != 0}
            for index in range(int(os.environ["STORM_BUILDS"]))
        ]
    )
