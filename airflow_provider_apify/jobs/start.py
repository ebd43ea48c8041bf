"""
Start a build once.

Apify has no idempotency key, but it records the ``User-Agent`` of whoever starts a build and lists an Actor's builds
newest first. So the request that starts a build carries a fingerprint of the attempt, and whoever does not know whether
a build was started looks for that fingerprint before sending again.

An item of a list need not show the ``User-Agent``; the build itself does. So each listed build that may be the one is
got, once. While there is doubt, nothing is started.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from airflow_provider_apify.api.errors import (
    ApiError,
    AuthenticationError,
    NotFoundError,
    PermissionDeniedError,
    first_line,
)
from airflow_provider_apify.api.model import Build
from airflow_provider_apify.api.requests import PAGE_LIMIT, Repeat, may_repeat
from airflow_provider_apify.jobs.wait import backoff

#: Pauses in seconds between looks for a build whose start got no answer: replicas lag, the official client allows 3 s.
LOOK_AGAIN = (0.0, 0.5, 1.0, 2.0)
#: How often a start whose outcome stayed unknown, and that no look found, is sent in all.
SENDS = 3
#: How often a start that Apify has provably not accepted is sent in all: with the pauses between, for about a minute.
ATTEMPTS = 8
#: Most builds that a try lists, and asks for, to find its own among them; about the most seconds that a look takes.
MOST_LISTED, MOST_GETS, LONGEST_LOOK = 10_000, 2000, 300.0
#: How often a build is asked for that may be another's.
GET_ATTEMPTS = 3
#: Seconds by which a time is put back to be sure, where Apify's clock is known and where it is not.
SLACK, BLIND_SLACK = 60.0, 600.0
#: Origins that Apify's definition gives to jobs that no API request started. A new one may be ours.
ORIGINS_OF_OTHERS = frozenset(
    {"DEVELOPMENT", "WEB", "SCHEDULER", "TEST", "WEBHOOK", "ACTOR", "CLI", "CI", "STANDBY", "MCP", "APIFY_AI"}
)

_FINGERPRINT = re.compile(r"\bairflow/([0-9a-f]{32})\.(\d{1,9})\b")


@dataclass(frozen=True)
class Fingerprint:
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
        match = _FINGERPRINT.search(user_agent)
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


@dataclass(frozen=True)
class Moment:
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
        """Give the earliest start time that Apify may show for a build that was started then."""
        then = self.by_apify(offset)
        if then.clock is Clock.APIFY:
            return then.at - SLACK
        # Which of the two machines' clocks is wrong is not known.
        return min(self.at, self.at + (offset or 0.0)) - BLIND_SLACK

    def is_before(self, build: Build, offset: float | None) -> bool:
        """Whether ``build`` may have been started then or later."""
        return build.started_at is None or build.started_at.timestamp() >= self.earliest(offset)


@dataclass(frozen=True)
class Remembered:
    """
    What an earlier try of the task wrote down before its first start, and again with the build that it had.

    :param build_id: ``None``: it was about to start one.
    :param unsure: whether the attempt may have more than one build, since an answer was lost before.
    """

    fingerprint: Fingerprint
    build_id: str | None
    unsure: bool = True


class Calls(Protocol):
    """What starting needs from the outside. All but ``intend`` and ``pause`` may raise :class:`ApiError`."""

    def prepare(self) -> object:
        """Find out what the request takes."""

    def intend(self, unsure: bool, /) -> object:
        """Write down, for later tries, that a build is about to be started; ``unsure``: as in :class:`Remembered`."""

    def send(self) -> Build:
        """Send the request that starts a build, exactly once."""

    def recent(self, offset: int, /) -> Sequence[Build]:
        """List up to ``PAGE_LIMIT`` of the Actor's builds, newest first, without the ``offset`` newest."""

    def excludes(self, build: Build, /) -> bool:
        """Whether a listed build, by what it is of, cannot be one that ``send`` started."""

    def get(self, build_id: str, /, *, attempts: int = ATTEMPTS) -> Build: ...

    def abort(self, build_id: str, /) -> object: ...

    def pause(self, seconds: float, /) -> object: ...

    def now(self) -> float:
        """Give the seconds since the epoch by this machine's clock."""

    def clock_offset(self) -> float | None:
        """Give the seconds by which Apify's clock is ahead of this machine's, as its last answer showed."""

    def stopped(self) -> bool:
        """Whether the task is being ended: nothing more may be started."""

    def stale(self) -> bool:
        """Whether the try began, or looked, so long ago that it may have been given up for dead and replaced since."""


