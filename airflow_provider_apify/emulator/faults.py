"""Faults: what goes wrong, for which requests, how often, and how it is played on the wire."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, ClassVar

from airflow_provider_apify.emulator.connection import Connection
from airflow_provider_apify.emulator.signals import first_of

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

WIRE_KINDS = frozenset({"lost-answer", "reset", "delay", "status", "html", "cut-json", "drip", "stall"})
VIEW_KINDS = frozenset({"missing", "stale-list", "unknown-status", "user-agent"})

_NEEDS_ANSWER = frozenset({"lost-answer", "cut-json", "drip"})
_ERRORS = {
    429: ("rate-limit-exceeded", "You have exceeded the rate limit. Please try again later."),
    402: ("actor-memory-limit-exceeded", "By launching this job you will exceed your memory limit."),
    403: ("insufficient-permissions", "You do not have permission to perform this action."),
    408: ("operation-timed-out", "The operation timed out."),
}
_HTML = "<!DOCTYPE html><html><head><title>Please wait</title></head><body><h1>Be right back</h1></body></html>"


@dataclass
class Fault:
    """
    Something that goes wrong.

    :param kind: one of ``WIRE_KINDS`` (at most one of these meets a request) or ``VIEW_KINDS``.
    :param method: HTTP method, ``*`` for any.
    :param path: glob; matched against the unescaped path, where ``/v2/actors`` reads ``/v2/acts``.
    :param times: how often it happens; ``None``: until cleared.
    :param skip: how many requests that it would meet go well before.
    :param probability: of each further request that it would meet.
    :param seconds: what time means to the kind.
    :param status: of the answer of ``status`` (default 500) and ``html`` (default 200).
    :param body: of the answer of ``status`` and ``html``; default: an error as Apify words it, or a page.
    :param headers: further headers of that answer.
    :param after_work: the request is carried out first.
    :param value: of ``unknown-status`` and ``user-agent``.
    :ivar fired: how often it has happened.
    :ivar skipped: how often it let a request go well because of ``skip``.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    kind: str
    method: str = "*"
    path: str = "*"
    times: int | None = 1
    skip: int = 0
    probability: float = 1.0
    seconds: float = 0.0
    status: int = 0
    body: dict[str, Any] | str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    after_work: bool = False
    value: str | None = None
    fired: int = field(default=0, init=False)
    skipped: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.kind not in WIRE_KINDS | VIEW_KINDS:
            raise ValueError(f"{self.kind!r} is not a kind of fault: {', '.join(sorted(WIRE_KINDS | VIEW_KINDS))}")
        self.status = self.status or (200 if self.kind == "html" else 500)
        if self.kind == "unknown-status" and self.value is None:
            self.value = "HIBERNATING"


class Faults:
    """The faults in force, in the order in which they were added; the first that fits and fires is taken."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.reset()

    def reset(self) -> None:
        self._random = random.Random(self._seed)
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        self._faults.clear()

    def take(
        self, kinds: Collection[str], method: str, path: str, applies: Callable[[Fault], bool] = lambda _: True
    ) -> Fault | None:
        """The fault of one of ``kinds`` that now happens to a request; it counts as fired."""
        path = plain_path(path)
        for fault in self._faults:
            if (
                fault.kind in kinds
                and (fault.times is None or fault.fired < fault.times)
                and fault.method.upper() in ("*", method)
                and fnmatchcase(path, fault.path)
                and applies(fault)
                and self._strikes(fault)
            ):
                fault.fired += 1
                return fault
        return None

    def _strikes(self, fault: Fault) -> bool:
        if fault.skipped < fault.skip:
            fault.skipped += 1
            return False
        return self._random.random() < fault.probability


def plain_path(path: str) -> str:
    """The older ``/v2/acts`` for ``/v2/actors``, so that one glob serves both."""
    head, rest = path[: len("/v2/actors")], path[len("/v2/actors") :]
    return "/v2/acts" + rest if head == "/v2/actors" and rest[:1] in ("", "/") else path


async def play(fault: Fault, app: App, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Answer a request, or not, as a fault of one of ``WIRE_KINDS`` has it."""
    connection: Connection = scope["state"]["connection"]
    receive = await _received(receive)
    answer = None
    if fault.after_work or fault.kind in _NEEDS_ANSWER:
        answer = await _work(app, scope, receive)
    if fault.kind == "delay":
        await asyncio.sleep(fault.seconds)
        await (answer or await _work(app, scope, receive)).send(send)
    elif fault.kind in ("status", "html"):
        await _instead(fault).send(send)
    elif fault.kind == "reset":
        await connection.reset()
    elif fault.kind == "drip" and answer:
        await answer.send_slowly(send, connection, fault.seconds)
    else:
        if fault.kind == "cut-json" and answer:
            await answer.send_half(send)
        elif fault.kind == "stall":
            await first_of(connection.gone, timeout=fault.seconds or None)
        await connection.close()


@dataclass
class _Answer:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    async def send(self, send: Send) -> None:
        await self._start(send)
        await send({"type": "http.response.body", "body": self.body})

    async def send_half(self, send: Send) -> None:
        await self._start(send)
        await send({"type": "http.response.body", "body": self.body[: len(self.body) // 2], "more_body": True})

    async def send_slowly(self, send: Send, connection: Connection, seconds: float) -> None:
        await self._start(send)
        for byte in self.body:
            await first_of(connection.gone, timeout=seconds / len(self.body))
            await send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _start(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})


async def _work(app: App, scope: MutableMapping[str, Any], receive: Receive) -> _Answer:
    answer = _Answer(500, [], b"")

    async def keep(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status, answer.headers = message["status"], list(message["headers"])
        else:
            answer.body += message.get("body", b"")

    await app(scope, receive, keep)
    return answer


async def _received(receive: Receive) -> Receive:
    """Take in the request's body now, so that it can be worked on after the client has gone."""
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())

    async def replay() -> Message:
        return messages.pop(0) if messages else await receive()

    return replay


def _instead(fault: Fault) -> _Answer:
    body: dict[str, Any] | str | None = fault.body
    if body is None and fault.kind == "html":
        body = _HTML
    elif body is None:
        kind, message = _ERRORS.get(fault.status, ("internal-server-error", "There was an internal server error."))
        body = {"error": {"type": kind, "message": message}}
    if isinstance(body, str):
        content, content_type = body.encode(), "text/html; charset=utf-8" if fault.kind == "html" else "text/plain"
    else:
        content, content_type = json.dumps(body).encode(), "application/json; charset=utf-8"
    headers = {"content-type": content_type, "content-length": str(len(content))}
    headers |= {name.lower(): value for name, value in fault.headers.items()}
    return _Answer(fault.status, [(name.encode(), value.encode()) for name, value in headers.items()], content)
