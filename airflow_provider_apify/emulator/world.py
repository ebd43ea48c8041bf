"""What the emulated platform knows: its settings, Actors, jobs, the account's memory, and the requests seen."""

from __future__ import annotations

import hashlib
import random
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_apify.emulator.actors import ACTORS, Actor, ActorState
from airflow_provider_apify.emulator.answers import ApiError, new_id
from airflow_provider_apify.emulator.builds import Builds
from airflow_provider_apify.emulator.call import RequestRecord
from airflow_provider_apify.emulator.jobs import Job
from airflow_provider_apify.emulator.runs import RunOptions, Runs
from airflow_provider_apify.emulator.storages import Datasets, KeyValueStores
from airflow_provider_apify.emulator.tasks import Tasks
from airflow_provider_apify.emulator.users import USERNAME

_FIRST_ACTOR_CREATED = 1_715_591_564.0


@dataclass
class Settings:
    """
    What can be changed while the emulator runs.

    :param build_seconds: how long a build takes, READY included.
    :param run_seconds: how long a run takes, READY included.
    :param memory_mbytes: account limit for all unfinished jobs; a build takes 4096, a run what it was started with.
    :param max_concurrent_jobs: how many jobs may be unfinished for one more run to start.
    :param cost_seconds: how long after a run's end the cost of the events that it charged is behind.
    :param full_lists: whether list items show all that the definition allows, or as little as recorded ones.
    :param clock_offset: seconds by which the platform's clock is ahead of this machine's.
    :param tag_seconds: how long after a build's success its tag moves to it, and after a request that sets tags.
    :param items_seconds: how long after a push its items can be read.
    :param item_count_seconds: how long after a push a dataset's counter has its items.
    :param gzip: whether items are sent with gzip to whoever accepts it.
    """

    token: str
    build_seconds: float
    run_seconds: float
    memory_mbytes: int
    max_concurrent_jobs: int
    cost_seconds: float
    full_lists: bool
    clock_offset: float
    tag_seconds: float
    items_seconds: float
    item_count_seconds: float
    gzip: bool


class World:
    """
    All state of one emulator; used only from its event loop while that runs.

    :param settings: those to begin with.
    :param seed: makes ids repeatable.
    """

    def __init__(self, settings: Settings, seed: int) -> None:
        self._initial = settings
        self._random = random.Random(seed)
        self.builds = Builds(self)
        self.runs = Runs(self)
        self.reset()

    def reset(self) -> None:
        """Return to the initial state; long-polls of jobs that vanish wake up. Their ids are not used again."""
        self.stop_timers()
        forgotten = self.jobs
        self.builds = Builds(self)
        self.runs = Runs(self)
        self.datasets = Datasets(self)
        self.key_value_stores = KeyValueStores(self)
        self.requests: deque[RequestRecord] = deque(maxlen=100_000)
        self.actors: dict[str, ActorState] = {}
        self.settings = replace(self._initial)
        for actor in ACTORS:
            self.add_actor(actor)
        self.tasks = Tasks(self)
        self.tasks.add("ten-products", "scraper", {"items": 10, "shop": {"country": "CZ"}}, RunOptions())
        for job in forgotten:
            job.over.fire()

    @property
    def jobs(self) -> list[Job]:
        """Those of every kind."""
        return [*self.builds.values(), *self.runs.values()]

    @property
    def unfinished(self) -> list[Job]:
        return [*self.builds.unfinished, *self.runs.unfinished]

    @property
    def used_mbytes(self) -> int:
        return sum(job.memory_mbytes for job in self.unfinished)

    def stop_timers(self) -> None:
        for job in self.jobs:
            job.stop_timer()

    def check_memory(self, mbytes: int) -> None:
        """
        Check that one more job of ``mbytes`` can start.

        :raises ApiError: it would exceed the account's memory.
        """
        if self.used_mbytes + mbytes > self.settings.memory_mbytes:
            raise ApiError(
                402,
                "actor-memory-limit-exceeded",
                f"By launching this job you will exceed the memory limit of {self.settings.memory_mbytes}MB for all"
                f" your Actor runs and builds (currently used: {self.used_mbytes}MB, requested: {mbytes}MB).",
            )

    def check_slots(self) -> None:
        """
        Check that one more run can start beside the unfinished jobs.

        :raises ApiError: there are as many as the account may have.
        """
        most = self.settings.max_concurrent_jobs
        if len(self.unfinished) >= most:
            raise ApiError(
                402,
                "concurrent-runs-limit-exceeded",
                f"By launching this job you will exceed your limit of {most} concurrent Actor runs.",
            )

    def new_id(self) -> str:
        return new_id(self._random)

    def add_actor(self, actor: Actor) -> None:
        """Add an Actor. Its id depends on its name only."""
        if actor.name in self.actors:
            raise ValueError(f"there is an Actor {actor.name!r} already")
        created = _FIRST_ACTOR_CREATED + 60 * len(self.actors)
        actor_id = new_id(random.Random(hashlib.sha256(actor.name.encode()).digest()))
        self.actors[actor.name] = ActorState(actor, actor_id, created_at=created, modified_at=created)

    def set_actor(self, name: str, **changes: Any) -> None:
        """Change what later builds and runs of an Actor do; ``None`` leaves a setting as it is."""
        actor_state = self.actors[name]
        given = {setting: value for setting, value in changes.items() if value is not None}
        actor_state.actor = replace(actor_state.actor, **given)

    def find_actor(self, key: str) -> ActorState | None:
        """Find by id, ``~name`` or ``username~name``."""
        user, tilde, name = key.rpartition("~")
        if tilde:
            return self.actors.get(name) if user in ("", USERNAME) else None
        return next((actor_state for actor_state in self.actors.values() if actor_state.id == key), None)
