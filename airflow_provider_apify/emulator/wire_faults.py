"""Playing a fault on the wire: each kind of ``WIRE_KINDS`` is a branch of :func:`play`."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_apify.emulator.connection import Connection
from airflow_provider_apify.emulator.faults import Fault
from airflow_provider_apify.emulator.signals import first_of

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_NEEDS_ANSWER = frozenset({"lost-answer", "cut-json", "polite-cut", "drip"})
_ERRORS = {
    429: ("rate-limit-exceeded", "You have exceeded the rate limit. Please try again later."),
    402: ("actor-memory-limit-exceeded", "By launching this job you will exceed your memory limit."),
    403: ("insufficient-permissions", "You do not have permission to perform this action."),
    408: ("operation-timed-out", "The operation timed out."),
}
_HTML = "<!DOCTYPE html><html><head><title>Please wait</title></head><body><h1>Be right back</h1></body></html>"


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
    elif fault.kind == "polite-cut" and answer:
        await answer.send_shortened(send, after_line=fault.value == "line")
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
    body: bytes | bytearray

    async def send(self, send: Send) -> None:
        await self._start(send)
        await send({"type": "http.response.body", "body": self.body})

    async def send_half(self, send: Send) -> None:
        await self._start(send)
        await send({"type": "http.response.body", "body": self.body[: len(self.body) // 2], "more_body": True})

    async def send_shortened(self, send: Send, *, after_line: bool) -> None:
        """Send half of the body as if it were all."""
        packed = (b"content-encoding", b"gzip") in self.headers
        body = gzip.decompress(self.body) if packed and after_line else self.body
        body = body[: len(body) // 2]
        if after_line:
            body = body[: body.rfind(b"\n") + 1]
            body = gzip.compress(body) if packed else body
        self.headers = [(name, value) for name, value in self.headers if name != b"content-length"]
        self.body = body
        await self.send(send)

    async def send_slowly(self, send: Send, connection: Connection, seconds: float) -> None:
        await self._start(send)
        for byte in self.body:
            await first_of(connection.gone, timeout=seconds / len(self.body))
            await send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _start(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})


async def _work(app: App, scope: MutableMapping[str, Any], receive: Receive) -> _Answer:
    answer = _Answer(500, [], bytearray())

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
