"""Room for one more job in an account: who may try to start next, and when to try where nobody can know."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import NamedTuple

from airflow_provider_apify.api.account import Account

#: Seconds from one question for the account's limits to the next.
INTERVAL = 10.0
#: Seconds for which room that one who waits was given counts as taken: a worker has to begin, look and start.
GIVEN_FOR = 20.0
#: First and longest pause in seconds before the next try where the limits say nothing of it; doubled each time.
FIRST_PAUSE, LONGEST_PAUSE = 60.0, 600.0
#: Seconds after which a start is tried although the limits show no room: they may be wrong about it.
TRY_ANYWAY = 900.0


class Waiter(NamedTuple):
    """
    One who waits for room.

    :param since: epoch seconds since when.
    :param number: tells those apart that wait for the same.
    :param mbytes: memory that its job takes, in MB.
    """

    since: float
    number: int
    mbytes: float


class Room:
    """Gives the room that an account has to those who wait, the oldest first."""

    def __init__(self) -> None:
        #: Until when what was given counts as taken, and how many MB that is.
        self._given: list[tuple[float, float]] = []

    def give(self, account: Account, waiting: Iterable[Waiter], now: float) -> set[Waiter]:
        """
        Give those who may try to start now.

        Nobody overtakes one who needs more and has waited for longer, who would never get it otherwise; but for one who
        needs more than the account has, and never gets it at all.

        :param now: seconds by any clock, always the same one.
        """
        self._given = [(until, mbytes) for until, mbytes in self._given if until > now]
        free = account.free_mbytes - sum(mbytes for _, mbytes in self._given)
        jobs = account.free_jobs - len(self._given)
        served = set()
        for waiter in sorted(waiter for waiter in waiting if waiter.mbytes <= account.most_mbytes):
            if waiter.mbytes > free or jobs < 1:
                break
            served.add(waiter)
            self._given.append((now + GIVEN_FOR, waiter.mbytes))
            free, jobs = free - waiter.mbytes, jobs - 1
        return served


def patience(refusals: int) -> float:
    """Give the seconds to wait after so many refusals (from 1) where the limits say nothing: doubling, jittered."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(refusals - 1, 10))
    return random.uniform(longest / 2, longest)


def jittered(seconds: float) -> float:
    """Give about these seconds, so that several who ask do not do so at the same moment."""
    return seconds * random.uniform(0.8, 1.2)
