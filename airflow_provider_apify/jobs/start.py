"""
Start a build once.

Apify has no idempotency key, but it records the ``User-Agent`` of whoever starts a build and lists an Actor's builds
newest first (API §1.3, §3.3). So the request that starts a build carries a fingerprint of the attempt, and whoever
does not know whether a build was started looks for that fingerprint before sending again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from airflow_provider_apify.api.errors import ApiError, NotFoundError
from airflow_provider_apify.api.model import Build
from airflow_provider_apify.api.requests import Repeat, may_repeat
from airflow_provider_apify.jobs.wait import backoff

#: Pauses in seconds between looks for a build whose start got no answer: replicas lag, the official client allows 3 s.
LOOK_AGAIN = (0.0, 0.5, 1.0, 2.0)
#: How often a start whose outcome stayed unknown, and that no look found, is sent in all.
SENDS = 3
#: How often a start that Apify has provably not accepted is sent in all: with the pauses between, for about a minute.
ATTEMPTS = 8

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


@dataclass(frozen=True)
class Remembered:
    """What an earlier try of the task wrote down: its fingerprint and the build that it had."""

    fingerprint: Fingerprint
    #: ``None``: it was about to start one.
    build_id: str | None


class Calls(Protocol):
    """What starting needs from the outside. All but ``intend`` and ``pause`` may raise :class:`ApiError`."""

    def prepare(self) -> object:
        """Find out what the request takes."""

    def intend(self) -> object:
        """Write down, for later tries, that a build is about to be started."""

    def send(self) -> Build:
        """Send the request that starts a build, exactly once."""

    def recent(self) -> Sequence[Build]:
        """List the Actor's newest builds."""

    def get(self, build_id: str, /) -> Build: ...

    def abort(self, build_id: str, /) -> object: ...

    def pause(self, seconds: float, /) -> object: ...

    def stopped(self) -> bool:
        """Whether the task is being ended: nothing more may be started."""

    def stale(self) -> bool:
        """Whether the try began, or looked, so long ago that it may have been given up for dead and replaced since."""


@dataclass(frozen=True)
class Started:
    build: Build
    #: Whether the build was there already, started by an earlier try or by a request whose answer was lost.
    adopted: bool


class Superseded(Exception):
    """The task has been cleared and started anew elsewhere, or is being ended: this try must start nothing."""

    #: Whether a request of this try may have started a build all the same.
    outcome_unknown = False


def start_once(
    calls: Calls,
    mark: Fingerprint,
    *,
    first_try: bool,
    remembered: Remembered | None = None,
    abort_earlier: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> Started:
    """
    Give the one build of the attempt ``mark``: the one that is there, or a new one.

    :param first_try: nobody can have started a build for this task before: no look is needed.
    :param remembered: what an earlier try wrote down, if anything.
    :param abort_earlier: abort unfinished builds of attempts before this one.
    :raises Superseded: see there.
    :raises ApiError: no build could be started. With ``outcome_unknown`` set, one may have been; the next try looks.
    """

    def look() -> Build | None:
        return _look(calls, mark, remembered, abort_earlier, say)

    lost: list[ApiError] = []
    try:
        # A try that wrote down that it was about to start, and no id, may have started a build not listed yet.
        in_doubt = remembered is not None and remembered.fingerprint == mark and remembered.build_id is None
        for seconds in () if first_try else LOOK_AGAIN if in_doubt else LOOK_AGAIN[:1]:
            calls.pause(seconds)
            if build := look():
                return Started(build, adopted=True)
        calls.prepare()
        calls.intend()
        refused = 0
        while True:
            if calls.stopped():
                raise Superseded("The task is being ended: no build is started.")
            if calls.stale() and (build := look()):
                return Started(build, adopted=True)
            try:
                return _only(calls, calls.send(), look)
            except ApiError as error:
                if not error.outcome_unknown:
                    refused += 1
                    if refused == ATTEMPTS or not may_repeat(Repeat.STARTS_ANOTHER, error):
                        raise
                    pause = backoff(refused - 1, error)
                    say(f"{error} Sending again in {pause:.1f} s.")
                    calls.pause(pause)
                    continue
                lost.append(error)
                say(f"{error} Apify may have started the build: looking for it before sending again.")
            for seconds in LOOK_AGAIN:
                calls.pause(seconds)
                if build := look():
                    return Started(build, adopted=True)
            if len(lost) == SENDS:
                raise lost[-1]
    except (ApiError, Superseded) as error:
        error.outcome_unknown = bool(lost)
        raise


def _only(calls: Calls, build: Build, look: Callable[[], Build | None]) -> Started:
    """Give the build just started or, if the try was frozen meanwhile, the older one of the try that replaced it."""
    try:
        found = look() if calls.stale() else None
    except Superseded:
        _abort(calls, build)
        raise
    except ApiError:
        found = None
    if found is None or found.id == build.id:
        return Started(build, adopted=False)
    _abort(calls, build)  # the list may not show it yet
    return Started(found, adopted=True)


def _look(
    calls: Calls,
    mark: Fingerprint,
    remembered: Remembered | None,
    abort_earlier: bool,
    say: Callable[[str], None],
) -> Build | None:
    """Find this attempt's build; abort what is too much of it, and what earlier attempts left unfinished."""
    unlisted: ApiError | None = None
    recent: Sequence[Build] = ()
    try:
        recent = calls.recent()
    except ApiError as error:
        if remembered is None:
            raise
        unlisted = error
    marked = [(build, found) for build in recent if (found := Fingerprint.found_in(build.user_agent))]
    if remembered and remembered.build_id and all(build.id != remembered.build_id for build, _ in marked):
        try:
            marked.append((calls.get(remembered.build_id), remembered.fingerprint))
        except NotFoundError:
            pass
    ours = [(build, found.epoch) for build, found in marked if found.task == mark.task]
    if any(epoch > mark.epoch for _, epoch in ours):
        raise Superseded(
            "A newer attempt of this task has started its build: this try starts none. (Raising retries between two"
            " tries looks the same: clear the task to build anew.)"
        )
    if abort_earlier:
        for build, epoch in ours:
            if epoch < mark.epoch and build.is_live:
                say(f"Aborting build {build}, left unfinished by an earlier attempt of this task.")
                _abort(calls, build)
    usable = sorted(
        (build for build, epoch in ours if epoch == mark.epoch and (build.is_succeeded or build.is_live)),
        key=lambda build: (not build.is_succeeded, build.started_at is None, build.started_at, build.id),
    )
    for build in usable[1:]:
        if build.is_live:
            say(f"Aborting build {build}: this attempt already has build {usable[0]}.")
            _abort(calls, build)
    if usable:
        return usable[0]
    if unlisted:
        raise unlisted
    return None


def _abort(calls: Calls, build: Build) -> None:
    try:
        calls.abort(build.id)
    except NotFoundError:
        pass  # deleted in between
