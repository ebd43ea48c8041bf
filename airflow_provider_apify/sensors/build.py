"""Wait for a build that something else has started."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_apify import outcome
from airflow_provider_apify.api import requests as api
from airflow_provider_apify.deferral import defer, is_limited_by_execution
from airflow_provider_apify.exceptions import (
    ApifyBuildFailedFinal,
    ApifyBuildSensorTimeout,
    ApifyBuildTimeout,
    ApifyConfigurationError,
)
from airflow_provider_apify.links.build import ApifyBuildLink

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

    from airflow_provider_apify.api.model import Build
    from airflow_provider_apify.hooks.apify import ApifyHook


class ApifyBuildSensor(BaseSensorOperator):
    """
    Wait until a build has ended, and fail if it did not succeed.

    It never aborts the build, which belongs to whoever started it. In ``poke`` mode it long-polls, so the end is
    noticed at once and ``poke_interval`` has no meaning; in ``reschedule`` mode it asks every ``poke_interval``;
    deferrable, it long-polls in the triggerer, whatever the ``mode``, and resumes 15 s after the deferral or later.

    Returns the summary: ``build_id``, ``actor_id``, ``build_number``, ``status``, times, ``duration_seconds``,
    ``stats``, ``usage``, ``usage_total_usd``, ``console_url``. Also pushes the XComs ``build_id``, ``build_number``
    and ``actor_id``, and at the end ``summary`` and ``stats``; with ``do_xcom_push=False`` none of them.

    :param build_id: the build, such as the ``output`` of an ``ApifyBuildOperator``. (templated)
    :param deferrable: wait in the triggerer. Default: ``[operators] default_deferrable``.
    :param apify_conn_id: Airflow connection of type ``apify``. (templated)
    :raises ApifyBuildFailedFinal: the build did not succeed; with the end of its log. Not retried: it never changes.
    :raises ApifyBuildSensorTimeout: it did not end within ``timeout``. Not retried.
    :raises ApifyConfigurationError: an argument or a field of the connection cannot be used. Not retried.
    :raises ApifyApiError: asking again cannot mend it: the build is not there, or the token is refused. Not retried.
    """

    template_fields: Sequence[str] = ("build_id", "apify_conn_id")
    operator_extra_links = (ApifyBuildLink(),)
    ui_color = "#d6f5a3"

    def __init__(
        self,
        *,
        build_id: str | XComArg,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        apify_conn_id: str = "apify_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # The output of another task is there when templates are rendered, before anything here reads it.
        self.build_id: str = build_id  # type: ignore[assignment]
        self.deferrable = deferrable
        self.apify_conn_id = apify_conn_id
        #: The build's page in Apify Console, once known.
        self.console_url: str | None = None

    def execute(self, context: Context) -> dict[str, Any] | None:
        with self._our_way():
            if self.reschedule and not self.deferrable:
                return super().execute(context)  # type: ignore[no-any-return]
            hook = self._hook()
            build = self._look(context, hook)
            if build is not None and build.is_terminal:
                return self._finish(context, hook, build.summary())
            if self.deferrable:
                defer(self, self.build_id, abort_on_kill=False)
            try:
                build = hook.wait_for_build(
                    self.build_id, timeout=self.timeout, on_status=partial(outcome.say_status, self)
                )
            except ApifyBuildTimeout as error:
                raise AirflowSensorTimeout(*error.args) from None
            return self._finish(context, hook, build.summary())

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Look once. Trouble that passes means "not yet"."""
        hook = self._hook()
        build = self._look(context, hook)
        if build is None or not build.is_terminal:
            return False
        return PokeReturnValue(is_done=True, xcom_value=self._finish(context, hook, build.summary()))

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the triggerer has waited."""
        try:
            summary = outcome.ended(event, self.build_id)
        except ApifyBuildTimeout as error:
            if is_limited_by_execution(self):
                raise AirflowTaskTimeout(f"execution_timeout: {error}") from None
            raise AirflowSensorTimeout(*error.args) from None
        return self._finish(context, self._hook(), summary)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Airflow's way back from a deferral."""
        with self._our_way():
            return super().resume_execution(next_method, next_kwargs, context)

    @contextmanager
    def _our_way(self) -> Iterator[None]:
        """Time out with the same exception, and skip instead of failing in the same cases, on every way of waiting."""
        try:
            yield
        except (AirflowFailException, AirflowSensorTimeout, AirflowTaskTimeout) as error:
            if self.soft_fail or self.never_fail:
                which = "soft_fail" if self.soft_fail else "never_fail"
                raise AirflowSkipException(f"Skipping, as {which} is set: {error}") from error
            if isinstance(error, AirflowSensorTimeout):
                raise ApifyBuildSensorTimeout(*error.args) from None
            raise

    def _hook(self) -> ApifyHook:
        from airflow_provider_apify.hooks.apify import ApifyHook

        try:
            api.segment(self.build_id, "build_id")
        except ValueError as error:
            raise ApifyConfigurationError(f"{error}. Does the task that starts the build push its id?") from None
        return ApifyHook(self.apify_conn_id)

    def _look(self, context: Context, hook: ApifyHook) -> Build | None:
        build = hook.check_build(self.build_id)
        if build is not None and not build.is_terminal:
            outcome.announce(self, context, build.summary())
        if build is not None:
            self.log.info("Build %s of Actor %s is %s: %s", build, build.act_id, build.status, build.console_url)
        return build

    def _finish(self, context: Context, hook: ApifyHook, summary: dict[str, Any]) -> dict[str, Any]:
        outcome.finish(self, context, hook, summary, failure=ApifyBuildFailedFinal)
        return summary
