"""Start a build, and wait for it if told to."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, BaseOperator, conf

from airflow_provider_apify import metrics, outcome
from airflow_provider_apify.api import requests as api
from airflow_provider_apify.deferral import defer, is_limited_by_execution
from airflow_provider_apify.exceptions import (
    ApifyBuildFailed,
    ApifyBuildTimeout,
    ApifyConfigurationError,
    ApifyException,
    ApifySupersededError,
    to_event,
)
from airflow_provider_apify.jobs.start import Fingerprint, Remembered, Started, Superseded, start_once
from airflow_provider_apify.jobs.version import version_to_build
from airflow_provider_apify.links.build import ApifyBuildLink
from airflow_provider_apify.operators.hold import Hold

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

    from airflow_provider_apify.api.model import Build
    from airflow_provider_apify.hooks.apify import ApifyHook

#: Key of what a try writes down for later tries, in Airflow's task state store (Airflow 3.3).
_STORE_KEY = "apify_build"
#: Seconds after which a try looks before it starts: its worker may have been frozen, and given up for dead.
STALE_AFTER = 10.0


class ApifyBuildOperator(BaseOperator):
    """
    Build an Actor on Apify.

    One attempt starts one build: a retry adopts the build of the try before, and replaces it only if it failed; a
    clear starts anew. The build of a task that is marked, cleared or times out is aborted.

    Returns the build's id. Pushes the XComs ``build_id``, ``build_number`` and ``actor_id`` as soon as the build
    exists, ``summary`` and ``stats`` when it has ended; with ``do_xcom_push=False`` none of them. With ``outlets``,
    an asset event carries the summary as ``extra``.

    :param actor_id: Actor to build: id, ``user~name``, ``user/name``, or ``~name`` for an own one. (templated)
    :param version: version number of the Actor, a string ``MAJOR.MINOR`` such as ``"0.1"``. ``None``: the version
        whose build tag is ``tag`` (``latest`` if that is ``None``), or the only version. (templated)
    :param tag: tag to put on the build if it succeeds. ``None``: the version's build tag. (templated)
    :param use_cache: reuse Docker layers of earlier builds: a bool or ``"true"`` or ``"false"``. ``None``: Apify's
        default, which is not to. (templated)
    :param beta_packages: build with the beta versions of Apify's packages; values as ``use_cache``. (templated)
    :param wait_for_finish: seconds, 0 to 60, to wait in the worker first, so that a short build is over in this task.
    :param wait_for_completion: wait until the build has ended, and fail if it did not succeed.
    :param deferrable: wait in the triggerer instead of the worker, for 15 s or longer. Default: ``[operators]
        default_deferrable``.
    :param timeout: seconds or ``timedelta`` that each try waits at most; then the build is aborted. ``None``: as long
        as it takes, which is 1800 s of running by Apify's own limit. ``execution_timeout`` also counts while deferred.
    :param abort_on_kill: abort the unfinished build when the task is marked, cleared or times out.
    :param apify_conn_id: Airflow connection of type ``apify``. (templated)
    :raises ApifyBuildFailed: the build did not succeed; with the end of its log. A retry starts a fresh build.
    :raises ApifyBuildTimeout: it did not end within ``timeout``.
    :raises ApifyCapacityError: the account's memory is taken.
    :raises ApifyConfigurationError: an argument or a field of the connection cannot be used. Not retried.
    :raises ApifyApiError: a request failed; see ``airflow_provider_apify.exceptions`` for which are retried.
    """

    template_fields: Sequence[str] = ("actor_id", "version", "tag", "use_cache", "beta_packages", "apify_conn_id")
    operator_extra_links = (ApifyBuildLink(),)
    ui_color = "#97d700"

    def __init__(
        self,
        *,
        actor_id: str | XComArg,
        version: str | XComArg | None = None,
        tag: str | XComArg | None = None,
        use_cache: bool | str | None = None,
        beta_packages: bool | str | None = None,
        wait_for_finish: int | None = None,
        wait_for_completion: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        timeout: timedelta | float | None = None,
        abort_on_kill: bool = True,
        apify_conn_id: str = "apify_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # What other tasks give is there when templates are rendered, before anything here reads it.
        self.actor_id: str = actor_id  # type: ignore[assignment]
        self.version: str | None = version  # type: ignore[assignment]
        self.tag: str | None = tag  # type: ignore[assignment]
        self.use_cache = use_cache
        self.beta_packages = beta_packages
        self.wait_for_finish = wait_for_finish
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.timeout = _seconds(timeout)
        self.abort_on_kill = abort_on_kill
        self.apify_conn_id = apify_conn_id
        #: The build's page in Apify Console, once known.
        self.console_url: str | None = None
        self._hold: Hold | None = None
        self._killed = False
        try:
            api.check_wait(wait_for_finish)
        except ValueError as error:
            raise ApifyConfigurationError(str(error)) from None
        self._check_outlets()

    def execute(self, context: Context) -> str:
        begun = time.time()
        parameters = self._parameters()
        hook = self._hook()
        # Ending the build must need no word with Airflow, and a connection that cannot be used be known before a start.
        hook.connect()
        ti = context["ti"]
        self._hold = Hold(hook, ti, self.log, abort=self.abort_on_kill)
        # A SIGTERM before this point found nothing to end yet.
        if self._killed and self._hold.is_over():
            raise ApifySupersededError("The task is being ended: no build is started.")
        with self._hold.during():
            started = self._start(context, hook, parameters, begun)
            build = started.build
            metrics.count("adopted" if started.adopted else "started", ti, build.act_id)
            outcome.announce(self, context, build.summary())
            self.log.info(
                "%s build %s of Actor %s%s: %s",
                "Going on with" if started.adopted else "Started",
                build,
                self.actor_id,
                ", which this task had started before" if started.adopted else "",
                build.console_url,
            )
            build = self._wait(hook, build)
            if build.is_terminal:
                return self._finish(context, hook, build.summary())
            if not self.wait_for_completion:
                self._hold.release()
            return build.id

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """Go on after the triggerer has waited."""
        hook = self._hook()
        self._hold = Hold(hook, context["ti"], self.log, abort=self.abort_on_kill)
        build_id = event.get("build_id") if isinstance(event, dict) else None
        build_id = build_id or self._build_id_before(context)
        self._hold.take(build_id)
        with self._hold.during():
            try:
                summary = outcome.ended(event, build_id)
            except ApifyBuildTimeout as error:
                raise self._deadline_error(error) from None
            return self._finish(context, hook, summary)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Airflow's way back from a deferral, also when the trigger failed or was out of time without a word."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except Exception as error:
            if type(error).__name__ not in ("TaskDeferralTimeout", "TaskDeferralError"):
                raise
            return self.execute_complete(context, self._event_instead(context, error))

    def on_kill(self) -> None:
        self._killed = True
        if self._hold is not None:
            self._hold.on_kill()

    def _start(self, context: Context, hook: ApifyHook, parameters: dict[str, Any], begun: float) -> Started:
        ti = context["ti"]
        dag_run = context["dag_run"]
        # Automatic retries keep this number, a clear raises it.
        epoch = max(0, ti.max_tries - (self.retries or 0) + 1)
        mark = Fingerprint.of(
            ti.dag_id, ti.run_id, dag_run.start_date or dag_run.run_after, ti.task_id, ti.map_index, epoch=epoch
        )
        first_try = ti.try_number <= 1
        remembered = None if first_try else self._recall(context, epoch)
        if remembered:
            # A clear of a finished run gives it a new start date; this task has had builds under the old one.
            mark = Fingerprint(remembered.fingerprint.task, epoch)
        start = partial(
            start_once,
            _Calls(hook, ti, mark, parameters, begun, partial(self._remember, context, mark, None)),
            mark,
            first_try=first_try,
            remembered=remembered,
            abort_earlier=self.abort_on_kill,
            say=self.log.warning,
        )
        try:
            started = self._hold.start(self.actor_id, mark, start)  # type: ignore[union-attr]
        except Superseded as error:
            raise ApifySupersededError(str(error)) from None
        self._remember(context, mark, started.build.id)
        return started

    def _wait(self, hook: ApifyHook, build: Build) -> Build:
        say = partial(outcome.say_status, self)
        if build.is_terminal:
            # An adopted build comes from a list, whose items lack the stats.
            return hook.get_build(build.id)
        if self.wait_for_finish:
            try:
                return hook.wait_for_build(build.id, timeout=self.wait_for_finish, on_status=say)
            except ApifyBuildTimeout:
                self.log.info("Build %s goes on after %d s.", build.build_number, self.wait_for_finish)
        if self.wait_for_completion and self.deferrable:
            defer(self, build.id, abort_on_kill=self.abort_on_kill)
        if self.wait_for_completion:
            return hook.wait_for_build(build.id, timeout=self.timeout, on_status=say)
        return build

    def _finish(self, context: Context, hook: ApifyHook, summary: dict[str, Any]) -> str:
        self._hold.release()  # type: ignore[union-attr]
        outcome.finish(self, context, hook, summary, failure=ApifyBuildFailed)
        return str(summary["build_id"])

    def _deadline_error(self, error: ApifyBuildTimeout) -> BaseException:
        """Give the exception that the worker would have met: Airflow's own if ``execution_timeout`` was the limit."""
        if is_limited_by_execution(self):
            return AirflowTaskTimeout(f"execution_timeout: {error}")
        return error

    def _event_instead(self, context: Context, error: Exception) -> dict[str, Any]:
        """Make up the event that the triggerer failed to send, from what the try before the deferral left."""
        build_id = self._build_id_before(context)
        if type(error).__name__ == "TaskDeferralTimeout":
            failure: ApifyException = ApifyBuildTimeout(f"Build {build_id} has not ended within the time given.")
        else:
            failure = ApifyException(f"The trigger that waited for build {build_id} failed: {error}")
        return {"status": "error", "build_id": build_id, **to_event(failure)}

    def _build_id_before(self, context: Context) -> str | None:
        """Give the build that this try had before it deferred."""
        ti = context["ti"]
        build_id = ti.xcom_pull(task_ids=ti.task_id, key="build_id", map_indexes=ti.map_index)
        if not build_id and (remembered := self._recall(context, 0)):
            build_id = remembered.build_id
        return build_id or None

    def _recall(self, context: Context, epoch: int) -> Remembered | None:
        """Read what an earlier try wrote down, on Airflow 3.3; that survives a clear."""
        store = context.get("task_state_store")
        try:
            record: Any = store.get(_STORE_KEY) if store is not None else None
            # The build of another Actor is none of this attempt's, though the task is the same.
            same = record["actor_id"] == self.actor_id
            return Remembered(
                Fingerprint(record["task"], int(record["epoch"]) if same else epoch - 1), record["build_id"]
            )
        except (KeyError, TypeError, ValueError):
            return None
        except Exception as error:
            self.log.warning("Airflow's task state store could not be read (%s): looking at Apify only.", error)
            return None

    def _remember(self, context: Context, mark: Fingerprint, build_id: str | None) -> None:
        store = context.get("task_state_store")
        if store is None:
            return
        try:
            record: dict[str, Any] = {
                "task": mark.task,
                "epoch": mark.epoch,
                "actor_id": self.actor_id,
                "build_id": build_id,
            }
            store.set(_STORE_KEY, record)
        except Exception as error:
            self.log.warning("Airflow's task state store could not be written (%s): going on without.", error)

    def _parameters(self) -> dict[str, Any]:
        """Check the rendered arguments before anything is sent."""
        self._check_outlets()
        try:
            api.actor_segment(self.actor_id)
            return {
                "actor_id": self.actor_id,
                "version": None if self.version in (None, "None") else api.check_version(self.version),
                "tag": None if self.tag == "None" else api.check_tag(self.tag),
                "use_cache": _switch("use_cache", self.use_cache),
                "beta_packages": _switch("beta_packages", self.beta_packages),
            }
        except ValueError as error:
            raise ApifyConfigurationError(str(error)) from None

    def _check_outlets(self) -> None:
        if self.outlets and not self.wait_for_completion:
            raise ApifyConfigurationError(
                "outlets need wait_for_completion=True, or the asset event would announce a build that has just begun."
            )

    def _hook(self) -> ApifyHook:
        from airflow_provider_apify.hooks.apify import ApifyHook

        return ApifyHook(self.apify_conn_id)


