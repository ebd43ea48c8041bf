"""exceptions.py: what Airflow does with each failure, and that a trigger's event carries it whole."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSensorTimeout

from airflow_provider_apify import exceptions
from airflow_provider_apify.api import errors
from airflow_provider_apify.client.failures import as_airflow_error
from airflow_provider_apify.exceptions import ApifyApiError, ApifyException
from airflow_provider_apify.lifecycle.events import from_event, to_event

PUBLIC = [
    cls
    for cls in vars(exceptions).values()
    if isinstance(cls, type) and issubclass(cls, Exception) and cls.__module__ == exceptions.__name__
]
KINDS = pytest.mark.parametrize("kind", errors.KINDS, ids=lambda kind: kind.name)


def by_name(cls: type[Exception]) -> str:
    return cls.__name__


@KINDS
def test_each_kind_of_failure_has_its_exception(kind: errors.Kind) -> None:
    found = as_airflow_error(errors.ApiError("what happened", kind), "Connection 'x'.")
    assert isinstance(found, ApifyApiError) and type(found) is not ApifyApiError
    assert (found.kind, str(found)) == (kind, "what happened\nConnection 'x'.")


def test_no_two_kinds_share_an_exception_but_those_of_the_network() -> None:
    found = {kind: type(as_airflow_error(errors.ApiError("", kind))) for kind in errors.KINDS}
    assert len(set(found.values())) == len(errors.KINDS) - 1
    assert found[errors.NETWORK] is found[errors.CERTIFICATE]


def test_an_exception_keeps_what_is_known_of_the_answer() -> None:
    error = errors.ApiError("x", errors.RATE_LIMIT, status=429, type="rate-limit-exceeded", retry_after=7.0)
    found = as_airflow_error(error)
    assert (found.status, found.type, found.retry_after) == (429, "rate-limit-exceeded", 7.0)
    assert found.transient and not found.outcome_unknown


@pytest.mark.parametrize("sent", [True, False])
def test_an_exception_keeps_whether_the_outcome_is_known(sent: bool) -> None:
    assert as_airflow_error(errors.ApiError("x", errors.NETWORK, outcome_unknown=sent)).outcome_unknown is sent
    assert as_airflow_error(errors.ApiError("x", errors.SERVER)).outcome_unknown


def test_what_airflow_understands_stays_as_it_is() -> None:
    error = as_airflow_error(errors.ApiError("x", errors.SERVER))
    assert as_airflow_error(error, "Connection 'x'.") is error


def test_all_that_is_raised_on_purpose_has_one_root_that_airflow_knows() -> None:
    assert {cls for cls in PUBLIC if not issubclass(cls, ApifyException)} == set()
    assert issubclass(ApifyException, AirflowException)


def test_which_failures_leave_a_task_no_retry() -> None:
    final = {cls.__name__ for cls in PUBLIC if issubclass(cls, AirflowFailException)}
    assert final == {
        "ApifyConfigurationError",
        "ApifySupersededError",
        "ApifyAuthenticationError",
        "ApifyPermissionError",
        "ApifyNotFoundError",
        "ApifyInvalidRequestError",
        "ApifyQuotaError",
        "ApifyTagConflictError",
        "ApifyBuildFailedFinal",
        "ApifyRunFailedFinal",
        "ApifyTooFewItemsFinal",
    }


@KINDS
def test_what_passes_leaves_a_task_its_retries_and_nothing_else_does(kind: errors.Kind) -> None:
    found = as_airflow_error(errors.ApiError("", kind))
    # A certificate may be put right while a task waits for its retry.
    assert isinstance(found, AirflowFailException) is not (kind.passes or kind is errors.CERTIFICATE)


def test_the_sensors_exceptions_are_caught_as_the_operators() -> None:
    assert issubclass(exceptions.ApifyBuildFailedFinal, exceptions.ApifyBuildFailed)
    assert issubclass(exceptions.ApifyJobSensorTimeout, exceptions.ApifyJobTimeout)
    assert issubclass(exceptions.ApifyJobSensorTimeout, AirflowSensorTimeout)


def test_a_configuration_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="version"):
        raise exceptions.ApifyConfigurationError("version must be ...")


@pytest.mark.parametrize("cls", PUBLIC, ids=by_name)
def test_an_event_carries_an_exception_as_json(cls: type[ApifyException]) -> None:
    error = cls("what happened, č")
    if isinstance(error, ApifyApiError):
        error.status, error.type = 402, "some-type"
    found = from_event(json.loads(json.dumps(to_event(error))))
    assert (type(found), str(found)) == (cls, "what happened, č")
    if isinstance(found, ApifyApiError):
        assert (found.status, found.type, found.retry_after) == (402, "some-type", None)


@KINDS
def test_an_event_carries_the_kind_of_a_failure(kind: errors.Kind) -> None:
    assert from_event(to_event(as_airflow_error(errors.ApiError("x", kind)))).kind is kind  # type: ignore[attr-defined]


@pytest.mark.parametrize("cls", PUBLIC, ids=by_name)
def test_an_exception_from_an_event_lacks_no_attribute(cls: type[ApifyException]) -> None:
    error = cls("what happened")
    assert vars(from_event(to_event(error))).keys() >= vars(error).keys()


@pytest.mark.parametrize(
    "name",
    ["ApifyFutureError", "", None, 5, "errors", "Any", "to_event", "AirflowException", "__builtins__", "ApiError"],
)
def test_an_event_of_unknown_exception_gives_the_root(name: object) -> None:
    found = from_event({"exception": name, "message": "what happened"})
    assert (type(found), str(found)) == (ApifyException, "what happened")


def test_an_event_without_fields_still_gives_an_exception() -> None:
    assert type(from_event({})) is ApifyException
    found = from_event({"exception": "ApifyServerError", "message": "down"})
    assert isinstance(found, ApifyApiError) and found.status is None


@pytest.mark.parametrize("cls", PUBLIC, ids=by_name)
def test_an_exception_can_be_copied_with_its_attributes(cls: type[ApifyException]) -> None:
    error = cls("what happened")
    found = copy.deepcopy(error)
    assert (type(found), str(found), vars(found)) == (cls, "what happened", vars(error))


@pytest.mark.parametrize("cls", [*PUBLIC, errors.ApiError], ids=by_name)
def test_each_survives_pickling(cls: type[Exception]) -> None:
    """As a process pool, or a callback in another process, would have it."""
    before = cls("what happened")
    after = pickle.loads(pickle.dumps(before))
    assert (type(after), str(after), vars(after)) == (cls, "what happened", vars(before))
