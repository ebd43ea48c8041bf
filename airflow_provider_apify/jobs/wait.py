"""
Wait for a build: how long to ask for, what passes, when to give up.

:class:`Watch` knows neither clock nor socket, so that the worker and the triggerer wait by the same rules.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from airflow_provider_apify.api.errors import ApiError, NotFoundError
from airflow_provider_apify.api.model import Build

#: Seconds for which "not found" passes: replicas lag behind a build just created (the official client allows 3 s).
MISSING_GRACE = 10.0
#: Least seconds between two questions, in case the server answers about an unfinished build without holding back.
LEAST_INTERVAL = 5.0
#: First and longest pause in seconds after an error; doubled each time, with jitter.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
#: Longest ``Retry-After`` that is honoured, in seconds.
LONGEST_RETRY_AFTER = 300.0


class DeadlineReached(Exception):
    """The user's deadline came before the build's end."""


@dataclass
class Watch:
    """
    The course of waiting for one build.

    Ask ``next_wait`` for the length of the next long-poll, tell ``seen`` or ``failed`` how it went, pause as they say.
    All times are seconds of one clock that the caller reads.

    :param deadline: when to give up, or ``None`` for never.
    :param on_status: called with the unfinished build when first seen and whenever its status has changed.
    :param say: told about each failure that passes.
    """

    deadline: float | None
    on_status: Callable[[Build], None] = lambda build: None
    say: Callable[[str], None] = lambda line: None
    #: The build as last seen.
    build: Build | None = field(default=None, init=False)
    _asked: float = field(default=0.0, init=False)
    _errors: int = field(default=0, init=False)
    _missing_since: float | None = field(default=None, init=False)

    def next_wait(self, now: float, longest: int) -> int:
        """Give the seconds to long-poll for, whole ones as Apify wants it. A build is asked for at least once."""
        self._asked = now
        return longest if self.deadline is None else min(longest, math.ceil(max(0.0, self.deadline - now)))

    def seen(self, build: Build, now: float) -> float | None:
        """
        Take an answer: ``None`` when the build has ended, else the seconds to pause before asking again.

        :raises DeadlineReached: it is unfinished, and the time is up.
        """
        if not build.is_terminal and (self.build is None or self.build.status != build.status):
            self.on_status(build)
        self.build, self._errors, self._missing_since = build, 0, None
        if build.is_terminal:
            return None
        return self._within_deadline(max(0.0, self._asked + LEAST_INTERVAL - now), now)

    def failed(self, error: ApiError, now: float) -> float:
        """
        Take a failure: the seconds to pause before asking again.

        :raises ApiError: ``error`` itself, if asking again cannot mend it.
        :raises DeadlineReached: the time is up.
        """
        if isinstance(error, NotFoundError):
            if self._missing_since is None:
                self._missing_since = now
            if now - self._missing_since >= MISSING_GRACE:
                raise error
        elif not error.transient:
            raise error
        pause = self._within_deadline(backoff(self._errors, error), now)
        self._errors += 1
        self.say(f"{error} The build goes on; asking again in {pause:.1f} s.")
        return pause

    def _within_deadline(self, pause: float, now: float) -> float:
        if self.deadline is None:
            return pause
        if now >= self.deadline:
            raise DeadlineReached
        return min(pause, self.deadline - now)


def backoff(errors: int, error: ApiError) -> float:
    """Give the seconds to pause after ``error``, the one after ``errors`` in a row: doubling, jittered, or as told."""
    if error.retry_after is not None:
        return min(error.retry_after, LONGEST_RETRY_AFTER) + random.uniform(0, FIRST_PAUSE)
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(errors, 10))
    return random.uniform(longest / 2, longest)
