"""One request to the emulator: its place in the ledger, the faults it meets, and what endpoints look up for it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs

from airflow_provider_apify.emulator.connection import Connection
from airflow_provider_apify.emulator.faults import WIRE_KINDS, App, Fault, Faults, Message, Receive, Send, play
from airflow_provider_apify.emulator.signals import first_of
from airflow_provider_apify.emulator.world import Build, Registered, RequestRecord, World

MAX_WAIT_SECONDS = 60.0

_RATE_LIMIT = 60
_TOKEN_IN_QUERY = re.compile(r"(^|&)token=[^&]*")


class ApiError(Exception):
    """A refusal, with the type that Apify gives it."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, message


@dataclass
class Call:
    """What endpoints know of a request; ``token`` is the one presented, right or wrong."""

    world: World
    faults: Faults
    connection: Connection
    path: str
    token: str | None
    record: RequestRecord

    def actor(self, actor_id: str) -> Registered:
        owner = self.world.find_actor(actor_id)
        if owner is None:
            raise not_found("Actor")
        return owner

    def build(self, build_id: str, actor_id: str | None = None) -> Build:
        """A build; with ``actor_id`` only if it is that Actor's."""
        build = self.world.builds.get(build_id)
        if build is None or (actor_id is not None and build.owner is not self.actor(actor_id)):
            raise not_found("Actor build")
        return build

    def visible_build(self, build_id: str, actor_id: str | None = None) -> Build:
        """A build, unless a fault hides it."""
        build = self.build(build_id, actor_id)
        if self.view_fault("missing", lambda fault: build.age < fault.seconds):
            raise not_found("Actor build")
        return build

    def view_fault(self, kind: str, applies: Callable[[Fault], bool] = lambda _: True) -> Fault | None:
        fault = self.faults.take((kind,), self.record.method, self.path, applies)
        if fault:
            self.record.fault = kind
        return fault

    async def wait_for(self, build: Build, seconds: float) -> None:
        """Wait until the build is over, the client has gone, or the time is up."""
        if seconds:
            await first_of(build.over, self.connection.gone, timeout=min(seconds, MAX_WAIT_SECONDS))


def not_found(what: str) -> ApiError:
    return ApiError(404, "record-not-found", f"{what} was not found")


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
            authorized=token == self._world.token,
        )
        scope["state"]["call"] = Call(self._world, self._faults, connection, scope["path"], token, record)
        if not scope["path"].startswith("/v2"):
            await self._app(scope, receive, send)
            return
        self._world.requests.append(record)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and not connection.gone.fired:
                record.status = message["status"]
                date = formatdate(time.time() + self._world.clock_offset, usegmt=True)
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
