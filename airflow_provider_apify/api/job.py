"""What every kind of Apify's jobs has: a status, times, who started it; and what tells one kind from another."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, Generic, TypeVar

from pendulum import DateTime

from airflow_provider_apify.api import fields

log = logging.getLogger(__name__)

J = TypeVar("J", bound="Job")
J_co = TypeVar("J_co", bound="Job", covariant=True)

CONSOLE_URL = "https://console.apify.com"


class ActorJobStatus(str, Enum):
    """Status of a build or run (API reference, schema ``ActorJobStatus``)."""

    READY = "READY"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMING_OUT = "TIMING-OUT"
    TIMED_OUT = "TIMED-OUT"
    ABORTING = "ABORTING"
    ABORTED = "ABORTED"

    @property
    def is_terminal(self) -> bool:
        """Whether a job with this status has ended."""
        return self in (self.SUCCEEDED, self.FAILED, self.TIMED_OUT, self.ABORTED)

    @property
    def is_ending(self) -> bool:
        """Whether the job is bound to end badly, though it has not ended yet."""
        return self in (self.TIMING_OUT, self.ABORTING)

    def __str__(self) -> str:
        return str(self.value)


#: The statuses, as Apify spells them, of a job that has ended.
TERMINAL = frozenset(status.value for status in ActorJobStatus if status.is_terminal)

_warned: set[str] = set()


def parse_status(value: str) -> ActorJobStatus | None:
    """Give the status, or ``None`` for one that this release does not know; that is logged once a process."""
    try:
        return ActorJobStatus(value)
    except ValueError:
        if value not in _warned:
            _warned.add(value)
            log.warning("Apify reports the status %r, unknown to this release: treated as unfinished.", value)
        return None


@dataclass(frozen=True)
class Job:
    """
    A job of Apify's, as far as all kinds are alike.

    Only ``id`` and ``status`` are certain; each other field is ``None`` where Apify leaves it out or sends null.
    Costs (``usage_total_usd``) are hidden from requests without a token.
    """

    #: What messages call such a job; ``<noun>_id`` is its id in arguments, XComs and events.
    noun: ClassVar[str] = "job"
    #: What of its summary becomes XComs of its own as soon as the job is known, beside its id.
    announced: ClassVar[tuple[str, ...]] = ("build_number", "actor_id")
    #: What lines of the log add to its cost.
    cost_note: ClassVar[str] = ""

    id: str
    #: As Apify spells it, also when it is none of :class:`ActorJobStatus`.
    status: str
    #: The Actor's id.
    act_id: str | None = None
    build_number: str | None = None
    started_at: DateTime | None = None
    finished_at: DateTime | None = None
    meta: dict[str, Any] | None = None
    stats: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    usage_total_usd: float | None = None
    #: Its page in Apify Console. Not Apify's alone to say, so it does not make two jobs differ.
    console_url: str | None = field(default=None, compare=False)
    #: All that Apify sent.
    raw: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def from_api(cls: type[J], data: object, *, console_url: str | None = None) -> J:
        """
        Parse a job as Apify sends it, whole or as an item of a list.

        :param console_url: what the address of its page begins with; ``None`` leaves that to Apify.
        :raises ValueError: it is not an object with an ``id`` and a ``status``.
        """
        if not isinstance(data, Mapping):
            raise ValueError(f"expected a {cls.noun}, got {type(data).__name__}")
        job_id, status = fields.text(data, "id"), fields.text(data, "status")
        if not job_id or not status:
            raise ValueError(f"expected a {cls.noun}, got an object without id and status")
        stated = fields.text(data, "consoleUrl") or ""
        if console_url is not None or not stated.startswith(("https://", "http://")):
            stated = cls._page(data, console_url or CONSOLE_URL) or ""
        return cls(
            id=job_id,
            status=status,
            act_id=fields.text(data, "actId"),
            build_number=fields.text(data, "buildNumber"),
            started_at=fields.time(data, "startedAt"),
            finished_at=fields.time(data, "finishedAt"),
            meta=fields.mapping(data, "meta"),
            stats=fields.mapping(data, "stats"),
            usage=fields.mapping(data, "usage"),
            usage_total_usd=fields.number(data, "usageTotalUsd"),
            console_url=stated or None,
            raw=data,
            **cls._own_fields(data),
        )

    @classmethod
    def _own_fields(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        """Parse the fields that only this kind of job has."""
        return {}

    @classmethod
    def _page(cls, data: Mapping[str, Any], base: str) -> str | None:
        """Give the address of the job's page in the Console that begins with ``base``, if the job says enough."""
        return None

    @classmethod
    def called(cls, job_id: str, build_number: str | None) -> str:
        """Give what short lines of the log call a job."""
        return job_id

    @property
    def name(self) -> str:
        return self.called(self.id, self.build_number)

    def __str__(self) -> str:
        """The job as the log names it where it may have to be found again."""
        return self.id

    @property
    def job_status(self) -> ActorJobStatus | None:
        """The status as a member of the enum, or ``None`` for one that this release does not know."""
        return parse_status(self.status)

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended. An unknown status counts as unfinished."""
        status = self.job_status
        return status is not None and status.is_terminal

    @property
    def is_succeeded(self) -> bool:
        return self.status == ActorJobStatus.SUCCEEDED.value

    @property
    def is_live(self) -> bool:
        """Whether the job may still succeed: READY, RUNNING or of unknown status."""
        status = self.job_status
        return status is None or not (status.is_terminal or status.is_ending)

    @property
    def abort_took(self) -> bool:
        """In the answer to an abort: whether that ends the job, which had not ended by itself before."""
        return not self.is_terminal or self.job_status is ActorJobStatus.ABORTED

    @property
    def user_agent(self) -> str:
        """The ``User-Agent`` of whoever started the job, or an empty string."""
        return fields.text(self.meta or {}, "userAgent") or ""

    @property
    def origin(self) -> str:
        """What kind of client started the job (schema ``RunOrigin``), such as ``API``, or an empty string."""
        return fields.text(self.meta or {}, "origin") or ""

    @property
    def duration_seconds(self) -> float | None:
        """Seconds from start to end, by Apify's clock."""
        if self.started_at is None or self.finished_at is None:
            return None
        return round(self.finished_at.timestamp() - self.started_at.timestamp(), 3)

    @property
    def status_line(self) -> str:
        """What logs say of an unfinished job."""
        return f"{self.noun.capitalize()} {self.name} is {self.status}."

    def words_of_abort(self, why: str) -> str:
        """Say how an abort went, by the answer to it, which this job is from; ``why``: the reason for it."""
        if not self.abort_took:
            return f"{self.noun.capitalize()} {self} is {self.status}."
        return f"{self.noun.capitalize()} {self} is being aborted, since {why}."

    def summary(self) -> dict[str, Any]:
        """
        Give what the next task needs, as small plain JSON: what the XCom ``summary`` holds at the end.

        Left out is what can be megabytes (a definition, a readme, an input schema) or may hold secrets.
        """
        return {
            f"{self.noun}_id": self.id,
            "actor_id": self.act_id,
            "build_number": self.build_number,
            "status": self.status,
            "started_at": self.started_at.isoformat() if self.started_at else None,
            "finished_at": self.finished_at.isoformat() if self.finished_at else None,
            "duration_seconds": self.duration_seconds,
            "stats": self.stats,
            "usage": self.usage,
            "usage_total_usd": self.usage_total_usd,
            "console_url": self.console_url,
        }


class JobKind(Generic[J_co]):
    """
    One of Apify's kinds of job.

    :param path: where all jobs of the account are listed; below it, one is got, aborted, and its log read.
    :param job: what its jobs are parsed into.
    """

    def __init__(self, path: str, job: type[J_co]) -> None:
        self.path = path
        self.job = job

    @property
    def name(self) -> str:
        """The kind in arguments, XComs and events (``<name>_id``), metrics (``apify.<name>.``) and messages."""
        return self.job.noun

    @property
    def title(self) -> str:
        """The name as a sentence begins with it."""
        return self.job.noun.capitalize()
