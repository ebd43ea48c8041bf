"""exceptions.py: what Airflow does with each failure, and that a trigger's event carries it whole."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSensorTimeout

from airflow_provider_apify import exceptions
from airflow_provider_apify.api import errors
from airflow_provider_apify.exceptions import ApifyApiError, ApifyException, flavoured, from_event, to_event

PUBLIC = [
    cls
    for cls in vars(exceptions).values()
    if isinstance(cls, type) and issubclass(cls, Exception) and cls.__module__ == exceptions.__name__
]
API_ERRORS = [
    cls
    for cls in vars(errors).values()
    if isinstance(cls, type) and issubclass(cls, errors.ApiError) and cls is not errors.ApiError
]


def make(cls: type[Exception], message: str) -> Exception:
    return cls(message, sent=True) if issubclass(cls, errors.NetworkError) else cls(message)  # type: ignore[call-arg]


def by_name(cls: type[Exception]) -> str:
    return cls.__name__


@pytest.mark.parametrize("cls", API_ERRORS, ids=by_name)
def test_each_api_error_has_its_airflow_flavour(cls: type[errors.ApiError]) -> None:
    found = flavoured(make(cls, "what happened"))  # type: ignore[arg-type]
    assert isinstance(found, ApifyApiError) and isinstance(found, cls)
    assert str(found) == "what happened"


def test_no_two_api_errors_share_a_flavour() -> None:
    assert len({type(flavoured(make(cls, ""))) for cls in API_ERRORS}) == len(API_ERRORS)  # type: ignore[arg-type]


def test_a_flavour_keeps_what_is_known_of_the_answer() -> None:
    found = flavoured(errors.RateLimitError("x", status=429, type="rate-limit-exceeded", retry_after=7.0))
    assert (found.status, found.type, found.retry_after) == (429, "rate-limit-exceeded", 7.0)
    assert found.transient and not found.outcome_unknown


@pytest.mark.parametrize("sent", [True, False])
def test_a_flavour_keeps_whether_the_outcome_is_known(sent: bool) -> None:
    assert flavoured(errors.NetworkError("x", sent=sent)).outcome_unknown is sent
    assert flavoured(errors.ServerError("x")).outcome_unknown


def test_what_has_its_flavour_stays_as_it_is() -> None:
    error = flavoured(errors.ServerError("x"))
    assert flavoured(error) is error


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
        "ApifyBuildFailedFinal",
    }


@pytest.mark.parametrize("cls", API_ERRORS, ids=by_name)
def test_what_passes_leaves_a_task_its_retries_and_nothing_else_does(cls: type[errors.ApiError]) -> None:
    found = flavoured(make(cls, ""))  # type: ignore[arg-type]
    assert isinstance(found, AirflowFailException) is not cls.transient


def test_the_sensors_exceptions_are_caught_as_the_operators() -> None:
    assert issubclass(exceptions.ApifyBuildFailedFinal, exceptions.ApifyBuildFailed)
    assert issubclass(exceptions.ApifyBuildSensorTimeout, exceptions.ApifyBuildTimeout)
    assert issubclass(exceptions.ApifyBuildSensorTimeout, AirflowSensorTimeout)


def test_a_configuration_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="version"):
        raise exceptions.ApifyConfigurationError("version must be ...")


@pytest.mark.parametrize("cls", PUBLIC, ids=by_name)
def test_an_event_carries_an_exception_as_json(cls: type[ApifyException]) -> None:
    error = make(cls, "what happened, č")
    if isinstance(error, ApifyApiError):
        error.status, error.type = 402, "some-type"
    found = from_event(json.loads(json.dumps(to_event(error))))  # type: ignore[arg-type]
    assert (type(found), str(found)) == (cls, "what happened, č")
    if isinstance(found, ApifyApiError):
        assert (found.status, found.type, found.retry_after) == (402, "some-type", None)


@pytest.mark.parametrize("cls", PUBLIC, ids=by_name)
def test_an_exception_from_an_event_lacks_no_attribute(cls: type[ApifyException]) -> None:
    error = make(cls, "what happened")
    assert vars(from_event(to_event(error))).keys() >= vars(error).keys()  # type: ignore[arg-type]


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


@pytest.mark.parametrize("cls", [cls for cls in PUBLIC if not issubclass(cls, errors.NetworkError)], ids=by_name)
def test_an_exception_can_be_copied_with_its_attributes(cls: type[ApifyException]) -> None:
    error = make(cls, "what happened")
    found = copy.deepcopy(error)
    assert (type(found), str(found), vars(found)) == (cls, "what happened", vars(error))


@pytest.mark.parametrize("cls", [*PUBLIC, *API_ERRORS], ids=by_name)
def test_each_survives_pickling(cls: type[Exception]) -> None:
    """As a process pool, or a callback in another process, would have it."""
    before = make(cls, "what happened")
    after = pickle.loads(pickle.dumps(before))
    assert (type(after), str(after), vars(after)) == (cls, "what happened", vars(before))
