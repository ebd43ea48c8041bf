"""
Wait for a job: how long to ask for, what passes, when to give up.

:class:`Watch` knows neither clock nor socket, so that the worker and the triggerer wait by the same rules.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from airflow_provider_apify.api.errors import CERTIFICATE, INVALID_REQUEST, NOT_FOUND, POLL, ApiError, first_line
from airflow_provider_apify.api.job import Job, JobKind

#: Seconds for which "not found" passes: replicas lag behind a job just created (the official client allows 3 s).
MISSING_GRACE = 10.0
#: Seconds for which refusals pass that say nothing of job or token, such as 409 and 425.
REFUSED_GRACE = 600.0
#: Seconds after its deadline for which a task still tries to see a job that cannot be seen.
PATIENCE = 60.0
#: Seconds after a change of status when that is logged: at once, and while it stays; then every hour.
LOG_AFTER = (0.0, 60.0, 300.0, 900.0)
#: Least seconds between two questions, in case the server answers about an unfinished job without holding back.
LEAST_INTERVAL = 5.0
#: First and longest pause in seconds after an error; doubled each time, with jitter.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
#: Longest ``Retry-After`` that is honoured, in seconds.
LONGEST_RETRY_AFTER = 300.0


class DeadlineReached(Exception):
    """The user's deadline came before the job's end."""


class Limits(NamedTuple):
    """
    When a try stops waiting, in epoch seconds, so that neither a deferral nor a restart moves it; ``None`` for never.

    :param deadline: by the task's ``timeout``.
    :param execution_deadline: by its ``execution_timeout``, which Airflow does not count while a task is deferred.
    """

    deadline: float | None = None
    execution_deadline: float | None = None

    @property
    def first(self) -> float | None:
        """The one that comes first."""
        return min((limit for limit in (self.deadline, self.execution_deadline) if limit is not None), default=None)

    @property
    def is_execution(self) -> bool:
        """Whether ``execution_timeout`` ends the wait."""
        return self.execution_deadline is not None and self.execution_deadline == self.first

    def left(self, now: float) -> float | None:
        """Give the seconds that are left, at least 0; ``None`` for no limit."""
        return None if self.first is None else max(0.0, self.first - now)


@dataclass(eq=False, repr=False)
class Watch:
    """
    The course of waiting for one job.

    Ask ``next_wait`` for the length of the next long-poll, tell ``seen`` or ``failed`` how it went, pause as they say.
    All times are seconds of one clock that the caller reads.

    :param deadline: when to give up, or ``None`` for never.
    :param on_status: called with the unfinished job when first seen, whenever its status has changed, and while it
        does not change after 1, 5, 15 and then every 60 minutes.
    :param warn: told about each failure that passes.
    :param patience: seconds after the deadline for which failures still pass: the job may have ended in time.
    """

    kind: JobKind[Job]
    deadline: float | None
    on_status: Callable[[Any], None] = lambda job: None
    warn: Callable[[str], None] = lambda line: None
    patience: float = 0.0
    #: The job as last seen.
    job: Job | None = field(default=None, init=False)
    #: Why the job could not be seen since.
    trouble: ApiError | None = field(default=None, init=False)
    _asked: float = field(default=0.0, init=False)
    _changed: float = field(default=0.0, init=False)
    #: How often the status has been logged since it changed.
    _logged: int = field(default=0, init=False)
    _errors: int = field(default=0, init=False)
    #: Since when all failures have been of the same kind.
    _failing_since: float = field(default=0.0, init=False)

    def next_wait(self, now: float, longest: int) -> int:
        """Give the seconds to long-poll for, whole ones as Apify wants it. A job is asked for at least once."""
        self._asked = now
        return longest if self.deadline is None else min(longest, math.ceil(max(0.0, self.deadline - now)))

    def seen(self, job: Job, now: float) -> float | None:
        """
        Take an answer: ``None`` when the job has ended, else the seconds to pause before asking again.

        :raises DeadlineReached: it is unfinished, and the time is up.
        """
        if self.job is None or self.job.status != job.status:
            self._changed, self._logged = now, 0
        if not job.is_terminal and now >= self._changed + _log_after(self._logged):
            self.on_status(job)
            self._logged += 1
        self.job, self.trouble, self._errors = job, None, 0
        if job.is_terminal:
            return None
        return self._until(self.deadline, max(0.0, self._asked + LEAST_INTERVAL - now), now)

    def failed(self, error: ApiError, now: float) -> float:
        """
        Take a failure: the seconds to pause before asking again.

        :raises ApiError: ``error`` itself, if asking again cannot help.
        :raises ApiError: of kind ``POLL``, if for ``REFUSED_GRACE`` all that came were refusals that say nothing of job
            or token.
        :raises DeadlineReached: the time is up.
        """
        noun = self.kind.name
        what, note = first_line(error), f"The {noun} is not affected"
        if self.trouble is None or self.trouble.kind != error.kind:
            self._failing_since = now
        if error.kind == NOT_FOUND:
            note = "It may not be there yet"
            if now - self._failing_since >= MISSING_GRACE:
                raise error
        elif error.kind == INVALID_REQUEST:
            if now - self._failing_since >= REFUSED_GRACE:
                raise ApiError(
                    f"{what}\nApify has given no other answer about the {noun} for {REFUSED_GRACE / 60:.0f} minutes."
                    f" See Apify's status page; a retry of the task waits for the same {noun}.",
                    POLL,
                    status=error.status,
                    type=error.type,
                )
        elif not (error.transient or error.kind == CERTIFICATE):
            raise error
        self.trouble = error
        limit = self.deadline
        if limit is not None and now >= limit:
            limit += self.patience
        pause = self._until(limit, backoff(self._errors, error), now)
        self._errors += 1
        self.warn(f"{what} {note}; asking again in {pause:.1f} s.")
        return pause

    @staticmethod
    def _until(limit: float | None, pause: float, now: float) -> float:
        if limit is None:
            return pause
        if now >= limit:
            raise DeadlineReached
        return min(pause, limit - now)


def _log_after(times: int) -> float:
    """Give the seconds after a change of status when it is to be logged that was logged ``times`` times since."""
    return LOG_AFTER[times] if times < len(LOG_AFTER) else 3600.0 * (times - len(LOG_AFTER) + 1)


def backoff(errors: int, error: ApiError) -> float:
    """Give the seconds to pause after ``error``, the one after ``errors`` in a row: doubling, jittered, or as told."""
    if error.retry_after is not None:
        return min(error.retry_after, LONGEST_RETRY_AFTER) + random.uniform(0, FIRST_PAUSE)
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(errors, 10))
    return random.uniform(longest / 2, longest)
