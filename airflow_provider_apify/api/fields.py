"""Read the fields of Apify's objects. Lenient: an odd or missing one becomes ``None``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pendulum
from pendulum import DateTime


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
    """Read a time with a date, as one of UTC."""
    value = text(data, key)
    try:
        # pendulum also reads "now", and without ``exact`` makes up the date of a time.
        parsed = pendulum.parse(value, exact=True) if value and value[0].isdigit() else None
        return parsed.in_timezone("UTC") if isinstance(parsed, DateTime) else None
    except (ValueError, OverflowError):
        return None
