"""What all answers have in common: ids, times, pages, the envelope, and refusals."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

MAX_PAGE = 1000

_ID_CHARACTERS = "23456789ABCDEFGHJKLMNPQRSTWXYZabcdefghijkmnopqrstuvwxyz"

T = TypeVar("T")


class ApiError(Exception):
    """A refusal, with the type that Apify gives it."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, message


def not_found(what: str) -> ApiError:
    return ApiError(404, "record-not-found", f"{what} was not found")


def new_id(source: random.Random) -> str:
    return "".join(source.choices(_ID_CHARACTERS, k=17))


def iso(at: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC with milliseconds and ``Z``."""
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def page(
    items: Sequence[T], show: Callable[[T], dict[str, Any]], *, offset: int, limit: int, desc: bool
) -> dict[str, Any]:
    """A page of ``items``, which are in ascending order; ``limit`` 0 means the most that there may be."""
    limit = min(limit or MAX_PAGE, MAX_PAGE)
    ordered = list(reversed(items)) if desc else items
    shown = [show(item) for item in ordered[offset : offset + limit]]
    return {"total": len(items), "offset": offset, "limit": limit, "count": len(shown), "desc": desc, "items": shown}


def success(data: dict[str, Any], status: int = 200) -> Response:
    return JSONResponse({"data": data}, status)


async def refusal(request: Request, error: Exception) -> Response:
    """Answer a request whose endpoint has raised ``error``, or that has none."""
    headers = None
    if isinstance(error, ApiError):
        status, kind, message = error.status, error.kind, error.message
    elif isinstance(error, RequestValidationError):
        first = error.errors()[0]
        status, kind, message = 400, "invalid-parameter", f"{first['loc'][-1]}: {first['msg']}"
    else:
        assert isinstance(error, HTTPException)
        status, message, headers = error.status_code, str(error.detail), error.headers
        kind = {404: "page-not-found", 405: "method-not-allowed"}.get(status, "invalid-request")
    return JSONResponse({"error": {"type": kind, "message": message}}, status, headers)
