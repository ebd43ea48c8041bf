"""
The exceptions that tasks raise, for users to catch and to write retry rules for.

Each says by its base class what Airflow does with it: an ``AirflowFailException`` fails the task at once, any other
``AirflowException`` leaves the task its retries. Those that stem from an answer of Apify's are also the
``ApiError`` of the same kind in ``airflow_provider_apify.api.errors``, with ``status`` and ``type``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSensorTimeout

from airflow_provider_apify.api import errors
from airflow_provider_apify.api.model import Build
from airflow_provider_apify.jobs.start import StartUnclear, Superseded


class ApifyException(AirflowException):
    """Root of all that this provider raises on purpose, but for ``ValueError`` from constructors."""


class ApifyConfigurationError(ApifyException, AirflowFailException, ValueError):
    """An argument or a field of the connection cannot be used; the message names it."""


class ApifyConnectionNotFoundError(ApifyException):
    """
    Airflow has no connection of that id, or could not be asked: to a task both look the same, so it is retryable.
    """


class ApifySupersededError(ApifyException, Superseded, AirflowFailException):
    """The try was overtaken by a newer attempt of its task, or is being ended: it started nothing."""


class ApifyStartUnclearError(ApifyException, StartUnclear):
    """
    Apify cannot be made to say whether the task has started a build already, so none was started. Retryable.
    """


class ApifyApiError(ApifyException, errors.ApiError):
    """A request failed. Retryable, unless a subclass says otherwise."""


class ApifyAuthenticationError(ApifyApiError, errors.AuthenticationError, AirflowFailException):
    """Apify does not accept the token (401)."""


class ApifyPermissionError(ApifyApiError, errors.PermissionDeniedError, AirflowFailException):
    """The token may not do this (403)."""


class ApifyNotFoundError(ApifyApiError, errors.NotFoundError, AirflowFailException):
    """The Actor, version or build does not exist, or the token cannot see it (404)."""


class ApifyInvalidRequestError(ApifyApiError, errors.InvalidRequestError, AirflowFailException):
    """Apify refuses the request as it is (400 and other 4xx)."""


class ApifyPollError(ApifyApiError, errors.PollError):
    """
    For 10 minutes Apify refused to say how a build is doing, though it did not say that the build is gone. Retryable:
    the next try waits for the same build.
    """


class ApifyQuotaError(ApifyApiError, errors.QuotaError, AirflowFailException):
    """The account's credits or monthly limit are used up."""


class ApifyCapacityError(ApifyApiError, errors.CapacityError):
    """The account's memory is taken by other builds and runs. Retryable."""


class ApifyRateLimitError(ApifyApiError, errors.RateLimitError):
    """Too many requests (429), also after waiting for as long as Apify asked. Retryable."""


class ApifyServerError(ApifyApiError, errors.ServerError):
    """Apify or a proxy failed (5xx), or sent something unreadable. Retryable."""


class ApifyNetworkError(ApifyApiError, errors.NetworkError):
    """No complete answer arrived. Retryable."""


class ApifyBuildFailed(ApifyException):
    """
    A build ended as FAILED, ABORTED or TIMED-OUT. Retryable: a retry of the operator starts a fresh build.

    :param summary: the build's summary, as in the XCom ``summary``.
    :param log_tail: last lines of the build's log, the only place where Apify says why.
    """

    def __init__(self, message: str, *, summary: dict[str, Any] | None = None, log_tail: str = "") -> None:
        super().__init__(message)
        self.summary = summary or {}
        self.log_tail = log_tail


class ApifyBuildFailedFinal(ApifyBuildFailed, AirflowFailException):
    """The same, seen by a sensor: that build never changes, so Airflow fails the task at once."""


class ApifyBuildTimeout(ApifyException):
    """The build did not end within the task's ``timeout``. Not Apify's own ``TIMED-OUT``. Retryable."""


class ApifyBuildSensorTimeout(ApifyBuildTimeout, AirflowSensorTimeout):
    """The same from the sensor, whose time-out Airflow does not retry."""


def timed_out(build_id: str, build: Build | None, trouble: Exception | None) -> ApifyBuildTimeout:
    """
    Say that a build has not ended in time.

    :param build: the build as last seen.
    :param trouble: why it could not be seen when the time was over.
    """
    seen = f"it is {build.status}." if build and not trouble else f"it could not be seen.\n{trouble}"
    return ApifyBuildTimeout(f"Build {build or build_id} has not ended within the task's timeout; {seen}")


_FLAVOURS: dict[type[errors.ApiError], type[ApifyApiError]] = {
    errors.AuthenticationError: ApifyAuthenticationError,
    errors.PermissionDeniedError: ApifyPermissionError,
    errors.NotFoundError: ApifyNotFoundError,
    errors.InvalidRequestError: ApifyInvalidRequestError,
    errors.PollError: ApifyPollError,
    errors.QuotaError: ApifyQuotaError,
    errors.CapacityError: ApifyCapacityError,
    errors.RateLimitError: ApifyRateLimitError,
    errors.ServerError: ApifyServerError,
    errors.NetworkError: ApifyNetworkError,
}


def flavoured(error: errors.ApiError) -> ApifyApiError:
    """Give ``error`` as the exception that Airflow understands, with the same message and facts."""
    if isinstance(error, ApifyApiError):
        return error
    flavour = _FLAVOURS[type(error)]
    exception = flavour.__new__(flavour)
    exception.args = error.args
    exception.__dict__.update(error.__dict__)
    return exception


def to_event(error: ApifyException) -> dict[str, Any]:
    """Give an exception as plain JSON, for a trigger to send."""
    return {
        "exception": type(error).__name__,
        "message": str(error),
        "http_status": getattr(error, "status", None),
        "error_type": getattr(error, "type", None),
    }


def from_event(event: Mapping[str, Any]) -> ApifyException:
    """Give the exception that :func:`to_event` described; an unknown one becomes an :class:`ApifyException`."""
    cls = globals().get(str(event.get("exception")))
    if not (isinstance(cls, type) and issubclass(cls, ApifyException)):
        cls = ApifyException
    error = cls.__new__(cls)
    error.args = (str(event.get("message")),)
    if isinstance(error, ApifyApiError):
        error.status, error.type = event.get("http_status"), event.get("error_type")
        error.retry_after, error.outcome_unknown = None, False
    if isinstance(error, ApifyBuildFailed):
        error.summary, error.log_tail = {}, ""
    return error
