"""
Start a job once.

Apify has no idempotency key, but it records the ``User-Agent`` of whoever starts a job and lists an Actor's jobs of a
kind newest first. So the request that starts a job carries a fingerprint of the attempt, and whoever does not know
whether a job was started looks for that fingerprint before sending again.

An item of a list need not show the ``User-Agent``; the job itself does. So each listed job that may be the one is got,
once. While there is doubt, nothing is started.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import NamedTuple, Protocol

from airflow_provider_apify.api.endpoints import PAGE_LIMIT
from airflow_provider_apify.api.errors import (
    AUTHENTICATION,
    NOT_FOUND,
    PERMISSION,
    ApiError,
    Repeat,
    first_line,
    may_repeat,
)
from airflow_provider_apify.api.job import Job, JobKind
from airflow_provider_apify.jobs.wait import backoff

#: Pauses in seconds between looks for a job whose start got no answer: replicas lag, the official client allows 3 s.
LOOK_AGAIN = (0.0, 0.5, 1.0, 2.0)
#: How often a start whose outcome stayed unknown, and that no look found, is sent in all.
SENDS = 3
#: How often a request is sent in all when its failures pass, a start when Apify has provably not accepted it: with the
#: pauses between, for about a minute.
ATTEMPTS = 8
#: Most jobs that a try lists, and asks for, to find its own among them; about the most seconds that a look takes.
MOST_LISTED, MOST_GETS, LONGEST_LOOK = 10_000, 2000, 300.0
#: How often a job is asked for that may be another's.
GET_ATTEMPTS = 3
#: Seconds by which a time is put back to be sure, where Apify's clock is known and where it is not.
SLACK, BLIND_SLACK = 60.0, 600.0
#: Origins that Apify's definition gives to jobs that no API request started. A new one may be ours.
ORIGINS_OF_OTHERS = frozenset(
    {"DEVELOPMENT", "WEB", "SCHEDULER", "TEST", "WEBHOOK", "ACTOR", "CLI", "CI", "STANDBY", "MCP", "APIFY_AI"}
)

_FINGERPRINT = r"\bairflow/([0-9a-f]{32})\.(\d{1,9})\b"


class Fingerprint(NamedTuple):
    """
    One attempt that a user asked for, as it stands in the User-Agent: ``airflow/<task>.<epoch>``.

    :param task: 32 hex digits that stand for one task instance of one deployment.
    :param epoch: number of the try that began the attempt: automatic retries keep it, a clear raises it.
    """

    task: str
    epoch: int

    @classmethod
    def of(cls, *parts: object, epoch: int) -> Fingerprint:
        """Make the fingerprint of a task instance from all that tells it from others."""
        digest = hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()
        return cls(digest[:32], epoch)

    @classmethod
    def found_in(cls, user_agent: str) -> Fingerprint | None:
        match = re.search(_FINGERPRINT, user_agent)
        return cls(match[1], int(match[2])) if match else None

    def __str__(self) -> str:
        return f"airflow/{self.task}.{self.epoch}"


class Clock(str, Enum):
    """Whose clock a time was read from."""

    APIFY = "apify"
    #: That of this process, whose distance to Apify's is known once an answer has come.
    OURS = "ours"
    #: That of another machine of Airflow's.
    OTHERS = "others"


class Moment(NamedTuple):
    """When a first start may have been sent: seconds since the epoch, and by whose clock."""

    at: float
    clock: Clock

    def by_apify(self, offset: float | None) -> Moment:
        """
        Give a time of our clock by Apify's, and any other as it is.

        :param offset: seconds by which Apify's clock is ahead of ours; ``None``: no answer has said.
        """
        if self.clock is not Clock.OURS or offset is None:
            return self
        return Moment(self.at + offset, Clock.APIFY)

    def earliest(self, offset: float | None) -> float:
        """Give the earliest start time that Apify may show for a job that was started then."""
        then = self.by_apify(offset)
        if then.clock is Clock.APIFY:
            return then.at - SLACK
        # Which of the two machines' clocks is wrong is not known.
        return min(self.at, self.at + (offset or 0.0)) - BLIND_SLACK

    def is_before(self, job: Job, offset: float | None) -> bool:
        """Whether ``job`` may have been started then or later."""
        return job.started_at is None or job.started_at.timestamp() >= self.earliest(offset)


class Remembered(NamedTuple):
    """
    What an earlier try of the task wrote down before its first start, and again with the job that it had.

    :param job_id: ``None``: it was about to start one.
    :param unsure: whether the attempt may have more than one job, since an answer was lost before.
    :param refused: whether Apify has refused that start, so that it certainly left no job.
    """

    fingerprint: Fingerprint
    job_id: str | None
    unsure: bool = True
    refused: bool = False


class Calls(Protocol):
    """What starting needs from the outside. All but ``intend`` and ``pause`` may raise :class:`ApiError`."""

    kind: JobKind[Job]

    def prepare(self) -> Job | None:
        """Find out what the request takes; or give a job of somebody else's that will do, so that none is started."""

    def intend(self, unsure: bool, /) -> object:
        """Write down, for later tries, that a job is about to be started; ``unsure``: as in :class:`Remembered`."""

    def send(self) -> Job:
        """Send the request that starts a job, exactly once."""

    def recent(self, offset: int, /) -> Sequence[Job]:
        """List up to ``PAGE_LIMIT`` of the Actor's jobs, newest first, without the ``offset`` newest."""

    def excludes(self, job: Job, /) -> bool:
        """Whether a listed job, by what it is of, cannot be one that ``send`` started."""

    def is_enough(self, job: Job, /) -> bool:
        """Whether a job of this attempt that has succeeded is what was asked for. If not, it is replaced."""

    def get(self, job_id: str, /, *, attempts: int = ATTEMPTS) -> Job: ...

    def abort(self, job_id: str, /) -> object: ...

    def pause(self, seconds: float, /) -> object: ...

    def now(self) -> float:
        """Give the seconds since the epoch by this machine's clock."""

    def clock_offset(self) -> float | None:
        """Give the seconds by which Apify's clock is ahead of this machine's, as its last answer showed."""

    def stopped(self) -> bool:
        """Whether the task is being ended: nothing more may be started."""

    def stale(self) -> bool:
        """Whether the try began, or looked, so long ago that it may have been given up for dead and replaced since."""


