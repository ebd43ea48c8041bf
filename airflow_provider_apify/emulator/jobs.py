"""What every kind of job shares: how it takes its course, is aborted and ends, and what it costs."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, TypeVar

from airflow_provider_apify.emulator.answers import iso
from airflow_provider_apify.emulator.signals import Signal

if TYPE_CHECKING:
    from airflow_provider_apify.emulator.actors import ActorState

TERMINAL_STATUSES = ("SUCCEEDED", "FAILED", "TIMED-OUT", "ABORTED")

ABORTING_SECONDS = 0.05
_USD_PER_COMPUTE_UNIT = 0.3


@dataclass(eq=False, kw_only=True)
class Job(ABC):
    """
    One job; times are seconds since the epoch, ``seconds`` is how long it is to take from ``began_at``.

    ``clock_offset`` seconds are added to the times that are shown. ``log_before`` is what its log said before it was
    resurrected.
    """

    id: str
    actor_state: ActorState
    client_ip: str
    user_agent: str
    memory_mbytes: int
    outcome: str
    seconds: float
    clock_offset: float
    started_at: float = field(default_factory=time.time)
    began_at: float = field(default_factory=time.time)
    finished_at: float | None = None
    status: str = "READY"
    log_before: list[str] = field(default_factory=list)
    over: Signal = field(default_factory=Signal)
    timer: asyncio.TimerHandle | None = None

    @property
    @abstractmethod
    def log_steps(self) -> Sequence[tuple[float, str]]:
        """The lines of its log, each with the fraction of ``seconds`` after which it appears."""

    @property
    @abstractmethod
    def log_ending(self) -> Sequence[str]:
        """The lines that its log ends with, for the status that it has ended with."""

    @property
    def age(self) -> float:
        return time.time() - self.started_at

    @property
    def shown_start_at(self) -> float:
        """When it started by the platform's clock, to the millisecond, as it is shown."""
        return round(self.started_at + self.clock_offset, 3)

    @property
    def unfinished(self) -> bool:
        return self.finished_at is None

    @property
    def shown_start(self) -> str:
        return iso(self.shown_start_at)

    @property
    def shown_end(self) -> str | None:
        return None if self.finished_at is None else iso(self.finished_at + self.clock_offset)

    @property
    def cost(self) -> tuple[float, float]:
        """Compute units and US dollars; nothing while it is unfinished."""
        seconds = 0.0 if self.finished_at is None else self.finished_at - self.started_at
        units = seconds / 3600 * self.memory_mbytes / 1024
        return units, units * _USD_PER_COMPUTE_UNIT

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


J = TypeVar("J", bound=Job)


class Jobs(dict[str, J]):
    """The jobs of one kind by id, oldest first, and what happens to them."""

    noun: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.unfinished: set[J] = set()

    def begin(self, job: J) -> None:
        """Add a job, which from now on takes its course by itself."""
        self[job.id] = job
        self.unfinished.add(job)
        ready_seconds = min(0.1 * job.seconds, 0.5)
        job.timer = asyncio.get_running_loop().call_later(ready_seconds, self.run, job, job.seconds - ready_seconds)

    def begin_again(self, job: J) -> None:
        """Let a job that has ended run again; it is to take ``seconds`` from now."""
        job.began_at = time.time()
        job.finished_at = None
        job.over = Signal()
        self.unfinished.add(job)
        self.run(job, job.seconds)

    def abort(self, job: J, *, seconds: float = ABORTING_SECONDS) -> None:
        """Abort a job that has not ended, which takes ``seconds`` at most."""
        loop = asyncio.get_running_loop()
        sooner = job.timer is not None and job.timer.when() > loop.time() + seconds
        if job.status in ("READY", "RUNNING") or (job.status == "ABORTING" and sooner):
            self._finish_later(job, "ABORTING", seconds, "ABORTED")

    def finish(self, job: J, status: str) -> None:
        """End a job now, unless it has ended."""
        check_terminal(status)
        if not job.unfinished:
            return
        job.stop_timer()
        job.status = status
        job.finished_at = time.time()
        self.unfinished.discard(job)
        self.ended(job)
        job.over.fire()

    def running(self, job: J) -> None:
        """Do what else happens when a job of this kind begins to run."""

    def ended(self, job: J) -> None:
        """Do what else happens when a job of this kind has ended."""

    def delete(self, job: J) -> None:
        """Forget a job in whatever state."""
        job.stop_timer()
        self.unfinished.discard(job)
        del self[job.id]
        job.over.fire()

    def run(self, job: J, seconds: float) -> None:
        """Let a job run for ``seconds``; then it ends."""
        job.status = "RUNNING"
        self.running(job)
        closing_seconds = min(0.2 * seconds, 0.5) if job.outcome == "TIMED-OUT" else 0.0
        loop = asyncio.get_running_loop()
        if closing_seconds:
            job.timer = loop.call_later(
                seconds - closing_seconds, self._finish_later, job, "TIMING-OUT", closing_seconds, "TIMED-OUT"
            )
        else:
            job.timer = loop.call_later(seconds, self.finish, job, job.outcome)

    def _finish_later(self, job: J, transitional: str, seconds: float, status: str) -> None:
        job.stop_timer()
        job.status = transitional
        job.timer = asyncio.get_running_loop().call_later(seconds, self.finish, job, status)


def check_terminal(status: str) -> None:
    if status not in TERMINAL_STATUSES:
        raise ValueError(f"{status!r} is not a status that a job ends with: {', '.join(TERMINAL_STATUSES)}")
