"""Requests to Apify from a worker, over ``requests``."""

from __future__ import annotations

import math
import ssl
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import requests
import urllib3.exceptions
from requests.auth import AuthBase

from airflow_provider_apify.api.endpoints import Request
from airflow_provider_apify.api.errors import NETWORK, ApiError, Repeat, unreadable
from airflow_provider_apify.client import wire
from airflow_provider_apify.client.settings import Settings

#: Bytes to read at a time, and, of what comes packed, to give at a time.
_CHUNK = 262_144
#: An answer that comes more slowly has its time: four times the connection's ``timeout``.
_LEAST_BYTES_PER_SECOND = 10_000
#: From one address to the next.
_MOST_HOPS = 3
#: What is raised while an answer is read.
_BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)


class SyncTransport:
    """A session with Apify. Sends each request once; not for use by several threads at a time."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        #: Seconds by which Apify's clock is ahead of this machine's, by its last answer.
        self.clock_offset: float | None = None
        self._session = self._new_session()

    def close(self) -> None:
        self._session.close()

    def send(self, request: Request, fingerprint: object = "") -> Any:
        """
        Send ``request`` once and give what it is answered with.

        :raises ApiError: see :mod:`airflow_provider_apify.api.errors`.
        """
        # A connection from the pool may be one that the server is about to close: for a start, not knowing whether
        # it was sent costs more than a handshake.
        fresh = request.repeat is Repeat.STARTS_ANOTHER
        session = self._new_session() if fresh else self._session
        try:
            with self._open(session, request, fingerprint) as response:
                return self._read(request, response, b"".join(self._chunks(request, response, wire.BODY_LIMIT + 1)))
        finally:
            if fresh:
                session.close()

    def tail(self, request: Request, limit: int) -> bytes:
        """Give the last ``limit`` bytes of a text answer, holding no more than about that in memory."""
        with self._open(self._session, request) as response:
            tail = b""
            for chunk in self._chunks(request, response, None):
                tail = (tail + chunk)[-limit:]
            if response.status_code != 200:
                self._read(request, response, tail)
            return tail

    @contextmanager
    def stream(self, request: Request, *, silence: float | None = None) -> Iterator[Stream]:
        """
        Give a text answer to be read as it comes, whatever its size.

        :param silence: longest time in seconds between two parts of one that may take for ever; ``None``: it may not.
        """
        with self._open(self._session, request, accept_encoding="gzip", silence=silence) as response:
            if response.status_code != 200:
                self._read(request, response, b"".join(self._chunks(request, response, wire.BODY_LIMIT + 1)))
            patience = None if silence is None else math.inf
            yield Stream(response.headers, self._unpacked(request, response, patience))

    def _new_session(self) -> requests.Session:
        session = requests.Session()
        # Without this, requests replaces our header by what ~/.netrc says about the host.
        session.trust_env = False
        session.auth = _BearerAuth(self.settings.token)
        session.verify = self.settings.ca_bundle or True
        if self.settings.proxy:
            session.proxies.update({"http": self.settings.proxy, "https": self.settings.proxy})
        return session

    def _read(self, request: Request, response: requests.Response, body: bytes) -> Any:
        return wire.read(request, response.status_code, response.headers, body, self.settings.token)

    def _open(
        self,
        session: requests.Session,
        request: Request,
        fingerprint: object = "",
        *,
        accept_encoding: str | None = None,
        silence: float | None = None,
    ) -> requests.Response:
        address, headers = wire.address(self.settings.base_url, request), wire.headers(request, fingerprint)
        try:
            response = session.request(
                request.method,
                address,
                data=request.body,
                headers={**headers, "Accept-Encoding": accept_encoding} if accept_encoding else headers,
                timeout=(self.settings.timeout, silence or request.wait + self.settings.timeout),
                allow_redirects=False,
                stream=True,
            )
        except requests.RequestException as error:
            raise _network_error(request, error) from None
        except ValueError:  # requests reads where it redirects to
            raise wire.no_record(request, "it redirects to something that is no address") from None
        except OSError:  # requests finds no ca_bundle any more
            raise wire.no_answer(request, "request", sent=False) from None
        self.clock_offset = wire.clock_offset(response.headers.get("Date"))
        hops = 0
        while response.is_redirect and request.is_record:
            with response:
                hops += 1
                if hops > _MOST_HOPS:
                    raise wire.no_record(request, f"it redirects more than {_MOST_HOPS} times")
                address = response.headers["Location"]
            response = self._stored(request, address)
        return response

    def _stored(self, request: Request, address: str) -> requests.Response:
        """Get a record from where Apify has put it: the address is signed, so it goes into no message."""
        if not wire.may_redirect(self.settings.base_url, address):
            raise wire.no_record(request, "it redirects to an address that is not https")
        try:
            return self._session.get(
                address,
                headers={"Accept": "*/*", "User-Agent": wire.USER_AGENT},
                auth=lambda request: request,  # without our token
                timeout=self.settings.timeout,
                allow_redirects=False,
                stream=True,
            )
        except requests.RequestException as error:
            raise _network_error(request, error) from None

    def _chunks(
        self,
        request: Request,
        response: requests.Response,
        most: int | None,
        *,
        decode: bool = True,
        patience: float | None = None,
    ) -> Iterator[bytes]:
        """
        Read an answer as it comes, at most ``most`` bytes of it, within its time even if it only trickles: what counts
        is the time spent on reading it, not what the caller does in between.
        """
        patience = patience or request.wait + 4 * self.settings.timeout
        size = 0
        while most is None or size < most:
            began = time.monotonic()
            try:
                chunk = response.raw.read1(_CHUNK, decode_content=decode)
            except _BROKEN as error:
                raise _network_error(request, error) from None
            if not chunk:
                return
            size += len(chunk)
            patience += len(chunk) / _LEAST_BYTES_PER_SECOND - (time.monotonic() - began)
            if patience < 0:
                raise ApiError(f"The answer to {request} trickles in too slowly. Retry later.", NETWORK)
            yield chunk

    def _unpacked(self, request: Request, response: requests.Response, patience: float | None) -> Iterator[bytes]:
        """
        Read an answer that may be packed with gzip. Done here, since urllib3 takes gzip without its end for whole.

        :raises ApiError: also for an answer that ends too early.
        """
        chunks = self._chunks(request, response, None, decode=False, patience=patience)
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        if encoding == "identity":
            yield from chunks
            return
        if encoding != "gzip":
            raise unreadable(str(request), response.status_code, "it is packed in a way that was not asked for")
        unpacker = zlib.decompressobj(wbits=31)
        try:
            for packed in chunks:
                while packed:
                    if unpacker.eof:
                        unpacker = zlib.decompressobj(wbits=31)
                    yield unpacker.decompress(packed, _CHUNK)
                    packed = unpacker.unconsumed_tail or unpacker.unused_data
        except zlib.error:
            raise unreadable(str(request), response.status_code, "its gzip is broken") from None
        if not unpacker.eof:
            raise wire.no_answer(request, "cut", sent=True)


class Stream(NamedTuple):
    """A successful answer, to be read once."""

    headers: Mapping[str, str]
    #: Raises ``ApiError`` where the answer breaks off.
    chunks: Iterator[bytes]


class _BearerAuth(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


#: Failures before the first byte of a request is sent, by what urllib3 wraps (``requests`` has no word for most).
_UNSENT = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)


def _network_error(request: Request, error: BaseException) -> ApiError:
    """Sort a failure of the transport. The texts of libraries stay out of the message: they quote URLs."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    certificate = _certificate_error(error)
    # Those of requests that are ValueErrors, such as InvalidSchema, are about what is to be sent.
    unsent = isinstance(reason, _UNSENT) or isinstance(error, ValueError) or certificate is not None
    if isinstance(reason, urllib3.exceptions.ProxyError):
        # urllib3 says so, too, of a connection through the proxy that is cut after the request was sent.
        unsent = not isinstance(reason.original_error, ConnectionError)
    kind = "certificate" if certificate else _kind(error, reason)
    return wire.no_answer(request, kind, sent=not unsent, certificate=certificate)


def _certificate_error(error: object) -> ssl.SSLCertVerificationError | None:
    """Find OpenSSL's own exception in what requests and urllib3 wrap around it."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        within = getattr(error, "reason", None)
        error = within if isinstance(within, Exception) else next(iter(getattr(error, "args", ())), None)
    return error


def _kind(error: BaseException, reason: object) -> str:
    if isinstance(error, ValueError):
        return "request"
    if isinstance(reason, urllib3.exceptions.ProxyError):
        return "proxy"
    if isinstance(reason, urllib3.exceptions.NameResolutionError):
        return "name"
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "connect timeout"
    if isinstance(reason, urllib3.exceptions.NewConnectionError):
        return "refused"
    if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError)) or "timed out" in str(error):
        return "read timeout"
    if isinstance(error, requests.exceptions.SSLError) or isinstance(reason, urllib3.exceptions.SSLError):
        return "tls"
    return "cut"
