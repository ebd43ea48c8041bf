"""
What a worker process of the rig does. The forkserver imports this module, and with it all that a worker needs.

It imports nothing of the tests: a worker has neither pytest nor the emulator.
"""

from __future__ import annotations

import os
import sys
import uuid
from typing import Any

import airflow.dag_processing.dagbag
import airflow.sdk.execution_time.task_runner  # noqa: F401
from airflow.sdk.api.client import Client
from airflow.sdk.api.datamodels._generated import BundleInfo, TaskInstance
from airflow.sdk.execution_time import supervisor

import airflow_provider_apify.operators.build
import airflow_provider_apify.operators.run
import airflow_provider_apify.sensors.build
import airflow_provider_apify.sensors.run
import airflow_provider_apify.triggers.build
import airflow_provider_apify.triggers.run  # noqa: F401

#: Seconds between heartbeats, by which a worker learns that its task was marked. The setting takes whole ones only.
HEARTBEAT = 0.25

_serve = supervisor.WatchedSubprocess._service_subprocess


def _serve_briefly(self: Any, max_wait_time: float, **options: Any) -> Any:
    """Airflow 3.3.2 often notices only after the full 5 s that a runner which it sent SIGTERM has ended."""
    return _serve(self, min(max_wait_time, HEARTBEAT), **options)


supervisor.MIN_HEARTBEAT_INTERVAL = HEARTBEAT  # type: ignore[assignment]
supervisor.WatchedSubprocess._service_subprocess = _serve_briefly  # type: ignore[method-assign, assignment]
Client._get_ssl_context_cached(None, None)  # 0.1 s, once instead of in each worker


def supervise(instance: dict[str, Any], options: str, server: str, log: str) -> None:
    """Run one stretch of a try, in a session of its own, by which the rig finds all its processes."""
    os.setsid()
    out = os.open(log + ".out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ["PROTOCOL_TASK"] = options
    code = supervisor.supervise_task(
        ti=TaskInstance(**instance, dag_version_id=uuid.uuid4()),
        bundle_info=BundleInfo(name="dags-folder"),  # type: ignore[arg-type]
        dag_rel_path="protocol_dags.py",
        token="execution-api-token",
        server=server,
        log_path=log,
    )
    sys.exit(code)
