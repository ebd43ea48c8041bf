"""
Apify's API as a task uses it: any kind of job, with our rules of repeating and waiting, over an Airflow connection.

Not public: users call ``hooks.apify.ApifyHook``.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_apify.api import endpoints, fields
from airflow_provider_apify.api.builds import Actor
from airflow_provider_apify.api.endpoints import MAX_WAIT_SECONDS, PAGE_LIMIT, Request, Start
from airflow_provider_apify.api.errors import AUTHENTICATION, NOT_FOUND, ApiError, first_line, may_repeat
from airflow_provider_apify.api.job import J, JobKind
from airflow_provider_apify.client import wire
from airflow_provider_apify.client.failures import as_airflow_error, configuration, timed_out
from airflow_provider_apify.client.settings import Settings, Source
from airflow_provider_apify.client.worker import Stream, SyncTransport
from airflow_provider_apify.exceptions import ApifyApiError, ApifySupersededError
from airflow_provider_apify.jobs.start import ATTEMPTS
from airflow_provider_apify.jobs.wait import DeadlineReached, Watch, backoff

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

T = TypeVar("T")

#: Longest pause in seconds between the aborts of a trigger that is being cancelled: Airflow gives it 30 s.
_ABORT_PAUSE = 5.0
#: Seconds for the requests of an impatient client, and its longest pause between two.
_IMPATIENT_TIMEOUT, _IMPATIENT_PAUSE = 1.2, 0.5
#: Longest line of a log that is kept, in bytes, on average over the lines asked for.
_LINE_BYTES = 2000
#: Longest time in seconds in which a log that is streamed may say nothing.
_LOG_SILENCE = 60.0


class Client:
    """
    One task's, or one hook's, way to Apify. Not for several threads at a time, but for :meth:`impatient`.

    All methods raise ``ApifyApiError``, ``ApifyConfigurationError`` for an argument or a connection that cannot be
    used, and ``ApifySupersededError`` once ``stopping`` is set. Where a method has ``attempts``, it is how often the
    request is sent in all while its failures pass.
    """

    def __init__(self, source: Source, log: Logger, *, longest_pause: float = math.inf) -> None:
        self._source = source
        self._log = log
        self._longest_pause = longest_pause
        self._transport: SyncTransport | None = None
        #: Set it to stop retrying; requests under way finish.
        self.stopping = threading.Event()

    @classmethod
    def of(cls, task: Any) -> Client:
        """Give the client of a task or trigger: over the connection that its ``apify_conn_id`` names."""
        return cls(Source(task.apify_conn_id), task.log)

    @property
    def settings(self) -> Settings:
        """The checked connection."""
        return self.connect().settings

    @property
    def clock_offset(self) -> float | None:
        """Seconds by which Apify's clock is ahead of this machine's, by its last answer; ``None``: there was none."""
        return self._transport.clock_offset if self._transport else None

    def connect(self) -> SyncTransport:
        """Read and check the Airflow connection, now rather than at the first request; nothing is sent."""
        if self._transport is None:
            self._transport = SyncTransport(self._source.current())
        return self._transport

    def close(self) -> None:
        """Close the connections to Apify. The next request opens one."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def impatient(self, timeout: float = _IMPATIENT_TIMEOUT) -> Client:
        """
        Give a client for a moment when time is short: it has a session of its own and no patience, asks Airflow
        nothing, and logs nothing, since it may work while the main thread holds a lock of the logging system.

        :meth:`connect` or a request must have come before.

        :param timeout: seconds to connect, and for each part of an answer.
        """
        source = Source(self._source.conn_id, replace(self.settings, timeout=timeout))
        return Client(source, _Silent(), longest_pause=_IMPATIENT_PAUSE)  # type: ignore[arg-type]

    def another(self) -> Client:
        """Give a client over the same connection, with a session of its own, for another thread."""
        return Client(Source(self._source.conn_id, self.settings), self._log)

    # -- in a worker ----------------------------------------------------------------------------------------------

    def call(
        self, request: Request, parse: Callable[[Any], T], *, fingerprint: object = "", attempts: int = ATTEMPTS
    ) -> T:
        """
        Send a request, again as ``api.errors.may_repeat`` allows, and give what ``parse`` makes of the answer.

        :param fingerprint: text to add to the User-Agent.
        """
        return self._retrying(
            request, attempts, lambda transport: wire.parsed(request, parse, transport.send(request, fingerprint))
        )

    @contextmanager
    def stream(self, request: Request, *, silence: float | None = None) -> Iterator[Stream]:
        """
        Send a request once, and give its answer to be read as it comes. See :meth:`pause_after` for the next try.

        :param silence: longest time in seconds between two parts of one that may take for ever; ``None``: it may not.
        """
        with ExitStack() as stack:
            yield self._once(lambda transport: stack.enter_context(transport.stream(request, silence=silence)))

    def pause_after(self, error: ApiError, failures: int, request: Request) -> None:
        """
        Pause before ``request``, whose answer was read by :meth:`stream`, is sent again.

        :param error: the last of ``failures`` in a row.
        :raises ApifyApiError: ``error``, if the request may not be sent again.
        """
        named = self._named(error, self.settings)
        self.pause(self._pause_after(named, failures, request, ATTEMPTS, self._longest_pause))

    def get_actor(self, actor_id: str, *, attempts: int = ATTEMPTS) -> Actor:
        """Get an Actor with its versions and tagged builds."""
        with configuration():
            request = endpoints.get_actor(actor_id)
        return self.call(request, Actor.from_api, attempts=attempts)

    def start(self, start: Start[J], *, fingerprint: object = "", attempts: int = ATTEMPTS) -> J:
        """Start a job. With ``outcome_unknown`` set, an ``ApifyApiError`` says that there may be one all the same."""
        return self.call(start.request, self._parser(start.kind), fingerprint=fingerprint, attempts=attempts)

    def get(self, kind: JobKind[J], job_id: str, *, wait_for_finish: int | None = None, attempts: int = ATTEMPTS) -> J:
        """Get a job; the answer is held back for up to ``wait_for_finish`` (0 to 60) seconds while it is unfinished."""
        with configuration():
            request = endpoints.get_job(kind, job_id, wait_for_finish=wait_for_finish)
        return self.call(request, self._parser(kind), attempts=attempts)

    def wait(
        self,
        kind: JobKind[J],
        job_id: str,
        *,
        timeout: float | None = None,
        on_status: Callable[[J], None] = lambda job: None,
        patience: float = 0.0,
    ) -> J:
        """
        Wait until a job ends, as ``ApifyHook.wait_for_build`` says it of builds.

        :param patience: seconds to continue to try after ``timeout`` if the job cannot be seen then.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        watch = Watch(kind, deadline, on_status, self._log.warning, patience)
        try:
            while True:
                pause: float | None
                wait = watch.next_wait(time.monotonic(), self.settings.wait_seconds)
                try:
                    job = self.get(kind, job_id, wait_for_finish=wait, attempts=1)
                except ApiError as error:
                    pause = watch.failed(error, time.monotonic())
                else:
                    pause = watch.seen(job, time.monotonic())
                    if pause is None:
                        return job
                self.pause(pause)
        except ApiError as error:
            raise self._named(error, self.settings) from None
        except DeadlineReached:
            raise timed_out(kind, job_id, watch.job, watch.trouble) from None

    def check(self, kind: JobKind[J], job_id: str, *, first: bool = True) -> J | None:
        """
        Look at a job once; ``None`` if there is no telling now.

        :param first: whether the job has not been seen before: then a refusal or a certificate that is not trusted
            may be the caller's fault, and is raised.
        :raises ApifyApiError: as :meth:`wait` does.
        """
        watch = Watch(kind, None, warn=self._log.warning)
        while True:
            try:
                return self.get(kind, job_id, attempts=1)
            except ApiError as error:
                missing = error.kind == NOT_FOUND
                if first and not (missing or error.transient):
                    raise
                pause = watch.failed(error, time.monotonic())
                if not missing:
                    return None
            self.pause(pause)

    def abort(self, kind: JobKind[J], job_id: str, *, gracefully: bool = False, attempts: int = ATTEMPTS) -> J:
        """Abort a job; ``gracefully``: give it time to save what it has. Does nothing to one that has ended."""
        with configuration():
            request = endpoints.abort_job(kind, job_id, gracefully=gracefully)
        return self.call(request, self._parser(kind), attempts=attempts)

    def list_jobs(
        self,
        kind: JobKind[J],
        collection: str,
        *,
        limit: int = PAGE_LIMIT,
        offset: int = 0,
        desc: bool = True,
        attempts: int = ATTEMPTS,
    ) -> list[J]:
        """List jobs of ``collection`` by start time: ``limit`` (1 to 1000) of them, without the first ``offset``."""
        request = endpoints.list_jobs(collection, limit=limit, offset=offset, desc=desc)
        parse = self._parser(kind)
        return self.call(request, lambda data: [parse(item) for item in data["items"]], attempts=attempts)

    def log_tail(self, kind: JobKind[J], job_id: str, *, lines: int = 20, attempts: int = ATTEMPTS) -> str:
        """
        Get the last ``lines`` lines of a job's log that are not blank.

        The log is read as a stream: whatever its size, only about ``lines`` times 2 kB are in memory.
        """
        with configuration():
            request = endpoints.get_job_log(kind, job_id)
        tail = self._retrying(request, attempts, lambda transport: transport.tail(request, lines * _LINE_BYTES))
        text = self.shown(tail.decode(errors="replace"))
        return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])

    def shown(self, text: str) -> str:
        """Give what a job has printed as a log may show it: without the token, and without escapes of terminals."""
        return fields.printable(text.replace(self.settings.token, "***"))

    def log_stream(self, kind: JobKind[J], job_id: str) -> Iterator[bytes]:
        """
        Give a job's log from its begin, as it is written, until the job ends. Not repeated: ask again for that.

        It may hold the token, if the job has printed it, which may be split over two parts: :meth:`shown` takes it out.
        """
        with configuration():
            request = endpoints.get_job_log(kind, job_id, stream=True)
        with self.stream(request, silence=_LOG_SILENCE) as answer:
            yield from answer.chunks

    # -- in a triggerer -------------------------------------------------------------------------------------------

    async def wait_async(
        self,
        kind: JobKind[J],
        job_id: str,
        *,
        deadline: float | None,
        on_status: Callable[[J], None] = lambda job: None,
    ) -> J:
        """
        Wait as :meth:`wait` does, on an event loop, over a session shared by all that wait there.

        :param deadline: epoch seconds, or ``None``.
        """
        from airflow_provider_apify.client.polls import shared_polls

        with configuration():
            endpoints.check_job_id(kind, job_id)
        # Looked up when needed: Airflow's log makes an object for it.
        watch = Watch(kind, deadline, on_status, lambda line: self._log.warning(line))
        async with shared_polls(self._source.conn_id) as polls:
            try:
                while True:
                    pause: float | None
                    wait = watch.next_wait(time.time(), MAX_WAIT_SECONDS)
                    try:
                        job = await polls.ask(kind, job_id, wait)
                    except ApiError as error:
                        pause = watch.failed(self._named(error, polls.settings), time.time())
                    else:
                        pause = watch.seen(job, time.time())
                        if pause is None:
                            return job
                    await asyncio.sleep(pause)
            except ApiError as error:
                raise self._named(error, polls.settings) from None
            except DeadlineReached:
                raise timed_out(kind, job_id, watch.job, watch.trouble) from None

    async def abort_async(self, kind: JobKind[J], job_id: str, *, gracefully: bool = False) -> J:
        """Abort a job from an event loop, as :meth:`abort` does, trying again for as long as the caller lets it."""
        from airflow_provider_apify.client.polls import shared_polls

        with configuration():
            request = endpoints.abort_job(kind, job_id, gracefully=gracefully)
        failures = 0
        async with shared_polls(self._source.conn_id) as polls:
            while True:
                try:
                    return wire.parsed(request, kind.job.from_api, await polls.transport.send(request))
                except ApiError as error:
                    failures += 1
                    named = self._named(error, polls.settings)
                    pause = self._pause_after(named, failures, request, ATTEMPTS, _ABORT_PAUSE)
                await asyncio.sleep(pause)

    async def wait_for_room_async(self, mbytes: float | None, *, since: float, patience: float) -> None:
        """Wait until there may be room for one more job, as ``polls.Polls.wait_for_room`` says it."""
        from airflow_provider_apify.client.polls import shared_polls

        async with shared_polls(self._source.conn_id) as polls:
            await polls.wait_for_room(mbytes, since=since, patience=patience)

    # -- inside ---------------------------------------------------------------------------------------------------

    def _parser(self, kind: JobKind[J]) -> Callable[[Any], J]:
        return partial(kind.job.from_api, console_url=self.settings.console_url)

    def _retrying(self, request: Request, attempts: int, send: Callable[[SyncTransport], T]) -> T:
        failures = 0
        while True:
            try:
                return self._once(send)
            except ApiError as error:
                failures += 1
                pause = self._pause_after(error, failures, request, attempts, self._longest_pause)
            self.pause(pause)

    def _once(self, send: Callable[[SyncTransport], T]) -> T:
        transport = self.connect()
        try:
            try:
                return send(transport)
            except ApiError as error:
                if error.kind != AUTHENTICATION or self._source.renewed(transport.settings) == transport.settings:
                    raise
                self.close()
                transport = self.connect()
                return send(transport)
        except ApiError as error:
            raise self._named(error, transport.settings) from None

    def pause(self, seconds: float) -> None:
        """Wait, unless ``stopping`` is set."""
        if self.stopping.wait(seconds):
            raise ApifySupersededError("The task is being ended: no more requests for it.")

    def _named(self, error: ApiError, settings: Settings | None) -> ApifyApiError:
        """Give ``error`` as the exception that Airflow understands, with the connection that it came over."""
        where = f" to {settings.base_url}" if settings else ""
        return as_airflow_error(error, f"Connection {self._source.conn_id!r}{where}.")

    def _pause_after(
        self, error: ApiError, failures: int, request: Request, attempts: int, longest_pause: float
    ) -> float:
        """
        Give the seconds to pause before a request is sent again, the same in a worker and on an event loop.

        :param error: the last of ``failures`` in a row.
        :raises ApiError: ``error``, if the request may not be sent again, or has been sent ``attempts`` times.
        """
        if failures >= attempts or not may_repeat(request.repeat, error):
            raise error from None
        pause = min(longest_pause, backoff(failures - 1, error))
        self._log.warning("%s Sending again in %.1f s.", first_line(error), pause)
        return pause


class _Silent:
    """A log for a thread that may log nothing."""

    def warning(self, *args: object) -> None: ...
