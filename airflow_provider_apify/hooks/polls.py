"""
Asking for any number of builds from one event loop, over a limited number of connections.

A long-poll is answered the moment its build ends, but holds a connection until then. So at most ``budget`` of them are
open; the builds beyond stand in line for one. Nobody is left waiting there: every few seconds one request lists the
account's builds, newest first, and a build that has ended is asked for at once. So is, in turn, a build that the list
does not show, such as one of another account's Actor.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from airflow_provider_apify.api import requests as api
from airflow_provider_apify.api.errors import ApiError, unreadable
from airflow_provider_apify.api.model import TERMINAL
from airflow_provider_apify.api.requests import Request
from airflow_provider_apify.jobs.wait import backoff

#: Seconds from one look at the list to the next.
LIST_INTERVAL = 3.0
#: Seconds for which a list that was refused is left alone.
REFUSED_PAUSE = 60.0
#: Builds not in the list that are asked for after each look: far from Apify's 60 requests a second (API §3.4).
UNLISTED_AT_ONCE = 60
#: Most requests at a time beside the long-polls.
SHORT_REQUESTS = 20
#: Seconds between the starts of two long-polls: a TLS handshake takes about one millisecond of the loop's time.
SPACING = 0.004

Turn = asyncio.Future[bool]


class Polls:
    """
    Asks for builds on behalf of all triggers of one loop and Airflow connection.

    :param send: sends a request once and gives its ``data``.
    """

    def __init__(self, send: Callable[[Request], Awaitable[Any]]) -> None:
        self._send = send
        self._open = 0
        self._budget = 0
        self._next_start = 0.0
        self._short = asyncio.Semaphore(SHORT_REQUESTS)
        #: Who stands in line, first come first served, with the build that each waits for.
        self._line: OrderedDict[Turn, str] = OrderedDict()
        self._watching: asyncio.Task[None] | None = None

    async def ask(self, build_id: str, wait: float, *, budget: int, longest: int) -> Any:
        """
        Give Apify's answer about a build: when the build has ended, after ``wait`` seconds, or earlier.

        :param wait: seconds; with 0 the answer comes at once.
        :param budget: most long-polls to have open.
        :param longest: seconds of the longest long-poll; with 0 there are none.
        :raises ApiError: asking failed.
        """
        ends = _now() + wait
        self._budget = budget
        if not wait:
            return await self._look(build_id)
        if longest and self._open < budget:
            self._open += 1
        elif not await self._stand_in_line(build_id, wait):
            return await self._look(build_id)
        try:
            await self._space()
            seconds = min(longest, math.ceil(max(0.0, ends - _now())))
            return await self._send(api.get_build(build_id, wait_for_finish=seconds))
        finally:
            self._close()

    async def _look(self, build_id: str) -> Any:
        async with self._short:
            return await self._send(api.get_build(build_id))

    async def _space(self) -> None:
        start = max(_now(), self._next_start)
        self._next_start = start + SPACING
        await asyncio.sleep(start - _now())

    def _close(self) -> None:
        """Pass a long-poll that is over on to the first in line, unless the budget was lowered."""
        for turn in self._line if self._open <= self._budget else ():
            if not turn.done():
                turn.set_result(True)
                return
        self._open -= 1

    async def _stand_in_line(self, build_id: str, wait: float) -> bool:
        """Wait until a long-poll may be opened (``True``), or until it is time to look (``False``)."""
        loop = asyncio.get_running_loop()
        turn: Turn = loop.create_future()
        self._line[turn] = build_id
        if self._watching is None:
            # In a context of its own: it is nobody's, and must not write to the log of the trigger that came first.
            self._watching = contextvars.Context().run(loop.create_task, self._watch_list())
        timer = loop.call_later(wait, _look_now, turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.result():
                self._close()
            raise
        finally:
            timer.cancel()
            del self._line[turn]
            if not self._line and self._watching is not None:
                self._watching.cancel()
                self._watching = None

    async def _watch_list(self) -> None:
        """Find the builds in line that have ended, as long as there is a line."""
        refused_until, errors, pause = 0.0, 0, LIST_INTERVAL
        while True:
            await asyncio.sleep(pause)
            pause = LIST_INTERVAL
            line = dict(self._line)
            statuses: dict[str, str] = {}
            try:
                if _now() >= refused_until:
                    statuses = await self._statuses(set(line.values()))
                errors = 0
            except Exception as error:
                if isinstance(error, ApiError) and error.transient:
                    pause = max(LIST_INTERVAL, backoff(errors, error))
                    errors += 1
                    continue
                # Who asks for a build then gets the same error, and tells it, or sees more than the list shows.
                refused_until = _now() + REFUSED_PAUSE
            unlisted = [turn for turn, build_id in line.items() if build_id not in statuses and not turn.done()]
            ended = [turn for turn, build_id in line.items() if statuses.get(build_id) in TERMINAL]
            for turn in ended + unlisted[:UNLISTED_AT_ONCE]:
                _look_now(turn)
            for turn in reversed(unlisted[UNLISTED_AT_ONCE:]):
                if turn in self._line:
                    self._line.move_to_end(turn, last=False)

    async def _statuses(self, wanted: set[str]) -> dict[str, str]:
        """Give id and status of the account's newest builds, as many pages as ``wanted`` may need."""
        statuses: dict[str, str] = {}
        for page in range(1 + math.ceil(len(wanted) / api.PAGE_LIMIT)):
            request = api.list_user_builds(offset=page * api.PAGE_LIMIT)
            data = await self._send(request)
            try:
                items = {str(item["id"]): str(item["status"]) for item in data["items"]}
            except (TypeError, KeyError) as error:
                raise unreadable(str(request), 200, f"it is no list of builds ({type(error).__name__})") from None
            statuses.update(items)
            if len(items) < api.PAGE_LIMIT or wanted <= statuses.keys():
                break
        return statuses


def _now() -> float:
    return asyncio.get_running_loop().time()


def _look_now(turn: Turn) -> None:
    if not turn.done():
        turn.set_result(False)
