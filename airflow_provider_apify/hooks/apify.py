"""The hook: Apify's API for tasks and triggers, with the connection's settings and our rules of retrying."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
)

from airflow_provider_apify.api import requests as api
from airflow_provider_apify.api.errors import (
    ApiError,
    AuthenticationError,
    NetworkError,
    NotFoundError,
    PollError,
    first_line,
    unreadable,
)
from airflow_provider_apify.api.model import Actor, Build
from airflow_provider_apify.api.requests import Request
from airflow_provider_apify.exceptions import (
    ApifyApiError,
    ApifyConfigurationError,
    ApifyConnectionNotFoundError,
    ApifySupersededError,
    flavoured,
    timed_out,
)
from airflow_provider_apify.hooks.connection import Settings
from airflow_provider_apify.hooks.sync_transport import SyncTransport
from airflow_provider_apify.jobs.version import version_to_build
from airflow_provider_apify.jobs.wait import DeadlineReached, Watch, backoff

if TYPE_CHECKING:
    from airflow_provider_apify.hooks.async_transport import AsyncTransport

T = TypeVar("T")

#: How often a request is sent in all when its failures pass: with the pauses between, for about a minute.
ATTEMPTS = 8
#: Seconds after which a refused token is read anew from the Airflow connection.
_TOKEN_AGE = 5.0
#: Longest pause in seconds between the aborts of a trigger that is being cancelled: Airflow gives it 30 s.
_ABORT_PAUSE = 5.0
#: Seconds for the requests of :meth:`ApifyHook.quick`.
_QUICK_TIMEOUT = 1.2
#: Longest line of a log that is kept, in bytes, on average over the lines asked for.
_LINE_BYTES = 2000


class ApifyHook(BaseHook):
    """
    Talk to Apify.

    Requests that may be repeated are, for about a minute, after 429, 5xx and network trouble; the one that starts a
    build only if it is proven that Apify has not accepted it (``api.requests.may_repeat``). Failures raise an
    ``ApifyApiError``, arguments and connection fields that cannot be used an ``ApifyConfigurationError``.

    :param apify_conn_id: Airflow connection of type ``apify``: the token as password, the base URL as host if it is
        not ``https://api.apify.com``, and the fields ``proxy``, ``ca_bundle``, ``timeout``, ``wait_seconds``,
        ``connections``, ``allow_http`` and ``console_url``. It is read at the first request, and again by a copy of
        the hook.
    """

    conn_name_attr = "apify_conn_id"
    default_conn_name = "apify_default"
    conn_type = "apify"
    hook_name = "Apify"

    def __init__(self, apify_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.apify_conn_id = apify_conn_id
        self._start_unused()

    def _start_unused(self) -> None:
        #: Set it to stop retrying; requests under way go on.
        self.stopping = threading.Event()
        self._transport: SyncTransport | None = None
        self._connected_at = 0.0
        self._longest_pause = math.inf
        self._say: Callable[[str], object] = self.log.warning

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what cannot leave this process, the token above all: a copy is a hook that was not used yet."""
        unused = {"stopping", "_transport", "_connected_at", "_longest_pause", "_say", "_log"}
        return {name: value for name, value in self.__dict__.items() if name not in unused}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start_unused()

    # -- builds ---------------------------------------------------------------------------------------------------

    def start_build(
        self,
        actor_id: str,
        *,
        version: str | None = None,
        tag: str | None = None,
        use_cache: bool | None = None,
        beta_packages: bool | None = None,
        wait_for_finish: int | None = None,
        fingerprint: object = "",
        attempts: int = ATTEMPTS,
    ) -> Build:
        """
        Start a build (``POST /v2/acts/:actorId/builds``). ``None`` leaves a parameter to Apify's default.

        :param actor_id: id, ``user~name``, ``user/name`` or, for an own Actor, ``~name``.
        :param version: version number of the Actor, ``MAJOR.MINOR``, such as ``"0.0"``. ``None`` or ``""``: the only
            version; else the one whose build tag is ``latest``; else the only one without a build tag. Costs one
            request more.
        :param tag: tag to put on the build if it succeeds. ``None`` or ``""``: the version's build tag.
        :param use_cache: use Docker layers of earlier builds; Apify's default is not to.
        :param beta_packages: install the beta versions of Apify's packages; Apify's default is not to.
        :param wait_for_finish: seconds, 0 to 60, for which Apify holds its answer back while the build is unfinished.
        :param fingerprint: text to add to the User-Agent, which Apify records in the build's ``meta.userAgent``.
        :param attempts: how often to send the request in all while it is proven that Apify has not accepted it.
        :return: the build, in general unfinished.
        :raises ApifyApiError: with ``outcome_unknown`` set, a build may have been started: look with
            ``list_builds`` before starting another.
        :raises ApifyConfigurationError: an argument cannot be used; or ``version`` is left out, and it is not clear
            which one is meant, or ``tag`` is the build tag of another one.
        """
        if not version:
            version = self.choose_version(actor_id, tag)
        with _arguments():
            request = api.start_build(
                actor_id,
                version=version,
                tag=tag or None,
                use_cache=use_cache,
                beta_packages=beta_packages,
                wait_for_finish=wait_for_finish,
            )
        return self._call(request, self._build, fingerprint=fingerprint, attempts=attempts)

    def get_build(self, build_id: str, *, wait_for_finish: int | None = None, attempts: int = ATTEMPTS) -> Build:
        """
        Get a build (``GET /v2/actor-builds/:buildId``).

        :param wait_for_finish: seconds, 0 to 60, to hold the answer back while the build is unfinished.
        :param attempts: how often to send the request in all while its failures pass.
        """
        with _arguments():
            request = api.get_build(build_id, wait_for_finish=wait_for_finish)
        return self._call(request, self._build, attempts=attempts)

    def wait_for_build(
        self,
        build_id: str,
        *,
        timeout: float | None = None,
        on_status: Callable[[Build], None] = lambda build: None,
        patience: float = 0.0,
    ) -> Build:
        """
        Wait until a build ends, and give it whatever its status.

        What passes (429, 5xx, network trouble, a 404 for some seconds, an unknown status) is waited out, and other
        refusals (409, 423, ...) for 10 minutes.

        :param timeout: seconds, or ``None`` for as long as it takes; 0 looks once.
        :param on_status: called with the unfinished build when first seen and whenever its status has changed.
        :param patience: seconds to go on trying after ``timeout`` if the build cannot be seen then.
        :raises ApifyBuildTimeout: it has not ended in time; it is left running.
        :raises ApifyPollError: for 10 minutes all answers were refusals that say nothing of the build.
        :raises ApifyApiError: asking again cannot help: the build is not there, or the token is refused.
        """
        with _arguments():
            if timeout is not None and timeout < 0:
                raise ValueError(f"timeout must be a number of seconds from 0, or None; got {timeout!r}")
        deadline = None if timeout is None else time.monotonic() + timeout
        watch = Watch(deadline, on_status, self.log.warning, patience)
        try:
            while True:
                pause: float | None
                wait = watch.next_wait(time.monotonic(), self.settings.wait_seconds)
                try:
                    build = self.get_build(build_id, wait_for_finish=wait, attempts=1)
                except ApiError as error:
                    pause = watch.failed(error, time.monotonic())
                else:
                    pause = watch.seen(build, time.monotonic())
                    if pause is None:
                        return build
                self._pause(pause)
        except PollError as error:
            raise self._named(error, self._transport) from None
        except DeadlineReached:
            raise timed_out(build_id, watch.build, watch.trouble) from None

    def check_build(self, build_id: str, *, first: bool = True) -> Build | None:
        """
        Look at a build once; ``None`` if there is no telling now.

        :param first: whether the build has not been seen before: then a refusal or a certificate that is not trusted
            may be the caller's fault, and is raised.
        :raises ApifyApiError: as ``wait_for_build`` does.
        """
        watch = Watch(None, say=self.log.warning)
        while True:
            watch.next_wait(time.monotonic(), 0)
            try:
                return self.get_build(build_id, attempts=1)
            except ApiError as error:
                missing = isinstance(error, NotFoundError)
                if first and not (missing or error.transient):
                    raise
                pause = watch.failed(error, time.monotonic())
                if not missing:
                    return None
                time.sleep(pause)

    def abort_build(self, build_id: str, *, attempts: int = ATTEMPTS) -> Build:
        """Abort a build (``POST /v2/actor-builds/:buildId/abort``). Does nothing to one that has ended."""
        with _arguments():
            request = api.abort_build(build_id)
        return self._call(request, self._build, attempts=attempts)

    def list_builds(
        self,
        actor_id: str,
        *,
        limit: int = api.PAGE_LIMIT,
        offset: int = 0,
        desc: bool = True,
        attempts: int = ATTEMPTS,
    ) -> list[Build]:
        """
        List an Actor's builds by start time, one page (``GET /v2/acts/:actorId/builds``).

        :param limit: most builds to give, 1 to 1000.
        :param offset: how many builds to pass over, 0 or more.
        :param desc: newest first.
        """
        with _arguments():
            request = api.list_builds(actor_id, limit=limit, offset=offset, desc=desc)
        return self._call(request, self._builds, attempts=attempts)

    def get_build_log(self, build_id: str, *, tail_lines: int = 20, attempts: int = ATTEMPTS) -> str:
        """
        Get the end of a build's log (``GET /v2/actor-builds/:buildId/log``).

        The log is read as a stream: whatever its size, only about its last ``tail_lines`` times 2 kB are in memory.

        :param tail_lines: how many lines that are not blank, at least 1.
        """
        with _arguments():
            request = api.get_build_log(build_id)
            if tail_lines < 1:
                raise ValueError(f"tail_lines must be at least 1, got {tail_lines!r}")
        tail = self._retrying(request, attempts, lambda transport: transport.tail(request, tail_lines * _LINE_BYTES))
        text = tail.decode(errors="replace").replace(self.settings.token, "***")
        lines = [line for line in text.splitlines() if line.strip()]
        return "\n".join(lines[-tail_lines:])

    # -- Actors, account ------------------------------------------------------------------------------------------

    def get_actor(self, actor_id: str, *, attempts: int = ATTEMPTS) -> Actor:
        """
        Get an Actor with its versions and tagged builds (``GET /v2/acts/:actorId``).

        :param attempts: how often to send the request in all while its failures pass.
        """
        with _arguments():
            request = api.get_actor(actor_id)
        return self._call(request, Actor.from_api, attempts=attempts)

    def choose_version(self, actor_id: str, tag: str | None) -> str:
        """Choose the version for :meth:`start_build` where none is named, and log why."""
        actor = self.get_actor(actor_id)
        with _arguments():
            version, reason = version_to_build(actor, tag)
        self.log.info("Building version %s of Actor %s: %s.", version, actor_id, reason)
        return version

    def test_connection(self) -> tuple[bool, str]:
        """Ask whose token it is (``GET /v2/users/me``), for Airflow's button *Test*. Sends one request."""
        try:
            user = self._call(api.get_user(), dict, attempts=1)
        except Exception as error:
            # Airflow tests a copy of the connection, whose id is of no use to anybody.
            lines = str(error).removeprefix(f"Connection {self.apify_conn_id!r}: ").splitlines()
            return False, " ".join(line for line in lines if not line.startswith(f"Connection {self.apify_conn_id!r}"))
        # Nothing more of that answer: it holds a proxy password.
        name = user.get("username") or user.get("id") or "of unknown name"
        return True, f"Connected to {self.settings.base_url} as Apify account {name}."

    # -- triggers -------------------------------------------------------------------------------------------------

    async def wait_for_build_async(
        self,
        build_id: str,
        *,
        deadline: float | None,
        on_status: Callable[[Build], None] = lambda build: None,
    ) -> Build:
        """
        Wait as :meth:`wait_for_build` does, on an event loop, over a session shared by all that wait there.

        :param deadline: epoch seconds, or ``None``.
        """
        from asyncio import sleep

        request = api.get_build(build_id)
        async with self.shared_transport() as transport:
            watch = Watch(deadline, on_status, self.log.warning)
            try:
                while True:
                    pause: float | None
                    wait = watch.next_wait(time.time(), api.MAX_WAIT_SECONDS)
                    try:
                        answer = await transport.ask(build_id, wait)
                        parse = partial(Build.from_api, console_url=(await transport.settings()).console_url)
                        build = _parsed(request, parse, answer)
                    except ApiError as error:
                        pause = watch.failed(self._named(error, transport), time.time())
                    else:
                        pause = watch.seen(build, time.time())
                        if pause is None:
                            return build
                    await sleep(pause)
            except PollError as error:
                raise self._named(error, transport) from None
            except DeadlineReached:
                raise timed_out(build_id, watch.build, watch.trouble) from None

    async def abort_build_async(self, build_id: str) -> Build:
        """Abort a build from an event loop, trying again for as long as the caller lets it."""
        request = api.abort_build(build_id)
        async with self.shared_transport() as transport:
            try:
                async for attempt in AsyncRetrying(**_rules(request, ATTEMPTS, self._say, longest=_ABORT_PAUSE)):
                    with attempt:
                        build = _parsed(request, Build.from_api, await transport.send(request))
            except ApiError as error:
                raise self._named(error, transport) from None
        return build

    def shared_transport(self) -> AbstractAsyncContextManager[AsyncTransport]:
        """Give the session that this event loop keeps for the connection."""
        from airflow_provider_apify.hooks.async_transport import shared_transport

        return shared_transport(self.apify_conn_id, self._load_settings_async)

    # -- inside ---------------------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """The checked connection."""
        return self._connected().settings

    @property
    def clock_offset(self) -> float | None:
        """Seconds by which Apify's clock is ahead of this machine's, by its last answer; ``None``: there was none."""
        return self._transport.clock_offset if self._transport else None

    def _connected(self) -> SyncTransport:
        if self._transport is None:
            self._transport = SyncTransport(self._load_settings())
            self._connected_at = time.monotonic()
        return self._transport

    def _load_settings(self) -> Settings:
        try:
            connection = self.get_connection(self.apify_conn_id)
        except AirflowNotFoundException:
            raise ApifyConnectionNotFoundError(
                f"Airflow has no connection {self.apify_conn_id!r}.\nCorrect apify_conn_id of the task, or add the"
                f" connection: airflow connections add {self.apify_conn_id} --conn-type apify"
                " --conn-password YOUR_APIFY_TOKEN"
            ) from None
        with _arguments():
            settings = Settings.of(
                self.apify_conn_id,
                host=connection.host,
                port=connection.port,
                login=connection.login,
                conn_type=connection.conn_type,
                password=connection.password,
                # Not extra_dejson: what is no JSON, it takes for nothing.
                extra=connection.extra,
            )
        _mask([*settings.secrets, connection.extra_dejson])
        return settings

    async def _load_settings_async(self) -> Settings:
        from asgiref.sync import sync_to_async

        try:
            # Airflow's own ``aget_connection`` fails under ``dag.test()`` of 3.3.2 (AF §4).
            return await sync_to_async(self._load_settings)()
        except ApifyConfigurationError:
            raise
        except Exception as error:
            # The task that defers has read it, so it was there: this passes, or the deadline comes.
            raise NetworkError(f"The connection could not be read: {error}", sent=False) from None

    def _build(self, data: Any) -> Build:
        return Build.from_api(data, console_url=self.settings.console_url)

    def _builds(self, data: Any) -> list[Build]:
        return [self._build(item) for item in data["items"]]

    def _call(
        self, request: Request, parse: Callable[[Any], T], *, fingerprint: object = "", attempts: int = ATTEMPTS
    ) -> T:
        def send(transport: SyncTransport) -> T:
            return _parsed(request, parse, transport.send(request, fingerprint))

        return self._retrying(request, attempts, send)

    def _retrying(self, request: Request, attempts: int, send: Callable[[SyncTransport], T]) -> T:
        result: T = Retrying(**_rules(request, attempts, self._say), sleep=self._pause)(self._once, send)
        return result

    def _pause(self, seconds: float) -> None:
        if self.stopping.wait(min(seconds, self._longest_pause)):
            raise ApifySupersededError("The task is being ended: no more requests for it.")

    def _once(self, send: Callable[[SyncTransport], T]) -> T:
        try:
            try:
                return send(self._connected())
            except AuthenticationError:
                # The token may have been rotated since the connection was read, if that was a while ago.
                if time.monotonic() - self._connected_at < _TOKEN_AGE:
                    raise
                self.close()
                return send(self._connected())
        except ApiError as error:
            raise self._named(error, self._transport) from None

    def _named(self, error: ApiError, transport: SyncTransport | AsyncTransport | None) -> ApifyApiError:
        """Give ``error`` as the exception that Airflow understands, with the connection that it came over."""
        exception = flavoured(error)
        where = f" to {transport.base_url}" if transport and transport.base_url else ""
        exception.args = (f"{error}\nConnection {self.apify_conn_id!r}{where}.",)
        return exception

    def connect(self) -> None:
        """Read and check the Airflow connection, now rather than at the first request; nothing is sent."""
        self._connected()

    def quick(self, timeout: float = _QUICK_TIMEOUT) -> ApifyHook:
        """
        Give a hook for a moment when time is short: it has a session of its own and no patience, asks Airflow nothing,
        and logs nothing, since it may work while the main thread holds a lock of the logging system.

        :meth:`connect` or a request must have come before.

        :param timeout: seconds to connect, and for each part of an answer.
        """
        hook = ApifyHook(self.apify_conn_id)
        hook._transport = SyncTransport(replace(self._connected().settings, timeout=timeout))
        hook._connected_at = time.monotonic()
        hook._longest_pause = 0.5
        hook._say = lambda line: None
        return hook

    def close(self) -> None:
        """Close the connections to Apify. The next request opens one, with the Airflow connection read anew."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None


def _rules(request: Request, attempts: int, say: Callable[[str], object], longest: float = math.inf) -> dict[str, Any]:
    """Give the retry rules of a request as arguments for tenacity, the same for both transports."""

    def again(error: BaseException) -> bool:
        return isinstance(error, ApiError) and api.may_repeat(request.repeat, error)

    def pause(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        return min(longest, backoff(state.attempt_number - 1, error)) if isinstance(error, ApiError) else 0.0

    def tell(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        say(f"{first_line(error)} Sending again in {state.upcoming_sleep:.1f} s.")

    return {
        "retry": retry_if_exception(again),
        "wait": pause,
        "stop": stop_after_attempt(attempts),
        "before_sleep": tell,
        "reraise": True,
    }


def _parsed(request: Request, parse: Callable[[Any], T], data: Any) -> T:
    try:
        return parse(data)
    except (ValueError, TypeError, KeyError) as error:
        raise unreadable(str(request), 200, str(error)) from None


def _mask(secrets: list[Any]) -> None:
    """Keep them out of logs: Airflow itself masks the field ``proxy`` only since 3.1.6, and variables never."""
    try:
        from airflow.sdk.log import mask_secret
    except ImportError:  # before Airflow 3.1
        from airflow.sdk.execution_time.secrets_masker import mask_secret  # type: ignore[no-redef]
    mask_secret(secrets)


@contextmanager
def _arguments() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ApifyConfigurationError(str(error)) from None
