"""Waiting for a build in a task, the same for operator and sensor: in the worker, or in the triggerer and back."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import fields
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, BaseOperator

from airflow_provider_apify import outcome
from airflow_provider_apify.exceptions import ApifyBuildTimeout, ApifyConfigurationError, ApifyException, to_event
from airflow_provider_apify.jobs.wait import PATIENCE, Limits

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_apify.api.model import Build
    from airflow_provider_apify.hooks.apify import ApifyHook

#: Seconds that the trigger's own deadline is ahead of Airflow's, so that it is the one to tell.
DEADLINE_MARGIN = 60


def limits_of(task: Any, *, begun: float, known: float) -> Limits:
    """
    Give the limits of a try.

    :param begun: when ``execute`` began, in epoch seconds: from then on ``execution_timeout`` counts.
    :param known: when the build became known: from then on ``timeout`` counts.
    """
    execution = task.execution_timeout
    return Limits(
        None if task.timeout is None else known + task.timeout,
        None if execution is None else begun + execution.total_seconds(),
    )


def wait_here(task: Any, hook: ApifyHook, build_id: str, limits: Limits, *, over: bool = False) -> Build:
    """
    Wait in the worker until the build ends.

    :param over: the time is over: only look.
    :raises ApifyBuildTimeout: ``timeout`` has passed.
    :raises AirflowTaskTimeout: ``execution_timeout`` has passed, which Airflow starts again after a deferral.
    """
    try:
        return hook.wait_for_build(
            build_id,
            timeout=0 if over else limits.left(time.time()),
            on_status=_say_nothing if over else partial(outcome.say_status, task),
            patience=PATIENCE,
        )
    except ApifyBuildTimeout as error:
        raise time_out(error, limits) from None


def _say_nothing(build: Build) -> None:
    """The time-out names the status."""


def time_out(error: ApifyBuildTimeout, limits: Limits) -> BaseException:
    """Give the exception for the limit that has passed: Airflow's own if it was ``execution_timeout``."""
    return AirflowTaskTimeout(f"execution_timeout: {error}") if limits.is_execution else error


def defer(task: Any, build_id: str, limits: Limits, *, abort_on_kill: bool) -> None:
    """
    Defer ``task`` until the build ends, or until the first of ``limits``. Does not return.

    :param abort_on_kill: see the trigger.
    """
    from airflow_provider_apify.triggers.build import EARLIEST_EVENT, ApifyBuildTrigger

    left = limits.left(time.time())
    task.defer(
        trigger=ApifyBuildTrigger(
            build_id=build_id,
            apify_conn_id=task.apify_conn_id,
            deadline=limits.deadline,
            execution_deadline=limits.execution_deadline,
            abort_on_kill=abort_on_kill,
            not_before=time.time() + EARLIEST_EVENT,
        ),
        method_name="execute_complete",
        timeout=None if left is None else timedelta(seconds=left + DEADLINE_MARGIN),
    )


def resume(task: Any, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
    """Come back from a deferral. What Airflow gives in place of an event becomes one."""
    try:
        # Not that of Airflow's sensor, which turns every error into its own words.
        return BaseOperator.resume_execution(task, next_method, next_kwargs, context)
    except Exception as error:
        if type(error).__name__ == "TaskDeferralTimeout":
            instead: ApifyException = ApifyBuildTimeout("No triggerer ran until the time was over.")
        elif type(error).__name__ == "TaskDeferralError":
            instead = ApifyException(f"The trigger that waited for the build failed: {error}.")
        else:
            raise
    return task.execute_complete(context, {"status": "error", **to_event(instead)})


def ending(task: Any, context: Context, hook: ApifyHook, build_id: str | None, event: Any) -> dict[str, Any]:
    """
    Give the summary of the build that a deferred task waited for: from the trigger's event, if that has it.

    Nobody is told that the time is over without a last look at the build. A trigger that crashed is not tried again:
    where its code cannot be loaded that would never end. So the rest of the time is waited here.

    :param build_id: ``None`` if it is not known.
    :raises ApifyException: the one that the trigger met.
    :raises ApifyBuildTimeout, AirflowTaskTimeout: see :func:`wait_here`.
    """
    try:
        return outcome.ended(event, build_id)
    except ApifyException as error:
        # What the triggerer's environment lacks, this one may have.
        tried_here = (ApifyException, ApifyBuildTimeout, ApifyConfigurationError)
        if type(error) not in tried_here or build_id is None:
            raise
        over = isinstance(error, ApifyBuildTimeout)
        if not over:
            task.log.warning("%s Waiting for build %s in the worker.", error, build_id)
    return wait_here(task, hook, build_id, limits_after(task, context, event), over=over).summary()


def limits_after(task: Any, context: Context, event: Any) -> Limits:
    """Give the limits of a try that has been deferred: from the event, else counted from the begin of the try."""
    names = [field.name for field in fields(Limits)]
    if isinstance(event, Mapping) and all(
        name in event and isinstance(event[name], (int, float, type(None))) for name in names
    ):
        return Limits(*(event[name] for name in names))
    begun = context["ti"].start_date.timestamp()
    return limits_of(task, begun=begun, known=begun)
