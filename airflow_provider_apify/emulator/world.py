"""What the emulated platform knows: Actors, their builds and tags, the account's limits, and the requests seen."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections import deque
from dataclasses import dataclass, field, replace

from airflow_provider_apify.emulator.signals import Signal

USERNAME = "emulator"
BUILD_MEMORY_MBYTES = 4096
TERMINAL_STATUSES = ("SUCCEEDED", "FAILED", "TIMED-OUT", "ABORTED")

_ABORTING_SECONDS = 0.05
_ID_CHARACTERS = "23456789ABCDEFGHJKLMNPQRSTWXYZabcdefghijkmnopqrstuvwxyz"
_FIRST_ACTOR_CREATED = 1_715_591_564.0


@dataclass(frozen=True)
class Actor:
    """
    An Actor to build.

    :param name: its name, without the user name.
    :param versions: version number to that version's build tag (``None``: no tag).
    :param outcome: the status its builds end with, one of ``TERMINAL_STATUSES``.
    :param build_seconds: how long its builds take, READY included; ``None``: ``slowness`` times the emulator's.
    :param slowness: see ``build_seconds``.
    """

    name: str
    versions: dict[str, str | None] = field(default_factory=lambda: {"0.0": "latest"})
    outcome: str = "SUCCEEDED"
    build_seconds: float | None = None
    slowness: float = 1.0

    def __post_init__(self) -> None:
        _check_terminal(self.outcome)


class NoMemory(Exception):
    """One more build would exceed the account's memory."""


@dataclass(eq=False)
class Registered:
    """An Actor with what happened to it. ``tagged`` maps a tag to the build that carries it."""

    actor: Actor
    id: str
    created_at: float
    modified_at: float
    title: str | None = None
    description: str | None = None
    tagged: dict[str, Build] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)


@dataclass(eq=False)
class Build:
    """
    One build; times are seconds since the epoch, ``seconds`` is how long it is to take.

    ``clock_offset`` seconds are added to the times that are shown.
    """

    id: str
    owner: Registered
    version: str
    counter: int
    tag: str | None
    version_tag: str | None
    use_cache: bool
    beta_packages: bool
    client_ip: str
    user_agent: str
    outcome: str
    seconds: float
    clock_offset: float
    started_at: float = field(default_factory=time.time)
    finished_at: float | None = None
    status: str = "READY"
    over: Signal = field(default_factory=Signal)
    timer: asyncio.TimerHandle | None = None

    @property
    def number(self) -> str:
        return f"{self.version}.{self.counter}"

    @property
    def age(self) -> float:
        return time.time() - self.started_at

    @property
    def unfinished(self) -> bool:
        return self.finished_at is None


@dataclass
class RequestRecord:
    """
    One request below ``/v2``.

    :param at: arrival, seconds since the epoch.
    :param path: as sent, percent-escapes included.
    :param query: as sent, but with the value of ``token`` blanked.
    :param headers: names in lower case; without ``authorization`` and ``cookie``.
    :param authorized: whether the right token came with it.
    :param status: of the answer, ``None`` while or when there was none.
    :param fault: kind of the fault it met.
    """

    at: float
    method: str
    path: str
    query: str
    headers: dict[str, str]
    authorized: bool
    status: int | None = None
    fault: str | None = None


