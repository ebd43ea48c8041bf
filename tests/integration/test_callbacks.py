"""Callbacks and listeners see what a user needs in them, in the worker and after a deferral."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import get_listener_manager, hookimpl

from airflow_provider_apify.exceptions import ApifyJobFailed, ApifyJobTimeout
from tests.features import SKIP_LISTENERS
from tests.kinds import Kind
from tests.runner import Outcome, Runner

WAYS = pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
NAMES = [f"on_{what}_callback" for what in ("execute", "success", "failure", "retry", "skipped")]


class Listener:
    """Notes what it is told, as those of OpenLineage and of data catalogs do."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    @hookimpl
    def on_task_instance_success(self, previous_state: Any, task_instance: Any) -> None:
        self.told.append(("success", task_instance.task.console_url))

    @hookimpl
    def on_task_instance_failed(self, previous_state: Any, task_instance: Any, error: Any) -> None:
        self.told.append(("failed", error))

    @hookimpl
    def on_task_instance_skipped(self, previous_state: Any, task_instance: Any) -> None:
        self.told.append(("skipped", task_instance.task.console_url))


@pytest.fixture
def listener() -> Iterator[Listener]:
    manager = get_listener_manager()
    listener = Listener()
    manager.add_listener(listener)  # type: ignore[no-untyped-call]
    yield listener
    manager.pm.unregister(listener)


class Callbacks:
    """All the callbacks of a task, to be given to it; ``called`` has name and exception of each call."""

    def __init__(self) -> None:
        self.called: list[tuple[str, BaseException | None]] = []
        self.options = {name: self._named(name) for name in NAMES}

    def _named(self, name: str) -> Any:
        def callback(context: Any) -> None:
            self.called.append((name, context.get("exception")))

        return callback

    def ended_with(self) -> BaseException | None:
        """Give the exception of the last call; those before it were of ``on_execute_callback``, one a stretch."""
        assert {name for name, _ in self.called[:-1]} == {"on_execute_callback"}
        return self.called[-1][1]


@pytest.fixture
def callbacks() -> Callbacks:
    return Callbacks()


def failed(error: BaseException | None, kind: Kind) -> None:
    """What an alert is made of is all in the exception."""
    assert isinstance(error, ApifyJobFailed)
    job = kind.jobs[0]
    assert error.summary["build_number"] == job["buildNumber"]
    assert error.summary["status"] == "FAILED"
    assert error.summary["usage_total_usd"] == job["usageTotalUsd"]
    assert error.summary["console_url"] == kind.console_url(job)
    assert error.log_tail.splitlines()[-1].endswith(kind.said)
    assert kind.reason in error.log_tail


@WAYS
def test_success(deferrable: bool, kind: Kind, runner: Runner, callbacks: Callbacks, listener: Listener) -> None:
    outcome = runner.run_to_end(
        lambda: kind.operator(wait_for_completion=True, deferrable=deferrable, **callbacks.options)
    )
    assert callbacks.ended_with() is None
    assert callbacks.called[-1][0] == "on_success_callback"
    assert listener.told == [("success", outcome.xcoms["summary"]["console_url"])]


@WAYS
@pytest.mark.parametrize("retries", [0, 1])
def test_failure(
    retries: int, deferrable: bool, kind: Kind, runner: Runner, callbacks: Callbacks, listener: Listener
) -> None:
    runner.run_to_end(
        lambda: kind.operator(
            "~always-fails", wait_for_completion=True, deferrable=deferrable, retries=retries, **callbacks.options
        )
    )
    error = callbacks.ended_with()
    assert callbacks.called[-1][0] == ("on_retry_callback" if retries else "on_failure_callback")
    assert type(error) is kind.operator_class.failure
    failed(error, kind)
    assert listener.told == [("failed", error)]


@WAYS
def test_failure_of_a_sensor(
    deferrable: bool, kind: Kind, runner: Runner, callbacks: Callbacks, listener: Listener
) -> None:
    job_id = kind.start("always-fails")
    runner.run_to_end(lambda: kind.sensor(job_id, deferrable=deferrable, retries=1, **callbacks.options))
    error = callbacks.ended_with()
    assert callbacks.called[-1][0] == "on_failure_callback"
    assert type(error) is kind.sensor_class.failure
    failed(error, kind)
    assert listener.told == [("failed", error)]


@WAYS
def test_timeout(deferrable: bool, kind: Kind, runner: Runner, callbacks: Callbacks, listener: Listener) -> None:
    kind.seconds = 30
    runner.run_to_end(
        lambda: kind.operator(wait_for_completion=True, deferrable=deferrable, timeout=1, **callbacks.options)
    )
    error = callbacks.ended_with()
    assert type(error) is ApifyJobTimeout
    assert listener.told == [("failed", error)]


@WAYS
def test_skip(deferrable: bool, kind: Kind, runner: Runner, callbacks: Callbacks, listener: Listener) -> None:
    job_id = kind.start("always-fails")
    outcome: Outcome = runner.run_to_end(
        lambda: kind.sensor(job_id, deferrable=deferrable, soft_fail=True, **callbacks.options)
    )
    callbacks.ended_with()
    assert callbacks.called[-1][0] == "on_skipped_callback"
    assert listener.told == [("skipped", outcome.xcoms["summary"]["console_url"])] * SKIP_LISTENERS.there
