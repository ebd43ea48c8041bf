"""Promise 2: no orphans, and no build aborted that the next try goes on with (jobs/ownership.py)."""

from __future__ import annotations

from enum import Enum

import pytest
from airflow.utils.state import TaskInstanceState

from airflow_provider_apify.jobs.ownership import Unknown, may_abort, state_of

#: Airflow goes on with the attempt, or will.
GOES_ON = {"running", "deferred", "scheduled", "queued", "up_for_retry", "up_for_reschedule", "awaiting_input"}
#: Airflow has ended the attempt. The state of a task that was cleared while it ran is "restarting", then none.
ENDED = {"failed", "success", "skipped", "removed", "upstream_failed", "restarting"}


def test_the_table_knows_every_state_of_airflow() -> None:
    assert {state.value for state in TaskInstanceState} <= GOES_ON | ENDED


@pytest.mark.parametrize("state", sorted(GOES_ON))
def test_an_attempt_that_goes_on_keeps_its_build_for_the_next_try(state: str) -> None:
    assert may_abort(state, next_try=True) is False


@pytest.mark.parametrize("state", sorted(GOES_ON))
def test_an_attempt_without_another_try_aborts_its_build(state: str) -> None:
    assert may_abort(state, next_try=False) is True


@pytest.mark.parametrize("next_try", [True, False])
@pytest.mark.parametrize("state", [*sorted(ENDED), None])
def test_an_attempt_that_was_ended_or_cleared_aborts_its_build(state: str | None, next_try: bool) -> None:
    assert may_abort(state, next_try=next_try) is True


def test_a_build_is_left_to_the_next_try_when_airflow_cannot_be_asked() -> None:
    assert may_abort(Unknown.STATE, next_try=True) is False
    assert may_abort(Unknown.STATE, next_try=False) is True


@pytest.mark.parametrize("state", list(TaskInstanceState))
@pytest.mark.parametrize("next_try", [True, False])
def test_a_state_as_enum_means_the_same(state: TaskInstanceState, next_try: bool) -> None:
    read = state_of({"run": {"task": state}}, "run")
    assert read == state.value
    assert may_abort(read, next_try=next_try) is may_abort(state.value, next_try=next_try)


class Plain(Enum):
    RUNNING = "running"


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ({"run": {"task": "running"}}, "running"),
        ({"run": {"task_7": "running"}}, "running"),
        ({"run": {"task": Plain.RUNNING}}, "running"),
        ({"run": {"task": None}}, None),
        ({"run": {}}, None),
        ({"run": None}, None),
        ({"other run": {"task": "running"}}, None),
        ({}, None),
    ],
)
def test_airflows_answer_about_one_task_instance(answer: dict[str, dict[str, str | None]], state: str | None) -> None:
    assert state_of(answer, "run") == state
