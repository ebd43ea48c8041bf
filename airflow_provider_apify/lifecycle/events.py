"""An exception that a trigger met, as the event that brings it to the worker, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_apify import exceptions
from airflow_provider_apify.api import errors
from airflow_provider_apify.exceptions import ApifyApiError, ApifyException


def to_event(error: ApifyException) -> dict[str, Any]:
    """Give an exception as plain JSON, for a trigger to send."""
    api_error = error if isinstance(error, ApifyApiError) else None
    return {
        "exception": type(error).__name__,
        "message": str(error),
        "kind": api_error and api_error.kind.name,
        "http_status": api_error and api_error.status,
        "error_type": api_error and api_error.type,
    }


def from_event(event: Mapping[str, Any]) -> ApifyException:
    """Give the exception that :func:`to_event` described; an unknown one becomes an :class:`ApifyException`."""
    message = str(event.get("message"))
    cls = vars(exceptions).get(str(event.get("exception")))
    if not (isinstance(cls, type) and issubclass(cls, ApifyException)):
        return ApifyException(message)
    if not issubclass(cls, ApifyApiError):
        return cls(message)
    kind = next((kind for kind in errors.KINDS if kind.name == event.get("kind")), None)
    return cls(message, kind, status=event.get("http_status"), type=event.get("error_type"), outcome_unknown=False)
