"""Wait for a build that something else has started."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
)

from airflow_provider_apify import arguments, outcome
from airflow_provider_apify.api import requests as api
from airflow_provider_apify.deferral import defer, ending, limits_after, limits_of, resume, time_out, wait_here
from airflow_provider_apify.exceptions import (
    ApifyBuildFailedFinal,
    ApifyBuildSensorTimeout,
    ApifyBuildTimeout,
    timed_out,
)
from airflow_provider_apify.jobs.wait import Limits
from airflow_provider_apify.links.build import ApifyBuildLink

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

    from airflow_provider_apify.api.model import Build
    from airflow_provider_apify.hooks.apify import ApifyHook

#: What ends a sensor of Airflow's whatever its ``silent_fail``, and what ``soft_fail`` turns into a skip.
_FINAL = (AirflowFailException, AirflowSensorTimeout, AirflowTaskTimeout, ApifyBuildTimeout)


class ApifyBuildSensor(arguments.LiteralsStayText, BaseSensorOperator):
    """
    Wait until a build has ended, and fail if it did not succeed.

    It never aborts the build, which belongs to whoever started it. In ``poke`` mode it long-polls, so the end is
    noticed at once and ``poke_interval`` has no meaning; in ``reschedule`` mode it asks every ``poke_interval``;
    deferrable, it long-polls in the triggerer, whatever the ``mode``, and resumes 15 s after the deferral or later.

    ``soft_fail``, ``never_fail`` and ``silent_fail`` mean the same in all of these: ``soft_fail`` skips where the
    sensor would fail for good or time out, ``never_fail`` wherever it would fail, and with ``silent_fail`` an error
    that a retry may remove means "not yet".

    Returns the summary: ``build_id``, ``actor_id``, ``build_number``, ``status``, times, ``duration_seconds``,
    ``stats``, ``usage``, ``usage_total_usd``, ``console_url``. Also pushes the XComs ``build_id``, ``build_number``
    and ``actor_id``, and at the end ``summary`` and ``stats``; with ``do_xcom_push=False`` none of them.

    :param build_id: id of the build, such as the ``output`` of an ``ApifyBuildOperator``. (templated)
    :param deferrable: wait in the triggerer: a bool or ``"true"`` or ``"false"``. ``None``: ``[operators]
        default_deferrable``.
    :param apify_conn_id: Airflow connection of type ``apify``. (templated)
    :raises ApifyBuildFailedFinal: the build did not succeed; with the end of its log. Not retried: it never changes.
    :raises ApifyBuildSensorTimeout: it did not end within ``timeout``. Not retried.
    :raises ApifyConfigurationError: an argument or a field of the connection cannot be used. Not retried.
    :raises ApifyPollError: for 10 minutes Apify refused to say how the build is doing. Retried.
    :raises ApifyApiError: asking again cannot help: the build is not there, or the token is refused. Not retried.
    """

    template_fields: Sequence[str] = ("build_id", "apify_conn_id")
    operator_extra_links = (ApifyBuildLink(),)
    ui_color = "#d6f5a3"

    def __init__(
        self,
        *,
        build_id: str | XComArg,
        deferrable: bool | str | None = None,
        apify_conn_id: str = "apify_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # The output of another task is there when templates are rendered, before anything here reads it.
        self.build_id: str = build_id  # type: ignore[assignment]
        self.deferrable = arguments.deferrable(deferrable)
        self.apify_conn_id = apify_conn_id
        #: The build's page in Apify Console, once known.
        self.console_url: str | None = None

    def execute(self, context: Context) -> dict[str, Any] | None:
        with self._same_on_every_path():
            if self.reschedule and not self.deferrable:
                return super().execute(context)  # type: ignore[no-any-return]
            now = time.time()
            limits = limits_of(self, begun=now, known=now)

            def look() -> dict[str, Any] | None:
                hook = self._hook()
                build = self._look(context, hook)
                return self._finish(context, hook, build.summary()) if build and build.is_terminal else None

            return self._until_ended(context, look, limits, may_defer=self.deferrable)

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Look once. Trouble that passes means "not yet"."""
        hook = self._hook()
        build = self._look(context, hook, first=not context.get("task_reschedule_count"))
        if build is None:
            # Airflow counts the time of a sensor that it reschedules from its first poke.
            begun = context["ti"].get_first_reschedule_date(context)
            if begun and time.time() >= begun.timestamp() + self.timeout:
                build = wait_here(self, hook, self.build_id, Limits(begun.timestamp() + self.timeout), over=True)
        if build is None or not build.is_terminal:
            return False
        return PokeReturnValue(is_done=True, xcom_value=self._finish(context, hook, build.summary()))

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the triggerer has waited."""

        def read() -> dict[str, Any]:
            hook = self._hook()
            return self._finish(context, hook, ending(self, context, hook, self.build_id, event))

        return self._until_ended(context, read, limits_after(self, context, event), may_defer=False)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Airflow's way back from a deferral, also when no triggerer ran or the trigger crashed."""
        with self._same_on_every_path():
            return resume(self, next_method, next_kwargs, context)

    def _until_ended(
        self, context: Context, first: Callable[[], dict[str, Any] | None], limits: Limits, *, may_defer: bool
    ) -> dict[str, Any]:
        """
        Give the summary that ``first`` finds, else wait for it. With ``silent_fail``, an error means "not yet".

        :param may_defer: defer after ``first``.
        """

        def wait() -> dict[str, Any]:
            hook = self._hook()
            return self._finish(context, hook, wait_here(self, hook, self.build_id, limits).summary())

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
                self.log.exception("Build %s could not be seen: not yet, as silent_fail is set.", self.build_id)
                left = limits.left(time.time())
                if left == 0:
                    raise time_out(timed_out(self.build_id, None, error), limits) from None
                if step is wait:
                    time.sleep(self.poke_interval if left is None else min(left, self.poke_interval))
            if may_defer and limits.left(time.time()) != 0:
                defer(self, self.build_id, limits, abort_on_kill=False)
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
            if isinstance(error, (AirflowSensorTimeout, ApifyBuildTimeout)):
                raise ApifyBuildSensorTimeout(*error.args) from None
            raise

    def _hook(self) -> ApifyHook:
        from airflow_provider_apify.hooks.apify import ApifyHook

        self.build_id = arguments.checked(api.check_build_id, arguments.digits(self.build_id))
        return ApifyHook(self.apify_conn_id)

    def _look(self, context: Context, hook: ApifyHook, *, first: bool = True) -> Build | None:
        build = hook.check_build(self.build_id, first=first)
        if build is not None and not build.is_terminal:
            outcome.announce(self, context, build.summary())
        if build is not None:
            self.log.info("Build %s of Actor %s is %s: %s", build, build.act_id, build.status, build.console_url)
        return build

    def _finish(self, context: Context, hook: ApifyHook, summary: dict[str, Any]) -> dict[str, Any]:
        outcome.finish(self, context, hook, summary, failure=ApifyBuildFailedFinal, limits=Limits())
        return summary
