"""What only runs have: their inputs, graceful aborts, resurrections, Apify tasks."""

from __future__ import annotations

import asyncio
import datetime as dt
import inspect
import json
from functools import partial
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import literal
from airflow.sdk import DAG, Asset

from airflow_provider_apify.emulator import Emulator, Fault
from airflow_provider_apify.operators.build import ApifyBuildOperator
from airflow_provider_apify.operators.job import JobOperator
from airflow_provider_apify.operators.run import ApifyRunActorOperator, ApifyRunTaskOperator
from tests.features import MASKED
from tests.integration.test_no_orphans import sigterm_when, ti_of, waits
from tests.kinds import Runs
from tests.runner import Runner, Supervisor


@pytest.fixture
def kind(apify: Emulator) -> Runs:
    return Runs(apify)


# -- aborting ---------------------------------------------------------------------------------------------------------


def abort_queries(kind: Runs) -> list[str]:
    return [request.query for request in kind.requests if request.path.endswith("/abort")]


@pytest.mark.parametrize(("gracefully", "query"), [(False, ""), (True, "gracefully=true")])
@pytest.mark.parametrize("who", ["the worker", "the trigger", "the next attempt"])
def test_an_abort_is_graceful_if_asked_for(
    who: str, gracefully: bool, query: str, kind: Runs, supervisor: Supervisor, runner: Runner
) -> None:
    kind.seconds = 30
    supervisor.state = "failed"
    task = partial(kind.operator, wait_for_completion=True, abort_gracefully=gracefully, deferrable=who != "the worker")
    if who == "the worker":
        with sigterm_when(kind.apify, waits):
            runner.run(task())
    else:
        trigger = runner.run(task()).trigger
        kind.apify.wait_for(lambda _: kind.statuses == ["RUNNING"])
        if who == "the trigger":
            trigger.task_instance = ti_of(kind)
            asyncio.run(trigger.on_kill())
        else:
            runner.clear(task())
            runner.run(task())
    assert abort_queries(kind) == [query]
    kind.ended()
    assert kind.statuses[0] == "ABORTED"


# -- resurrections ----------------------------------------------------------------------------------------------------


def resurrect(kind: Runs, run_id: str) -> None:
    """As somebody in Apify Console."""
    import requests

    headers = {"Authorization": f"Bearer {kind.apify.token}"}
    requests.post(f"{kind.apify.url}{kind.path(run_id)}/resurrect", headers=headers, timeout=5).raise_for_status()


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
@pytest.mark.parametrize("store", [False, True], ids=["no store", "store"])
def test_a_failed_run_that_was_resurrected_is_waited_for_by_the_retry(
    store: bool, deferrable: bool, kind: Runs, supervisor: Supervisor, runner: Runner
) -> None:
    supervisor.has_store = store
    task = partial(kind.operator, "~fails-half-way", wait_for_completion=True, deferrable=deferrable, retries=1)
    assert runner.run_to_end(task).state == "up_for_retry"
    kind.set_actor("fails-half-way", outcome="SUCCEEDED")
    kind.seconds = 1.5
    resurrect(kind, kind.jobs[0]["id"])
    runner.retry()
    outcome = runner.run_to_end(task)
    assert (outcome.state, kind.statuses, kind.starts) == ("success", ["SUCCEEDED"], 1)
    assert outcome.xcoms["summary"]["stats"]["resurrectCount"] == 1


@pytest.mark.parametrize("options", [{}, {"mode": "reschedule", "poke_interval": 0.1}, {"deferrable": True}], ids=str)
def test_a_sensor_says_what_it_saw_of_a_run_that_is_resurrected_later(
    options: dict[str, Any], kind: Runs, runner: Runner
) -> None:
    run_id = kind.start("fails-half-way")
    outcome = runner.run_to_end(lambda: kind.sensor(run_id, retries=1, **options))
    resurrect(kind, run_id)
    assert (outcome.state, type(outcome.error).__name__) == ("failed", "ApifyRunFailedFinal")
    assert outcome.error is not None and " FAILED after" in str(outcome.error)
    assert outcome.xcoms["summary"]["status"] == "FAILED"


