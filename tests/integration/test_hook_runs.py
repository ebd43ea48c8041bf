"""The hook's methods for runs: what they send, what they give, what they refuse."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from airflow_provider_apify.emulator import Emulator, Fault
from airflow_provider_apify.exceptions import ApifyApiError, ApifyConfigurationError, ApifyInvalidRequestError
from airflow_provider_apify.hooks.apify import ApifyHook
from tests.runner import Supervisor


@pytest.fixture
def hook(apify: Emulator, supervisor: Supervisor) -> ApifyHook:
    return ApifyHook()


def input_of(apify: Emulator, run: Any) -> requests.Response:
    """The record INPUT of a run."""
    return requests.get(
        f"{apify.url}/v2/key-value-stores/{run.key_value_store_id}/records/INPUT",
        headers={"Authorization": f"Bearer {apify.token}"},
        timeout=5,
    )


def test_a_run_is_started_with_all_that_was_asked_for(hook: ApifyHook, apify: Emulator) -> None:
    run = hook.start_actor_run(
        "~hello-world",
        run_input={"a": [1, None]},
        build="latest",
        memory_mbytes=512,
        run_timeout=60,
        max_items=7,
        max_total_charge_usd=1.5,
        restart_on_error=False,
        fingerprint="by-hand",
    )
    (shown,) = apify.runs
    assert (run.id, run.status) == (shown["id"], "READY")
    wanted = {"build": "latest", "memoryMbytes": 512, "timeoutSecs": 60, "maxItems": 7, "maxTotalChargeUsd": 1.5}
    assert shown["options"].items() >= wanted.items()
    assert "restartOnError=false" in apify.requests[-1].query
    assert shown["meta"]["userAgent"].endswith("by-hand")
    assert input_of(apify, run).json() == {"a": [1, None]}


@pytest.mark.parametrize(
    ("run_input", "content_type", "sent", "as_type"),
    [
        ({}, None, b"{}", "application/json"),
        ("[1]", None, b"[1]", "application/json"),
        ("a,b\n", "text/csv", b"a,b\n", "text/csv"),
        (b"\x00\xff", "application/octet-stream", b"\x00\xff", "application/octet-stream"),
    ],
)
def test_an_input_is_sent_as_it_is(
    run_input: Any, content_type: str | None, sent: bytes, as_type: str, hook: ApifyHook, apify: Emulator
) -> None:
    run = hook.start_actor_run("~hello-world", run_input=run_input, content_type=content_type)
    stored = input_of(apify, run)
    assert (stored.content, stored.headers["Content-Type"].split(";")[0]) == (sent, as_type)


def test_no_input_sends_no_body(hook: ApifyHook, apify: Emulator) -> None:
    assert input_of(apify, hook.start_actor_run("~hello-world")).status_code == 404
    assert "content-type" not in apify.requests[-2].headers


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"run_input": "{'a': 1}"}, "run_input is text that is not JSON, and its content_type is not given"),
        ({"run_input": {"a": object()}}, "run_input must be what JSON can say"),
        ({"run_input": {"a": float("nan")}}, "run_input must be what JSON can say"),
        ({"run_input": {}, "content_type": "text/csv"}, "run_input is sent as JSON, but content_type is 'text/csv'"),
        ({"run_input": "x", "content_type": "text/plain\n"}, "content_type must be such as"),
        ({"run_input": "x" * 9_437_185, "content_type": "text/plain"}, "and Apify takes 9437184 at most"),
        ({"memory_mbytes": 1000}, "memory_mbytes must be a power of 2"),
        ({"memory_mbytes": 65536}, "memory_mbytes must be a power of 2"),
        ({"run_timeout": -1}, "run_timeout must be a whole number of seconds"),
        ({"max_items": 0}, "max_items must be a whole number of items, at least 1"),
        ({"max_total_charge_usd": 0}, "max_total_charge_usd must be a number of US dollars above 0"),
        ({"build": ""}, "build must be a tag such as 'latest'"),
    ],
)
def test_what_cannot_be_sent_is_refused_and_nothing_is_sent(
    kwargs: dict[str, Any], says: str, hook: ApifyHook, apify: Emulator
) -> None:
    with pytest.raises(ApifyConfigurationError, match=says):
        hook.start_actor_run("~hello-world", **kwargs)
    assert apify.requests == []


def test_a_task_of_apify_is_run_with_fields_replaced(hook: ApifyHook, apify: Emulator) -> None:
    apify.add_task("nightly", "scraper", {"items": 3, "search": {"a": 1, "b": 2}})
    run = hook.start_task_run("~nightly", task_input={"search": {"a": 9}}, memory_mbytes=256)
    assert run.actor_task_id is not None
    assert input_of(apify, run).json() == {"items": 3, "search": {"a": 9}}
    assert [each.id for each in hook.list_runs(actor_task_id="~nightly")] == [run.id]
    with pytest.raises(ApifyConfigurationError, match="task_input must be a dict"):
        hook.start_task_run("~nightly", task_input=[1])  # type: ignore[arg-type]


def test_a_start_whose_answer_is_lost_is_not_repeated(hook: ApifyHook, apify: Emulator) -> None:
    apify.add_fault(Fault("lost-answer", "POST", "/v2/acts/*/runs"))
    with pytest.raises(ApifyApiError) as raised:
        hook.start_actor_run("~hello-world")
    assert raised.value.outcome_unknown
    assert len(apify.runs) == 1


def test_a_run_is_waited_for_listed_and_read(hook: ApifyHook, apify: Emulator) -> None:
    started = hook.start_actor_run("~scraper", run_input={"items": 4})
    run = hook.wait_for_run(started.id, timeout=30)
    assert (run.status, run.exit_code) == ("SUCCEEDED", 0)
    assert hook.get_run(run.id) == run
    assert (
        [each.id for each in hook.list_runs()] == [each.id for each in hook.list_runs(actor_id="~scraper")] == [run.id]
    )
    assert hook.list_runs(actor_id="~hello-world") == []
    assert "Finished!" in hook.get_run_log(run.id, tail_lines=1)
    assert len(list(hook.iterate_dataset_items(str(run.dataset_id)))) == 4
    with pytest.raises(ApifyConfigurationError, match="actor_id and actor_task_id exclude each other"):
        hook.list_runs(actor_id="~a", actor_task_id="~b")


@pytest.mark.parametrize("gracefully", [False, True])
def test_a_run_is_aborted(gracefully: bool, hook: ApifyHook, apify: Emulator) -> None:
    apify.run_seconds = 60
    run = hook.start_actor_run("~hello-world")
    apify.wait_for(lambda emulator: emulator.runs[0]["status"] == "RUNNING")
    assert hook.abort_run(run.id, gracefully=gracefully).status in ("ABORTING", "ABORTED")
    assert ("gracefully=true" in apify.requests[-1].query) is gracefully
    apify.wait_for(lambda emulator: emulator.runs[0]["status"] == "ABORTED")


def test_an_input_can_be_checked_without_a_run(hook: ApifyHook, apify: Emulator) -> None:
    with pytest.raises(ApifyInvalidRequestError, match="startUrls"):
        hook.validate_input("~needs-input", {})
    hook.validate_input("~needs-input", {"startUrls": [{"url": "https://example.com"}]})
    assert apify.runs == []


def test_what_an_actor_says_holds_neither_token_nor_escapes(
    hook: ApifyHook, apify: Emulator, supervisor: Supervisor
) -> None:
    said = f"\x1b]0;x\x07 {apify.token} at https://s.example.com/r?signature=abc \u202edone"
    job = {"id": "x" * 17, "status": "FAILED", "statusMessage": said}
    apify.add_fault(Fault("status", "GET", "/v2/actor-runs/*", status=200, body=json.loads(json.dumps({"data": job}))))
    message = hook.get_run("x" * 17).summary()["status_message"]
    assert message == "]0;x *** at https://s.example.com/r?*** done"
