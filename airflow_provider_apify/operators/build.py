"""Start a build, and wait for it if asked to."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_apify import arguments, metrics, outcome
from airflow_provider_apify.api import requests as api
from airflow_provider_apify.deferral import defer, ending, limits_after, limits_of, resume, wait_here
from airflow_provider_apify.exceptions import (
    ApifyBuildFailed,
    ApifyBuildTimeout,
    ApifyConfigurationError,
    ApifyStartUnclearError,
    ApifySupersededError,
)
from airflow_provider_apify.jobs.start import (
    Clock,
    Fingerprint,
    Moment,
    Remembered,
    Started,
    StartUnclear,
    Superseded,
    start_once,
)
from airflow_provider_apify.links.build import ApifyBuildLink
from airflow_provider_apify.operators.hold import Hold

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

    from airflow_provider_apify.api.model import Build
    from airflow_provider_apify.hooks.apify import ApifyHook
    from airflow_provider_apify.jobs.wait import Limits

#: Key of what a try writes down for later tries, in Airflow's task state store (Airflow 3.3).
_STORE_KEY = "apify_build"
#: Seconds after which a try looks before it starts: its worker may have been frozen, and given up for dead.
STALE_AFTER = 10.0


class ApifyBuildOperator(arguments.LiteralsStayText, BaseOperator):
    """
    Build an Actor on Apify.

    One attempt starts one build: a retry adopts the build of the try before, and replaces it only if it failed; a
    clear starts another one. If the task is cleared, times out, or is marked failed or success, its build is aborted.

    Returns the build's id. Pushes the XComs ``build_id``, ``build_number`` and ``actor_id`` as soon as the build
    exists, ``summary`` and ``stats`` when it has ended; with ``do_xcom_push=False`` none of them. With ``outlets``,
    an asset event carries the summary as ``extra``.

    :param actor_id: Actor to build: id, ``user~name``, ``user/name``, ``~name`` for an own one, or the address of its
        page in Apify Console or Apify Store. (templated)
    :param version: version number of the Actor, a string ``MAJOR.MINOR`` such as ``"0.1"``. ``None``: the only
        version; else the one whose build tag is ``latest``; else the only one without a build tag. (templated)
    :param tag: tag to put on the build if it succeeds; it does not choose the version. If it is the build tag of
        another version than the one chosen, nothing is built. ``None``: the version's build tag. (templated)
    :param use_cache: reuse Docker layers of earlier builds: a bool or ``"true"`` or ``"false"``. ``None``: Apify's
        default, which is not to. (templated)
    :param beta_packages: build with the beta versions of Apify's packages; values as ``use_cache``. (templated)
    :param wait_for_finish: seconds, 0 to 60, to wait in the worker first, so that a short build is over in this task.
        (templated)
    :param wait_for_completion: wait until the build has ended, and fail if it did not succeed: a bool or ``"true"`` or
        ``"false"``.
    :param deferrable: wait in the triggerer instead of the worker, for 15 s or longer; values as
        ``wait_for_completion``, without which it has no effect. ``None``: ``[operators] default_deferrable``.
    :param timeout: seconds or ``timedelta`` that each try waits at most, from when its build is known; then the build
        is aborted. ``None``: as long as it takes, which is 1800 s of running by Apify's own limit. It has no effect
        without ``wait_for_completion``. ``execution_timeout`` counts from the begin of the try, also while deferred. If
        the build cannot be seen when the time is over, the task tries to see it for up to 60 s more. (templated)
    :param abort_on_kill: abort the unfinished build when the task is cleared, times out, or is marked; values as
        ``wait_for_completion``.
    :param apify_conn_id: Airflow connection of type ``apify``. (templated)
    :raises ApifyBuildFailed: the build did not succeed; with the end of its log. A retry starts a fresh build.
    :raises ApifyBuildTimeout: it did not end within ``timeout``.
    :raises ApifyPollError: for 10 minutes Apify refused to say how the build is doing. A retry waits for it.
    :raises ApifyCapacityError: the account's memory is taken.
    :raises ApifyConfigurationError: an argument or a field of the connection cannot be used. Not retried.
    :raises ApifyApiError: a request failed; see ``airflow_provider_apify.exceptions`` for which are retried.
    """

    template_fields: Sequence[str] = (
        "actor_id",
        "version",
        "tag",
        "use_cache",
        "beta_packages",
        "wait_for_finish",
        "timeout",
        "apify_conn_id",
    )
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
        wait_for_finish: int | str | XComArg | None = None,
        wait_for_completion: bool | str = False,
        deferrable: bool | str | None = None,
        timeout: timedelta | float | str | XComArg | None = None,
        abort_on_kill: bool | str = True,
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
        self.wait_for_finish = arguments.now_or_rendered(arguments.wait_for_finish, wait_for_finish)
        self.wait_for_completion = arguments.switch("wait_for_completion", wait_for_completion)
        self.deferrable = arguments.deferrable(deferrable)
        self.timeout = arguments.now_or_rendered(arguments.seconds, timeout)
        self.abort_on_kill = arguments.switch("abort_on_kill", abort_on_kill)
        self.apify_conn_id = apify_conn_id
        #: The build's page in Apify Console, once known.
        self.console_url: str | None = None
        self._hold: Hold | None = None
        self._killed = False
        self._check_outlets()
        self._no_effect = ""
        if not self.wait_for_completion:
            self._no_effect = arguments.warn_of_no_effect(
                self.task_id,
                deferrable=self.deferrable and deferrable is not None,
                timeout=self.timeout is not None,
            )

    def execute(self, context: Context) -> str:
        begun = time.time()
        self.console_url = ""  # so that Airflow does not look for it where none can be
        parameters = self._parameters()
        if self._no_effect:
            self.log.warning("%s", self._no_effect)
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
            limits = limits_of(self, begun=begun, known=time.time())
            build = started.build
            metrics.count("adopted" if started.adopted else "started", ti, build.act_id)
            outcome.announce(self, context, build.summary())
            self.log.info(
                "%s build %s of Actor %s%s: %s",
                "Continuing with" if started.adopted else "Started",
                build,
                self.actor_id,
                ", which this task had started before" if started.adopted else "",
                build.console_url,
            )
            if not build.is_terminal:
                outcome.say_status(self, build)
            build = self._wait(hook, build, limits)
            if build.is_terminal:
                return self._finish(context, hook, build.summary(), limits)
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
            self._read_rendered()
            summary = ending(self, context, hook, build_id, event)
            return self._finish(context, hook, summary, limits_after(self, context, event))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Airflow's way back from a deferral, also when no triggerer ran or the trigger crashed."""
        return resume(self, next_method, next_kwargs, context)

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
        earlier_tries = ti.try_number > epoch
        remembered, since = (None, None) if first_try else self._recall(context, epoch)
        if remembered:
            # A clear of a finished run gives it a new start date; this task has had builds under the old one.
            mark = Fingerprint(remembered.fingerprint.task, epoch)
        if not earlier_tries:
            since = Moment(begun, Clock.OURS)
        elif since is None or (remembered and remembered.fingerprint != mark):
            since = Moment((dag_run.start_date or dag_run.run_after).timestamp(), Clock.OTHERS)

        def remember(unsure: bool, build_id: str | None = None) -> None:
            self._remember(context, mark, build_id, since.by_apify(hook.clock_offset), unsure)

        start = partial(
            start_once,
            _Calls(hook, ti, mark, parameters, begun, remember),
            mark,
            first_try=first_try,
            since=since,
            earlier_tries=earlier_tries,
            remembered=remembered,
            abort_earlier=self.abort_on_kill,
            say=self.log.warning,
        )
        try:
            started = self._hold.start(self.actor_id, mark, since, start)  # type: ignore[union-attr]
        except Superseded as error:
            raise ApifySupersededError(str(error)) from None
        except StartUnclear as error:
            raise ApifyStartUnclearError(
                f"No build of Actor {self.actor_id} was started, since this task may have started one already: {error}"
                f" (connection {self.apify_conn_id!r}).\nA retry asks again. To build without knowing, clear the task."
            ) from None
        remember(started.unsure, started.build.id)
        build = started.build
        if started.adopted and (build.act_id is None or (build.is_terminal and build.stats is None)):
            # It comes from a list, whose items do not say so.
            return replace(started, build=hook.get_build(build.id))
        return started

    def _wait(self, hook: ApifyHook, build: Build, limits: Limits) -> Build:
        if build.is_terminal:
            return build
        left = limits.left(time.time()) if self.wait_for_completion else None
        if self.wait_for_finish:
            seconds = self.wait_for_finish if left is None else min(left, self.wait_for_finish)
            try:
                return hook.wait_for_build(build.id, timeout=seconds, on_status=partial(outcome.say_status, self))
            except ApifyBuildTimeout:
                self.log.info("Build %s has not ended after %d s.", build.build_number, seconds)
                left = limits.left(time.time())
        if self.wait_for_completion and self.deferrable and left != 0:
            defer(self, build.id, limits, abort_on_kill=self.abort_on_kill)
        if self.wait_for_completion:
            return wait_here(self, hook, build.id, limits)
        return build

    def _finish(self, context: Context, hook: ApifyHook, summary: dict[str, Any], limits: Limits) -> str:
        self._hold.release()  # type: ignore[union-attr]
        tag = arguments.digits(arguments.given(self.tag))
        outcome.finish(self, context, hook, summary, failure=ApifyBuildFailed, limits=limits, tag=tag, await_tag=True)
        return str(summary["build_id"])

    def _build_id_before(self, context: Context) -> str | None:
        """Give the build that this try had before it deferred."""
        ti = context["ti"]
        key = "build_id" if self.do_xcom_push else _STORE_KEY
        build_id = ti.xcom_pull(task_ids=ti.task_id, key=key, map_indexes=ti.map_index)
        if not build_id and (remembered := self._recall(context, 0)[0]):
            build_id = remembered.build_id
        return build_id or None

    def _recall(self, context: Context, epoch: int) -> tuple[Remembered | None, Moment | None]:
        """Read what an earlier try wrote down, on Airflow 3.3, and since when its attempt starts; survives a clear."""
        store = context.get("task_state_store")
        try:
            record: Any = store.get(_STORE_KEY) if store is not None else None
            # The build of another Actor is none of this attempt's, though the task is the same.
            same = record["actor_id"] == self.actor_id
            mark = Fingerprint(record["task"], int(record["epoch"]) if same else epoch - 1)
            since = None
            if "since" in record:
                # What was that machine's own clock is another machine's here.
                clock = Clock.APIFY if record.get("clock") == Clock.APIFY.value else Clock.OTHERS
                since = Moment(float(record["since"]), clock)
            return Remembered(mark, record["build_id"], record.get("unsure") is not False), since
        except (KeyError, TypeError, ValueError):
            return None, None
        except Exception as error:
            self.log.warning("Airflow's task state store could not be read (%s): looking at Apify only.", error)
            return None, None

    def _remember(self, context: Context, mark: Fingerprint, build_id: str | None, since: Moment, unsure: bool) -> None:
        store = context.get("task_state_store")
        if store is None:
            if build_id and not self.do_xcom_push:
                # For the resumption of a deferred task whose triggerer says nothing.
                context["ti"].xcom_push(_STORE_KEY, build_id)
            return
        try:
            record: dict[str, Any] = {
                "task": mark.task,
                "epoch": mark.epoch,
                "actor_id": self.actor_id,
                "build_id": build_id,
                "since": since.at,
                "clock": since.clock.value,
                "unsure": unsure,
            }
            store.set(_STORE_KEY, record)
        except Exception as error:
            self.log.warning("Airflow's task state store could not be written (%s): continuing without it.", error)

    def _parameters(self) -> dict[str, Any]:
        """Check the rendered arguments before anything is sent."""
        self._check_outlets()
        self._read_rendered()
        version, tag = arguments.given(self.version), arguments.given(self.tag)
        return {
            "actor_id": self.actor_id,
            "version": None if version is None else arguments.checked(api.check_version, version),
            "tag": arguments.checked(api.check_tag, arguments.digits(tag)),
            "use_cache": arguments.rendered_switch("use_cache", self.use_cache),
            "beta_packages": arguments.rendered_switch("beta_packages", self.beta_packages),
        }

    def _read_rendered(self) -> None:
        """Read what templates gave: from here on, ``timeout`` and ``wait_for_finish`` are numbers or ``None``."""
        self.timeout = arguments.seconds(self.timeout)
        self.wait_for_finish = arguments.wait_for_finish(self.wait_for_finish)
        self.actor_id = arguments.checked(api.check_actor_id, arguments.digits(self.actor_id))

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
        intend: Callable[[bool], object],
    ) -> None:
        self.intend = intend
        self._hook = hook
        self._ti = ti
        self._mark = mark
        self._parameters = parameters
        self.get = hook.get_build
        self.now = time.time
        self.clock_offset = lambda: hook.clock_offset
        self.pause = hook.stopping.wait
        self.stopped = hook.stopping.is_set
        self._looked_at = begun

    def stale(self) -> bool:
        return time.time() - self._looked_at > STALE_AFTER

    def prepare(self) -> None:
        parameters = self._parameters
        if parameters["version"] is None:
            parameters["version"] = self._hook.choose_version(parameters["actor_id"], parameters["tag"])

    def send(self) -> Build:
        return self._hook.start_build(**self._parameters, fingerprint=self._mark, attempts=1)

    def abort(self, build_id: str) -> None:
        build = self._hook.abort_build(build_id)
        if build.abort_took:
            metrics.count("aborted", self._ti, build.act_id)

    def recent(self, offset: int) -> list[Build]:
        self._looked_at = time.time()
        return self._hook.list_builds(self._parameters["actor_id"], offset=offset)

    def excludes(self, build: Build) -> bool:
        version, number = self._parameters["version"], build.build_number
        return version is not None and number is not None and not number.startswith(f"{version}.")
