"""Requests to Apify from a worker, over ``requests``."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from typing import Any

import requests
import urllib3.exceptions
from requests.auth import AuthBase

from airflow_provider_apify.api.endpoints import Answer, Request
from airflow_provider_apify.api.errors import NETWORK, ApiError, Repeat, unreadable
from airflow_provider_apify.client import wire
from airflow_provider_apify.client.settings import Settings

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
            response = self._open(session, request, fingerprint)
            self.clock_offset = wire.clock_offset(response.headers.get("Date"))
            if request.answer is Answer.ANY and request.method == "GET" and response.is_redirect:
                with response:
                    response = self._stored(request, response.headers["Location"])
            with response:
                body = b"".join(self._chunks(request, response, wire.BODY_LIMIT + 1))
            return wire.read(request, response.status_code, response.headers, body, self.settings.token)
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
                wire.read(request, response.status_code, response.headers, tail, self.settings.token)
            return tail

    def stream(self, request: Request, *, silence: float) -> Iterator[bytes]:
        """
        Give a text answer as it comes, without end.

        :param silence: longest time in seconds between two parts of it.
        """
        with self._open(self._session, request, silence=silence) as response:
            if response.status_code != 200:
                body = b"".join(self._chunks(request, response, wire.BODY_LIMIT))
                wire.read(request, response.status_code, response.headers, body, self.settings.token)
            try:
                while chunk := response.raw.read1(65536, decode_content=True):
                    yield chunk
            except _BROKEN as error:
                raise _network_error(request, error) from None

    def _new_session(self) -> requests.Session:
        session = requests.Session()
        # Without this, requests replaces our header by what ~/.netrc says about the host.
        session.trust_env = False
        session.auth = _BearerAuth(self.settings.token)
        session.verify = self.settings.ca_bundle or True
        if self.settings.proxy:
            session.proxies.update({"http": self.settings.proxy, "https": self.settings.proxy})
        return session

    def _open(
        self, session: requests.Session, request: Request, fingerprint: object = "", *, silence: float | None = None
    ) -> requests.Response:
        try:
            return session.request(
                request.method,
                wire.address(self.settings.base_url, request),
                data=request.body,
                headers=wire.headers(request, fingerprint),
                timeout=(self.settings.timeout, silence or request.wait + self.settings.timeout),
                allow_redirects=False,
                stream=True,
            )
        except requests.RequestException as error:
            raise _network_error(request, error) from None
        except OSError:  # requests finds no ca_bundle any more
            raise wire.no_answer(request, "request", sent=False) from None

    def _stored(self, request: Request, address: str) -> requests.Response:
        """Get a record from where Apify has put it: the address is signed, so it goes into no message."""
        if not address.startswith(
            "https://" if self.settings.base_url.startswith("https") else ("https://", "http://")
        ):
            raise unreadable(str(request), 302, "it redirects to an address that is not https")
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

    def _chunks(self, request: Request, response: requests.Response, most: int | None) -> Iterator[bytes]:
        """Read an answer as it comes, at most ``most`` bytes of it, within its time even if it only trickles."""
        ends = time.monotonic() + request.wait + 4 * self.settings.timeout
        size = 0
        try:
            while chunk := response.raw.read1(65536, decode_content=True):
                yield chunk
                size += len(chunk)
                if most is not None and size >= most:
                    return
                if time.monotonic() > ends:
                    raise ApiError(f"The answer to {request} trickles in too slowly. Retry later.", NETWORK)
        except _BROKEN as error:
            raise _network_error(request, error) from None


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