class Started(NamedTuple):
    """
    The one job of an attempt.

    :param adopted: whether it was there already, started by an earlier try or by a request whose answer was lost.
    :param unsure: whether the attempt may have more than one job, since an answer was lost before.
    :param reused: whether it is not this attempt's own, see :meth:`Calls.prepare`.
    """

    job: Job
    adopted: bool
    unsure: bool
    reused: bool = False


class Superseded(Exception):
    """The task has been cleared and started again elsewhere, or is being ended: this try must start nothing."""

    #: Whether the attempt may have a job all the same.
    outcome_unknown = False


class StartUnclear(Exception):
    """Apify cannot be made to say whether the attempt has a job already, so none is started; the message says why."""

    #: Whether the attempt may have a job: always.
    outcome_unknown = True


def start_once(
    calls: Calls,
    fingerprint: Fingerprint,
    *,
    first_try: bool,
    since: Moment,
    earlier_tries: bool,
    remembered: Remembered | None = None,
    abort_earlier: bool = True,
    warn: Callable[[str], None] = lambda line: None,
) -> Started:
    """
    Give the one job of the attempt ``fingerprint``: the one that is there, or a new one.

    :param first_try: nobody can have started a job for this task before: no look is needed.
    :param since: when the first start of this attempt may have been sent.
    :param earlier_tries: whether a try before this one belongs to the attempt.
    :param remembered: what an earlier try wrote down, if anything.
    :param abort_earlier: abort unfinished jobs of attempts before this one.
    :raises Superseded: see there.
    :raises StartUnclear: see there. Retryable: the next try looks.
    :raises ApiError: no job could be started. With ``outcome_unknown`` set, the attempt may have one; the next try
        looks.
    """
    noun = calls.kind.name
    ours = remembered if remembered is not None and remembered.fingerprint == fingerprint else None
    unsure = earlier_tries and (ours is None or ours.unsure)
    looks = _Looks(
        calls, fingerprint, remembered, since, abort_earlier and not first_try, warn, may_be_there=earlier_tries
    )
    lost: list[ApiError] = []
    #: Whether the attempt may have a job that this try does not know.
    unknown = earlier_tries

    def search(thoroughly: bool) -> Job | None:
        """Look, and look again: for what the list does not show yet if ``thoroughly``, and while there is a doubt."""
        doubt: StartUnclear | None = None
        for seconds in LOOK_AGAIN:
            calls.pause(seconds)
            try:
                job = looks.look(unsure)
            except StartUnclear as error:
                doubt = error
                continue
            if job or not thoroughly:
                return job
            doubt = None
        if doubt:
            raise doubt
        return None

    try:
        if ours and ours.job_id and not ours.unsure and (job := _usable(calls, ours.job_id)):
            return Started(job, adopted=True, unsure=False)
        # A try that wrote down that it was about to start, and no id, may have started a job not listed yet.
        in_doubt = ours is not None and ours.job_id is None and not ours.refused
        if not first_try and (job := search(thoroughly=in_doubt)):
            return Started(job, True, unsure)
        unknown = False
        unsure = unsure or in_doubt  # what the earlier try has sent may still arrive
        # After the look, or a job of this attempt would be taken for somebody else's.
        if there := calls.prepare():
            return Started(there, False, unsure, reused=True)
        calls.intend(unsure)
        refused = 0
        while True:
            if calls.stopped():
                raise Superseded(f"The task is being ended: no {noun} is started.")
            if calls.stale():
                unsure = looks.may_be_there = True
                if job := looks.look(unsure):
                    return Started(job, True, unsure)
            if lost and not unsure:
                unsure = True
                calls.intend(unsure)
            looks.may_be_there = True
            looks.sent_at = calls.now()
            try:
                return _oldest(calls, calls.send(), looks, unsure)
            except ApiError as error:
                if not error.outcome_unknown:
                    refused += 1
                    if refused == ATTEMPTS or not may_repeat(Repeat.STARTS_ANOTHER, error):
                        raise
                    pause = backoff(refused - 1, error)
                    warn(f"{first_line(error)} Sending again in {pause:.1f} s.")
                    calls.pause(pause)
                    continue
                lost.append(error)
                unknown = True
                warn(f"{first_line(error)} Apify may have started the {noun}: looking for it before sending again.")
            if job := search(thoroughly=True):
                return Started(job, True, unsure)
            if len(lost) == SENDS:
                raise lost[-1]
    except Exception as error:
        error.outcome_unknown = unknown  # type: ignore[attr-defined]
        raise


