"""
The exceptions that tasks raise, for users to catch and to write retry rules for.

Each says by its base class what Airflow does with it: an ``AirflowFailException`` fails the task at once, any other
``AirflowException`` leaves the task its retries. What stems from an answer of Apify's has ``status`` and ``type``.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSensorTimeout

from airflow_provider_apify.api import errors
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
    Apify cannot be made to say whether the task has started a job already, so none was started. Retryable.
    """


class ApifyApiError(ApifyException, errors.ApiError):
    """
    A request failed. Retryable, unless a subclass says otherwise.

    ``status`` is the HTTP status, ``type`` Apify's ``error.type``, each ``None`` where there was none;
    ``outcome_unknown`` says whether Apify may have carried the request out all the same.
    """


class ApifyAuthenticationError(ApifyApiError, AirflowFailException):
    """Apify does not accept the token (401)."""

    kind = errors.AUTHENTICATION


class ApifyPermissionError(ApifyApiError, AirflowFailException):
    """The token may not do this (403)."""

    kind = errors.PERMISSION


class ApifyNotFoundError(ApifyApiError, AirflowFailException):
    """The Actor, version or job does not exist, or the token cannot see it (404)."""

    kind = errors.NOT_FOUND


class ApifyInvalidRequestError(ApifyApiError, AirflowFailException):
    """Apify refuses the request as it is (400 and other 4xx)."""

    kind = errors.INVALID_REQUEST


class ApifyPollError(ApifyApiError):
    """
    For 10 minutes Apify refused to say how a job is doing, though it did not say that the job is gone. Retryable:
    the next try waits for the same job.
    """

    kind = errors.POLL


class ApifyQuotaError(ApifyApiError, AirflowFailException):
    """The account's credits or monthly limit are used up."""

    kind = errors.QUOTA


class ApifyCapacityError(ApifyApiError):
    """The account's memory is taken by other builds and runs. Retryable."""

    kind = errors.CAPACITY


class ApifyRateLimitError(ApifyApiError):
    """Too many requests (429), also after waiting for as long as Apify asked. Retryable."""

    kind = errors.RATE_LIMIT


class ApifyServerError(ApifyApiError):
    """Apify or a proxy failed (5xx), or sent something unreadable. Retryable."""

    kind = errors.SERVER


class ApifyNetworkError(ApifyApiError):
    """No complete answer arrived. Retryable."""

    kind = errors.NETWORK


class ApifyJobFailed(ApifyException):
    """
    A job of Apify's ended as FAILED, ABORTED or TIMED-OUT. Retryable: a retry of the operator starts a fresh one.

    :param summary: the job's summary, as in the XCom ``summary``.
    :param log_tail: last lines of the job's log.
    """

    def __init__(self, message: str, *, summary: dict[str, Any] | None = None, log_tail: str = "") -> None:
        super().__init__(message)
        self.summary = summary or {}
        self.log_tail = log_tail


class ApifyBuildFailed(ApifyJobFailed):
    """A build ended as FAILED, ABORTED or TIMED-OUT. Only the end of its log says why."""


class ApifyBuildFailedFinal(ApifyBuildFailed, AirflowFailException):
    """The same, seen by a sensor: that build never changes, so Airflow fails the task at once."""


class ApifyRunFailed(ApifyJobFailed):
    """A run ended as FAILED, ABORTED or TIMED-OUT; with its status message, exit code and the end of its log."""


class ApifyRunFailedFinal(ApifyRunFailed, AirflowFailException):
    """The same, seen by a sensor: Airflow fails the task at once."""


class ApifyTooFewItems(ApifyJobFailed):
    """
    A run succeeded, and its dataset has fewer items than ``min_items``. Retryable: a retry of the operator counts
    again, and then starts another run, which is paid for.
    """


class ApifyTooFewItemsFinal(ApifyTooFewItems, AirflowFailException):
    """The same, seen by a sensor: Airflow fails the task at once."""


class ApifyRunUnfinished(ApifyException):
    """The dataset of a run was wanted that has not ended. Retryable."""


class ApifyTargetError(ApifyException):
    """Files cannot be written, or there are others in their place. Retryable."""


class ApifyTagConflictError(ApifyException, AirflowFailException):
    """
    Somebody else has moved the tag that was to be moved. Not retried: a retry would move it from the build that the
    other release has just put it on.
    """


class ApifyJobTimeout(ApifyException):
    """The job did not end within the task's ``timeout``. Not Apify's own ``TIMED-OUT``. Retryable."""


class ApifyJobSensorTimeout(ApifyJobTimeout, AirflowSensorTimeout):
    """The same from a sensor, whose time-out Airflow does not retry."""
