"""Apify's objects as values. Lenient: an odd or missing field becomes ``None``, a new status counts as unfinished."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import pendulum
from pendulum import DateTime

log = logging.getLogger(__name__)

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
        """Whether a job with this status never changes again."""
        return self in (self.SUCCEEDED, self.FAILED, self.TIMED_OUT, self.ABORTED)

    @property
    def is_ending(self) -> bool:
        """Whether the job is bound to end badly, though it has not ended yet."""
        return self in (self.TIMING_OUT, self.ABORTING)

    def __str__(self) -> str:
        return str(self.value)


#: The statuses, as Apify spells them, of a job that never changes again.
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
class Build:
    """
    An Actor build (API reference, schemas ``Build`` and ``BuildShort``).

    Only ``id`` and ``status`` are certain; each other field is ``None`` where Apify leaves it out or sends null.
    Costs (``usage_usd``, ``usage_total_usd``) are hidden from requests without a token.
    """

    id: str
    #: As Apify spells it, also when it is none of :class:`ActorJobStatus`.
    status: str
    act_id: str | None = None
    user_id: str | None = None
    build_number: str | None = None
    build_number_int: int | None = None
    started_at: DateTime | None = None
    finished_at: DateTime | None = None
    meta: dict[str, Any] | None = None
    stats: dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    usage_usd: dict[str, Any] | None = None
    usage_total_usd: float | None = None
    input_schema: str | None = field(default=None, repr=False)
    readme: str | None = field(default=None, repr=False)
    act_version: dict[str, Any] | None = field(default=None, repr=False)
    actor_definition: dict[str, Any] | None = field(default=None, repr=False)
    #: The build's page in Apify Console. Not Apify's alone to say, so it does not make two builds differ.
    console_url: str | None = field(default=None, compare=False)

    @classmethod
    def from_api(cls, data: object, *, console_url: str | None = None) -> Build:
        """
        Parse a build as Apify sends it, whole or as an item of a list.

        :param console_url: what the address of its page begins with; ``None`` leaves that to Apify.
        :raises ValueError: it is not an object with an ``id`` and a ``status``.
        """
        if not isinstance(data, Mapping):
            raise ValueError(f"expected a build, got {type(data).__name__}")
        build_id, status = _text(data, "id"), _text(data, "status")
        if not build_id or not status:
            raise ValueError("expected a build, got an object without id and status")
        return cls(
            id=build_id,
            status=status,
            act_id=_text(data, "actId"),
            user_id=_text(data, "userId"),
            build_number=_text(data, "buildNumber"),
            build_number_int=_whole(data, "buildNumberInt"),
            started_at=_time(data, "startedAt"),
            finished_at=_time(data, "finishedAt"),
            meta=_object(data, "meta"),
            stats=_object(data, "stats"),
            options=_object(data, "options"),
            usage=_object(data, "usage"),
            usage_usd=_object(data, "usageUsd"),
            usage_total_usd=_number(data, "usageTotalUsd"),
            input_schema=_text(data, "inputSchema"),
            readme=_text(data, "readme"),
            act_version=_object(data, "actVersion"),
            actor_definition=_object(data, "actorDefinition"),
            console_url=_console_url(data, console_url),
        )

    def __str__(self) -> str:
        """Number and id, as logs name a build."""
        return f"{self.build_number or '(no number)'} ({self.id})"

    @property
    def job_status(self) -> ActorJobStatus | None:
        """The status as a member of the enum, or ``None`` for one that this release does not know."""
        return parse_status(self.status)

    @property
    def is_terminal(self) -> bool:
        """Whether the build has ended. An unknown status counts as unfinished."""
        status = self.job_status
        return status is not None and status.is_terminal

    @property
    def is_succeeded(self) -> bool:
        return self.status == ActorJobStatus.SUCCEEDED.value

    @property
    def is_live(self) -> bool:
        """Whether the build may still succeed: READY, RUNNING or of unknown status."""
        status = self.job_status
        return status is None or not (status.is_terminal or status.is_ending)

    @property
    def abort_took(self) -> bool:
        """In the answer to an abort: whether that ends the build, which had not ended by itself before."""
        return not self.is_terminal or self.job_status is ActorJobStatus.ABORTED

    @property
    def user_agent(self) -> str:
        """The ``User-Agent`` of whoever started the build, or an empty string."""
        return _text(self.meta or {}, "userAgent") or ""

    @property
    def origin(self) -> str:
        """What kind of client started the build (schema ``RunOrigin``), such as ``API``, or an empty string."""
        return _text(self.meta or {}, "origin") or ""

    @property
    def duration_seconds(self) -> float | None:
        """Seconds from start to end, by Apify's clock."""
        if self.started_at is None or self.finished_at is None:
            return None
        return round((self.finished_at - self.started_at).total_seconds(), 3)

    def summary(self) -> dict[str, Any]:
        """
        Give what the next task needs, as small plain JSON.

        Left out are the fields that can be megabytes (definition, readme, input schema) or may hold secrets
        (``act_version`` with its source files).
        """
        return {
            "build_id": self.id,
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


@dataclass(frozen=True)
class ActorVersion:
    """A version of an Actor's source, of which builds are made (schema ``Version``)."""

    #: ``MAJOR.MINOR``, a string: ``0.10`` and ``0.1`` differ.
    version_number: str
    #: Tag that a successful build gets when the request names none.
    build_tag: str | None = None


@dataclass(frozen=True)
class TaggedBuild:
    """The build that a tag of an Actor is on (schema ``TaggedBuildInfo``)."""

    build_id: str
    build_number: str | None = None
    finished_at: DateTime | None = None


@dataclass(frozen=True)
class Actor:
    """An Actor as far as builds are concerned (schema ``Actor``)."""

    id: str
    name: str | None = None
    username: str | None = None
    versions: tuple[ActorVersion, ...] = ()
    #: By tag.
    tagged_builds: dict[str, TaggedBuild] = field(default_factory=dict)

    @classmethod
    def from_api(cls, data: object) -> Actor:
        """
        Parse an Actor as Apify sends it.

        :raises ValueError: it is not an object with an ``id``.
        """
        if not isinstance(data, Mapping) or not (actor_id := _text(data, "id")):
            raise ValueError("expected an Actor, got something without an id")
        versions = data.get("versions")
        return cls(
            id=actor_id,
            name=_text(data, "name"),
            username=_text(data, "username"),
            versions=tuple(
                ActorVersion(number, _text(item, "buildTag"))
                for item in (versions if isinstance(versions, list) else [])
                if isinstance(item, Mapping) and (number := _text(item, "versionNumber"))
            ),
            tagged_builds={
                tag: TaggedBuild(build_id, _text(item, "buildNumber"), _time(item, "finishedAt"))
                for tag, item in (_object(data, "taggedBuilds") or {}).items()
                if isinstance(item, Mapping) and (build_id := _text(item, "buildId"))
            },
        )


def _console_url(data: Mapping[str, Any], base: str | None) -> str | None:
    """Give a build's page: below ``base``, else where Apify says, else in the Console of personal accounts."""
    stated = _text(data, "consoleUrl") or ""
    if base is None and stated.startswith(("https://", "http://")):
        return stated
    act_id, number = _text(data, "actId"), _text(data, "buildNumber")
    if not act_id:
        return None
    # The Console addresses builds by number.
    actor = f"{base or CONSOLE_URL}/actors/{act_id}"
    return f"{actor}#/builds/{number}" if number else actor


def _text(data: Mapping[str, Any], key: str) -> str | None:
    value = data.get(key)
    return value if isinstance(value, str) else None


def _whole(data: Mapping[str, Any], key: str) -> int | None:
    value = data.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(data: Mapping[str, Any], key: str) -> float | None:
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _object(data: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    value = data.get(key)
    return dict(value) if isinstance(value, Mapping) else None


def _time(data: Mapping[str, Any], key: str) -> DateTime | None:
    value = _text(data, key)
    try:
        # pendulum also reads "now", and without ``exact`` makes up the date of a time.
        parsed = pendulum.parse(value, exact=True) if value and value[0].isdigit() else None
        return parsed.in_timezone("UTC") if isinstance(parsed, DateTime) else None
    except (ValueError, OverflowError):
        return None