def may_be(listed: Iterable[Job], since: Moment, offset: float | None, *, sent_at: float | None = None) -> list[Job]:
    """
    Give the jobs of a list that may be one that was started ``since`` then, and still do, the likeliest first.

    Those that show a User-Agent speak for themselves. Of the others, unfinished ones are always among them.

    :param offset: see :meth:`Moment.by_apify`.
    :param sent_at: when the request was sent that may have started it, by this machine's clock.
    """
    then = (Moment(sent_at, Clock.OURS) if sent_at else since).by_apify(offset).at

    def distance(job: Job) -> float:
        return abs(job.started_at.timestamp() - then) if job.started_at else 0.0

    def is_candidate(job: Job) -> bool:
        if job.user_agent or job.origin in ORIGINS_OF_OTHERS or not (job.is_live or job.is_succeeded):
            return False
        return job.is_live or since.is_before(job, offset)

    return sorted(filter(is_candidate, listed), key=distance)


def _usable(calls: Calls, job_id: str) -> Job | None:
    """Get the job that an earlier try had for certain; ``None``: it will not do."""
    with _unless_deleted():
        job = calls.get(job_id)
        return job if _will_do(calls, job) else None
    return None


def _will_do(calls: Calls, job: Job) -> bool:
    """Whether a job of this attempt may still be, or is, what was asked for."""
    return job.is_live or (job.is_succeeded and calls.is_enough(job))


