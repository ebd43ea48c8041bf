"""Start a build, and wait for it if asked to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_apify.api import builds
from airflow_provider_apify.api.builds import BUILD, Build
from airflow_provider_apify.api.endpoints import check_actor_id
from airflow_provider_apify.client.failures import configuration
from airflow_provider_apify.exceptions import ApifyBuildFailed
from airflow_provider_apify.lifecycle import arguments
from airflow_provider_apify.lifecycle.tag_seen import add_actor
from airflow_provider_apify.operators.job import JobOperator

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

    from airflow_provider_apify.api.endpoints import Start
    from airflow_provider_apify.client.client import Client
    from airflow_provider_apify.jobs.wait import Limits
    from airflow_provider_apify.lifecycle.attempt import Attempt


class ApifyBuildOperator(JobOperator):
    """
    Build an Actor on Apify.

    One attempt starts one build: a retry adopts the build of the try before, and replaces it only if it failed; a
    clear starts another one. If the task is cleared, times out, or is marked failed or success, its build is aborted.

    Returns the build's id. Pushes the XComs ``build_id``, ``build_number`` and ``actor_id`` as soon as the build
    exists, ``summary`` and ``stats`` when it has ended; with ``do_xcom_push=False`` none of them. With ``outlets``,
    an asset event carries the summary as ``extra``. All the same if it reuses a build.

    :param actor_id: Actor to build: id, ``user~name``, ``user/name``, ``~name`` for an own one, or the address of its
        page in Apify Console or Apify Store. (templated)
    :param version: version number of the Actor, a string ``MAJOR.MINOR`` such as ``"0.1"``. ``None``: the only
        version; else the one whose build tag is ``latest``; else the only one without a build tag. (templated)
    :param tag: tag to put on the build if it succeeds; it does not choose the version. If it is the build tag of
        another version than the one chosen, nothing is built. ``None``: the version's build tag. (templated)
    :param use_cache: reuse Docker layers of earlier builds: a bool or ``"true"`` or ``"false"``. ``None``: Apify's
        default, which is not to. (templated)
    :param beta_packages: build with the beta versions of Apify's packages; values as ``use_cache``. (templated)
    :param reuse_if_younger_than: seconds or ``timedelta``: if a good build of this version began less than that ago,
        and has the tag that a new one would get, take it and start none. It is asked for after the task has looked for
        a build of its own, by retries and clears, too. It may have been built without ``use_cache`` and
        ``beta_packages``. ``None``: always build. (templated)
    :param wait_for_finish: seconds, 0 to 60, to wait in the worker first, so that a short build is over in this task.
        (templated)
    :param wait_for_completion: wait until the build has ended, and fail if it did not succeed: a bool or ``"true"`` or
        ``"false"``.
    :param deferrable: wait in the triggerer instead of the worker, for 15 s or longer; values as
        ``wait_for_completion``, without which it has no effect but on ``wait_for_capacity``. ``None``: ``[operators]
        default_deferrable``.
    :param timeout: seconds or ``timedelta`` that each try waits at most, from when its build is known; then the build
        is aborted. ``None``: as long as it takes, which is 1800 s of running by Apify's own limit. It has no effect
        without ``wait_for_completion``. ``execution_timeout`` counts from the begin of the try, also while deferred. If
        the build cannot be seen when the time is over, the task tries to see it for up to 60 s more. (templated)
    :param wait_for_capacity: seconds or ``timedelta`` that each try waits at most for room, where Apify does not start
        the build since the account's memory or number of jobs is used up: in the triggerer with ``deferrable``, else
        in the worker. ``timeout`` does not count meanwhile, ``execution_timeout`` does. Nothing is started twice, and
        nothing runs while it waits. ``None``: not at all. (templated)
    :param abort_on_kill: abort the unfinished build when the task is cleared, times out, or is marked; values as
        ``wait_for_completion``.
    :param stream_log: show the build's own log in the task's log: line by line while the task waits in a worker; its
        last 20 lines after a deferral or if the build had ended before. Values as
        ``wait_for_completion``.
    :param apify_conn_id: Airflow connection of type ``apify``. (templated)
    :raises ApifyBuildFailed: the build did not succeed; with the end of its log. A retry starts a fresh build.
    :raises ApifyJobTimeout: it did not end within ``timeout``.
    :raises ApifyPollError: for 10 minutes Apify refused to say how the build is doing. A retry waits for it.
    :raises ApifyCapacityError: the account's memory is taken, also when ``wait_for_capacity`` was over.
    :raises ApifyConfigurationError: an argument or a field of the connection cannot be used. Not retried.
    :raises ApifyApiError: a request failed; see ``airflow_provider_apify.exceptions`` for which are retried.
    """

    job_kind = BUILD
    failure = ApifyBuildFailed

    template_fields: Sequence[str] = (
        "actor_id",
        "version",
        "tag",
        "use_cache",
        "beta_packages",
        "reuse_if_younger_than",
        *JobOperator.template_fields,
    )
    ui_color = "#97d700"

    def __init__(
        self,
        *,
        actor_id: str | XComArg,
        version: str | XComArg | None = None,
        tag: str | XComArg | None = None,
        use_cache: bool | str | None = None,
        beta_packages: bool | str | None = None,
        reuse_if_younger_than: timedelta | float | str | XComArg | None = None,
        wait_for_finish: int | str | XComArg | None = None,
        wait_for_completion: bool | str = False,
        deferrable: bool | str | None = None,
        timeout: timedelta | float | str | XComArg | None = None,
        wait_for_capacity: timedelta | float | str | XComArg | None = None,
        abort_on_kill: bool | str = True,
        stream_log: bool | str = False,
        apify_conn_id: str = "apify_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            wait_for_finish=wait_for_finish,
            wait_for_completion=wait_for_completion,
            deferrable=deferrable,
            timeout=timeout,
            wait_for_capacity=wait_for_capacity,
            abort_on_kill=abort_on_kill,
            stream_log=stream_log,
            apify_conn_id=apify_conn_id,
            **kwargs,
        )
        # What other tasks give is there when templates are rendered, before anything here reads it.
        self.actor_id: str = actor_id  # type: ignore[assignment]
        self.version: str | None = version  # type: ignore[assignment]
        self.tag: str | None = tag  # type: ignore[assignment]
        self.use_cache = use_cache
        self.beta_packages = beta_packages
        self.reuse_if_younger_than = arguments.now_or_rendered(_age, reuse_if_younger_than)

    def _read_rendered(self) -> None:
        super()._read_rendered()
        self.actor_id = arguments.checked(check_actor_id, arguments.digits(self.actor_id))
        self.reuse_if_younger_than = _age(self.reuse_if_younger_than)

    def needed_mbytes(self) -> float:
        return builds.MEMORY_MBYTES

    def _attempt(self, context: Context, client: Client, begun: float) -> Attempt:
        from airflow_provider_apify.lifecycle.attempt import Attempt

        version = arguments.given(self.version)
        if version is not None:
            version = arguments.checked(builds.check_version, version)
        tag = arguments.checked(builds.check_tag, self._wanted_tag())
        start_build = partial(
            builds.start_build,
            self.actor_id,
            tag=tag,
            use_cache=arguments.rendered_switch("use_cache", self.use_cache),
            beta_packages=arguments.rendered_switch("beta_packages", self.beta_packages),
        )

        def start() -> Start[Build]:
            nonlocal version
            if version is None:
                from airflow_provider_apify.hooks.apify import choose_version

                with configuration():
                    version = choose_version(client, self.log, self.actor_id, tag)
            return start_build(version=version)

        def excludes(build: Any) -> bool:
            return version is not None and builds.version_of(build.build_number) not in (None, version)

        age = self.reuse_if_younger_than

        def reusable() -> Build | None:
            from airflow_provider_apify.lifecycle.reuse import young_build

            return young_build(client, self.actor_id, version, tag, age) if age else None

        collection, subject = builds.collection(self.actor_id), f"Actor {self.actor_id}"
        return Attempt(self, context, client, BUILD, collection, subject, start, excludes, begun, reusable=reusable)

    def _wanted_tag(self) -> Any:
        return arguments.digits(arguments.given(self.tag))

    def _complete(self, client: Client, summary: dict[str, Any], limits: Limits) -> None:
        add_actor(self, client, summary, limits, self._wanted_tag(), await_tag=True)

    def _trigger(self) -> Any:
        from airflow_provider_apify.triggers.build import ApifyBuildTrigger

        return ApifyBuildTrigger


_age = partial(arguments.seconds, name="reuse_if_younger_than")
