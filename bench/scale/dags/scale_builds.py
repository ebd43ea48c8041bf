"""As many builds at once as ``SCALE_TASKS`` says."""

import os

from airflow.sdk import DAG

from airflow_provider_apify.operators.build import ApifyBuildOperator

# Airflow's own limits for a DAG and a run are lifted here, the pool's and the executor's in the settings.
with DAG("scale_builds", schedule=None, max_active_tasks=10_000, default_args={"retries": 2}):
    ApifyBuildOperator.partial(
        task_id="build", actor_id="~hello-world", version="0.0", wait_for_completion=True, deferrable=True
    ).expand(tag=[f"t{number}" for number in range(int(os.environ["SCALE_TASKS"]))])