def _oldest(calls: Calls, job: Job, looks: _Looks, unsure: bool) -> Started:
    """Give the job just started or, if the try was frozen meanwhile, the older one of the try that replaced it."""
    if not calls.stale():
        return Started(job, False, unsure)
    try:
        found = looks.look(unsure=True)
    except Superseded:
        _abort(calls, job)
        raise
    except (ApiError, StartUnclear):
        found = None
    if found is None or found.id == job.id:
        return Started(job, False, unsure=True)
    _abort(calls, job)  # the list may not show it yet
    return Started(found, True, unsure=True)


class _Looks:
    """The looks of one try for its attempt's job. What a job has said of itself is remembered from look to look."""

    def __init__(
        self,
        calls: Calls,
        fingerprint: Fingerprint,
        remembered: Remembered | None,
        since: Moment,
        abort_earlier: bool,
        warn: Callable[[str], None],
        *,
        may_be_there: bool,
    ) -> None:
        #: When this try has last sent a start, by this machine's clock.
        self.sent_at: float | None = None
        #: Whether a start of this attempt may have been sent. If not, only what earlier attempts left is looked for.
        self.may_be_there = may_be_there
        self._calls = calls
        self._noun = calls.kind.name
        self._fingerprint = fingerprint
        self._remembered = remembered
        self._since = since
        self._abort_earlier = abort_earlier
        self._warn = warn
        self._gets = 0
        #: Whose a job is, by its id; ``None``: not this provider's.
        self._whose: dict[str, Fingerprint | None] = {}
        if remembered and remembered.job_id:
            self._whose[remembered.job_id] = remembered.fingerprint

    def look(self, unsure: bool) -> Job | None:
        """
        Find this attempt's job; abort what is too much of it, and what earlier attempts left unfinished.

        :param unsure: whether there may be more than one. If not, nothing is asked for once it is found.
        """
        fingerprint, noun = self._fingerprint, self._noun
        jobs: dict[str, Job] = {}
        doubt: Exception | None = None
        try:
            doubt = self._list(jobs, unsure)
        except ApiError as error:
            if self._remembered is None:
                raise
            doubt = error
        if self._remembered and (job_id := self._remembered.job_id) and job_id not in jobs:
            with _unless_deleted():
                jobs[job_id] = self._calls.get(job_id)
        doubt = self._ask(jobs, unsure) or doubt
        ours = [(job, whose.epoch) for job, whose in self._known(jobs.values()) if whose.task == fingerprint.task]
        if any(epoch > fingerprint.epoch for _, epoch in ours):
            raise Superseded(
                f"A newer attempt of this task has started its {noun}: this try starts none. (Raising retries between"
                f" two tries looks the same: clear the task to start another {noun}.)"
            )
        if self._abort_earlier:
            for job, epoch in ours:
                if epoch < fingerprint.epoch and job.is_live:
                    self._warn(f"Aborting {noun} {job}, left unfinished by an earlier attempt of this task.")
                    _abort(self._calls, job)
        usable = self._usable(jobs.values())
        for job in usable[1:]:
            if job.is_live:
                self._warn(f"Aborting {noun} {job}: this attempt already has {noun} {usable[0]}.")
                _abort(self._calls, job)
        if usable:
            return usable[0]
        if doubt:
            raise doubt
        return None

    def _list(self, jobs: dict[str, Job], unsure: bool) -> StartUnclear | None:
        """List the newest jobs, as many pages as reach back to the first start; say if that was too far."""
        while True:
            page, before = self._calls.recent(len(jobs)), len(jobs)
            jobs.update((job.id, job) for job in page)
            if len(page) < PAGE_LIMIT or not self._since.is_before(page[-1], self._calls.clock_offset()):
                return None
            if not unsure and self._usable(jobs.values()):
                return None
            if len(jobs) in (before, MOST_LISTED):
                return StartUnclear(f"more than {len(jobs)} {self._noun}s of its Actor have begun since then")

    def _ask(self, jobs: dict[str, Job], unsure: bool) -> StartUnclear | None:
        """Get each listed job that may be this task's and does not say so; say if one is left that may be."""
        offset = self._calls.clock_offset()
        candidates = [
            job
            for job in may_be(jobs.values(), self._since, offset, sent_at=self.sent_at)
            if job.id not in self._whose
            # Of another version it may be one that an earlier attempt, or another argument, has left.
            and (job.is_live or not self._calls.excludes(job))
            and (self._may_be_this_attempts(job) or (self._abort_earlier and job.is_live))
        ]
        doubt = None
        if len(candidates) > 10:
            self._warn(
                f"Asking Apify for {len(candidates)} {self._noun}s of the Actor, to find this task's among them."
            )
        ends = time.monotonic() + LONGEST_LOOK
        found = bool(self._usable(jobs.values()))
        for job in candidates:
            if found and not unsure:
                break
            if self._calls.stopped():
                raise Superseded(f"The task is being ended: no {self._noun} is started.")
            if self._gets >= MOST_GETS or time.monotonic() > ends:
                return StartUnclear(
                    f"{len(candidates)} {self._noun}s of that time may be the one, more than can be asked for"
                )
            reason = self._get(job, jobs)
            if reason and self._may_be_this_attempts(job):
                doubt = StartUnclear(f"{self._noun} {job} may be the one, and {reason}")
            elif reason:
                self._whose[job.id] = None
                self._warn(
                    f"Whether an earlier attempt of this task has left {self._noun} {job} is not known: {reason}."
                )
            found = found or bool(self._usable([jobs[job.id]]))
        return doubt

    def _may_be_this_attempts(self, job: Job) -> bool:
        return self.may_be_there and self._since.is_before(job, self._calls.clock_offset())

    def _get(self, job: Job, jobs: dict[str, Job]) -> str | None:
        """Ask whose ``job`` is, and put what comes in its place; say why if it cannot be known."""
        self._gets += 1
        try:
            got = self._calls.get(job.id, attempts=GET_ATTEMPTS)
        except ApiError as error:
            if error.kind == AUTHENTICATION:
                raise
            if error.kind == NOT_FOUND:
                return None  # deleted, or not there yet: the next look asks again
            if error.kind == PERMISSION:
                self._whose[job.id] = None
                return None
            return f"it cannot be read ({first_line(error)})"
        jobs[got.id] = got
        if not got.user_agent:
            return "Apify does not show who started it"
        self._whose[got.id] = Fingerprint.found_in(got.user_agent)
        return None

    def _known(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Fingerprint]]:
        """Give the jobs that some task of this provider started, and which."""
        for job in jobs:
            whose = self._whose.get(job.id) or Fingerprint.found_in(job.user_agent)
            if whose:
                yield job, whose

    def _usable(self, jobs: Iterable[Job]) -> list[Job]:
        """Give the jobs of this attempt that may still do, the one to keep first."""
        return sorted(
            (job for job, whose in self._known(jobs) if whose == self._fingerprint and _will_do(self._calls, job)),
            key=lambda job: (not job.is_succeeded, job.started_at is None, job.started_at, job.id),
        )


def _abort(calls: Calls, job: Job) -> None:
    with _unless_deleted():
        calls.abort(job.id)


@contextmanager
def _unless_deleted() -> Iterator[None]:
    try:
        yield
    except ApiError as error:
        if error.kind != NOT_FOUND:
            raise
