"""What both transports send with each request, and how both read the answer."""

from __future__ import annotations

import json
import platform
import ssl
import time
from collections.abc import Callable, Mapping
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from airflow_provider_apify._version import __version__
from airflow_provider_apify.api import errors
from airflow_provider_apify.api.endpoints import Answer, Request
from airflow_provider_apify.client.settings import is_loopback

T = TypeVar("T")

#: Largest answer that is read, in bytes. A page of 1000 builds has about one megabyte.
BODY_LIMIT = 32 * 1024 * 1024

USER_AGENT = f"airflow-provider-apify/{__version__} (Python/{platform.python_version()})"


def address(base_url: str, request: Request) -> str:
    """
    Give the address of a request below ``base_url``: whatever its path, the token goes to that host alone.

    :raises ValueError: it would go elsewhere; nothing may be sent.
    """
    url = base_url + request.target
    base, parts = urlsplit(base_url), urlsplit(url)
    if (parts.scheme, parts.netloc) != (base.scheme, base.netloc) or not request.path.startswith("/v2/"):
        raise ValueError(f"{request} does not lead to {base_url}: its path must begin with /v2/")
    return url


def headers(request: Request, fingerprint: object = "") -> dict[str, str]:
    """
    Give the headers of a request: who asks, as Apify wants integrations to say it
    (https://docs.apify.com/integrations/integrate).
    """
    given = {
        "Accept": "application/json" if request.answer is Answer.DATA else "*/*",
        "User-Agent": f"{USER_AGENT} {fingerprint}".strip(),
        "x-apify-integration-platform": "airflow",
    }
    return {**given, "Content-Type": request.content_type} if request.content_type else given


def may_redirect(base_url: str, address: str) -> bool:
    """Whether a record may lie at ``address``: over https; over http only where both are this machine."""
    try:
        parts, base = urlsplit(address), urlsplit(base_url)
        if not parts.hostname or parts.scheme not in ("http", "https"):
            return False
        return parts.scheme == "https" or (is_loopback(parts.hostname) and is_loopback(base.hostname or ""))
    except ValueError:
        return False


def no_record(request: Request, why: str) -> errors.ApiError:
    """Give the error for a record that is not read, and never will be; its signed address goes into no message."""
    return errors.ApiError(f"The answer to {request} is not read: {why}.", errors.INVALID_REQUEST)


def read(request: Request, status: int, headers: Mapping[str, str], body: bytes, token: str) -> Any:
    """
    Give what the answer to ``request`` holds, as its :class:`Answer` says.

    :param token: what nothing of an answer may hold that becomes an exception or a job: a proxy may quote the request,
        and an Actor knows a token, too.
    :raises ApiError: the answer is an error, or is not what the API sends.
    """
    if 300 <= status < 400:
        raise errors.unreadable(str(request), status, "it redirects elsewhere, which API calls do not follow")
    if not 200 <= status < 300 or request.answer is Answer.DATA:
        body = body.replace(token.encode(), b"***")
    if not 200 <= status < 300:
        raise errors.from_answer(str(request), status, body, seconds_of(headers.get("Retry-After")))
    if len(body) > BODY_LIMIT and request.is_record:
        raise no_record(request, f"the record is larger than {BODY_LIMIT} bytes")
    if len(body) > BODY_LIMIT:
        raise errors.unreadable(str(request), status, f"it is larger than {BODY_LIMIT} bytes")
    if request.answer is Answer.RECORD:
        return _record(request, status, body, headers.get("Content-Type", ""))
    if request.answer is Answer.TEXT:
        return body.decode(errors="replace")
    if request.answer is Answer.ANY and not body:
        return None
    is_page = body.lstrip()[:1] == b"<"
    found = _loaded(body)
    if found is _NO_JSON and request.answer is Answer.ANY and not is_page:
        return _text(body)
    if found is _NO_JSON:
        why = "an HTML page" if is_page else "cut off or no JSON at all"
        raise errors.unreadable(str(request), status, f"it is {why}")
    if isinstance(found, dict) and "data" in found:
        return found["data"]
    if request.answer is Answer.ANY:
        return found
    raise errors.unreadable(str(request), status, "it has no field 'data'")