class World:
    """
    All state of one emulator; used only from its event loop while that runs.

    :param build_seconds: how long a build takes, READY included.
    :param memory_mbytes: account limit for all unfinished builds, which take 4096 each.
    :param full_lists: whether list items show all that the definition allows, or as little as recorded ones.
    :param tag_seconds: how long after a build's success its tag moves to it.
    :param clock_offset: seconds by which the platform's clock is ahead of this machine's.
    :param seed: makes build ids repeatable.
    """

    def __init__(
        self,
        *,
        token: str,
        build_seconds: float,
        memory_mbytes: int,
        full_lists: bool,
        clock_offset: float,
        tag_seconds: float,
        seed: int,
    ) -> None:
        self._initial = (token, build_seconds, memory_mbytes, full_lists, clock_offset, tag_seconds)
        self._random = random.Random(seed)
        self.builds: dict[str, Build] = {}
        self.reset()

    def reset(self) -> None:
        """Return to the initial state; long-polls of builds that vanish wake up. Build ids are not used again."""
        self.stop_timers()
        forgotten, self.builds = self.builds, {}
        self.unfinished: set[Build] = set()
        self.requests: deque[RequestRecord] = deque(maxlen=100_000)
        self.actors: dict[str, Registered] = {}
        self.token, self.build_seconds, self.memory_mbytes, self.full_lists, *times = self._initial
        self.clock_offset, self.tag_seconds = times
        for actor in _ACTORS:
            self.add_actor(actor)
        for build in forgotten.values():
            build.over.fire()

    def stop_timers(self) -> None:
        for build in self.builds.values():
            _cancel_timer(build)

    def add_actor(self, actor: Actor) -> Registered:
        """Add an Actor. Its id depends on its name only."""
        if actor.name in self.actors:
            raise ValueError(f"there is an Actor {actor.name!r} already")
        created = _FIRST_ACTOR_CREATED + 60 * len(self.actors)
        owner = Registered(actor, _id_of_name(actor.name), created_at=created, modified_at=created)
        self.actors[actor.name] = owner
        return owner

    def set_actor(self, name: str, *, outcome: str | None, build_seconds: float | None) -> None:
        """Change what later builds of an Actor do; ``None`` leaves a setting as it is."""
        owner = self.actors[name]
        changed = replace(owner.actor, outcome=outcome or owner.actor.outcome)
        owner.actor = changed if build_seconds is None else replace(changed, build_seconds=build_seconds)

    def find_actor(self, key: str) -> Registered | None:
        """Find by id, ``~name`` or ``username~name``."""
        user, tilde, name = key.rpartition("~")
        if tilde:
            return self.actors.get(name) if user in ("", USERNAME) else None
        return next((owner for owner in self.actors.values() if owner.id == key), None)

    def start_build(
        self,
        owner: Registered,
        version: str,
        *,
        tag: str | None = None,
        use_cache: bool = False,
        beta_packages: bool = False,
        client_ip: str = "127.0.0.1",
        user_agent: str = "",
    ) -> Build:
        """
        Start a build; it goes on by itself.

        :raises KeyError: the Actor has no such version.
        :raises NoMemory: the account has no memory left for it.
        """
        actor = owner.actor
        version_tag = actor.versions[version]
        if (len(self.unfinished) + 1) * BUILD_MEMORY_MBYTES > self.memory_mbytes:
            raise NoMemory
        counter = owner.counters[version] = owner.counters.get(version, 0) + 1
        seconds = self.build_seconds * actor.slowness if actor.build_seconds is None else actor.build_seconds
        build = Build(
            id=_new_id(self._random),
            owner=owner,
            version=version,
            counter=counter,
            tag=tag or version_tag,
            version_tag=version_tag,
            use_cache=use_cache,
            beta_packages=beta_packages,
            client_ip=client_ip,
            user_agent=user_agent,
            outcome=actor.outcome,
            seconds=seconds,
            clock_offset=self.clock_offset,
        )
        self.builds[build.id] = build
        self.unfinished.add(build)
        ready_seconds = min(0.1 * seconds, 0.5)
        build.timer = asyncio.get_running_loop().call_later(ready_seconds, self._run, build, seconds - ready_seconds)
        return build

    def abort(self, build: Build) -> None:
        """Abort a build that is starting or running; does nothing to any other."""
        if build.status in ("READY", "RUNNING"):
            self._finish_later(build, "ABORTING", _ABORTING_SECONDS, "ABORTED")

    def finish(self, build: Build, status: str) -> None:
        """End a build now, unless it has ended; a success moves its tag."""
        _check_terminal(status)
        if not build.unfinished:
            return
        _cancel_timer(build)
        build.status = status
        build.finished_at = time.time()
        self.unfinished.discard(build)
        if status == "SUCCEEDED" and build.tag:
            if self.tag_seconds:
                asyncio.get_running_loop().call_later(self.tag_seconds, self._move_tag, build, build.tag)
            else:
                self._move_tag(build, build.tag)
        build.over.fire()

    def delete(self, build: Build) -> None:
        """Forget a build in whatever state, with the tags that point to it."""
        _cancel_timer(build)
        self.unfinished.discard(build)
        del self.builds[build.id]
        owner = build.owner
        owner.tagged = {tag: tagged for tag, tagged in owner.tagged.items() if tagged is not build}
        build.over.fire()

    def _move_tag(self, build: Build, tag: str) -> None:
        """Give the tag to a build that has succeeded, unless it is gone or one that ended later has it."""
        holder = build.owner.tagged.get(tag)
        if build.id in self.builds and (holder is None or (holder.finished_at or 0) <= (build.finished_at or 0)):
            build.owner.tagged[tag] = build

    def _run(self, build: Build, seconds: float) -> None:
        build.status = "RUNNING"
        closing_seconds = min(0.2 * seconds, 0.5) if build.outcome == "TIMED-OUT" else 0.0
        loop = asyncio.get_running_loop()
        if closing_seconds:
            build.timer = loop.call_later(
                seconds - closing_seconds, self._finish_later, build, "TIMING-OUT", closing_seconds, "TIMED-OUT"
            )
        else:
            build.timer = loop.call_later(seconds, self.finish, build, build.outcome)

    def _finish_later(self, build: Build, transitional: str, seconds: float, status: str) -> None:
        _cancel_timer(build)
        build.status = transitional
        build.timer = asyncio.get_running_loop().call_later(seconds, self.finish, build, status)


def _cancel_timer(build: Build) -> None:
    if build.timer is not None:
        build.timer.cancel()
        build.timer = None


def _check_terminal(status: str) -> None:
    if status not in TERMINAL_STATUSES:
        raise ValueError(f"{status!r} is not a status that a build ends with: {', '.join(TERMINAL_STATUSES)}")


def _new_id(source: random.Random) -> str:
    return "".join(source.choices(_ID_CHARACTERS, k=17))


def _id_of_name(name: str) -> str:
    return _new_id(random.Random(hashlib.sha256(name.encode()).digest()))


_ACTORS = (
    Actor("hello-world"),
    Actor("always-fails", outcome="FAILED"),
    Actor("slow-build", slowness=6.0),
    Actor("times-out", outcome="TIMED-OUT"),
    Actor("two-versions", versions={"0.0": "latest", "1.0": "beta"}),
)