@dataclass(frozen=True)
class Started:
    """
    The one build of an attempt.

    :param adopted: whether it was there already, started by an earlier try or by a request whose answer was lost.
    :param unsure: whether the attempt may have more than one build, since an answer was lost before.
    """

    build: Build
    adopted: bool
    unsure: bool


class Superseded(Exception):
    """The task has been cleared and started again elsewhere, or is being ended: this try must start nothing."""

    #: Whether the attempt may have a build all the same.
    outcome_unknown = False


class StartUnclear(Exception):
    """Apify cannot be made to say whether the attempt has a build already, so none is started; the message says why."""

    #: Whether the attempt may have a build: always.
    outcome_unknown = True


def start_once(
    calls: Calls,
    mark: Fingerprint,
    *,
    first_try: bool,
    since: Moment,
    earlier_tries: bool,
    remembered: Remembered | None = None,
    abort_earlier: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> Started:
    """
    Give the one build of the attempt ``mark``: the one that is there, or a new one.

    :param first_try: nobody can have started a build for this task before: no look is needed.
    :param since: when the first start of this attempt may have been sent.
    :param earlier_tries: whether a try before this one belongs to the attempt.
    :param remembered: what an earlier try wrote down, if anything.
    :param abort_earlier: abort unfinished builds of attempts before this one.
    :raises Superseded: see there.
    :raises StartUnclear: see there. Retryable: the next try looks.
    :raises ApiError: no build could be started. With ``outcome_unknown`` set, the attempt may have one; the next try
        looks.
    """
    ours = remembered if remembered is not None and remembered.fingerprint == mark else None
    unsure = earlier_tries and (ours is None or ours.unsure)
    looks = _Looks(calls, mark, remembered, since, abort_earlier and not first_try, say, may_be_there=earlier_tries)
    lost: list[ApiError] = []
    #: Whether the attempt may have a build that this try does not know.
    unknown = earlier_tries

    def search(thoroughly: bool) -> Build | None:
        """Look, and look again: for what the list does not show yet if ``thoroughly``, and while there is a doubt."""
        doubt: StartUnclear | None = None
        for seconds in LOOK_AGAIN:
            calls.pause(seconds)
            try:
                build = looks.look(unsure)
            except StartUnclear as error:
                doubt = error
                continue
            if build or not thoroughly:
                return build
            doubt = None
        if doubt:
            raise doubt
        return None

    try:
        if ours and ours.build_id and not ours.unsure and (build := _usable(calls, ours.build_id)):
            return Started(build, adopted=True, unsure=False)
        # A try that wrote down that it was about to start, and no id, may have started a build not listed yet.
        in_doubt = ours is not None and ours.build_id is None
        if not first_try and (build := search(thoroughly=in_doubt)):
            return Started(build, True, unsure)
        unknown = False
        unsure = unsure or in_doubt  # what the earlier try has sent may still arrive
        calls.prepare()
        calls.intend(unsure)
        refused = 0
        while True:
            if calls.stopped():
                raise Superseded("The task is being ended: no build is started.")
            if calls.stale():
                unsure = looks.may_be_there = True
                if build := looks.look(unsure):
                    return Started(build, True, unsure)
            if lost and not unsure:
                unsure = True
                calls.intend(unsure)
            looks.may_be_there = True
            looks.sent_at = calls.now()
            try:
                return _only(calls, calls.send(), looks, unsure)
            except ApiError as error:
                if not error.outcome_unknown:
                    refused += 1
                    if refused == ATTEMPTS or not may_repeat(Repeat.STARTS_ANOTHER, error):
                        raise
                    pause = backoff(refused - 1, error)
                    say(f"{first_line(error)} Sending again in {pause:.1f} s.")
                    calls.pause(pause)
                    continue
                lost.append(error)
                unknown = True
                say(f"{first_line(error)} Apify may have started the build: looking for it before sending again.")
            if build := search(thoroughly=True):
                return Started(build, True, unsure)
            if len(lost) == SENDS:
                raise lost[-1]
    except Exception as error:
        error.outcome_unknown = unknown  # type: ignore[attr-defined]
        raise


def may_be(
    listed: Iterable[Build], since: Moment, offset: float | None, *, sent_at: float | None = None
) -> list[Build]:
    """
    Give the builds of a list that may be one that was started ``since`` then, and still do, the likeliest first.

    Those that show a User-Agent speak for themselves. Of the others, unfinished ones are always among them.

    :param offset: see :meth:`Moment.by_apify`.
    :param sent_at: when the request was sent that may have started it, by this machine's clock.
    """
    then = (Moment(sent_at, Clock.OURS) if sent_at else since).by_apify(offset).at

    def distance(build: Build) -> float:
        return abs(build.started_at.timestamp() - then) if build.started_at else 0.0

    def is_candidate(build: Build) -> bool:
        if build.user_agent or build.origin in ORIGINS_OF_OTHERS or not (build.is_live or build.is_succeeded):
            return False
        return build.is_live or since.is_before(build, offset)

    return sorted(filter(is_candidate, listed), key=distance)


def _usable(calls: Calls, build_id: str) -> Build | None:
    """Get the build that an earlier try had for certain; ``None``: it will not do."""
    try:
        build = calls.get(build_id)
    except NotFoundError:
        return None
    return build if build.is_live or build.is_succeeded else None


def _only(calls: Calls, build: Build, looks: _Looks, unsure: bool) -> Started:
    """Give the build just started or, if the try was frozen meanwhile, the older one of the try that replaced it."""
    if not calls.stale():
        return Started(build, False, unsure)
    try:
        found = looks.look(unsure=True)
    except Superseded:
        _abort(calls, build)
        raise
    except (ApiError, StartUnclear):
        found = None
    if found is None or found.id == build.id:
        return Started(build, False, unsure=True)
    _abort(calls, build)  # the list may not show it yet
    return Started(found, True, unsure=True)


class _Looks:
    """The looks of one try for its attempt's build. What a build has said of itself is remembered from look to look."""

    def __init__(
        self,
        calls: Calls,
        mark: Fingerprint,
        remembered: Remembered | None,
        since: Moment,
        abort_earlier: bool,
        say: Callable[[str], None],
        *,
        may_be_there: bool,
    ) -> None:
        #: When this try has last sent a start, by this machine's clock.
        self.sent_at: float | None = None
        #: Whether a start of this attempt may have been sent. If not, only what earlier attempts left is looked for.
        self.may_be_there = may_be_there
        self._calls = calls
        self._mark = mark
        self._remembered = remembered
        self._since = since
        self._abort_earlier = abort_earlier
        self._say = say
        self._gets = 0
        #: Whose a build is, by its id; ``None``: not this provider's.
        self._whose: dict[str, Fingerprint | None] = {}
        if remembered and remembered.build_id:
            self._whose[remembered.build_id] = remembered.fingerprint

    def look(self, unsure: bool) -> Build | None:
        """
        Find this attempt's build; abort what is too much of it, and what earlier attempts left unfinished.

        :param unsure: whether there may be more than one. If not, nothing is asked for once it is found.
        """
        mark = self._mark
        builds: dict[str, Build] = {}
        doubt: Exception | None = None
        try:
            doubt = self._list(builds, unsure)
        except ApiError as error:
            if self._remembered is None:
                raise
            doubt = error
        if self._remembered and (build_id := self._remembered.build_id) and build_id not in builds:
            try:
                builds[build_id] = self._calls.get(build_id)
            except NotFoundError:
                pass
        doubt = self._ask(builds, unsure) or doubt
        ours = [(build, whose.epoch) for build, whose in self._known(builds.values()) if whose.task == mark.task]
        if any(epoch > mark.epoch for _, epoch in ours):
            raise Superseded(
                "A newer attempt of this task has started its build: this try starts none. (Raising retries between two"
                " tries looks the same: clear the task to build again.)"
            )
        if self._abort_earlier:
            for build, epoch in ours:
                if epoch < mark.epoch and build.is_live:
                    self._say(f"Aborting build {build}, left unfinished by an earlier attempt of this task.")
                    _abort(self._calls, build)
        usable = self._usable(builds.values())
        for build in usable[1:]:
            if build.is_live:
                self._say(f"Aborting build {build}: this attempt already has build {usable[0]}.")
                _abort(self._calls, build)
        if usable:
            return usable[0]
        if doubt:
            raise doubt
        return None

    def _list(self, builds: dict[str, Build], unsure: bool) -> StartUnclear | None:
        """List the newest builds, as many pages as reach back to the first start; say if that was too far."""
        while True:
            page, before = self._calls.recent(len(builds)), len(builds)
            builds.update((build.id, build) for build in page)
            if len(page) < PAGE_LIMIT or not self._since.is_before(page[-1], self._calls.clock_offset()):
                return None
            if not unsure and self._usable(builds.values()):
                return None
            if len(builds) in (before, MOST_LISTED):
                return StartUnclear(f"more than {len(builds)} builds of its Actor have begun since then")

    def _ask(self, builds: dict[str, Build], unsure: bool) -> StartUnclear | None:
        """Get each listed build that may be this task's and does not say so; say if one is left that may be."""
        offset = self._calls.clock_offset()
        candidates = [
            build
            for build in may_be(builds.values(), self._since, offset, sent_at=self.sent_at)
            if build.id not in self._whose
            # Of another version it may be one that an earlier attempt, or another argument, has left.
            and (build.is_live or not self._calls.excludes(build))
            and (self._may_be_this_attempts(build) or (self._abort_earlier and build.is_live))
        ]
        doubt = None
        if len(candidates) > 10:
            self._say(f"Asking Apify for {len(candidates)} builds of the Actor, to find this task's among them.")
        ends = time.monotonic() + LONGEST_LOOK
        found = bool(self._usable(builds.values()))
        for build in candidates:
            if found and not unsure:
                break
            if self._calls.stopped():
                raise Superseded("The task is being ended: no build is started.")
            if self._gets >= MOST_GETS or time.monotonic() > ends:
                return StartUnclear(f"{len(candidates)} builds of that time may be the one, more than can be asked for")
            reason = self._get(build, builds)
            if reason and self._may_be_this_attempts(build):
                doubt = StartUnclear(f"build {build} may be the one, and {reason}")
            elif reason:
                self._whose[build.id] = None
                self._say(f"Whether an earlier attempt of this task has left build {build} is not known: {reason}.")
            found = found or bool(self._usable([builds[build.id]]))
        return doubt

    def _may_be_this_attempts(self, build: Build) -> bool:
        return self.may_be_there and self._since.is_before(build, self._calls.clock_offset())

    def _get(self, build: Build, builds: dict[str, Build]) -> str | None:
        """Ask whose ``build`` is, and put what comes in its place; say why if it cannot be known."""
        self._gets += 1
        try:
            got = self._calls.get(build.id, attempts=GET_ATTEMPTS)
        except NotFoundError:
            return None  # deleted, or not there yet: the next look asks again
        except PermissionDeniedError:
            self._whose[build.id] = None
            return None
        except AuthenticationError:
            raise
        except ApiError as error:
            return f"it cannot be read ({first_line(error)})"
        builds[got.id] = got
        if not got.user_agent:
            return "Apify does not show who started it"
        self._whose[got.id] = Fingerprint.found_in(got.user_agent)
        return None

    def _known(self, builds: Iterable[Build]) -> Iterator[tuple[Build, Fingerprint]]:
        """Give the builds that some task of this provider started, and which."""
        for build in builds:
            whose = self._whose.get(build.id) or Fingerprint.found_in(build.user_agent)
            if whose:
                yield build, whose

    def _usable(self, builds: Iterable[Build]) -> list[Build]:
        """Give the builds of this attempt that may still do, the one to keep first."""
        return sorted(
            (
                build
                for build, whose in self._known(builds)
                if whose == self._mark and (build.is_succeeded or build.is_live)
            ),
            key=lambda build: (not build.is_succeeded, build.started_at is None, build.started_at, build.id),
        )


def _abort(calls: Calls, build: Build) -> None:
    try:
        calls.abort(build.id)
    except NotFoundError:
        pass  # deleted in between
