"""Read the fields of Apify's objects, leniently: an odd or missing one becomes ``None``. And make and check JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pendulum import UTC, DateTime


def is_json(body: bytes) -> bool:
    """Whether a text is JSON."""
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def as_json(name: str, value: Any) -> bytes:
    """
    Give a value as JSON.

    :param name: what it is, for the message.
    :raises ValueError: JSON cannot say it.
    """
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be what JSON can say: {error}") from None


def line(text: str | None) -> str:
    """Give a text on one line, without characters that a terminal would not show but act on."""
    return printable(" ".join((text or "").split()))


def printable(text: str) -> str:
    """Give a text without characters that a terminal would not show but act on, such as those that begin escapes."""
    return text if text.isprintable() else "".join(each for each in text if each.isprintable() or each in "\t\n")


def text(data: Mapping[str, Any], key: str) -> str | None:
    value = data.get(key)
    return value if isinstance(value, str) else None


def number(data: Mapping[str, Any], key: str) -> float | None:
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def mapping(data: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    value = data.get(key)
    return dict(value) if isinstance(value, Mapping) else None


def time(data: Mapping[str, Any], key: str) -> DateTime | None:
    """Read a time with a date and a zone, as one of UTC."""
    value = text(data, key)
    try:
        # pendulum.parse takes three times as long. Before Python 3.11 this reads no Z.
        parsed = DateTime.fromisoformat(value.replace("Z", "+00:00")) if value else None
        return parsed.astimezone(UTC) if parsed and parsed.tzinfo else None
    except (ValueError, OverflowError):
        return None
