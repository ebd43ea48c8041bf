"""The one task that a worker of the protocol rig runs; the test says which in the environment of that worker."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG

from airflow_provider_apify.lifecycle import attempt
from airflow_provider_apify.operators.build import ApifyBuildOperator
from airflow_provider_apify.operators.run import ApifyRunActorOperator
from airflow_provider_apify.sensors.build import ApifyBuildSensor
from airflow_provider_apify.sensors.run import ApifyRunSensor

options: dict[str, Any] = json.loads(os.environ["PROTOCOL_TASK"])
for name in ("execution_timeout", "retry_delay"):
    if name in options:
        options[name] = timedelta(seconds=options[name])
attempt.STALE_AFTER = options.pop("stale_after", 10)
mapped = options.pop("mapped", False)
operator: Any
sensor: Any
operator, sensor = {
    "build": (ApifyBuildOperator, ApifyBuildSensor),
    "run": (ApifyRunActorOperator, ApifyRunSensor),
}[options.pop("kind")]

with DAG(options.pop("dag_id"), schedule=None, start_date=datetime(2026, 1, 1)):
    if "build_id" in options or "run_id" in options:
        sensor(**options)
    elif mapped:
        actor_id = options.pop("actor_id")
        operator.partial(**options).expand(actor_id=[actor_id, actor_id])
    else:
        operator(**options)
