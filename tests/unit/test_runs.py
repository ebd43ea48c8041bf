"""What a run is, and how its input and parameters are checked and sent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_apify.api import runs
from airflow_provider_apify.api.runs import INPUT_LIMIT, RUN, Run

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)

RUN_OBJECT: dict[str, Any] = {
    "id": "HG7ML7M8z78YcAPEB",
    "actId": "HDSasDasz78YcAPEB",
    "actorTaskId": "KJHSKHausidyaJKHs",
    "status": "FAILED",
    "statusMessage": "Blocked\n  by the shop",
    "exitCode": 91,
    "buildNumber": "0.0.36",
    "defaultDatasetId": "wmKPijuyDnPZAPRMk",
    "defaultKeyValueStoreId": "eJNzqsbPiopwJcgGQ",
    "chargedEventCounts": {"actor-start": 1},
    "usageTotalUsd": 0.2654,
    "options": {"build": "latest"},
}


@given(JSON)
def test_any_json_is_a_run_that_can_be_passed_on_or_a_value_error(data: object) -> None:
    try:
        run = Run.from_api(data)
    except ValueError:
        return
    assert run.summary()["run_id"] == run.id


@given(st.dictionaries(st.sampled_from(sorted(RUN_OBJECT)), JSON))
def test_a_field_of_odd_type_becomes_none(odd: dict[str, Any]) -> None:
    run = Run.from_api({**odd, "id": "x", "status": "RUNNING"})
    assert run.exit_code is None or isinstance(run.exit_code, int)
    assert isinstance(run.status_line, str)


def test_the_summary_has_what_the_next_task_needs() -> None:
    summary = Run.from_api(RUN_OBJECT).summary()
    assert {name: summary[name] for name in ("run_id", "actor_task_id", "dataset_id", "key_value_store_id")} == {
        "run_id": "HG7ML7M8z78YcAPEB",
        "actor_task_id": "KJHSKHausidyaJKHs",
        "dataset_id": "wmKPijuyDnPZAPRMk",
        "key_value_store_id": "eJNzqsbPiopwJcgGQ",
    }
    assert (summary["status_message"], summary["exit_code"]) == ("Blocked by the shop", 91)
    assert summary["charged_event_counts"] == {"actor-start": 1}
    assert set(RUN.job.announced) <= summary.keys()


def test_a_status_message_is_cut_and_on_one_line() -> None:
    run = Run.from_api({**RUN_OBJECT, "statusMessage": "x\n" * 5000})
    assert len(run.summary()["status_message"]) <= 1000
    assert "\n" not in run.status_line


@pytest.mark.parametrize(
    ("value", "content_type", "sent"),
    [
        (None, None, (None, None)),
        ({}, None, (b"{}", "application/json")),
        ([], None, (b"[]", "application/json")),
        (0, None, (b"0", "application/json")),
        ('{"a": 1}\n', None, (b'{"a": 1}\n', "application/json")),
        ("", "text/plain", (b"", "text/plain")),
        (b"\xff", "image/png", (b"\xff", "image/png")),
        ({"a": 1}, "application/json; charset=utf-8", (b'{"a": 1}', "application/json; charset=utf-8")),
    ],
)
def test_an_input_is_encoded(value: Any, content_type: str | None, sent: tuple[Any, Any]) -> None:
    assert runs.encoded_input("run_input", value, content_type) == sent


@pytest.mark.parametrize(
    ("value", "content_type", "says"),
    [
        ("no JSON", None, "give content_type"),
        ("", None, "give content_type"),
        (b"\xff", None, "give content_type"),
        ("[" * 100_000, None, "give content_type"),
        ({"a": float("inf")}, None, "must be what JSON can say"),
        ({"a": object()}, None, "must be what JSON can say"),
        ({"a": 1}, "text/csv", "give text or bytes for that"),
        ("x" * (INPUT_LIMIT + 1), "text/plain", f"{INPUT_LIMIT + 1} bytes"),
    ],
    ids=["text", "empty text", "bytes", "deep", "inf", "object", "type", "too large"],
)
def test_an_input_that_cannot_be_sent_says_what_to_do(value: Any, content_type: str | None, says: str) -> None:
    with pytest.raises(ValueError, match=says) as raised:
        runs.encoded_input("task_input", value, content_type)
    assert str(raised.value).startswith("task_input ")


def test_the_largest_input_is_sent() -> None:
    body, _ = runs.encoded_input("run_input", "x" * INPUT_LIMIT, "text/plain")
    assert body is not None and len(body) == INPUT_LIMIT


@pytest.mark.parametrize("memory", [128, 1024, 32768])
def test_a_power_of_two_is_a_memory(memory: int) -> None:
    assert runs.check_memory(memory) == memory


@pytest.mark.parametrize("memory", [0, 64, 1000, 65536, True, "1024", 1024.5])
def test_anything_else_is_none(memory: Any) -> None:
    with pytest.raises(ValueError, match="memory_mbytes"):
        runs.check_memory(memory)


@pytest.mark.parametrize(
    ("build", "is_number"), [("0.1.5", True), ("latest", False), ("0.1", False), (None, False), ("0.1.\u0665", False)]
)
def test_a_number_names_one_build_for_good(build: str | None, is_number: bool) -> None:
    assert runs.is_build_number(build) is is_number


def test_what_is_left_out_is_left_to_the_actor() -> None:
    start = runs.start_run(runs.actor_runs("~hello-world"))
    assert (start.collection, start.query, start.body) == ("/v2/acts/~hello-world/runs", (), None)
