"""What an Airflow connection of type ``apify`` says, checked once and resolved for both transports."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from airflow_provider_apify.api.requests import MAX_WAIT_SECONDS

DEFAULT_HOST = "api.apify.com"
DEFAULT_TIMEOUT = 30.0
DEFAULT_CONNECTIONS = 1000


@dataclass(frozen=True)
class Settings:
    """
    A checked connection.

    :param base_url: scheme, host and port, without ``/v2``.
    :param token: the API token.
    :param proxy: URL of the proxy to go through, or ``None``.
    :param ca_bundle: file of certificate authorities to trust, or ``None`` for certifi's.
    :param timeout: seconds to connect, and to wait for the next part of an answer beyond a long-poll.
    :param wait_seconds: longest long-poll, 0 to 60.
    :param connections: most long-polls that a triggerer has open at a time, 1 to 10000.
    """

    base_url: str
    token: str = field(repr=False)
    proxy: str | None = field(default=None, repr=False)
    ca_bundle: str | None = None
    timeout: float = DEFAULT_TIMEOUT
    wait_seconds: int = MAX_WAIT_SECONDS
    connections: int = DEFAULT_CONNECTIONS

    @classmethod
    def of(
        cls, conn_id: str, *, host: str | None, port: int | None, password: str | None, extra: Mapping[str, Any]
    ) -> Settings:
        """
        Check a connection's fields.

        :raises ValueError: one cannot be used; the message names connection and field and holds no secret.
        """
        try:
            if not isinstance(extra, Mapping):
                raise ValueError("extra must be a JSON object")
            token = (password or "").strip()
            if not token:
                raise ValueError(
                    "password (API token) is empty: paste a token from Apify Console, Settings, API & Integrations"
                )
            if not token.isascii() or not token.isprintable() or " " in token:
                raise ValueError("password (API token) has characters that no token has: paste it again")
            base_url = _base_url(host, port, allow_http=_switch(extra, "allow_http"))
            return cls(
                base_url=base_url,
                token=token,
                proxy=_proxy(extra, base_url),
                ca_bundle=_ca_bundle(extra),
                timeout=_seconds(extra, "timeout", DEFAULT_TIMEOUT, least=1, most=600),
                wait_seconds=int(_seconds(extra, "wait_seconds", MAX_WAIT_SECONDS, least=0, most=MAX_WAIT_SECONDS)),
                connections=int(_number(extra, "connections", DEFAULT_CONNECTIONS, least=1, most=10000)),
            )
        except ValueError as error:
            raise ValueError(f"Connection {conn_id!r}: {error}.") from None


def _base_url(host: str | None, port: int | None, *, allow_http: bool) -> str:
    text = (host or "").strip() or DEFAULT_HOST
    parts = _split(text if "://" in text else f"//{text}", "host")
    name = parts.hostname or ""
    if parts.scheme not in ("", "http", "https"):
        raise ValueError(f"host has the scheme {parts.scheme!r}: use https://, or leave the scheme out")
    if parts.username is not None or parts.password is not None:
        raise ValueError("host holds credentials: the token belongs into the password field")
    odd = any(character.isspace() or not character.isprintable() for character in text)
    if odd or not name or parts.query or parts.fragment:
        raise ValueError("host is not a host name or base URL such as https://api.apify.com")
    if parts.path.rstrip("/") not in ("", "/v2"):
        raise ValueError("host has a path: use the API's base URL, such as https://api.apify.com, with or without /v2")
    loopback = _is_loopback(name)
    scheme = parts.scheme or ("http" if loopback or allow_http else "https")
    if scheme == "http" and not loopback and not allow_http:
        raise ValueError(
            "host starts with http://, which would send the token unencrypted: use https://, or set allow_http if that"
            " network can be trusted"
        )
    number = parts.port or port
    return f"{scheme}://{f'[{name}]' if ':' in name else name}{f':{number}' if number else ''}"


def _split(url: str, name: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:
        raise ValueError(f"{name} is not a valid URL") from None
    return parts


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name.lower() == "localhost"


def _proxy(extra: Mapping[str, Any], base_url: str) -> str | None:
    """Give the field ``proxy``, else what ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` say."""
    parts = urlsplit(base_url)
    given = extra.get("proxy")
    if given in (None, ""):
        proxies = getproxies()
        found = proxies.get(parts.scheme) or proxies.get("all")
        if not found or proxy_bypass(parts.netloc):
            return None
        return found if "://" in found else f"http://{found}"
    if not isinstance(given, str) or not re.match(r"https?://[^/]", given) or not _split(given, "proxy").hostname:
        raise ValueError("proxy must be a URL such as http://proxy.example.com:3128")
    return given


def _ca_bundle(extra: Mapping[str, Any]) -> str | None:
    path = extra.get("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
    if path is None:
        return None
    if not isinstance(path, str) or not os.path.isfile(path):
        raise ValueError(f"ca_bundle must be a PEM file on the machine that runs the task; there is none at {path!r}")
    return path


def _switch(extra: Mapping[str, Any], name: str) -> bool:
    value = extra.get(name)
    if value in (None, ""):
        return False
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError(f"{name} must be true or false, got {value!r}")


def _seconds(extra: Mapping[str, Any], name: str, default: float, *, least: float, most: float) -> float:
    return _number(extra, name, default, least=least, most=most, unit=" of seconds")


def _number(extra: Mapping[str, Any], name: str, default: float, *, least: float, most: float, unit: str = "") -> float:
    value = extra.get(name)
    if value in (None, ""):
        return default
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if isinstance(value, bool) or not least <= number <= most:
        raise ValueError(f"{name} must be a number{unit} from {least:g} to {most:g}, got {value!r}")
    return number