def test_a_sensor_waits_for_a_run_that_has_been_resurrected(kind: Runs, runner: Runner) -> None:
    run_id = kind.start("fails-half-way")
    kind.ended()
    kind.set_actor("fails-half-way", outcome="SUCCEEDED")
    kind.seconds = 1.5
    resurrect(kind, run_id)
    assert runner.run_to_end(lambda: kind.sensor(run_id)).state == "success"


# -- inputs -----------------------------------------------------------------------------------------------------------


def sent(kind: Runs) -> tuple[bytes, str | None]:
    """Give body and Content-Type of what is stored as the newest run's input."""
    import requests

    store = kind.jobs[-1]["defaultKeyValueStoreId"]
    headers = {"Authorization": f"Bearer {kind.apify.token}"}
    answer = requests.get(f"{kind.apify.url}/v2/key-value-stores/{store}/records/INPUT", headers=headers, timeout=5)
    return (answer.content, answer.headers["content-type"]) if answer.ok else (b"", None)


@pytest.mark.parametrize(
    ("options", "body", "content_type"),
    [
        ({}, b"", None),
        ({"run_input": {}}, b"{}", "application/json"),
        ({"run_input": {"n": [1, None, True]}}, b'{"n": [1, null, true]}', "application/json"),
        ({"run_input": [1]}, b"[1]", "application/json"),
        ({"run_input": '{"a":1}'}, b'{"a":1}', "application/json"),
        ({"run_input": b"\x00\xff", "content_type": "image/png"}, b"\x00\xff", "image/png"),
        ({"run_input": "plain {#", "content_type": "text/plain"}, b"plain {#", "text/plain"),
    ],
    ids=["none", "an empty object", "a dict", "a list", "JSON", "bytes", "text"],
)
def test_an_input_arrives_as_it_is(
    options: dict[str, Any], body: bytes, content_type: str | None, kind: Runs, runner: Runner
) -> None:
    assert runner.run(kind.operator(**options)).state == "success"
    arrived, its_type = sent(kind)
    assert (arrived, its_type and its_type.partition(";")[0]) == (body, content_type)


PAGE_FUNCTION = "async ({page}) => {\n  // {# 0.10 #}\n  return {a: {}};\n}\n"
INPUT: dict[str, Any] = {
    "pageFunction": PAGE_FUNCTION,
    "list": ["0.10", {"date": "{{ ds_nodash_of_no_run | default('20261123') }}"}, "007\n"],
    "written": literal("{{ untouched }}"),
    "n": 7,
}


@pytest.mark.parametrize("native", [False, True], ids=["text", "native"])
def test_what_is_no_template_survives_rendering(native: bool, kind: Runs, runner: Runner) -> None:
    with DAG("dag", start_date=dt.datetime(2026, 1, 1), render_template_as_native_obj=native):
        task = ApifyRunActorOperator(task_id="run", actor_id="~hello-world", run_input=INPUT)
    assert runner.run(task).state == "success"
    date = 20261123 if native else "20261123"
    assert json.loads(sent(kind)[0]) == {
        "pageFunction": PAGE_FUNCTION,
        "list": ["0.10", {"date": date}, "007\n"],
        "written": "{{ untouched }}",
        "n": 7,
    }


def test_a_template_that_cannot_be_rendered_is_named_and_the_way_out_too(kind: Runs, runner: Runner) -> None:
    wrong = {"a": [{"pageFunction": "({page}) => `{{ page`"}]}
    outcome = runner.run(kind.operator(run_input=wrong, retries=1))
    assert (outcome.state, type(outcome.error).__name__) == ("failed", "ApifyConfigurationError")
    assert "The template in run_input['a'][0]['pageFunction'] cannot be rendered" in str(outcome.error)
    assert "literal(...), from airflow." in str(outcome.error)
    assert kind.starts == 0


