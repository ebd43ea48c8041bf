"""Requests to Apify from a triggerer, over ``aiohttp``: one session per event loop and connection."""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import Any

import aiohttp
import certifi
from yarl import URL

from airflow_provider_apify.api.endpoints import Request
from airflow_provider_apify.api.errors import AUTHENTICATION, ApiError
from airflow_provider_apify.client import wire
from airflow_provider_apify.client.settings import Settings, Source

#: Largest record of TLS, in bytes.
TLS_RECORD = 16 * 1024


class AsyncTransport:
    """
    A session with Apify on one event loop. Sends each request once; safe for any number of tasks of that loop.

    :param source: the Airflow connection.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._session = aiohttp.ClientSession(
            # No limit: whoever waits for a connection would wait for another's long-poll to end.
            connector=_LeanConnector(limit=0),
            # netrc and proxies from the environment would apply past our own rules (client/settings.py).
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._contexts: dict[str | None, ssl.SSLContext] = {}

    async def close(self) -> None:
        await self._session.close()

    async def send(self, request: Request) -> Any:
        """
        Send ``request`` once, again with the connection read again if the token was refused; give its answer.

        :raises ApiError: see :mod:`airflow_provider_apify.api.errors`.
        """
        settings = await self.source.current_async()
        try:
            return await self._send(request, settings)
        except ApiError as error:
            if error.kind != AUTHENTICATION:
                raise
            renewed = await self.source.current_async(refused=settings)
            if renewed == settings:
                raise
            return await self._send(request, renewed)

    async def _send(self, request: Request, settings: Settings) -> Any:
        wait, seconds = request.wait, settings.timeout
        timeout = aiohttp.ClientTimeout(total=wait + 4 * seconds, sock_connect=seconds, sock_read=wait + seconds)
        try:
            tls = self._tls(settings) if settings.base_url.startswith("https:") else False
        except OSError:
            raise wire.no_answer(request, "request", sent=False) from None
        try:
            async with self._session.request(
                request.method,
                URL(wire.address(settings.base_url, request), encoded=True),
                data=request.body,
                headers={**wire.headers(request), "Authorization": f"Bearer {settings.token}"},
                proxy=settings.proxy,
                ssl=tls,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                body = await _read(response, wire.BODY_LIMIT + 1)
                return wire.read(request, response.status, response.headers, body, settings.token)
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


#: Why no answer came, in the words of :mod:`wire`: the first whose exceptions fit; else the connection was cut.
_KINDS: dict[str, tuple[type[BaseException], ...]] = {
    "certificate": (aiohttp.ClientConnectorCertificateError,),
    "request": (aiohttp.InvalidURL,),
    "proxy": (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError),
    "name": (aiohttp.ClientConnectorDNSError,),
    "tls": (aiohttp.ClientSSLError, ssl.SSLError),
    "connect timeout": (aiohttp.ConnectionTimeoutError,),
    "refused": (aiohttp.ClientConnectorError,),
    "read timeout": (TimeoutError, asyncio.TimeoutError),
}


def _network_error(request: Request, error: BaseException) -> ApiError:
    kind = next((kind for kind, exceptions in _KINDS.items() if isinstance(error, exceptions)), "cut")
    unsent = isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError, ValueError))
    certificate = getattr(error, "certificate_error", None)
    return wire.no_answer(request, kind, sent=not unsent, certificate=certificate)
