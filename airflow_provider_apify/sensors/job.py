"""What sensors that wait for a job share, whatever its kind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
)

from airflow_provider_apify.api.endpoints import check_job_id
from airflow_provider_apify.client.failures import configuration, timed_out
from airflow_provider_apify.exceptions import ApifyJobSensorTimeout, ApifyJobTimeout
from airflow_provider_apify.jobs.wait import Limits
from airflow_provider_apify.lifecycle import arguments, deferral, outcome
from airflow_provider_apify.lifecycle.lineage import TellsLineage
from airflow_provider_apify.links.console import ApifyConsoleLink

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_apify.api.job import Job, JobKind
    from airflow_provider_apify.client.client import Client
    from airflow_provider_apify.exceptions import ApifyJobFailed

#: What ends a sensor of Airflow's whatever its ``silent_fail``, and what ``soft_fail`` turns into a skip.
_FINAL = (AirflowFailException, AirflowSensorTimeout, AirflowTaskTimeout, ApifyJobTimeout)


class JobSensor(arguments.LiteralsStayText, TellsLineage, BaseSensorOperator):
    """
    Waits until a job that something else has started has ended, and never aborts it.

    A subclass says which kind (``job_kind``, ``failure``) and has the job's id as ``<kind>_id``; see
    :class:`~airflow_provider_apify.sensors.build.ApifyBuildSensor` for the parameters.
    """

    job_kind: ClassVar[JobKind[Job]]
    #: What a job that did not succeed raises.
    failure: ClassVar[type[ApifyJobFailed]]

    #: Whether the job's log was shown as it was written.
    log_streamed: bool = False

    template_fields: Sequence[str] = ("apify_conn_id",)
    operator_extra_links = (ApifyConsoleLink(),)

    def __init__(
        self, *, deferrable: bool | str | None, apify_conn_id: str, stream_log: bool | str = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.stream_log = arguments.switch("stream_log", stream_log)
        self.deferrable = arguments.deferrable(deferrable)
        self.apify_conn_id = apify_conn_id
        #: The job's page in Apify Console, once known.
        self.console_url: str | None = None

    def _trigger(self) -> Any:
        """Give the class of the trigger that waits for such a job."""
        raise NotImplementedError

    def _complete(self, client: Client, summary: dict[str, Any]) -> None:
        """Add to the summary of a job that has ended what its own answer does not say."""

    def check_result(self, client: Client, summary: dict[str, Any]) -> None:
        """Raise what a job that has succeeded lacks all the same."""

    def execute(self, context: Context) -> dict[str, Any] | None:
        with self._same_on_every_path():
            if self.reschedule and not self.deferrable:
                return super().execute(context)  # type: ignore[no-any-return]
            now = time.time()
            limits = deferral.limits_of(self, begun=now, known=now)

            def look() -> dict[str, Any] | None:
                client = self._client()
                job = self._look(context, client)
                return self._finish(context, client, job.summary()) if job and job.is_terminal else None

            return self._until_ended(context, look, limits, may_defer=self.deferrable)

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Look once. Trouble that passes means "not yet"."""
        client = self._client()
        job = self._look(context, client, first=not context.get("task_reschedule_count"))
        # Airflow counts the time of a sensor that it reschedules from its first poke.
        if job is None and (begun := context["ti"].get_first_reschedule_date(context)):
            limits = Limits(begun.timestamp() + self.timeout)
            if limits.left(time.time()) == 0:
                job = deferral.wait_here(self, client, self._job_id, limits, over=True)
        if job is None or not job.is_terminal:
            return False
        return PokeReturnValue(is_done=True, xcom_value=self._finish(context, client, job.summary()))

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Continue after the triggerer has waited."""

        def read() -> dict[str, Any]:
            client = self._client()
            return self._finish(context, client, deferral.summary_after(self, context, client, self._job_id, event))

        return self._until_ended(context, read, deferral.limits_after(self, context, event), may_defer=False)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Airflow's way back from a deferral, also when no triggerer ran or the trigger crashed."""
        with self._same_on_every_path():
            return deferral.resume(self, next_method, next_kwargs, context)

    def _until_ended(
        self, context: Context, first: Callable[[], dict[str, Any] | None], limits: Limits, *, may_defer: bool
    ) -> dict[str, Any]:
        """
        Give the summary that ``first`` finds, else wait for it. With ``silent_fail``, an error means "not yet".

        :param may_defer: defer after ``first``.
        """

        def wait() -> dict[str, Any]:
            client = self._client()
            return self._finish(context, client, deferral.wait_here(self, client, self._job_id, limits).summary())

        step = first
        while True:
            try:
                if (summary := step()) is not None:
                    return summary
            except (*_FINAL, AirflowSkipException):
                raise
            except Exception as error:
                if not self.silent_fail:
                    raise
                self.log.exception(
                    "%s %s could not be seen: not yet, as silent_fail is set.", self.job_kind.title, self._job_id
                )
                left = limits.left(time.time())
                if left == 0:
                    raise deferral.time_out(timed_out(self.job_kind, self._job_id, None, error), limits) from None
                if step is wait:
                    time.sleep(self.poke_interval if left is None else min(left, self.poke_interval))
            if may_defer and limits.left(time.time()) != 0:
                deferral.defer(self, self._trigger(), self._job_id, limits, abort_on_kill=False)
            step = wait

    @contextmanager
    def _same_on_every_path(self) -> Iterator[None]:
        """Time out with the same exception, and skip instead of failing in the same cases, on every way of waiting."""
        try:
            yield
        except (AirflowSkipException, AirflowRescheduleException):
            raise
        except (*_FINAL, Exception) as error:
            if self.never_fail or (self.soft_fail and isinstance(error, _FINAL)):
                which = "soft_fail" if self.soft_fail else "never_fail"
                raise AirflowSkipException(f"Skipping, as {which} is set: {error}") from error
            if isinstance(error, (AirflowSensorTimeout, ApifyJobTimeout)):
                raise ApifyJobSensorTimeout(*error.args) from None
            raise

    @property
    def _job_id(self) -> str:
        """The job's id, once :meth:`_client` has read it."""
        return str(getattr(self, f"{self.job_kind.name}_id"))

    def _client(self) -> Client:
        from airflow_provider_apify.client.client import Client

        name = f"{self.job_kind.name}_id"
        with configuration():
            setattr(self, name, check_job_id(self.job_kind, arguments.digits(getattr(self, name))))
        return Client.of(self)

    def _look(self, context: Context, client: Client, *, first: bool = True) -> Job | None:
        job: Job | None = client.check(self.job_kind, self._job_id, first=first)
        if job is None:
            return None
        if not job.is_terminal:
            outcome.announce(self, context, job.summary())
        self.log.info("%s %s of Actor %s is %s: %s", self.job_kind.title, job, job.act_id, job.status, job.console_url)
        return job

    def _finish(self, context: Context, client: Client, summary: dict[str, Any]) -> dict[str, Any]:
        # Again, for a job that could not be seen before it ended.
        outcome.announce(self, context, summary)
        self._complete(client, summary)
        outcome.finish(self, context, client, summary)
        return summary
