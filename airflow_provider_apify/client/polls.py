"""
Asking for any number of jobs from one event loop, over one session for each Airflow connection.

:class:`Polls` is for who waits for a job that it knows, :class:`Feed` for who wants to know of all.

A long-poll is answered the moment its job ends. Where the connection allows none (``wait_seconds`` 0), all who wait
share one request every few seconds, which lists the account's jobs, newest first: who is seen there to have ended is
asked for at once, and who is not in the list after the time that a long-poll would have taken.

Those who wait for room to start a job share one request for the account's limits in the same way.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import count
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from airflow_provider_apify.api.account import Account, get_limits
from airflow_provider_apify.api.builds import Actor
from airflow_provider_apify.api.endpoints import PAGE_LIMIT, Request, get_actor, get_job, list_jobs
from airflow_provider_apify.api.errors import ApiError
from airflow_provider_apify.api.job import TERMINAL, J, Job, JobKind
from airflow_provider_apify.client import wire
from airflow_provider_apify.client.settings import Settings, Source
from airflow_provider_apify.client.triggerer import AsyncTransport
from airflow_provider_apify.exceptions import ApifyException
from airflow_provider_apify.jobs import room
from airflow_provider_apify.jobs.room import Room, Waiter
from airflow_provider_apify.jobs.wait import backoff

K = TypeVar("K")

#: Seconds from one look at the list to the next, and after one that was refused.
LIST_INTERVAL, REFUSED_PAUSE = 3.0, 60.0
#: Most requests at a time beside the long-polls.
SHORT_REQUESTS = 20
#: Seconds between the starts of two long-polls, on average: a TLS handshake takes a millisecond of the loop's time.
#: Those due within the second number of seconds start together: each alone would wake the loop several times.
SPACING, TOGETHER = 0.004, 0.04
#: How many jobs each look of a feed asks for, before it asks for more; and seconds before its first look, in which all
#: who start with their triggerer come together.
NEWEST, GATHER = 100, 1.0

log = logging.getLogger(__name__)


class Polls:
    """Asks for jobs on behalf of all triggers of one event loop and Airflow connection."""

    def __init__(self, transport: AsyncTransport) -> None:
        self.transport = transport
        self.users = 0
        self._next_start = 0.0
        self._short = asyncio.Semaphore(SHORT_REQUESTS)
        self._lists: dict[JobKind[Job], Poller[str]] = {}
        self._feeds: dict[tuple[JobKind[Job], float], Feed] = {}
        self._actor_ids: dict[str, str] = {}
        self._room = Room()
        self._limits: Poller[Waiter] | None = None
        #: Whether the account's limits can be read, as far as is known.
        self._limits_known = True
        self._numbers = count()

    @property
    def settings(self) -> Settings | None:
        """The Airflow connection as last read."""
        return self.transport.source.settings

    async def ask(self, kind: JobKind[J], job_id: str, wait: int) -> J:
        """
        Give a job: when it has ended, after about ``wait`` seconds, or earlier.

        :param wait: seconds; with 0 the answer comes at once.
        :raises ApiError: asking failed.
        """
        ends = _now() + wait
        settings = await self.transport.source.current_async()  # which takes a busy triggerer up to 20 s
        if settings.wait_seconds and ends > _now():
            start = max(_now(), self._next_start)
            self._next_start = start + SPACING
            await asyncio.sleep(start - start % TOGETHER - _now())
            seconds = min(settings.wait_seconds, math.ceil(max(0.0, ends - _now())))
            request = get_job(kind, job_id, wait_for_finish=seconds)
            answer = await self.transport.send(request)
        else:
            if ends > _now():
                await self._list_of(kind).wait(job_id, ends - _now())
            request = get_job(kind, job_id)
            async with self._short:
                answer = await self.transport.send(request)
        return wire.parsed(request, partial(kind.job.from_api, console_url=settings.console_url), answer)

    def feed(self, kind: JobKind[Job], interval: float) -> Feed:
        """Give the feed of the account's jobs of a kind that is looked at every ``interval`` seconds."""
        if (kind, interval) not in self._feeds:
            self._feeds[kind, interval] = Feed(self, kind, interval)
        return self._feeds[kind, interval]

    async def actor_id(self, actor: str) -> str:
        """
        Give the id of an Actor that may be called by its name; it is asked for once.

        :raises ApiError: asking failed.
        """
        if "/" not in actor and "~" not in actor:
            return actor
        async with self._short:
            if actor not in self._actor_ids:
                request = get_actor(actor)
                self._actor_ids[actor] = wire.parsed(request, Actor.from_api, await self.transport.send(request)).id
        return self._actor_ids[actor]

    async def wait_for_room(self, mbytes: float | None, *, since: float, patience: float) -> None:
        """
        Wait until there may be room for one more job.

        :param mbytes: memory that it takes, in MB; ``None`` if that is not known.
        :param since: epoch seconds since when it has waited: the oldest comes first.
        :param patience: seconds to wait where neither the limits nor ``mbytes`` say anything.
        """
        ends = _now() + patience
        if mbytes is not None:
            if self._limits is None:
                self._limits = Poller(self._send_unless_refused, get_limits(), room.INTERVAL, self._who_has_room)
            await self._limits.wait(Waiter(since, next(self._numbers), mbytes), room.TRY_ANYWAY)
            if self._limits_known:
                return
        await asyncio.sleep(max(0.0, ends - _now()))

    async def _send_unless_refused(self, request: Request) -> Any:
        """Give the answer; ``None`` if asking again will not help, as for a token that may not read the limits."""
        try:
            return await self.transport.send(request)
        except (ApiError, ApifyException) as error:
            if isinstance(error, ApiError) and error.transient:
                raise
            return None

    def _who_has_room(self, data: Any, waiting: Collection[Waiter]) -> Collection[Waiter]:
        try:
            account = Account.from_api(data)
        except ValueError:
            self._limits_known = False
            return waiting
        self._limits_known = True
        return self._room.give(account, waiting, _now())

    def _list_of(self, kind: JobKind[Job]) -> Poller[str]:
        if kind not in self._lists:
            self._lists[kind] = Poller(self.transport.send, list_jobs(kind.path), LIST_INTERVAL, _ended)
        return self._lists[kind]


