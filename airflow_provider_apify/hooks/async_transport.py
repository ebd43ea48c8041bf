"""Requests to Apify from a triggerer, over ``aiohttp``: one session per event loop and connection."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

import aiohttp
import certifi
from yarl import URL

from airflow_provider_apify.api.errors import ApiError, AuthenticationError
from airflow_provider_apify.api.requests import Request
from airflow_provider_apify.hooks import answers
from airflow_provider_apify.hooks.connection import Settings
from airflow_provider_apify.hooks.polls import Polls

#: Largest record of TLS, in bytes.
TLS_RECORD = 16 * 1024
#: Seconds after which the Airflow connection is read again, so that a changed one is picked up.
SETTINGS_TTL = 60.0


class AsyncTransport:
    """
    A session with Apify on one event loop. Sends each request once; safe for any number of tasks of that loop.

    :param load: reads and checks the Airflow connection.
    """

    def __init__(self, load: Callable[[], Awaitable[Settings]]) -> None:
        self._load = load
        self._settings: Settings | None = None
        self._loaded_at = 0.0
        self._loading = asyncio.Lock()
        self._session = aiohttp.ClientSession(
            # No limit: whoever waits for a connection would wait for another's long-poll to end. Polls counts them.
            connector=_LeanConnector(limit=0),
            # netrc and proxies from the environment would apply past our own rules (hooks/connection.py).
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._contexts: dict[str | None, ssl.SSLContext] = {}
        self._polls = Polls(self.send)
        self.users = 0

    @property
    def base_url(self) -> str | None:
        """Where requests go, once the connection has been read."""
        return self._settings.base_url if self._settings else None

    async def close(self) -> None:
        await self._session.close()

    async def settings(self, newer_than: float = 0.0) -> Settings:
        """Give the connection as read at most ``SETTINGS_TTL`` seconds ago and after ``newer_than``."""
        async with self._loading:
            if self._settings is None or self._loaded_at <= max(newer_than, time.monotonic() - SETTINGS_TTL):
                try:
                    self._settings = await self._load()
                    self._loaded_at = time.monotonic()
                except Exception:
                    if self._settings is None:
                        raise
                    # What worked before goes on working; not every request is to try again.
                    self._loaded_at = time.monotonic() - SETTINGS_TTL + 10
            return self._settings

    async def send(self, request: Request) -> Any:
        """
        Send ``request`` once, again with the connection read anew if the token was refused, and give its ``data``.

        :raises ApiError: see :mod:`airflow_provider_apify.api.errors`.
        """
        settings = await self.settings()
        try:
            return await self._send(request, settings)
        except AuthenticationError:
            renewed = await self.settings(newer_than=time.monotonic() - 1)
            if renewed.token == settings.token:
                raise
            return await self._send(request, renewed)

    async def ask(self, build_id: str, wait: float) -> Any:
        """
        Give Apify's answer about a build: when it has ended, after ``wait`` seconds, or earlier.

        :raises ApiError: see :mod:`airflow_provider_apify.api.errors`.
        """
        ends = time.monotonic() + wait
        settings = await self.settings()  # which takes a busy triggerer up to 20 s
        wait = max(0.0, ends - time.monotonic())
        return await self._polls.ask(build_id, wait, budget=settings.connections, longest=settings.wait_seconds)

    async def _send(self, request: Request, settings: Settings) -> Any:
        timeout = aiohttp.ClientTimeout(
            total=request.wait + 4 * settings.timeout,
            sock_connect=settings.timeout,
            sock_read=request.wait + settings.timeout,
        )
        try:
            tls = self._tls(settings) if settings.base_url.startswith("https:") else False
        except OSError:
            raise answers.no_answer(request, "request", sent=False) from None
        try:
            async with self._session.request(
                request.method,
                URL(settings.base_url + request.target, encoded=True),
                headers={**answers.headers(), "Authorization": f"Bearer {settings.token}"},
                proxy=settings.proxy,
                ssl=tls,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                body = await _read(response, answers.BODY_LIMIT + 1)
                body = answers.without(settings.token, response.status, body)
                return answers.read(request, response.status, response.headers.get("Retry-After"), body)
        except (aiohttp.ClientError, OSError, TimeoutError, asyncio.TimeoutError) as error:
            raise _network_error(request, error) from None

    def _tls(self, settings: Settings) -> ssl.SSLContext:
        context = self._contexts.get(settings.ca_bundle)
        if context is None:
            trusted = settings.ca_bundle or certifi.where()
            if os.path.isdir(trusted):
                context = ssl.create_default_context(capath=trusted)
            else:
                context = ssl.create_default_context(cafile=trusted)
            self._contexts[settings.ca_bundle] = context
        return context


class _LeanConnector(aiohttp.TCPConnector):
    """
    Opens TLS connections that take a fifth of the memory.

    asyncio gives each a read buffer of 256 kB for its life (``asyncio.sslproto``, since Python 3.11), while a long-poll
    has one small answer and a TLS record 16 kB at most. Both names touched here are private, to aiohttp and to
    asyncio: where they change, connections are merely larger again, which a test tells (test_a_tls_connection_is_lean).
    """

    async def _wrap_create_connection(self, *args: Any, **kwargs: Any) -> Any:
        transport, protocol = await super()._wrap_create_connection(*args, **kwargs)
        tls: Any = getattr(transport, "_ssl_protocol", None)
        if hasattr(tls, "_ssl_buffer"):
            tls.max_size = TLS_RECORD
            tls._ssl_buffer = bytearray(TLS_RECORD)
            tls._ssl_buffer_view = memoryview(tls._ssl_buffer)
        return transport, protocol


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    chunks, size = [], 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size >= most:
            break
    return b"".join(chunks)


def _network_error(request: Request, error: BaseException) -> ApiError:
    unsent = isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError, ValueError))
    certificate = getattr(error, "certificate_error", None)
    return answers.no_answer(request, _kind(error), sent=not unsent, certificate=certificate)


def _kind(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "certificate"
    if isinstance(error, aiohttp.InvalidURL):
        return "request"
    if isinstance(error, (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError)):
        return "proxy"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "name"
    if isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError)):
        return "tls"
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "connect timeout"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "refused"
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return "read timeout"
    return "cut"


#: Keyed by loop first: ``dag.test()`` runs each trigger in a loop of its own, and a session dies with its loop.
_transports: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, AsyncTransport]] = WeakKeyDictionary()


@asynccontextmanager
async def shared_transport(conn_id: str, load: Callable[[], Awaitable[Settings]]) -> AsyncIterator[AsyncTransport]:
    """Give the running loop's session for ``conn_id``: opened by the first user, closed by the last."""
    of_loop = _transports.setdefault(asyncio.get_running_loop(), {})
    transport = of_loop.get(conn_id)
    if transport is None:
        transport = of_loop[conn_id] = AsyncTransport(load)
    transport.users += 1
    try:
        yield transport
    finally:
        transport.users -= 1
        if not transport.users:
            # A user may come while this one closes: it must not find the closing session.
            del of_loop[conn_id]
            await transport.close()
