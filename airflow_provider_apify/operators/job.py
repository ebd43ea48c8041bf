"""What operators that start a job share, whatever its kind."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_apify import metrics
from airflow_provider_apify.exceptions import (
    ApifyCapacityError,
    ApifyConfigurationError,
    ApifyJobTimeout,
    ApifySupersededError,
)
from airflow_provider_apify.lifecycle import arguments, outcome
from airflow_provider_apify.lifecycle.deferral import defer, limits_after, limits_of, resume, summary_after, wait_here
from airflow_provider_apify.lifecycle.job_log import streamed_log
from airflow_provider_apify.lifecycle.lineage import TellsLineage
from airflow_provider_apify.links.console import ApifyConsoleLink

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

    from airflow_provider_apify.api.job import Job, JobKind
    from airflow_provider_apify.client.client import Client
    from airflow_provider_apify.exceptions import ApifyJobFailed
    from airflow_provider_apify.jobs.start import Started
    from airflow_provider_apify.jobs.wait import Limits
    from airflow_provider_apify.lifecycle.attempt import Attempt
    from airflow_provider_apify.lifecycle.hold import Hold
    from airflow_provider_apify.lifecycle.room import Waiting


class JobOperator(arguments.LiteralsStayText, TellsLineage, BaseOperator):
    """
    Starts one job for each attempt, waits for it if asked to, and aborts it when the task is ended early.

    A subclass says which kind (``job_kind``, ``failure``), and how one is started (``_attempt``); see
    :class:`~airflow_provider_apify.operators.build.ApifyBuildOperator` for the parameters.

    :param needs_the_end: further arguments that have no effect without ``wait_for_completion``: whether each is set.
    """

    job_kind: ClassVar[JobKind[Job]]
    #: What a job that did not succeed raises.
    failure: ClassVar[type[ApifyJobFailed]]
    #: Whether a job that is aborted is given time to save what it has.
    abort_gracefully: bool = False
    #: Whether the job's log was shown as it was written.
    log_streamed: bool = False

    template_fields: Sequence[str] = ("wait_for_finish", "timeout", "wait_for_capacity", "apify_conn_id")
    operator_extra_links = (ApifyConsoleLink(),)

    def __init__(
        self,
        *,
        wait_for_finish: int | str | XComArg | None,
        wait_for_completion: bool | str,
        deferrable: bool | str | None,
        timeout: timedelta | float | str | XComArg | None,
        wait_for_capacity: timedelta | float | str | XComArg | None,
        abort_on_kill: bool | str,
        stream_log: bool | str = False,
        apify_conn_id: str,
        needs_the_end: dict[str, bool] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.wait_for_finish = arguments.now_or_rendered(arguments.wait_for_finish, wait_for_finish)
        self.wait_for_completion = arguments.switch("wait_for_completion", wait_for_completion)
        self.deferrable = arguments.deferrable(deferrable)
        self.timeout = arguments.now_or_rendered(arguments.seconds, timeout)
        self.wait_for_capacity = arguments.now_or_rendered(
            partial(arguments.seconds, name="wait_for_capacity"), wait_for_capacity
        )
        self.abort_on_kill = arguments.switch("abort_on_kill", abort_on_kill)
        self.stream_log = arguments.switch("stream_log", stream_log)
        self.apify_conn_id = apify_conn_id
        #: The job's page in Apify Console, once known.
        self.console_url: str | None = None
        self._hold: Hold | None = None
        self._killed = False
        self._check_outlets()
        self._no_effect = ""
        if not self.wait_for_completion:
            classes = type(self).__mro__[: type(self).__mro__.index(JobOperator) + 1]
            self._no_effect = arguments.warn_of_no_effect(
                self.task_id,
                self.job_kind.name,
                constructors=sum("__init__" in vars(each) for each in classes),
                deferrable=self.deferrable and deferrable is not None and wait_for_capacity is None,
                timeout=self.timeout is not None,
                stream_log=self.stream_log and wait_for_finish is None,
                **(needs_the_end or {}),
            )

    def _attempt(self, context: Context, client: Client, begun: float) -> Attempt:
        """Give the attempt, from the rendered arguments; an :class:`ApifyConfigurationError` if they cannot be used."""
        raise NotImplementedError

    def _trigger(self) -> Any:
        """Give what makes the trigger that waits for such a job: its class, or more."""
        raise NotImplementedError

    def needed_mbytes(self) -> float | None:
        """Give the memory that the job takes, in MB, from the rendered arguments; ``None``: Apify decides."""
        raise NotImplementedError

    def _complete(self, client: Client, summary: dict[str, Any], limits: Limits) -> None:
        """Add to the summary of a job that has ended what its own answer does not say."""

    def check_result(self, client: Client, summary: dict[str, Any]) -> None:
        """Raise what a job that has succeeded lacks all the same."""

    def _read_rendered(self) -> None:
        """Read what templates gave: from here on, what is a number of seconds is one, or ``None``."""
        self.timeout = arguments.seconds(self.timeout)
        self.wait_for_capacity = arguments.seconds(self.wait_for_capacity, name="wait_for_capacity")
        self.wait_for_finish = arguments.wait_for_finish(self.wait_for_finish)

    def execute(self, context: Context) -> str:
        from airflow_provider_apify.lifecycle.room import Waiting

        return self._start_and_wait(context, Waiting(begun=time.time()))

    def resume_start(
        self, context: Context, event: dict[str, Any] | None = None, waiting: dict[str, Any] | None = None
    ) -> str:
        """Continue after the triggerer has waited for room: look, start, or wait again."""
        from airflow_provider_apify.lifecycle.room import Waiting

        self.wait_for_capacity = arguments.seconds(self.wait_for_capacity, name="wait_for_capacity")
        failed = event.get("message") if isinstance(event, dict) and event.get("status") == "error" else None
        if failed:
            self.log.warning("%s Continuing in the worker.", failed)
        # A trigger that failed is not tried again: where its code cannot be loaded that would never end.
        return self._start_and_wait(context, Waiting.stored(self, context, waiting), here=bool(failed))

    def _start_and_wait(self, context: Context, waiting: Waiting, *, here: bool = False) -> str:
        """
        Start the job, or find it, and wait for it if asked to.

        :param waiting: how this try has waited for room before.
        :param here: wait for room in the worker from now on.
        """
        begun = waiting.begun
        self.console_url = ""  # so that Airflow does not look for it where none can be
        self._check_outlets()
        self._read_rendered()
        client = self._client()
        attempt = self._attempt(context, client, begun)
        if self._no_effect:
            self.log.warning("%s", self._no_effect)
        # Ending the job must need no word with Airflow, and a connection that cannot be used be known before a start.
        client.connect()
        hold = self._hold = self._new_hold(context, client)
        # A SIGTERM before this point found nothing to end yet.
        if self._killed and hold.is_over():
            raise ApifySupersededError(f"The task is being ended: no {self.job_kind.name} is started.")
        with hold.during():
            started = self._started(client, attempt, hold, waiting, here)
            job = started.job
            if started.adopted and (job.act_id is None or (job.is_terminal and job.stats is None)):
                # It comes from a list, whose items do not say so.
                job = client.get(self.job_kind, job.id)
            limits = limits_of(self, begun=begun, known=time.time())
            what = "reused" if started.reused else "adopted" if started.adopted else "started"
            metrics.count(self.job_kind, what, context["ti"], job.act_id)
            outcome.announce(self, context, job.summary())
            self.log.info(
                "%s %s %s of %s%s: %s",
                {"reused": "Reusing", "adopted": "Continuing with", "started": "Started"}[what],
                self.job_kind.name,
                job,
                attempt.subject,
                {"reused": ", none is started", "adopted": ", which this task had started before"}.get(what, ""),
                job.console_url,
            )
            if not job.is_terminal:
                self._log_status(job)
            job = self._wait(client, job, limits)
            if job.is_terminal:
                return self._finish(context, client, job.summary(), limits)
            if not self.wait_for_completion:
                hold.release()
            return job.id

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """Continue after the triggerer has waited."""
        client = self._client()
        self._hold = self._new_hold(context, client)
        job_id = event.get(f"{self.job_kind.name}_id") if isinstance(event, dict) else None
        if job_id is None:
            from airflow_provider_apify.lifecycle.attempt import job_before

            job_id = job_before(self, context)
        if job_id is None and self.wait_for_capacity is not None:
            # No triggerer ran, or the trigger crashed, and there was no job yet: it waited for room.
            return self.resume_start(context, event)
        self._hold.take(job_id)
        with self._hold.during():
            self._read_rendered()
            summary = summary_after(self, context, client, job_id, event)
            return self._finish(context, client, summary, limits_after(self, context, event))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Airflow's way back from a deferral, also when no triggerer ran or the trigger crashed."""
        return resume(self, next_method, next_kwargs, context)

    def on_kill(self) -> None:
        self._killed = True
        if self._hold is not None:
            self._hold.on_kill()

    def _started(self, client: Client, attempt: Attempt, hold: Hold, waiting: Waiting, here: bool) -> Started:
        """Start the job, or find it; where Apify has no room for it, wait for that if asked to."""
        while True:
            looked = time.time()
            try:
                return attempt.start(hold, waiting.refused)
            except ApifyCapacityError as error:
                if self.wait_for_capacity is None:
                    raise
                from airflow_provider_apify.lifecycle.room import wait_for_room
                from airflow_provider_apify.triggers.capacity import ApifyCapacityTrigger

                waiting = waiting.again(self, client, error, looked=looked)
                trigger = ApifyCapacityTrigger if self.deferrable and not here else None
                wait_for_room(self, client, attempt, waiting, error, trigger=trigger)

    def _wait(self, client: Client, job: Job, limits: Limits) -> Job:
        if job.is_terminal:
            return job
        left = limits.left(time.time()) if self.wait_for_completion else None
        if self.wait_for_finish and (self.deferrable or not self.wait_for_completion):
            seconds = self.wait_for_finish if left is None else min(left, self.wait_for_finish)
            try:
                with streamed_log(self, client, job.id):
                    return client.wait(self.job_kind, job.id, timeout=seconds, on_status=self._log_status)
            except ApifyJobTimeout:
                self.log.info("%s %s has not ended after %d s.", self.job_kind.title, job.name, seconds)
                left = limits.left(time.time())
        if self.wait_for_completion and self.deferrable and left != 0:
            defer(self, self._trigger(), job.id, limits, abort_on_kill=self.abort_on_kill)
        if self.wait_for_completion:
            return wait_here(self, client, job.id, limits)
        return job

    def _finish(self, context: Context, client: Client, summary: dict[str, Any], limits: Limits) -> str:
        self._hold.release()  # type: ignore[union-attr]
        # Again, for a job that could not be seen before it ended.
        outcome.announce(self, context, summary)
        self._complete(client, summary, limits)
        outcome.finish(self, context, client, summary)
        return str(summary[f"{self.job_kind.name}_id"])

    def _log_status(self, job: Job) -> None:
        self.log.info("%s", job.status_line)

    def _check_outlets(self) -> None:
        if self.outlets and not self.wait_for_completion:
            raise ApifyConfigurationError(
                f"outlets need wait_for_completion=True, or the asset event would announce a {self.job_kind.name} that"
                " has just begun."
            )

    def _new_hold(self, context: Context, client: Client) -> Hold:
        from airflow_provider_apify.lifecycle.hold import Hold

        return Hold(
            client,
            self.job_kind,
            context["ti"],
            self.log,
            abort=self.abort_on_kill,
            gracefully=self.abort_gracefully,
        )

    def _client(self) -> Client:
        from airflow_provider_apify.client.client import Client

        return Client.of(self)
