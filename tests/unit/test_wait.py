"""Promise 3: nothing lost while waiting. jobs/wait.py with a clock made of numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_apify.api.builds import BUILD, Build
from airflow_provider_apify.api.errors import (
    AUTHENTICATION,
    CAPACITY,
    CERTIFICATE,
    INVALID_REQUEST,
    NETWORK,
    NOT_FOUND,
    PERMISSION,
    POLL,
    QUOTA,
    RATE_LIMIT,
    SERVER,
    ApiError,
)
from airflow_provider_apify.jobs import wait
from airflow_provider_apify.jobs.wait import DeadlineReached, Limits, Watch, backoff

RUNNING = Build("b1", "RUNNING")
DOWN = ApiError("down", SERVER)
MISSING = ApiError("no such build", NOT_FOUND)
PASSES = [
    DOWN,
    ApiError("slow down", RATE_LIMIT),
    ApiError("memory", CAPACITY),
    ApiError("reset", NETWORK, outcome_unknown=True),
    ApiError("refused", NETWORK, outcome_unknown=False),
    ApiError("certificate", CERTIFICATE, outcome_unknown=False),
]
REFUSED = ApiError(
    "HTTP 409, concurrent-update-detected.\nCheck the arguments.", INVALID_REQUEST, status=409, type="odd"
)
FINAL = [
    ApiError("who are you", AUTHENTICATION),
    ApiError("no", PERMISSION),
    ApiError("no credits", QUOTA),
]


def name(error: ApiError) -> str:
    return error.kind.name


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "ABORTED", "TIMED-OUT"])
@pytest.mark.parametrize("deadline", [None, 100.0, 0.0])
def test_terminal_status_ends_the_wait_even_past_the_deadline(status: str, deadline: float | None) -> None:
    watch = Watch(BUILD, deadline)
    watch.next_wait(50.0, 60)
    assert watch.seen(Build("b1", status), 50.0) is None
    assert watch.job == Build("b1", status)


@pytest.mark.parametrize("status", ["READY", "RUNNING", "ABORTING", "TIMING-OUT", "SOMETHING-NEW"])
def test_unfinished_status_goes_on_until_the_deadline(status: str) -> None:
    build = Build("b1", status)
    watch = Watch(BUILD, 100.0)
    watch.next_wait(0.0, 60)
    assert watch.seen(build, 60.0) == 0.0
    watch.next_wait(60.0, 60)
    with pytest.raises(DeadlineReached):
        watch.seen(build, 100.0)
    assert watch.job == build


@pytest.mark.parametrize(
    ("deadline", "now", "longest", "seconds"),
    [
        (None, 0.0, 60, 60),
        (None, 0.0, 0, 0),
        (1000.0, 0.0, 60, 60),
        (1000.0, 0.0, 20, 20),
        (1000.0, 970.0, 60, 30),
        (1000.0, 999.9, 60, 1),
        (1000.0, 970.5, 60, 30),
        (1000.0, 1000.0, 60, 0),
        (1000.0, 2000.0, 60, 0),
    ],
)
def test_a_long_poll_is_as_long_as_allowed_and_as_time_is_left(
    deadline: float | None, now: float, longest: int, seconds: int
) -> None:
    asked = Watch(BUILD, deadline).next_wait(now, longest)
    assert (asked, type(asked)) == (seconds, int)


def test_a_build_is_looked_at_once_though_the_deadline_has_passed() -> None:
    watch = Watch(BUILD, 10.0)
    assert watch.next_wait(500.0, 60) == 0
    with pytest.raises(DeadlineReached):
        watch.seen(RUNNING, 500.0)


@pytest.mark.parametrize("error", FINAL, ids=name)
def test_error_that_asking_again_cannot_mend_is_raised(error: ApiError) -> None:
    with pytest.raises(type(error)) as caught:
        Watch(BUILD, None).failed(error, 0.0)
    assert caught.value is error


@pytest.mark.parametrize("error", FINAL, ids=name)
def test_error_that_cannot_be_mended_is_told_rather_than_the_deadline(error: ApiError) -> None:
    with pytest.raises(type(error)):
        Watch(BUILD, 10.0).failed(error, 20.0)


@pytest.mark.parametrize("error", PASSES, ids=name)
def test_error_that_passes_is_waited_out_however_often(error: ApiError) -> None:
    watch = Watch(BUILD, None)
    pauses = [watch.failed(error, float(now)) for now in range(5000)]
    assert min(pauses) > 0 and max(pauses) <= 30


@pytest.mark.parametrize("error", [*PASSES, MISSING, REFUSED], ids=name)
def test_error_that_passes_ends_the_wait_at_the_deadline(error: ApiError) -> None:
    watch = Watch(BUILD, 5.0)
    assert watch.failed(error, 4.9) <= 5.0 - 4.9
    with pytest.raises(DeadlineReached):
        watch.failed(error, 5.0)


def test_build_not_found_passes_for_some_seconds_then_is_final() -> None:
    watch = Watch(BUILD, None)
    for now in (0.0, 3.0, 9.9):
        assert watch.failed(MISSING, now) > 0
    with pytest.raises(ApiError, check=lambda error: error.kind is NOT_FOUND):
        watch.failed(MISSING, 10.0)


def test_grace_of_a_missing_build_counts_from_the_first_miss_in_a_row() -> None:
    watch = Watch(BUILD, None)
    watch.failed(MISSING, 0.0)
    watch.seen(RUNNING, 5.0)
    watch.failed(MISSING, 500.0)
    watch.failed(MISSING, 509.0)
    with pytest.raises(ApiError, check=lambda error: error.kind is NOT_FOUND):
        watch.failed(MISSING, 510.0)


@pytest.mark.parametrize(
    ("error", "between"), [(MISSING, DOWN), (MISSING, REFUSED), (REFUSED, DOWN), (REFUSED, MISSING)]
)
def test_other_trouble_in_between_starts_the_grace_again(error: ApiError, between: ApiError) -> None:
    watch = Watch(BUILD, None)
    watch.failed(error, 0.0)
    watch.failed(between, 1.0)
    assert watch.failed(error, 700.0) > 0


def test_a_refusal_that_says_nothing_of_the_build_passes_for_ten_minutes_in_a_row() -> None:
    told: list[str] = []
    watch = Watch(BUILD, None, warn=told.append)
    watch.failed(REFUSED, 0.0)
    watch.seen(RUNNING, 300.0)
    for now in (400.0, 700.0, 999.9):
        assert watch.failed(REFUSED, now) > 0
    with pytest.raises(ApiError, check=lambda error: error.kind is POLL, match="for 10 minutes") as caught:
        watch.failed(REFUSED, 1000.0)
    assert (caught.value.status, caught.value.type) == (409, "odd")
    assert "Check the arguments" not in str(caught.value) + "".join(told), "nobody has given any"


@pytest.mark.parametrize("error", [DOWN, REFUSED], ids=name)
def test_a_build_that_cannot_be_seen_at_the_deadline_is_asked_for_a_while_longer(error: ApiError) -> None:
    watch = Watch(BUILD, 100.0, patience=60.0)
    watch.seen(RUNNING, 50.0)
    now, asked = 99.0, 0
    with pytest.raises(DeadlineReached):
        while True:
            now, asked = now + watch.failed(error, now), asked + 1
    assert now == 160.0 and asked > 3
    assert watch.trouble is error


def test_patience_is_not_for_a_build_that_is_seen() -> None:
    watch = Watch(BUILD, 100.0, patience=60.0)
    watch.failed(DOWN, 101.0)
    with pytest.raises(DeadlineReached):
        watch.seen(RUNNING, 102.0)
    assert watch.trouble is None


@pytest.mark.parametrize(
    ("limits", "first", "is_execution", "left"),
    [
        (Limits(), None, False, None),
        (Limits(130.0), 130.0, False, 30.0),
        (Limits(None, 120.0), 120.0, True, 20.0),
        (Limits(130.0, 120.0), 120.0, True, 20.0),
        (Limits(110.0, 120.0), 110.0, False, 10.0),
        (Limits(120.0, 120.0), 120.0, True, 20.0),
        (Limits(90.0, 120.0), 90.0, False, 0.0),
    ],
)
def test_the_first_limit_ends_the_wait(
    limits: Limits, first: float | None, is_execution: bool, left: float | None
) -> None:
    assert (limits.first, limits.is_execution, limits.left(100.0)) == (first, is_execution, left)


@pytest.mark.parametrize(
    ("errors", "least", "most"),
    [(0, 0.25, 0.5), (1, 0.5, 1), (2, 1, 2), (3, 2, 4), (5, 8, 16), (6, 15, 30), (7, 15, 30), (10**6, 15, 30)],
)
def test_pause_doubles_with_jitter_up_to_half_a_minute(errors: int, least: float, most: float) -> None:
    pauses = {backoff(errors, DOWN) for _ in range(50)}
    assert least <= min(pauses) and max(pauses) <= most
    assert len(pauses) > 1


def test_pauses_grow_while_errors_go_on_and_start_over_after_an_answer() -> None:
    watch = Watch(BUILD, None)
    pauses = [watch.failed(DOWN, float(now)) for now in range(5)]
    assert pauses == sorted(pauses) and pauses[0] <= 0.5 < pauses[-1]
    watch.seen(RUNNING, 10.0)
    assert watch.failed(DOWN, 11.0) <= 0.5


@pytest.mark.parametrize(("told", "least"), [(0.0, 0.0), (7.0, 7.0), (299.0, 299.0), (100_000.0, 300.0)])
def test_retry_after_is_honoured_up_to_a_limit(told: float, least: float) -> None:
    for errors in (0, 20):
        assert least <= backoff(errors, ApiError("slow down", RATE_LIMIT, retry_after=told)) <= least + 0.5


def test_retry_after_does_not_outlast_the_deadline() -> None:
    assert Watch(BUILD, 10.0).failed(ApiError("slow down", RATE_LIMIT, retry_after=200.0), 8.0) == 2.0


@given(deadline=st.floats(0, 1e6), now=st.floats(0, 1e6), told=st.none() | st.floats(0, 1e9))
@example(100.0, 99.999, None)
def test_no_pause_outlasts_the_deadline(deadline: float, now: float, told: float | None) -> None:
    pauses: list[Callable[[Watch], float | None]] = [
        lambda watch: watch.seen(RUNNING, now),
        lambda watch: watch.failed(ApiError("down", SERVER, retry_after=told), now),
    ]
    for pause in pauses:
        watch = Watch(BUILD, deadline)
        watch.next_wait(now, 60)
        try:
            seconds = pause(watch)
        except DeadlineReached:
            assert now >= deadline
        else:
            assert seconds is not None and 0 <= seconds <= deadline - now


@pytest.mark.parametrize("took", [0.0, 0.01, 4.9])
def test_fast_answers_about_an_unfinished_build_make_no_hot_loop(took: float) -> None:
    watch, now, asked = Watch(BUILD, None), 0.0, 0
    while now < 60:
        watch.next_wait(now, 60)
        asked += 1
        pause = watch.seen(RUNNING, now + took)
        assert pause is not None
        now += took + pause
    assert asked <= 60 / wait.LEAST_INTERVAL + 1


def test_after_a_full_long_poll_the_next_follows_at_once() -> None:
    watch = Watch(BUILD, None)
    watch.next_wait(100.0, 60)
    assert watch.seen(RUNNING, 160.0) == 0.0


def test_each_status_of_an_unfinished_build_is_told_once_and_the_last_is_not() -> None:
    told: list[str] = []
    watch = Watch(BUILD, None, on_status=lambda build: told.append(build.status))
    for now, status in enumerate(["READY", "READY", "RUNNING", "RUNNING", "NEW", "RUNNING", "SUCCEEDED"]):
        watch.seen(Build("b1", status), float(now))
    assert told == ["READY", "RUNNING", "NEW", "RUNNING"]


def test_build_that_has_ended_when_first_seen_tells_no_status() -> None:
    told: list[str] = []
    Watch(BUILD, None, on_status=lambda build: told.append(build.status)).seen(Build("b1", "FAILED"), 0.0)
    assert told == []


def test_failure_that_passes_is_told_with_the_pause() -> None:
    told: list[str] = []
    pause = Watch(BUILD, None, warn=told.append).failed(DOWN, 0.0)
    assert len(told) == 1 and told[0].startswith("down") and f"{pause:.1f} s" in told[0]
