"""One request to the emulator: its record in the ledger, the faults it meets, and what endpoints know of it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import MutableMapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from airflow_provider_apify.emulator.connection import Connection
from airflow_provider_apify.emulator.faults import WIRE_KINDS, Faults
from airflow_provider_apify.emulator.jobs import Job
from airflow_provider_apify.emulator.signals import first_of
from airflow_provider_apify.emulator.wire_faults import App, Message, Receive, Send, play

if TYPE_CHECKING:
    from airflow_provider_apify.emulator.world import World

MAX_WAIT_SECONDS = 60.0

_RATE_LIMIT = 60
_TOKEN_IN_QUERY = re.compile(r"(^|&)token=[^&]*")


@dataclass
class RequestRecord:
    """
    One request below ``/v2``.

    :param at: arrival, seconds since the epoch.
    :param path: as sent, percent-escapes included.
    :param query: as sent, but with the value of ``token`` blanked.
    :param headers: names in lower case; without ``authorization`` and ``cookie``.
    :param authorized: whether the right token came with it.
    :param status: of the answer, ``None`` while or when there was none.
    :param fault: kind of the fault it met.
    """

    at: float
    method: str
    path: str
    query: str
    headers: dict[str, str]
    authorized: bool
    status: int | None = None
    fault: str | None = None


@dataclass
class Call:
    """What endpoints know of a request; ``token`` is the one presented, right or wrong."""

    world: World
    faults: Faults
    connection: Connection
    path: str
    token: str | None
    record: RequestRecord

    async def wait_for(self, job: Job, seconds: float) -> None:
        """Wait until the job is over, the client has gone, or the time is up."""
        if seconds:
            await first_of(job.over, self.connection.gone, timeout=min(seconds, MAX_WAIT_SECONDS))


class Front:
    """Makes a ``Call`` of every request; those below ``/v2`` enter the ledger and may meet faults."""

    def __init__(self, app: App, world: World, faults: Faults) -> None:
        self._app, self._world, self._faults = app, world, faults

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        connection: Connection = scope["state"]["connection"]
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        query = scope["query_string"].decode("latin-1")
        token = _presented_token(headers, query)
        record = RequestRecord(
            at=time.time(),
            method=scope["method"],
            path=scope["raw_path"].decode("latin-1"),
            query=_TOKEN_IN_QUERY.sub(r"\1token=***", query),
            headers={name: value for name, value in headers.items() if name not in ("authorization", "cookie")},
            authorized=token == self._world.settings.token,
        )
        scope["state"]["call"] = Call(self._world, self._faults, connection, scope["path"], token, record)
        if not scope["path"].startswith("/v2"):
            await self._app(scope, receive, send)
            return
        self._world.requests.append(record)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and not connection.gone.fired:
                record.status = message["status"]
                date = formatdate(time.time() + self._world.settings.clock_offset, usegmt=True)
                always = {b"date": date.encode(), b"x-ratelimit-limit": str(_RATE_LIMIT).encode()}
                message["headers"] = [*(always | dict(message["headers"])).items()]
            await send(message)

        fault = self._faults.take(WIRE_KINDS, record.method, scope["path"])
        try:
            if fault is None:
                await self._app(scope, receive, answer)
            else:
                record.fault = fault.kind
                await play(fault, self._app, scope, receive, answer)
        except asyncio.CancelledError:
            await connection.reset()


def _presented_token(headers: dict[str, str], query: str) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return parse_qs(query).get("token", [None])[0]
