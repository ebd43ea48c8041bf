"""Handing the wait for a build over to the triggerer, the same for operator and sensor."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

#: Seconds that the trigger's own deadline is ahead of Airflow's, so that it is the one to tell.
DEADLINE_MARGIN = 60


def defer(task: Any, build_id: str, *, abort_on_kill: bool) -> None:
    """
    Defer ``task`` until the build ends, or until its ``timeout`` or ``execution_timeout``. Does not return.

    :param abort_on_kill: see the trigger.
    """
    from airflow_provider_apify.triggers.build import EARLIEST_EVENT, ApifyBuildTrigger

    limit = task.execution_timeout.total_seconds() if is_limited_by_execution(task) else task.timeout
    task.defer(
        trigger=ApifyBuildTrigger(
            build_id=build_id,
            apify_conn_id=task.apify_conn_id,
            deadline=None if limit is None else time.time() + limit,
            abort_on_kill=abort_on_kill,
            not_before=time.time() + EARLIEST_EVENT,
        ),
        method_name="execute_complete",
        timeout=None if limit is None else timedelta(seconds=limit + DEADLINE_MARGIN),
    )


def is_limited_by_execution(task: Any) -> bool:
    """Whether ``execution_timeout`` ends the wait before ``timeout`` does; Airflow ignores it while deferred."""
    return task.execution_timeout is not None and (
        task.timeout is None or task.execution_timeout.total_seconds() <= task.timeout
    )