def _record(request: Request, status: int, body: bytes, content_type: str) -> Any:
    message = Message()
    message["Content-Type"] = content_type or "application/octet-stream"
    kind = message.get_content_type()
    if kind == "application/json" or kind.endswith("+json"):
        found = _loaded(body)
        if found is _NO_JSON:
            raise errors.unreadable(str(request), status, "it is cut off or no JSON at all")
        return found
    if message.get_content_maintype() == "text" or message.get_content_charset():
        try:
            return body.decode(message.get_content_charset("utf-8"))
        except (UnicodeDecodeError, LookupError):
            return body
    return body


def _text(body: bytes) -> str | bytes:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body


def parsed(request: Request, parse: Callable[[Any], T], data: Any) -> T:
    """
    Give what ``parse`` makes of ``data``, which :func:`read` gave.

    :raises ApiError: it is not what the API sends.
    """
    try:
        return parse(data)
    except (ValueError, TypeError, KeyError) as error:
        raise errors.unreadable(str(request), 200, str(error)) from None


_NO_JSON = object()


def _loaded(body: bytes) -> Any:
    """Parse JSON, or give ``_NO_JSON``: the parser's own exception would carry the whole answer along."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return _NO_JSON


def seconds_of(retry_after: str | None) -> float | None:
    """Read a ``Retry-After`` header, seconds or an HTTP date; ``None`` for none or nonsense."""
    try:
        return float(Retry().parse_retry_after(retry_after or ""))
    except (InvalidHeader, ValueError, TypeError, OverflowError):
        return None


def clock_offset(date: str | None) -> float | None:
    """Give the seconds by which the server's clock is ahead, by its ``Date`` header; ``None`` for none or nonsense."""
    try:
        return parsedate_to_datetime(date or "").timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None


#: Why no answer came, in words that help; the texts of libraries quote URLs and addresses.
_KINDS = {
    "certificate": "the server's certificate is not trusted (%s).\nCheck the connection's host, or set its ca_bundle if"
    " a company's own authority signs it",
    "proxy": "the proxy could not be reached or refused.\nCheck the connection's proxy, or HTTPS_PROXY and NO_PROXY",
    "name": "the host's name could not be resolved.\nCheck the connection's host and the machine's DNS",
    "connect timeout": "the server could not be reached in time.\nCheck the connection's host, proxy and timeout",
    "refused": "the connection was refused.\nCheck the connection's host and port",
    "read timeout": "no answer came in time.\nIf a proxy cuts long requests, lower the connection's wait_seconds",
    "tls": "the TLS connection failed.\nCheck that the connection's host speaks https",
    "cut": "the connection was cut before the whole answer had come",
    "request": "no request could be made.\nCheck the connection's host, proxy and ca_bundle",
}


def no_answer(
    request: Request, kind: str, *, sent: bool, certificate: ssl.SSLCertVerificationError | None = None
) -> errors.ApiError:
    """
    Give the error for a request that got no complete answer; both transports say the same.

    :param certificate: why a certificate is not trusted.
    """
    what, _, advice = _KINDS[kind].partition("\n")
    known = "" if sent else " Nothing was sent."
    # OpenSSL's words name the host at most.
    why = getattr(certificate, "verify_message", "").rstrip(".") or "OpenSSL does not say why"
    return errors.ApiError(
        f"No answer from Apify to {request}: {what.replace('%s', why).rstrip('.')}.{known}"
        + (f"\n{advice}." if advice else ""),
        errors.CERTIFICATE if kind == "certificate" else errors.NETWORK,
        outcome_unknown=sent,
    )
