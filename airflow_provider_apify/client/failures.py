"""Failures below, as the exceptions that Airflow and users understand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_apify import exceptions
from airflow_provider_apify.api import errors
from airflow_provider_apify.api.job import Job, JobKind
from airflow_provider_apify.exceptions import ApifyApiError, ApifyConfigurationError, ApifyJobTimeout

#: The exception for each kind of failure, which its class names.
_OF_KIND = {
    cls.kind: cls
    for cls in vars(exceptions).values()
    if isinstance(cls, type) and issubclass(cls, ApifyApiError) and "kind" in vars(cls)
} | {errors.CERTIFICATE: exceptions.ApifyNetworkError}


@contextmanager
def configuration() -> Iterator[None]:
    """Turn the ``ValueError`` of a check into an ``ApifyConfigurationError``; for checks alone."""
    try:
        yield
    except ValueError as error:
        raise ApifyConfigurationError(str(error)) from None


def as_airflow_error(error: errors.ApiError, where: str = "") -> ApifyApiError:
    """
    Give ``error`` as the exception that Airflow understands, with the same facts.

    :param where: a last line for the message: over which connection.
    """
    if isinstance(error, ApifyApiError):
        return error
    return _OF_KIND[error.kind](
        f"{error}\n{where}" if where else str(error),
        error.kind,
        status=error.status,
        type=error.type,
        retry_after=error.retry_after,
        outcome_unknown=error.outcome_unknown,
    )


def timed_out(kind: JobKind[Job], job_id: str, job: Job | None, trouble: Exception | None) -> ApifyJobTimeout:
    """
    Say that a job has not ended in time.

    :param job: the job as last seen.
    :param trouble: why it could not be seen when the time was over.
    """
    seen = f"it is {job.status}." if job and not trouble else f"it could not be seen.\n{trouble}"
    return ApifyJobTimeout(f"{kind.title} {job or job_id} has not ended within the task's timeout; {seen}")
