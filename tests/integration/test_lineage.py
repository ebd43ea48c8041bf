"""What OpenLineage learns of a task's job, where that provider is installed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import get_listener_manager, hookimpl

from tests.kinds import Kind
from tests.runner import Runner

pytest.importorskip("airflow.providers.openlineage")


class Listener:
    """Does with a task that has ended what OpenLineage's listener does."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    @hookimpl
    def on_task_instance_success(self, task_instance: Any) -> None:
        self._ended(task_instance, "success")

    @hookimpl
    def on_task_instance_failed(self, task_instance: Any) -> None:
        self._ended(task_instance, "failed")

    def _ended(self, ti: Any, state: str) -> None:
        from airflow.providers.openlineage.extractors.manager import ExtractorManager
        from airflow.utils.state import TaskInstanceState
        from openlineage.client.serde import Serde

        dag_run: Any = SimpleNamespace(run_id=ti.run_id)
        manager = ExtractorManager()  # type: ignore[no-untyped-call]
        found = manager.extract_metadata(dag_run, ti.task, TaskInstanceState(state), ti)
        assert (found.inputs, found.outputs) == ([], [])
        self.sent.append(json.loads(Serde.to_json(found.run_facets["apify"])))


@pytest.fixture
def listener() -> Iterator[Listener]:
    manager = get_listener_manager()
    listener = Listener()
    manager.add_listener(listener)  # type: ignore[no-untyped-call]
    yield listener
    manager.pm.unregister(listener)


def ids(kind: Kind) -> dict[str, Any]:
    (job,) = kind.jobs
    of_runs = {"datasetId": job.get("defaultDatasetId"), "keyValueStoreId": job.get("defaultKeyValueStoreId")}
    return {
        f"{kind.name}Id": job["id"],
        "actorId": job["actId"],
        "buildNumber": job["buildNumber"],
        "status": job["status"],
        "consoleUrl": kind.console_url(job),
        **{name: value for name, value in of_runs.items() if value},
    }


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_task_tells_the_ids_of_its_job(deferrable: bool, kind: Kind, runner: Runner, listener: Listener) -> None:
    outcome = runner.run_to_end(lambda: kind.operator(wait_for_completion=True, deferrable=deferrable))
    assert outcome.state == "success"
    (sent,) = listener.sent
    assert sent.items() >= ids(kind).items()


def test_also_when_the_job_failed(kind: Kind, runner: Runner, listener: Listener) -> None:
    assert runner.run(kind.operator("~always-fails", wait_for_completion=True)).state == "failed"
    (sent,) = listener.sent
    assert sent.items() >= ids(kind).items()
    assert sent["status"] == "FAILED"


def test_a_sensor_tells_them_too(kind: Kind, runner: Runner, listener: Listener) -> None:
    job_id = kind.start()
    kind.ended()
    assert runner.run(kind.sensor(job_id)).state == "success"
    (sent,) = listener.sent
    assert sent.items() >= ids(kind).items()


def test_a_task_that_has_not_started_anything_tells_nothing(kind: Kind) -> None:
    lineage = kind.operator().get_openlineage_facets_on_complete(None)
    assert (lineage.run_facets, lineage.inputs, lineage.outputs) == ({}, [], [])