class Poller(Generic[K]):
    """
    One request, sent about every ``interval`` seconds as long as somebody waits for what its answers show.

    :param shown: gives, of the keys that somebody waits for, at least those that an answer shows.
    :param first: seconds before the first one; ``None`` for ``interval``.
    """

    def __init__(
        self,
        send: Callable[[Request], Awaitable[Any]],
        request: Request,
        interval: float,
        shown: Callable[[Any, Collection[K]], Collection[K]],
        first: float | None = None,
    ) -> None:
        self._send = send
        self._request = request
        self._interval = interval
        self._shown = shown
        self._first = interval if first is None else first
        self._answered = -math.inf
        self._waiting: dict[asyncio.Future[None], K] = {}
        self._task: asyncio.Task[None] | None = None

    async def wait(self, key: K, seconds: float | None) -> None:
        """Wait until an answer shows ``key``, for ``seconds`` at most; ``None``: however long it takes."""
        shown: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[shown] = key
        if self._task is None:
            # In a context of its own: it is nobody's, and must not write to the log of the trigger that came first.
            self._task = contextvars.Context().run(asyncio.get_running_loop().create_task, self._poll())
        try:
            await asyncio.wait({shown}, timeout=seconds)
        finally:
            del self._waiting[shown]
            if not self._waiting and self._task is not None:
                self._task.cancel()
                self._task = None

    async def _poll(self) -> None:
        errors, pause = 0, max(self._first, self._answered + self._interval - _now())
        while True:
            await asyncio.sleep(room.jittered(pause))
            try:
                answer = await self._send(self._request)
                keys = self._shown(answer, list(self._waiting.values()))
                errors, pause, self._answered = 0, self._interval, _now()
            except Exception as error:
                # Who asks for the job itself gets the same error, and says so, or sees more than the list shows.
                pause = REFUSED_PAUSE
                if isinstance(error, ApiError) and error.transient:
                    pause = max(self._interval, backoff(errors, error))
                errors += 1
                continue
            for future, key in self._waiting.items():
                if key in keys and not future.done():
                    future.set_result(None)


