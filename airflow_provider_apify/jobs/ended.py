"""
Which jobs have ended since somebody looked last: pure logic over lists of an account's jobs.

Lists are ordered by start, and no list can be asked for by end: a job may end after jobs that began hours later. So
what is kept between two looks, a :class:`Mark`, is a set: of the jobs that had not ended then, and of those handled
among the newest. An item of a list need not say when its job ended, nor, a build's, of which Actor it is: then the job
itself is asked for.
"""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_apify.api.errors import NOT_FOUND, ApiError
from airflow_provider_apify.api.job import Job

#: Seconds before the newest job seen for which lists are read again: Apify's replicas lag behind each other.
OVERLAP = 60.0
#: A job that its list shows no more, since 1000 newer ones do, is asked for by each so many-th look.
OFF_LIST_EVERY = 10


@dataclass(frozen=True)
class Mark:
    """
    What has been handled, by Apify's clock, in epoch seconds.

    :param newest: when the newest job seen began or ended.
    :param unfinished: id to start of the jobs that had not ended when last seen.
    :param handled: id to start and end of those among the newest that have ended and need no more attention. The same
        job with another end has been resurrected, and has ended again.
    """

    newest: float
    unfinished: Mapping[str, float] = field(default_factory=dict)
    handled: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, record: Any) -> Mark:
        """
        Read what :meth:`to_json` gave.

        :raises ValueError: it is something else.
        """
        try:
            return cls(
                float(record["newest"]),
                {str(job_id): float(start) for job_id, start in record["unfinished"].items()},
                {str(job_id): (float(start), float(end)) for job_id, (start, end) in record["handled"].items()},
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a record of ended jobs: {error!r}") from None

    def to_json(self) -> dict[str, Any]:
        return {
            "newest": self.newest,
            "unfinished": dict(self.unfinished),
            "handled": {job_id: list(times) for job_id, times in self.handled.items()},
        }

    @property
    def down_to(self) -> float:
        """Down to which start the list is to be read."""
        return self.newest - OVERLAP


@dataclass(frozen=True)
class Wanted:
    """Which jobs are announced: of this Actor, with these statuses; ``None`` for all."""

    actor_id: str | None = None
    statuses: frozenset[str] | None = None

    def may_be(self, job: Job) -> bool:
        """Whether the job, as an item of a list, may be of the Actor."""
        return self.actor_id is None or job.act_id in (None, self.actor_id)

    def __contains__(self, job: Job) -> bool:
        of_actor = self.actor_id is None or job.act_id == self.actor_id
        return of_actor and (self.statuses is None or job.status in self.statuses)


def first_mark(jobs: Mapping[str, Job]) -> Mark:
    """Give the mark of who wants what ends from now on."""
    newest = max((_newest(job) for job in jobs.values()), default=0.0)
    unfinished = {job.id: _start(job) for job in jobs.values() if not job.is_terminal}
    handled = {job.id: (_start(job), _end(job)) for job in jobs.values() if job.is_terminal}
    return _pruned(Mark(newest, unfinished, handled))


async def ended_since(
    mark: Mark,
    jobs: Mapping[str, Job],
    wanted: Wanted,
    whole: Callable[[str], Awaitable[Job]],
    look: int | None,
) -> tuple[list[Job], Mark]:
    """
    Give the wanted jobs that have ended since ``mark`` was made, the earliest end first, and the next mark.

    :param jobs: by id what the list shows, at least down to ``mark.down_to``.
    :param whole: gives a job as it is now, or raises an ``ApiError``.
    :param look: number of this look, which says what of all that the list does not show is asked for; ``None`` for all.
    """
    unfinished, handled, ended = dict(mark.unfinished), dict(mark.handled), []

    def handle(job: Job) -> None:
        if not job.is_terminal:
            unfinished[job.id] = _start(job)
            return
        unfinished.pop(job.id, None)
        if job.id not in handled or handled[job.id][1] != _end(job):
            ended.append(job)
        handled[job.id] = (_start(job), _end(job))

    for job in jobs.values():
        if not wanted.may_be(job):
            unfinished.pop(job.id, None)
        elif not job.is_terminal:
            handle(job)
        elif _is_new(job, mark):
            try:
                handle(job if job.finished_at and job.act_id else await whole(job.id))
            except ApiError:
                unfinished[job.id] = _start(job)  # The next look asks for it again.
    for job_id in mark.unfinished.keys() - jobs.keys():
        if look is None or (zlib.crc32(job_id.encode()) - look) % OFF_LIST_EVERY == 0:
            try:
                handle(await whole(job_id))
            except ApiError as error:
                if error.kind == NOT_FOUND:
                    del unfinished[job_id]
    newest = max([mark.newest, *map(_newest, jobs.values())])
    return [job for job in sorted(ended, key=_end) if job in wanted], _pruned(Mark(newest, unfinished, handled))


def _is_new(job: Job, mark: Mark) -> bool:
    """Whether a job that has ended, by the list, may not have been handled."""
    if job.id in mark.unfinished:
        return True
    if max(_start(job), _end(job)) < mark.down_to:
        return False
    return job.id not in mark.handled or (job.finished_at is not None and mark.handled[job.id][1] != _end(job))


def _pruned(mark: Mark) -> Mark:
    handled = {job_id: times for job_id, times in mark.handled.items() if max(times) >= mark.down_to}
    return Mark(mark.newest, mark.unfinished, handled)


def _start(job: Job) -> float:
    return job.started_at.timestamp() if job.started_at else 0.0


def _end(job: Job) -> float:
    return job.finished_at.timestamp() if job.finished_at else 0.0


def _newest(job: Job) -> float:
    return max(_start(job), _end(job))
