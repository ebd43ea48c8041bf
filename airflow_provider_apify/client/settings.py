"""What an Airflow connection of type ``apify`` says: checked, resolved for both transports, and read again in time."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import math
import os
import re
import ssl
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

import requests
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from requests.utils import select_proxy
from urllib3.util import parse_url

from airflow_provider_apify import compat
from airflow_provider_apify.api.endpoints import MAX_WAIT_SECONDS
from airflow_provider_apify.api.errors import NETWORK, ApiError
from airflow_provider_apify.client.failures import configuration
from airflow_provider_apify.exceptions import ApifyConfigurationError, ApifyConnectionNotFoundError
from airflow_provider_apify.get_provider_info import get_provider_info

if TYPE_CHECKING:
    from airflow.sdk import Connection

log = logging.getLogger(__name__)

#: The connection's fields beside host and token, as its form has them.
_FIELDS = get_provider_info()["connection-types"][0]["conn-fields"]

DEFAULT_HOST = "api.apify.com"
DEFAULT_TIMEOUT = 30.0
#: Seconds after which a refused token is read again from the Airflow connection: it may have been replaced.
RENEW_AFTER = 1.0
#: Seconds after which a triggerer reads the connection again, so that a changed one is picked up; and for how long what
#: it knows serves if that fails.
SETTINGS_TTL, STALE_FOR = 60.0, 10.0


_CERTIFICATE = r"-----BEGIN (TRUSTED |X509 )?CERTIFICATE-----[^-]*-----END \1?CERTIFICATE-----"


@dataclass(frozen=True)
class Settings:
    """
    A checked connection.

    :param base_url: scheme, host and port, without ``/v2``.
    :param token: the API token.
    :param proxy: URL of the proxy to go through, or ``None``.
    :param ca_bundle: file or directory of certificate authorities to trust, or ``None`` for certifi's.
    :param timeout: seconds to connect, and to wait for the next part of an answer beyond a long-poll.
    :param wait_seconds: longest long-poll, 0 to 60.
    :param console_url: what links to Apify Console begin with, or ``None`` to leave that to Apify.
    """

    base_url: str
    token: str = field(repr=False)
    proxy: str | None = field(default=None, repr=False)
    ca_bundle: str | None = None
    timeout: float = DEFAULT_TIMEOUT
    wait_seconds: int = MAX_WAIT_SECONDS
    console_url: str | None = None

    @classmethod
    def of(
        cls,
        conn_id: str,
        *,
        host: str | None,
        port: int | None,
        password: str | None,
        extra: object,
        login: str | None = None,
        conn_type: str | None = None,
    ) -> Settings:
        """
        Check a connection's fields. What they leave open is taken from the environment, as ``requests`` reads it.

        :param extra: a JSON object, as text or parsed; ``None`` and an empty text stand for an empty one.
        :raises ValueError: a field or a variable of the environment cannot be used; the message names connection and
            field or variable and holds no secret.
        """
        try:
            extra = _json_object(extra)
            _warn_of_unknown(conn_id, extra)
            # The connection's form leaves empty what is not filled in.
            extra = {name: value for name, value in extra.items() if value not in (None, "")}
            token = _token(password, login, conn_type)
            base_url = _base_url(host, port, allow_http=_switch(extra, "allow_http"))
            # What requests would use by itself, so that both transports do.
            environment = requests.Session().merge_environment_settings(base_url, {}, None, True, None)
            return cls(
                base_url=base_url,
                token=token,
                proxy=_proxy(extra, base_url, environment["proxies"]),
                ca_bundle=_ca_bundle(extra, environment["verify"]),
                timeout=_seconds(extra, "timeout", DEFAULT_TIMEOUT),
                wait_seconds=int(_seconds(extra, "wait_seconds", MAX_WAIT_SECONDS)),
                console_url=_console_url(extra),
            )
        except ValueError as error:
            raise ValueError(f"Connection {conn_id!r}: {error}.") from None

    @property
    def secrets(self) -> list[str]:
        """What no log may show."""
        found = [self.token]
        parts = urlsplit(self.proxy or "")
        if parts.username or parts.password:
            secret = parts.password or parts.username or ""
            found += [str(self.proxy), secret, unquote(secret)]
        return found


class Source:
    """
    An Airflow connection as :class:`Settings`: read when first needed, and again when it may have changed.

    A worker, which is there for one task, reads it again only after its token was refused; a triggerer also after
    ``SETTINGS_TTL`` seconds.

    :param conn_id: the Airflow connection.
    :param settings: use these, and never ask Airflow.
    :param get_connection: reads the connection.
    """

    def __init__(
        self,
        conn_id: str,
        settings: Settings | None = None,
        *,
        get_connection: Callable[[str], Connection] = compat.get_connection,
    ) -> None:
        self.conn_id = conn_id
        #: As last read.
        self.settings = settings
        self._get_connection = get_connection
        #: By the monotonic clock; what was given never gets old.
        self._read_at = math.inf if settings else 0.0
        self._reading = asyncio.Lock()

    def current(self) -> Settings:
        """
        Give the settings, in a worker.

        :raises ApifyConnectionNotFoundError: Airflow has no such connection.
        :raises ApifyConfigurationError: it cannot be used.
        """
        return self.settings or self._read()

    def renewed(self, refused: Settings) -> Settings:
        """Give the settings after those were ``refused``: newer ones, unless they were read just now."""
        return self._read() if self._is_old(refused) else self.current()

    async def current_async(self, refused: Settings | None = None) -> Settings:
        """
        Give the settings, on an event loop; newer ones than those that were ``refused``, as :meth:`renewed` does.

        :raises ApiError: they could not be read, which passes.
        :raises ApifyConfigurationError: the connection cannot be used.
        """
        if known := self._known(refused):
            return known
        async with self._reading:
            # Another may have read them meanwhile.
            if known := self._known(refused):
                return known
            try:
                return await compat.off_the_loop(self._read)
            except Exception as error:
                if self.settings is not None:
                    # What worked before continues to work; not every request is to try again.
                    self._read_at = time.monotonic() - SETTINGS_TTL + STALE_FOR
                    return self.settings
                if isinstance(error, ApifyConfigurationError):
                    raise
                # The task that defers has read it, so it was there: this passes, or the deadline comes.
                raise ApiError(f"The connection could not be read: {error}", NETWORK, outcome_unknown=False) from None

    def _known(self, refused: Settings | None) -> Settings | None:
        """Give the settings, unless they have to be read."""
        expired = self._is_old(refused) if refused else time.monotonic() - self._read_at >= SETTINGS_TTL
        return None if expired else self.settings

    def _is_old(self, refused: Settings) -> bool:
        """Whether nobody has read newer settings than the ``refused``, and the last reading was some time ago."""
        return self.settings is refused and time.monotonic() - self._read_at >= RENEW_AFTER

    def _read(self) -> Settings:
        try:
            connection = self._get_connection(self.conn_id)
        except AirflowNotFoundException:
            raise ApifyConnectionNotFoundError(
                f"Airflow has no connection {self.conn_id!r}.\nCorrect apify_conn_id of the task, or add the"
                f" connection: airflow connections add {self.conn_id} --conn-type apify"
                " --conn-password YOUR_APIFY_TOKEN"
            ) from None
        with configuration():
            settings = Settings.of(
                self.conn_id,
                host=connection.host,
                port=connection.port,
                login=connection.login,
                conn_type=connection.conn_type,
                password=connection.password,
                # Not extra_dejson: what is no JSON, it takes for nothing.
                extra=connection.extra,
            )
        compat.mask([*settings.secrets, connection.extra_dejson])
        self.settings, self._read_at = settings, time.monotonic()
        return settings


def _token(password: str | None, login: str | None, conn_type: str | None) -> str:
    token = (password or "").strip()
    if not token and (login or "").strip():
        raise ValueError("password (API token) is empty, but the login is set: put the token into the password")
    if not token and conn_type not in (None, "apify"):
        raise ValueError(
            f"password (API token) is empty, and the type is {conn_type!r}: set the type to apify, and the password to"
            " the token"
        )
    if not token:
        raise ValueError(
            "password (API token) is empty: paste a token from Apify Console, Settings, API & Integrations"
        )
    if token.lower().startswith("bearer"):
        raise ValueError("password (API token) begins with 'Bearer': leave that word out")
    if token[0] in "\"'" or token[-1] in "\"'":
        raise ValueError("password (API token) is in quotes: leave them out")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("password (API token) has characters that no token has: paste it again")
    return token


def _json_object(extra: object) -> Mapping[str, Any]:
    if isinstance(extra, str):
        try:
            extra = json.loads(extra) if extra.strip() else None
        except (ValueError, RecursionError):
            raise ValueError('extra is not valid JSON: write a JSON object such as {"timeout": 60}') from None
    if extra is None:
        return {}
    if not isinstance(extra, Mapping):
        raise ValueError('extra must be a JSON object such as {"timeout": 60}')
    return extra


_warned: set[tuple[str, str]] = set()


def _warn_of_unknown(conn_id: str, extra: Mapping[str, Any]) -> None:
    """Warn once a process of each field in ``extra`` that has no effect, as a misspelt one."""
    for name in extra:
        if name in _FIELDS or (conn_id, name) in _warned:
            continue
        from difflib import get_close_matches

        _warned.add((conn_id, name))
        similar = get_close_matches(name.lower(), _FIELDS, n=1)
        advice = f"Did you mean {similar[0]!r}?" if similar else f"Known are: {', '.join(sorted(_FIELDS))}."
        log.warning("Connection %r: extra has the field %r, which has no effect. %s", conn_id, name[:80], advice)


def _base_url(host: str | None, port: int | None, *, allow_http: bool) -> str:
    text = (host or "").strip() or DEFAULT_HOST
    parts = _split(text if "://" in text else f"//{text}", "host")
    name = parts.hostname or ""
    if parts.scheme not in ("", "http", "https"):
        raise ValueError(f"host has the scheme {parts.scheme!r}: use https://, or leave the scheme out")
    if parts.username is not None or parts.password is not None:
        raise ValueError("host holds credentials: the token belongs into the password field")
    if _is_odd(text) or not name or parts.query or parts.fragment:
        raise ValueError("host is not a host name or base URL such as https://api.apify.com")
    if parts.path.rstrip("/") not in ("", "/v2"):
        raise ValueError("host has a path: use the API's base URL, such as https://api.apify.com, with or without /v2")
    loopback = is_loopback(name)
    scheme = parts.scheme or ("http" if loopback or allow_http else "https")
    if scheme == "http" and not loopback and not allow_http:
        raise ValueError(
            "host starts with http://, which would send the token unencrypted: use https://, or set allow_http if that"
            " network can be trusted"
        )
    number = parts.port or port
    return f"{scheme}://{f'[{name}]' if ':' in name else name}{f':{number}' if number else ''}"


def _is_odd(text: str) -> bool:
    return any(character.isspace() or not character.isprintable() for character in text)


def _split(url: str, name: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:
        raise ValueError(f"{name} is not a valid URL") from None
    return parts


def is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name.lower() == "localhost"


def _proxy(extra: Mapping[str, Any], base_url: str, environment: MutableMapping[str, str]) -> str | None:
    """Give the field ``proxy``, else what ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` say."""
    given = extra.get("proxy")
    if given is not None:
        if not _is_proxy(given):
            raise ValueError("proxy must be a URL such as http://proxy.example.com:3128; SOCKS is not supported")
        return str(given)
    found = select_proxy(base_url, environment)
    if not found:
        return None
    url = found if "://" in found else f"http://{found}"
    if not _is_proxy(url):
        scheme = f"{urlsplit(base_url).scheme}_proxy"
        names = (scheme, scheme.upper(), "all_proxy", "ALL_PROXY")
        raise ValueError(
            f"{_variable(found, *names)} must be a URL such as http://proxy.example.com:3128; SOCKS is not supported:"
            " correct it, or set the connection's proxy, which counts before it"
        )
    return url


def _is_proxy(url: object) -> bool:
    """Whether both transports can use it."""
    if not isinstance(url, str) or _is_odd(url) or not url.lower().startswith(("http://", "https://")):
        return False
    from yarl import URL  # which most workers need not load: few have a proxy

    try:
        parts = urlsplit(url)
        unquote(f"{parts.username}{parts.password}").encode("latin-1")
        return bool(parts.hostname and parse_url(url).host and URL(url).host)
    except ValueError:
        return False


def _variable(value: object, *names: str) -> str:
    """Name the one of ``names`` that holds ``value``."""
    return next((name for name in names if os.environ.get(name) == value), "the system's proxy")


def _ca_bundle(extra: Mapping[str, Any], environment: object) -> str | None:
    """Give the field ``ca_bundle``, else what ``REQUESTS_CA_BUNDLE`` and ``CURL_CA_BUNDLE`` say."""
    path, name = extra.get("ca_bundle"), "ca_bundle"
    if path is None and environment is not True:
        path, name = environment, _variable(environment, "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    elif path is None:
        path, name = os.environ.get("SSL_CERT_FILE"), "SSL_CERT_FILE"
        if not path or not os.path.exists(path):
            return None  # as OpenSSL does
    if not _holds_certificates(path):
        raise ValueError(
            f"{name} must be a PEM file, or a directory prepared by openssl rehash, on the machine that runs the task;"
            f" there is none at {path!r}"
        )
    return str(path)


def _holds_certificates(path: object) -> bool:
    if not isinstance(path, str):
        return False
    try:
        if os.path.isdir(path):
            # OpenSSL finds a certificate there by its name: hash and number.
            return any(re.fullmatch(r"[0-9a-f]{8}\.\d+", name) for name in os.listdir(path))
        with open(path, encoding="ascii", errors="replace") as file:
            first = re.search(_CERTIFICATE, file.read())
        # Not all of them: that takes tens of milliseconds, and the first connection does it.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=first[0] if first else "")
    except (OSError, ValueError):
        return False
    return True


def _console_url(extra: Mapping[str, Any]) -> str | None:
    given = extra.get("console_url")
    if given is None:
        return None
    parts = _split(given.strip(), "console_url") if isinstance(given, str) else SplitResult("", "", "", "", "")
    bare = parts.username is parts.password is None and not parts.query and not parts.fragment
    if parts.scheme not in ("http", "https") or not parts.hostname or not bare or _is_odd(given.strip()):
        raise ValueError(
            "console_url must be a URL such as https://console.apify.com/organization/ID, without credentials, ? and #"
        )
    return parts.geturl().rstrip("/")


def _switch(extra: Mapping[str, Any], name: str) -> bool:
    value = extra.get(name, False)
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError(f"{name} must be true or false, got {value!r}")


def _seconds(extra: Mapping[str, Any], name: str, default: float) -> float:
    """Read a number of seconds within the range that the connection's form has for it."""
    value = extra.get(name, default)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    least, most = (_FIELDS[name]["schema"][limit] for limit in ("minimum", "maximum"))
    if isinstance(value, bool) or not least <= number <= most:
        raise ValueError(f"{name} must be a number of seconds from {least:g} to {most:g}, got {value!r}")
    return number
