"""lifecycle/deferral.py: a trigger's event is checked before use."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_apify import exceptions
from airflow_provider_apify.api import errors
from airflow_provider_apify.api.builds import BUILD, Build
from airflow_provider_apify.client.failures import as_airflow_error
from airflow_provider_apify.lifecycle.deferral import read_event
from airflow_provider_apify.lifecycle.events import to_event

SUMMARY = Build("b1", "SUCCEEDED", act_id="a1", build_number="0.1.7").summary()


def ended(**changes: Any) -> dict[str, Any]:
    return {"status": "ended", "build_id": "b1", "build": {**SUMMARY, **changes}}


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "ABORTED", "TIMED-OUT"])
@pytest.mark.parametrize("build_id", ["b1", None])
def test_the_event_of_a_build_that_ended_gives_its_summary(status: str, build_id: str | None) -> None:
    event = json.loads(json.dumps(ended(status=status)))
    assert read_event(BUILD, event, build_id) == {**SUMMARY, "status": status}


@pytest.mark.parametrize(
    "event",
    [
        None,
        {},
        [],
        "ended",
        5,
        {"status": None},
        {"status": "success", "build": SUMMARY},
        {"status": "ended"},
        {"status": "ended", "build": None},
        {"status": "ended", "build": "b1"},
        {"status": ["ended"], "build": SUMMARY},
        ended(status="RUNNING"),
        ended(status="ABORTING"),
        ended(status="SOMETHING-NEW"),
        ended(status=None),
        ended(status=["SUCCEEDED"]),
        ended(build_id="b2"),
        ended(build_id=None),
    ],
    ids=lambda event: repr(event)[:60],
)
def test_an_event_that_cannot_be_read_is_refused_with_advice(event: Any) -> None:
    with pytest.raises(exceptions.ApifyException, match=r"event cannot be read.*same release") as caught:
        read_event(BUILD, event, "b1")
    assert type(caught.value) is exceptions.ApifyException


@pytest.mark.parametrize("build", [ended(build_id=None), {"status": "ended", "build": {"status": "SUCCEEDED"}}])
def test_an_event_that_names_no_build_is_refused_though_none_is_expected(build: dict[str, Any]) -> None:
    with pytest.raises(exceptions.ApifyException, match="event cannot be read"):
        read_event(BUILD, build, None)


def test_the_message_about_an_event_is_bounded() -> None:
    with pytest.raises(exceptions.ApifyException) as caught:
        read_event(BUILD, {"status": "x" * 100_000}, None)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ApifyJobTimeout("not in time"),
        exceptions.ApifyConfigurationError("no token"),
        exceptions.ApifyException("unforeseen"),
        as_airflow_error(errors.ApiError("no such build", errors.NOT_FOUND, status=404, type="record-not-found")),
        as_airflow_error(errors.ApiError("who are you", errors.AUTHENTICATION, status=401)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_event_gives_back_the_exception_that_the_trigger_met(error: exceptions.ApifyException) -> None:
    event = json.loads(json.dumps({"status": "error", **to_event(error), "build_id": "b1"}))
    with pytest.raises(type(error), match=str(error)) as caught:
        read_event(BUILD, event, "b1")
    assert type(caught.value) is type(error)
    assert getattr(caught.value, "status", None) == getattr(error, "status", None)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(("ended", "error", "SUCCEEDED")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("status", "build", "build_id", "exception", "message")), inner)
    ),
    max_leaves=8,
)


@given(json_values)
def test_any_event_is_a_summary_or_an_exception_of_ours(event: Any) -> None:
    try:
        summary = read_event(BUILD, event, None)
    except exceptions.ApifyException:
        return
    assert summary["build_id"] and summary["status"] == "SUCCEEDED"
