"""Waiting for a job in a task: in the worker, or in the triggerer and back; the same for operators and sensors."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, BaseOperator

from airflow_provider_apify.api.job import TERMINAL
from airflow_provider_apify.compat import TaskDeferralError, TaskDeferralTimeout
from airflow_provider_apify.exceptions import ApifyConfigurationError, ApifyException, ApifyJobTimeout
from airflow_provider_apify.jobs.wait import PATIENCE, Limits
from airflow_provider_apify.lifecycle.events import from_event, to_event
from airflow_provider_apify.lifecycle.job_log import streamed_log

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_apify.api.job import Job, JobKind
    from airflow_provider_apify.client.client import Client

#: Seconds that the trigger's own deadline is ahead of Airflow's, so that it is the one to tell.
DEADLINE_MARGIN = 60
#: Seconds from the deferral to the first moment for an event. Airflow takes the resumed task for one whose process was
#: killed, and fails it, if the scheduler reads only then that the process that deferred it has ended (make scale).
EARLIEST_EVENT = 15.0


def limits_of(task: Any, *, begun: float, known: float) -> Limits:
    """
    Give the limits of a try.

    :param begun: when ``execute`` began, in epoch seconds: from then on ``execution_timeout`` counts.
    :param known: when the job became known: from then on ``timeout`` counts.
    """
    execution = task.execution_timeout
    return Limits(
        None if task.timeout is None else known + task.timeout,
        None if execution is None else begun + execution.total_seconds(),
    )


def wait_here(task: Any, client: Client, job_id: str, limits: Limits, *, over: bool = False) -> Job:
    """
    Wait in the worker until the job ends.

    :param over: the time is over: only look.
    :raises ApifyJobTimeout: ``timeout`` has passed.
    :raises AirflowTaskTimeout: ``execution_timeout`` has passed, which Airflow starts again after a deferral.
    """

    def log_status(job: Job) -> None:
        if not over:  # else the time-out names the status
            task.log.info("%s", job.status_line)

    kind: JobKind[Job] = task.job_kind
    timeout = 0 if over else limits.left(time.time())
    try:
        with streamed_log(task, client, job_id, off=over):
            return client.wait(kind, job_id, timeout=timeout, on_status=log_status, patience=PATIENCE)
    except ApifyJobTimeout as error:
        raise time_out(error, limits) from None


def time_out(error: ApifyJobTimeout, limits: Limits) -> BaseException:
    """Give the exception for the limit that has passed: Airflow's own if it was ``execution_timeout``."""
    return AirflowTaskTimeout(f"execution_timeout: {error}") if limits.is_execution else error


def defer(task: Any, trigger: Any, job_id: str, limits: Limits, *, abort_on_kill: bool) -> None:
    """
    Defer ``task`` until the job ends, or until the first of ``limits``. Does not return.

    :param trigger: class of the trigger, or what makes one.
    :param abort_on_kill: see the trigger.
    """
    left = limits.left(time.time())
    task.defer(
        trigger=trigger(
            **{f"{task.job_kind.name}_id": job_id},
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
    except TaskDeferralTimeout:
        instead: ApifyException = ApifyJobTimeout("No triggerer ran until the time was over.")
    except TaskDeferralError as error:
        instead = ApifyException(f"The trigger that waited for the {task.job_kind.name} failed: {error}.")
    return task.execute_complete(context, {"status": "error", **to_event(instead)})


def summary_after(task: Any, context: Context, client: Client, job_id: str | None, event: Any) -> dict[str, Any]:
    """
    Give the summary of the job that a deferred task waited for: from the trigger's event, if that has it.

    Nobody is told that the time is over without a last look at the job. A trigger that crashed is not tried again:
    where its code cannot be loaded that would never end. So the rest of the time is waited here.

    :param job_id: ``None`` if it is not known.
    :raises ApifyException: the one that the trigger met.
    :raises ApifyJobTimeout, AirflowTaskTimeout: see :func:`wait_here`.
    """
    try:
        return read_event(task.job_kind, event, job_id)
    except ApifyException as error:
        # What the triggerer's environment lacks, this one may have.
        tried_here = (ApifyException, ApifyJobTimeout, ApifyConfigurationError)
        if type(error) not in tried_here or job_id is None:
            raise
        over = isinstance(error, ApifyJobTimeout)
        if not over:
            task.log.warning("%s Waiting for %s %s in the worker.", error, task.job_kind.name, job_id)
    return wait_here(task, client, job_id, limits_after(task, context, event), over=over).summary()


def read_event(kind: JobKind[Job], event: Any, job_id: str | None) -> dict[str, Any]:
    """
    Read a trigger's event, and give the summary of the job that ended.

    :param job_id: the job that the event must be about, if known.
    :raises ApifyException: the one that the trigger met, such as ``ApifyJobTimeout`` at the deadline; or the event
        cannot be read.
    """
    status = event.get("status") if isinstance(event, Mapping) else None
    if status == "error":
        raise from_event(event)
    summary = event.get(kind.name) if status == "ended" else None
    if (
        not isinstance(summary, Mapping)
        or str(summary.get("status")) not in TERMINAL
        or not isinstance(summary.get(f"{kind.name}_id"), str)
        or job_id not in (None, summary[f"{kind.name}_id"])
    ):
        raise ApifyException(
            f"The trigger's event cannot be read: {str(event)[:200]!r}. Do worker and triggerer run the same release of"
            " airflow-provider-apify?"
        )
    return dict(summary)


def limits_after(task: Any, context: Context, event: Any) -> Limits:
    """Give the limits of a try that has been deferred: from the event, else counted from the begin of the try."""
    if isinstance(event, Mapping) and all(
        name in event and isinstance(event[name], (int, float, type(None))) for name in Limits._fields
    ):
        return Limits(*(event[name] for name in Limits._fields))
    begun = context["ti"].start_date.timestamp()
    return limits_of(task, begun=begun, known=begun)
