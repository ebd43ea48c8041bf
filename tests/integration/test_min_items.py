"""``min_items``: a run that succeeds with too little fails its task; items are counted by reading."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from airflow.sdk import DAG

from airflow_provider_apify.client import items
from airflow_provider_apify.emulator import Emulator, Fault
from airflow_provider_apify.exceptions import ApifyNotFoundError, ApifyTooFewItems, ApifyTooFewItemsFinal
from airflow_provider_apify.operators.run import ApifyRunActorOperator
from airflow_provider_apify.sensors.run import ApifyRunSensor
from tests.runner import Runner, Supervisor

WAYS = pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(items, "LATE", 1.5)
    yield


def operator(items: int, wanted: Any, **kwargs: Any) -> ApifyRunActorOperator:
    with DAG("dag", start_date=dt.datetime(2026, 1, 1)):
        return ApifyRunActorOperator(
            task_id="run",
            actor_id="~scraper",
            run_input={"items": items},
            min_items=wanted,
            **{"wait_for_completion": True, "retries": 2, **kwargs},
        )


def pushed(apify: Emulator, run: dict[str, Any], count: int) -> None:
    """Push items to a run's dataset, as if they had come late."""
    requests.post(
        f"{apify.url}/v2/datasets/{run['defaultDatasetId']}/items",
        json=[{"late": number} for number in range(count)],
        headers={"Authorization": f"Bearer {apify.token}"},
        timeout=5,
    ).raise_for_status()


def counts(apify: Emulator) -> int:
    return sum("/items" in request.path and request.method == "GET" for request in apify.requests)


@WAYS
def test_enough_is_enough_whatever_apify_counts(deferrable: bool, apify: Emulator, runner: Runner) -> None:
    apify.item_count_seconds = 600  # Apify's own counter says 0
    assert runner.run_to_end(lambda: operator(5, 5, deferrable=deferrable)).state == "success"
    assert counts(apify) == 1


@WAYS
def test_too_little_fails_the_task_and_says_what_was_found(deferrable: bool, apify: Emulator, runner: Runner) -> None:
    outcome = runner.run_to_end(lambda: operator(4, 5, deferrable=deferrable))
    assert outcome.state == "up_for_retry"
    assert isinstance(outcome.error, ApifyTooFewItems)
    run = apify.runs[0]
    assert f"its dataset {run['defaultDatasetId']} has 4 items, fewer than min_items=5." in str(outcome.error)
    assert outcome.xcoms["summary"]["status"] == "SUCCEEDED"
    assert outcome.xcoms["dataset_id"] == run["defaultDatasetId"]


@WAYS
def test_items_that_come_late_are_waited_for(deferrable: bool, apify: Emulator, runner: Runner) -> None:
    apify.items_seconds = 0.8
    assert runner.run_to_end(lambda: operator(5, 5, deferrable=deferrable)).state == "success"


def test_a_retry_waits_for_late_items_too(apify: Emulator, runner: Runner) -> None:
    apify.items_seconds = 1.0
    runner.run_to_end(lambda: operator(5, 5, wait_for_completion=False, wait_for_finish=5))
    runner.retry()
    assert runner.run_to_end(lambda: operator(5, 5)).state == "success"
    assert len(apify.runs) == 1


def test_counting_reads_no_more_than_it_needs(apify: Emulator, runner: Runner) -> None:
    assert runner.run_to_end(lambda: operator(5000, 3)).state == "success"
    limits = [request.query for request in apify.requests if "/items" in request.path]
    assert len(limits) == 1 and "limit=3" in limits[0]


def test_a_retry_replaces_what_is_too_little(apify: Emulator, supervisor: Supervisor, runner: Runner) -> None:
    runner.run_to_end(lambda: operator(4, 5))
    runner.retry()
    outcome = runner.run_to_end(lambda: operator(5, 5))
    assert (outcome.state, len(apify.runs)) == ("success", 2)
    assert outcome.xcoms["run_id"] == apify.runs[1]["id"]


@pytest.mark.parametrize("has_store", [True, False], ids=["store", "no store"])
def test_a_retry_adopts_what_has_become_enough(
    has_store: bool, apify: Emulator, supervisor: Supervisor, runner: Runner
) -> None:
    supervisor.has_store = has_store
    runner.run_to_end(lambda: operator(4, 5))
    pushed(apify, apify.runs[0], 1)
    runner.retry()
    outcome = runner.run_to_end(lambda: operator(4, 5))
    assert (outcome.state, len(apify.runs)) == ("success", 1)


def test_a_retry_that_cannot_count_starts_nothing(apify: Emulator, runner: Runner) -> None:
    runner.run_to_end(lambda: operator(4, 5))
    apify.add_fault(Fault("status", "GET", "/v2/datasets/*/items", status=403, times=None))
    runner.retry()
    outcome = runner.run_to_end(lambda: operator(4, 5))
    assert (outcome.state, len(apify.runs)) == ("failed", 1)
    assert "/items with HTTP 403" in str(outcome.error)


def test_a_dataset_that_is_gone_is_an_error_and_no_reason_to_pay_again(apify: Emulator, runner: Runner) -> None:
    runner.run_to_end(lambda: operator(5, 9))
    requests.delete(
        f"{apify.url}/v2/datasets/{apify.runs[0]['defaultDatasetId']}",
        headers={"Authorization": f"Bearer {apify.token}"},
        timeout=5,
    )
    runner.retry()
    outcome = runner.run_to_end(lambda: operator(9, 9))
    assert (type(outcome.error), len(apify.runs)) == (ApifyNotFoundError, 1)
    assert "data retention" in str(outcome.error)


@pytest.mark.parametrize(
    "options", [{}, {"mode": "reschedule"}, {"deferrable": True}], ids=["poke", "reschedule", "deferred"]
)
def test_too_little_is_final_for_a_sensor(options: dict[str, Any], apify: Emulator, runner: Runner) -> None:
    run_id = runner.run_to_end(lambda: operator(4, None)).xcoms["run_id"]

    def sensor() -> ApifyRunSensor:
        with DAG("dag", start_date=dt.datetime(2026, 1, 1)):
            return ApifyRunSensor(task_id="wait", run_id=run_id, min_items=5, poke_interval=1, retries=2, **options)

    outcome = runner.run_to_end(sensor)
    assert (outcome.state, type(outcome.error)) == ("failed", ApifyTooFewItemsFinal)


def test_it_can_be_a_template(apify: Emulator, runner: Runner) -> None:
    wanted = "{{ params.wanted }}"
    outcome = runner.run_to_end(lambda: operator(4, wanted, params={"wanted": 5}))
    assert isinstance(outcome.error, ApifyTooFewItems)


@pytest.mark.parametrize("wanted", [0, -1, True, 1.5, [1]])
def test_what_is_no_number_of_items_is_refused_when_the_dag_is_parsed(wanted: Any, apify: Emulator) -> None:
    with pytest.raises(ValueError, match="min_items must be a whole number of items from 1"):
        operator(1, wanted)


def test_it_warns_that_it_has_no_effect_without_waiting(apify: Emulator) -> None:
    with pytest.warns(UserWarning, match="ignores min_items, since it does not wait") as warned:
        operator(1, 5, wait_for_completion=False)
    assert warned[0].filename == __file__
