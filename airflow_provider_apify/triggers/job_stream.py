"""
The stream of an account's jobs that have ended, as Airflow 3.3 reads it for one watcher.

What has been announced is saved only after Airflow has stored the event that announces it. So a triggerer that is lost
at any moment costs no event, at most one is sent twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.triggers.shared_stream import SharedStreamProducer

from airflow_provider_apify import compat
from airflow_provider_apify.api.job import Job, JobKind
from airflow_provider_apify.client.polls import Polls, shared_polls
from airflow_provider_apify.jobs.ended import OVERLAP, Mark, Wanted, ended_since, first_mark

if TYPE_CHECKING:
    from airflow.triggers.shared_stream import AdvanceItem

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Most jobs of one event.
MOST_JOBS = 1000
#: Seconds after which what has been seen is saved although no job was announced.
SAVE_EVERY = 600.0
#: First and longest pause in seconds after something has failed that is not Apify's list, which has pauses of its own.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
#: How often saving is tried: who is told to stop waits for it. What is not saved now is saved with the next event.
SAVE_TRIES = 3
#: What lists of jobs do not show.
NOT_LISTED = ("stats", "usage", "status_message", "exit_code", "charged_event_counts")


class EndedJobs(SharedStreamProducer):
    """The stream of one watcher. For the parameters see :class:`..events.ApifyRunsEventTrigger`."""

    def __init__(
        self,
        kind: JobKind[Job],
        *,
        asset_name: str,
        actor_id: str | None,
        statuses: Sequence[str] | None,
        apify_conn_id: str,
        since: str | None,
        max_catch_up: float,
        poll_interval: float,
    ) -> None:
        self.kind = kind
        self.asset_name = asset_name
        self.actor_id = actor_id
        self.statuses = None if statuses is None else frozenset(statuses)
        self.apify_conn_id = apify_conn_id
        self.since = since
        self.max_catch_up = max_catch_up
        self.poll_interval = poll_interval
        self.store = compat.asset_state_store(asset_name)
        #: Where what is announced changes, all begins again: what was not wanted before is not old.
        which = repr((apify_conn_id, actor_id, sorted(statuses or ())))
        self.key = f"apify.{kind.name}s.{hashlib.sha256(which.encode()).hexdigest()[:16]}"
        #: Whether an event was not stored: nothing later may be saved, so that it is sent again.
        self._event_lost = False

    async def open_stream(self) -> AsyncIterator[tuple[dict[str, Any], Mark | None]]:
        """Give events, each with what is to be saved when Airflow has stored it; ``None``: nothing yet."""
        mark = saved = await self._until_done("read what has been announced", self._saved)
        look: int | None = None
        saved_at = time.monotonic()
        async with shared_polls(self.apify_conn_id) as polls:
            while True:
                jobs, mark, look = await self._until_done("see what has ended", self._look, polls, mark, look)
                events = list(self._events(jobs))
                for event in events[:-1]:
                    yield event, None
                    # Airflow may not start a DAG for an event that closely follows another.
                    await asyncio.sleep(self.poll_interval)
                due = saved is None or (mark != saved and time.monotonic() - saved_at > SAVE_EVERY)
                if events or due:
                    yield events[-1] if events else {"kind": self.kind.name, "jobs": []}, mark
                    saved, saved_at = mark, time.monotonic()

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Save what the last of these events, which Airflow has stored, has announced."""
        mark: Mark | None = None
        for item in batch:
            self._event_lost = self._event_lost or not item.outcome.acked or item.outcome.failed > 0
            if not self._event_lost:
                mark = item.broker_payload or mark
        if mark is None:
            return
        for tries in range(SAVE_TRIES):
            try:
                return await self.store.aset(self.key, mark.to_json())  # type: ignore[no-any-return]
            except Exception as error:  # noqa: PERF203
                log.warning(
                    "Asset %r: what has been announced could not be saved: %s\nIf the triggerer ends now, it is"
                    " announced again.",
                    self.asset_name,
                    error,
                )
                await asyncio.sleep(_pause(tries))

    async def _until_done(self, what: str, do: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Do it until it does not fail: Airflow starts a watcher that fails again every two seconds, without end."""
        tries = 0
        while True:
            try:
                return await do(*args)
            except Exception as error:  # noqa: PERF203
                pause = _pause(tries)
                log.warning("Asset %r: could not %s: %s\nTried again in %.0f s.", self.asset_name, what, error, pause)
                await asyncio.sleep(pause)
                tries += 1

    async def _saved(self) -> Mark | None:
        record = await self.store.aget(self.key)
        if record is not None:
            try:
                return Mark.from_json(record)
            except ValueError as error:
                log.warning(
                    "Asset %r: what is saved under %r is %s. Watching from now on.", self.asset_name, self.key, error
                )
        if self.since is None:
            return None
        return Mark(datetime.fromisoformat(self.since).timestamp() + OVERLAP)

    async def _look(self, polls: Polls, mark: Mark | None, look: int | None) -> tuple[list[Job], Mark, int]:
        """Wait for the next look at the list; give what has ended, what is to be kept of it, and the look's number."""
        wanted = Wanted(self.actor_id and await polls.actor_id(self.actor_id), self.statuses)
        feed = polls.feed(self.kind, self.poll_interval)
        furthest = time.time() - self.max_catch_up
        if mark is None or (look is None and not (mark.unfinished or mark.handled)):
            # A mark without jobs, as `since` makes it, does not know what has been running for longer.
            down_to = furthest
        else:
            down_to = max(mark.down_to, furthest)
        found = await feed.look(str(id(self)), down_to)
        if mark is None:
            return [], first_mark(found), feed.looks
        if look is None and down_to > mark.down_to and mark.newest:
            log.warning(
                "Asset %r: %ss that began more than %.0f s ago and were not seen yet may not be announced, since the"
                " list is read no further back. Set max_catch_up for more.",
                self.asset_name,
                self.kind.name,
                self.max_catch_up,
            )
        ended, mark = await ended_since(mark, found, wanted, feed.whole, look and feed.looks)
        return ended, mark, feed.looks

    def _events(self, jobs: Sequence[Job]) -> Iterator[dict[str, Any]]:
        for first in range(0, len(jobs), MOST_JOBS):
            part = [_announced(job) for job in jobs[first : first + MOST_JOBS]]
            log.info("Asset %r: %d %ss have ended.", self.asset_name, len(part), self.kind.name)
            yield {"kind": self.kind.name, "jobs": part}


def _announced(job: Job) -> dict[str, Any]:
    return {name: value for name, value in job.summary().items() if name not in NOT_LISTED}


def _pause(tries: int) -> float:
    return float(min(LONGEST_PAUSE, FIRST_PAUSE * 2**tries))
