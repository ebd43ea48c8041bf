"""Who may try when an account has room, and how its limits are read."""

from __future__ import annotations

import math
from typing import Any

import pytest

from airflow_provider_apify.api.account import Account
from airflow_provider_apify.jobs import room
from airflow_provider_apify.jobs.room import Room, Waiter


def account(free_mbytes: float, free_jobs: float = math.inf) -> Account:
    return Account(65536, free_mbytes, free_jobs)


def waiters(*mbytes: float) -> list[Waiter]:
    """Those who wait, the oldest first."""
    return [Waiter(100.0 + number, number, each) for number, each in enumerate(mbytes)]


@pytest.mark.parametrize(
    ("needs", "free_mbytes", "free_jobs", "served"),
    [
        ((4096, 4096, 4096), 8192, math.inf, 2),
        ((4096, 4096, 4096), 8191, math.inf, 1),
        ((4096,), 0, math.inf, 0),
        ((128, 128, 128), 65536, 2, 2),
        ((128,), 65536, 0, 0),
        ((8192, 128), 4096, math.inf, 0),  # nobody overtakes
        ((128, 8192, 128), 4096, math.inf, 1),
    ],
)
def test_the_oldest_get_what_there_is(
    needs: tuple[float, ...], free_mbytes: float, free_jobs: float, served: int
) -> None:
    waiting = waiters(*needs)
    assert Room().give(account(free_mbytes, free_jobs), reversed(waiting), 0.0) == set(waiting[:served])


def test_one_that_never_fits_holds_nobody_up() -> None:
    too_large, small = waiters(65537, 128)
    assert Room().give(account(65536), [too_large, small], 0.0) == {small}


def test_what_was_given_is_not_given_again_before_it_shows() -> None:
    given = Room()
    first, second = waiters(4096, 4096)
    assert given.give(account(4096), [first], 0.0) == {first}
    assert given.give(account(4096), [second], room.GIVEN_FOR - 0.1) == set()
    assert given.give(account(4096), [second], room.GIVEN_FOR) == {second}


def test_what_was_given_counts_as_a_job() -> None:
    given = Room()
    first, second = waiters(128, 128)
    given.give(account(8192, 1), [first], 0.0)
    assert given.give(account(8192, 1), [second], 1.0) == set()


def test_patience_grows_and_has_an_end() -> None:
    for refusals, (least, most) in {1: (30, 60), 2: (60, 120), 3: (120, 240), 9: (300, 600), 5000: (300, 600)}.items():
        assert least <= room.patience(refusals) <= most


def limits(**kwargs: Any) -> dict[str, Any]:
    return {
        "limits": {"maxActorMemoryGbytes": 16, "maxConcurrentActorJobs": 25},
        "current": {"actorMemoryGbytes": 0.125, "activeActorJobCount": 1},
        **kwargs,
    }


def test_limits_are_read() -> None:
    assert Account.from_api(limits()) == Account(16384, 16256, 24)


@pytest.mark.parametrize("current", [{}, {"activeActorJobCount": "1"}, {"activeActorJobCount": None}], ids=str)
def test_limits_without_a_number_of_jobs_limit_the_memory_only(current: dict[str, Any]) -> None:
    assert Account.from_api(limits(current={"actorMemoryGbytes": 0, **current})) == Account(16384, 16384, math.inf)


@pytest.mark.parametrize(
    "data", [None, [], "x", {}, limits(limits=None), limits(current=[]), limits(current={"actorMemoryGbytes": "8"})]
)
def test_limits_without_the_memory_are_none(data: Any) -> None:
    with pytest.raises(ValueError, match="maxActorMemoryGbytes"):
        Account.from_api(data)