@MASKED.needed
def test_a_secret_in_an_input_arrives_and_is_masked_in_what_airflow_shows(
    kind: Runs, supervisor: Supervisor, runner: Runner
) -> None:
    supervisor.connections["shop"] = {"password": "s3cret-of-the-shop"}
    task = kind.operator(run_input={"login": {"password": "{{ conn.shop.password }}"}})
    assert runner.run(task).state == "success"
    assert json.loads(sent(kind)[0]) == {"login": {"password": "s3cret-of-the-shop"}}
    shown = [message for message in supervisor.sent if type(message).__name__ == "SetRenderedFields"]
    assert shown
    assert "s3cret" not in repr(shown)
    assert "***" in repr(shown)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"run_input": "text"}, "content_type"),
        ({"run_input": {1, 2}}, "run_input must be what JSON can say"),
        ({"run_input": float("nan")}, "run_input must be what JSON can say"),
        ({"run_input": {"a": 1}, "content_type": "text/plain"}, "give text or bytes for that"),
        ({"run_input": "x" * 9_437_185, "content_type": "text/plain"}, "9437185 bytes"),
        ({"memory_mbytes": 1000}, "power of 2"),
        ({"max_items": 0}, "max_items"),
        ({"run_timeout": -1}, "run_timeout"),
        ({"max_total_charge_usd": 0}, "max_total_charge_usd"),
        ({"restart_on_error": "perhaps"}, "restart_on_error"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_sent_is_refused_before_anything_is(
    options: dict[str, Any], says: str, kind: Runs, runner: Runner
) -> None:
    outcome = runner.run(kind.operator(retries=1, **options))
    assert (outcome.state, type(outcome.error).__name__) == ("failed", "ApifyConfigurationError")
    assert says in str(outcome.error)
    assert kind.starts == 0


def test_every_option_reaches_apify(kind: Runs, runner: Runner) -> None:
    options: dict[str, Any] = {
        "build": "latest",
        "memory_mbytes": "{{ 256 * 2 }}",
        "run_timeout": dt.timedelta(minutes=2),
        "max_items": 5,
        "max_total_charge_usd": "0.5",
        "restart_on_error": "{{ 'true' }}",
    }
    assert runner.run(kind.operator(**options)).state == "success"
    (start,) = [request for request in kind.requests if request.method == "POST"]
    assert sorted(start.query.split("&")) == [
        "build=latest",
        "maxItems=5",
        "maxTotalChargeUsd=0.5",
        "memory=512",
        "restartOnError=true",
        "timeout=120",
    ]


# -- Apify tasks ------------------------------------------------------------------------------------------------------


def of_task(**kwargs: Any) -> ApifyRunTaskOperator:
    with DAG("dag", start_date=dt.datetime(2026, 1, 1)):
        return ApifyRunTaskOperator(task_id="run", actor_task_id="~nightly", **kwargs)


START: dict[str, Any] = {"method": "POST", "path": "/v2/actor-tasks/*/runs"}
UNANSWERED = {
    "lost answer": Fault("lost-answer", **START),
    "500 after the work": Fault("status", status=500, after_work=True, **START),
    "cut JSON": Fault("cut-json", **START),
}


@pytest.fixture
def nightly(apify: Emulator) -> str:
    return apify.add_task("nightly", "hello-world", {"items": 3, "deep": {"a": 1}})


@pytest.mark.parametrize("fault", UNANSWERED.values(), ids=UNANSWERED)
def test_a_run_of_a_task_is_found_in_the_tasks_own_list(
    fault: Fault, nightly: str, kind: Runs, apify: Emulator, runner: Runner
) -> None:
    """Runs of the same Actor by others are not asked about."""
    kind.seconds = 30
    kind.start()
    apify.clear_ledger()
    apify.add_fault(fault)
    outcome = runner.run(of_task())
    assert (outcome.state, len(kind.jobs)) == ("success", 2)
    assert outcome.xcoms["run_id"] == kind.jobs[1]["id"]
    listed = {request.path for request in kind.requests if request.method == "GET" and request.path.endswith("/runs")}
    assert listed == {"/v2/actor-tasks/~nightly/runs"}
    assert kind.path(kind.jobs[0]["id"]) not in {request.path for request in kind.requests}


@pytest.mark.parametrize("store", [False, True], ids=["no store", "store"])
def test_a_retry_and_a_clear_of_a_task(
    store: bool, nightly: str, kind: Runs, supervisor: Supervisor, runner: Runner
) -> None:
    kind.seconds = 30
    supervisor.has_store = store
    first = runner.run(of_task(retries=1)).xcoms["run_id"]
    runner.retry()
    assert runner.run(of_task(retries=1)).xcoms["run_id"] == first
    runner.clear(of_task(retries=1))
    assert runner.run(of_task(retries=1)).xcoms["run_id"] != first
    kind.ended()
    assert kind.statuses[0] == "ABORTED"


def test_the_input_of_a_task_replaces_the_saved_one_key_by_key(nightly: str, kind: Runs, runner: Runner) -> None:
    runner.run(of_task(task_input={"deep": {"b": 2}}))
    assert json.loads(sent(kind)[0]) == {"items": 3, "deep": {"b": 2}}
    runner.clear(of_task())
    runner.run(of_task())
    assert json.loads(sent(kind)[0]) == {"items": 3, "deep": {"a": 1}}
    assert kind.jobs[-1]["actorTaskId"] == nightly


@pytest.mark.parametrize("wrong", ["[1]", [1], "text"])
def test_the_input_of_a_task_must_be_an_object(wrong: Any, nightly: str, kind: Runs, runner: Runner) -> None:
    outcome = runner.run(of_task(task_input=wrong, retries=1))
    assert (outcome.state, type(outcome.error).__name__) == ("failed", "ApifyConfigurationError")
    assert "task_input" in str(outcome.error)
    assert not kind.jobs


# -- twins ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("twin", [ApifyRunActorOperator, ApifyRunTaskOperator])
def test_twins_have_the_same_defaults(twin: type[JobOperator]) -> None:
    of_builds = inspect.signature(ApifyBuildOperator).parameters
    of_twin = inspect.signature(twin).parameters
    shared = (of_builds.keys() & of_twin.keys()) - {"kwargs", "actor_id"}
    assert shared >= {"wait_for_finish", "wait_for_completion", "deferrable", "timeout", "abort_on_kill", "stream_log"}
    assert {name: of_builds[name].default for name in shared} == {name: of_twin[name].default for name in shared}


def test_run_operators_differ_in_what_they_run_only() -> None:
    actor, task = (
        {name: each.default for name, each in inspect.signature(operator).parameters.items()}
        for operator in (ApifyRunActorOperator, ApifyRunTaskOperator)
    )
    assert actor.keys() ^ task.keys() == {"actor_id", "run_input", "content_type", "actor_task_id", "task_input"}
    assert all(actor[name] == task[name] for name in actor.keys() & task.keys())


# -- what others see --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
def test_an_asset_event_carries_the_summary(
    deferrable: bool, kind: Runs, supervisor: Supervisor, runner: Runner
) -> None:
    asset = Asset(name="scraped", uri="apify://scraped")
    outcome = runner.run_to_end(
        partial(kind.operator, wait_for_completion=True, deferrable=deferrable, outlets=[asset])
    )
    (event,) = [event for message in supervisor.sent for event in getattr(message, "outlet_events", None) or []]
    assert event["extra"] == outcome.xcoms["summary"]
    assert event["extra"]["dataset_id"] == kind.jobs[0]["defaultDatasetId"]


def test_a_run_that_fails_says_status_message_exit_code_and_the_end_of_its_log(kind: Runs, runner: Runner) -> None:
    outcome = runner.run(kind.operator("~fails-half-way", wait_for_completion=True))
    text = str(outcome.error)
    assert " FAILED after " in text.splitlines()[0]
    assert "with exit code 1" in text.splitlines()[0]
    assert "Its status message: The shop refused request" in text
    assert text.splitlines()[-1].endswith("Actor.main() threw an exception.")
