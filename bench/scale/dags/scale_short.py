"""Bursts of short builds: a DAG for each size in ``SCALE_BURSTS``, with builds of 1 to ``SCALE_LONGEST`` seconds."""

import os

from airflow.sdk import DAG

from airflow_provider_apify.operators.build import ApifyBuildOperator

for size in map(int, os.environ.get("SCALE_BURSTS", "").split()):
    with DAG(f"scale_short_{size}", schedule=None, max_active_tasks=10_000):
        ApifyBuildOperator.partial(
            task_id="build", version="0.0", retries=0, wait_for_completion=True, deferrable=True
        ).expand(actor_id=[f"~takes-{number % int(os.environ['SCALE_LONGEST']) + 1}" for number in range(size)])