class Feed:
    """
    The newest of the account's jobs of one kind: asked for every ``interval`` seconds, once for all who look.

    :ivar looks: how often the list has been read.
    """

    def __init__(self, polls: Polls, kind: JobKind[Job], interval: float) -> None:
        self._polls = polls
        self._kind = kind
        self._poller = Poller(
            self._read, list_jobs(kind.path, limit=NEWEST), interval, lambda served, waiting: served, first=GATHER
        )
        #: Down to which start those who wait want the list.
        self._down_to: dict[str, float] = {}
        self._jobs: dict[str, Job] = {}
        #: The jobs asked for by id since the last look.
        self._whole: dict[str, asyncio.Task[Job]] = {}
        self.looks = 0

    async def look(self, who: str, down_to: float) -> Mapping[str, Job]:
        """
        Wait for the next look, and give by id the newest jobs, at least those that began after ``down_to``.

        :param who: tells apart those who look.
        :param down_to: epoch seconds, by Apify's clock.
        """
        self._down_to[who] = down_to
        try:
            await self._poller.wait(who, None)
        finally:
            del self._down_to[who]
        return self._jobs

    async def whole(self, job_id: str) -> Job:
        """
        Give a job as it is now; between two looks it is asked for once.

        :raises ApiError: asking failed.
        """
        if job_id not in self._whole:
            ask = self._polls.ask(self._kind, job_id, 0)
            self._whole[job_id] = contextvars.Context().run(asyncio.ensure_future, ask)
        return await asyncio.shield(self._whole[job_id])

    async def _read(self, request: Request) -> set[str]:
        """Read the list as far as those want it who wait now; gives who they are. Others wait for the next look."""
        served = dict(self._down_to)
        try:
            jobs = await self._pages(request, min(served.values(), default=math.inf))
        except Exception as error:
            log.warning("%s\nWho watches for %ss that end sees none until this passes.", error, self._kind.name)
            raise
        self._jobs, self._whole, self.looks = jobs, {}, self.looks + 1
        return set(served)

    async def _pages(self, request: Request, down_to: float) -> dict[str, Job]:
        jobs: dict[str, Job] = {}
        offset, asked = 0, NEWEST
        while True:
            items = wire.parsed(request, lambda data: list(data["items"]), await self._polls.transport.send(request))
            page = list(self._readable(items))
            # A job that begins meanwhile moves others to the next page, where they are seen again.
            jobs |= {job.id: job for job in page}
            starts = [job.started_at.timestamp() for job in page if job.started_at]
            if len(items) < asked or not starts or min(starts) < down_to:
                return jobs
            offset, asked = offset + asked, PAGE_LIMIT
            request = list_jobs(self._kind.path, limit=asked, offset=offset)

    def _readable(self, items: list[Any]) -> Iterator[Job]:
        console_url = self._polls.settings.console_url if self._polls.settings else None
        for item in items:
            with suppress(ValueError):
                yield self._kind.job.from_api(item, console_url=console_url)


def _ended(data: Any, waiting: Collection[str]) -> set[str]:
    """Give the ids of those jobs of a list that have ended."""
    items = data.get("items") if isinstance(data, Mapping) else None
    return {
        str(item.get("id"))
        for item in (items if isinstance(items, list) else ())
        if isinstance(item, Mapping) and str(item.get("status")) in TERMINAL
    }


def _now() -> float:
    return asyncio.get_running_loop().time()


#: Keyed by loop first: ``dag.test()`` runs each trigger in a loop of its own, and a session dies with its loop.
_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Polls]] = WeakKeyDictionary()


@asynccontextmanager
async def shared_polls(conn_id: str) -> AsyncIterator[Polls]:
    """Give the running loop's polls over an Airflow connection: their session is closed by who needs it last."""
    of_loop = _shared.setdefault(asyncio.get_running_loop(), {})
    polls = of_loop.get(conn_id)
    if polls is None:
        polls = of_loop[conn_id] = Polls(AsyncTransport(Source(conn_id)))
    polls.users += 1
    try:
        yield polls
    finally:
        polls.users -= 1
        if not polls.users:
            # A user may come while this one closes: it must not find the closing session.
            del of_loop[conn_id]
            await polls.transport.close()