class _Calls:
    """The hook as :func:`start_once` needs it."""

    def __init__(
        self,
        hook: ApifyHook,
        ti: Any,
        mark: Fingerprint,
        parameters: dict[str, Any],
        begun: float,
        intend: Callable[[], object],
    ) -> None:
        self.intend = intend
        self._hook = hook
        self._ti = ti
        self._mark = mark
        self._parameters = parameters
        self.get = hook.get_build
        self.pause = hook.stopping.wait
        self.stopped = hook.stopping.is_set
        self._looked_at = begun

    def stale(self) -> bool:
        return time.time() - self._looked_at > STALE_AFTER

    def prepare(self) -> None:
        parameters = self._parameters
        if parameters["version"] is None:
            actor = self._hook.get_actor(parameters["actor_id"])
            try:
                parameters["version"] = version_to_build(actor, parameters["tag"])
            except ValueError as error:
                raise ApifyConfigurationError(str(error)) from None

    def send(self) -> Build:
        return self._hook.start_build(**self._parameters, fingerprint=self._mark, attempts=1)

    def abort(self, build_id: str) -> None:
        build = self._hook.abort_build(build_id)
        if build.abort_took:
            metrics.count("aborted", self._ti, build.act_id)

    def recent(self) -> list[Build]:
        self._looked_at = time.time()
        return self._hook.list_builds(self._parameters["actor_id"])


def _switch(name: str, value: object) -> bool | None:
    """Read a switch that a template may have turned into text; ``"False"`` is not true."""
    if value is None or isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("true", "false"):
        return text == "true"
    if text in ("none", ""):
        return None
    raise ApifyConfigurationError(f"{name} must be true or false, got {value!r}")


def _seconds(timeout: timedelta | float | None) -> float | None:
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < math.inf:
        raise ApifyConfigurationError(f"timeout must be a timedelta or a number of seconds from 0, got {timeout!r}")
    return seconds
