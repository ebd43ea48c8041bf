"""Builds of Actors: what they are, how one is started, which version to build when none is named."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pendulum import DateTime

from airflow_provider_apify.api import fields
from airflow_provider_apify.api.endpoints import Start, actor_path, check_wait, is_unicode, parameters
from airflow_provider_apify.api.job import Job, JobKind

#: The tag that runs take when none is named.
LATEST = "latest"
#: What an unfinished build takes of the account's memory, in MB.
MEMORY_MBYTES = 4096.0

_VERSION = r"([0-9]|[1-9][0-9])\.([0-9]|[1-9][0-9])"


class Build(Job):
    """A build of an Actor (API reference, schemas ``Build`` and ``BuildShort``)."""

    noun = "build"

    @classmethod
    def called(cls, job_id: str, build_number: str | None) -> str:
        return build_number or job_id

    def __str__(self) -> str:
        """Number and id."""
        return f"{self.build_number or '(no number)'} ({self.id})"

    @classmethod
    def _page(cls, data: Mapping[str, Any], base: str) -> str | None:
        act_id, number = fields.text(data, "actId"), fields.text(data, "buildNumber")
        if not act_id:
            return None
        # The Console addresses builds by number.
        actor = f"{base}/actors/{act_id}"
        return f"{actor}#/builds/{number}" if number else actor


BUILD = JobKind("/v2/actor-builds", Build)


def collection(actor_id: object) -> str:
    """
    Give the path of an Actor's builds (https://docs.apify.com/api/v2/actors-builds-get).

    :raises ValueError: ``actor_id`` is none.
    """
    return f"{actor_path(actor_id)}/builds"


def start_build(
    actor_id: object,
    *,
    version: object,
    tag: object = None,
    use_cache: bool | None = None,
    beta_packages: bool | None = None,
    wait_for_finish: object = None,
) -> Start[Build]:
    """
    Build an Actor (https://docs.apify.com/api/v2/actors-builds-post). ``None`` leaves a parameter to Apify's default.

    :raises ValueError: an argument cannot be what it is said to be; the message names it.
    """
    query = parameters(
        version=check_version(version),
        tag=check_tag(tag),
        useCache=use_cache,
        betaPackages=beta_packages,
        waitForFinish=check_wait(wait_for_finish),
    )
    return Start(BUILD, collection(actor_id), query)


def check_version(version: object) -> str:
    """Give ``version`` back, or raise a ``ValueError`` that says why it is none."""
    if not isinstance(version, str):
        raise ValueError(
            f"version must be a string such as '0.1', got {version!r} ({type(version).__name__}): as a number 0.10 and"
            " 0.1 are the same, as Actor versions they differ. Quote it; with native rendering, quote a template twice:"
            " version=\"'{{ params.version }}'\""
        )
    if not re.fullmatch(_VERSION, version):
        raise ValueError(f"version must be MAJOR.MINOR, each 0 to 99, such as '0.1'; got {version!r}")
    return version


def check_tag(tag: object) -> str | None:
    """Give ``tag`` back, or raise a ``ValueError`` that says why it is none."""
    if tag is None:
        return None
    if not isinstance(tag, str) or not tag.strip() or not is_unicode(tag):
        raise ValueError(f"tag must be a non-empty string such as 'latest', or left out; got {tag!r}")
    return tag


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
    #: Tag or number of the build that runs take when they name none.
    default_build: str | None = None

    @classmethod
    def from_api(cls, data: object) -> Actor:
        """
        Parse an Actor as Apify sends it.

        :raises ValueError: it is not an object with an ``id``.
        """
        if not isinstance(data, Mapping) or not (actor_id := fields.text(data, "id")):
            raise ValueError("expected an Actor, got something without an id")
        versions = data.get("versions")
        return cls(
            id=actor_id,
            name=fields.text(data, "name"),
            username=fields.text(data, "username"),
            versions=tuple(
                ActorVersion(number, fields.text(item, "buildTag"))
                for item in (versions if isinstance(versions, list) else [])
                if isinstance(item, Mapping) and (number := fields.text(item, "versionNumber"))
            ),
            tagged_builds={
                tag: TaggedBuild(build_id, fields.text(item, "buildNumber"), fields.time(item, "finishedAt"))
                for tag, item in (fields.mapping(data, "taggedBuilds") or {}).items()
                if isinstance(item, Mapping) and (build_id := fields.text(item, "buildId"))
            },
            default_build=fields.text(fields.mapping(data, "defaultRunOptions") or {}, "build"),
        )


def version_of(build_number: str | None) -> str | None:
    """Give the version that the build with this number is of; ``None`` where the number is not known."""
    return build_number.rpartition(".")[0] if build_number else None


def version_to_build(actor: Actor, tag: str | None) -> tuple[str, str]:
    """
    Choose a version, and say why it is this one.

    It is the only version; else the one whose build tag is ``latest``; else the only one without a build tag. It does
    not depend on ``tag``, which says what the build is called.

    :param tag: the tag that the build is to get, or ``None`` for the version's own.
    :return: the version's number, and the reason.
    :raises ValueError: there is no such version, or ``tag`` is the build tag of another one, which would then be on a
        build of the wrong source; the message lists the versions.
    """
    name = actor.name or actor.id
    if not actor.versions:
        raise ValueError(f"Actor {name} has no version to build: create one in Apify Console or with apify push")
    chosen, reason = _choose(actor.versions)
    if chosen is None:
        raise ValueError(f"Actor {name} has several versions: {_listed(actor.versions)}. Name one with version=")
    others = [version for version in actor.versions if version.build_tag == tag]
    if tag and others and chosen not in others:
        raise ValueError(
            f"Actor {name}: version {chosen.version_number!r} would be built ({reason}), but the tag {tag!r} belongs to"
            f" another version: {_listed(others)}. Name one with version="
        )
    return chosen.version_number, reason


def _choose(versions: Sequence[ActorVersion]) -> tuple[ActorVersion | None, str]:
    if len(versions) == 1:
        return versions[0], "it is the only version"
    latest = [version for version in versions if version.build_tag == LATEST]
    if latest:
        return (latest[0] if len(latest) == 1 else None), "its build tag is latest"
    untagged = [version for version in versions if not version.build_tag]
    return (untagged[0] if len(untagged) == 1 else None), "no other version is without a build tag"


def _listed(versions: Sequence[ActorVersion]) -> str:
    return ", ".join(f"{item.version_number!r} (build tag {item.build_tag or 'none'})" for item in versions)


def is_reusable(build: Build, version: str, *, since: float) -> bool:
    """Whether a build has succeeded, is of ``version``, and began after ``since``: epoch seconds by Apify's clock."""
    return (
        build.is_succeeded
        and version_of(build.build_number) == version
        and build.started_at is not None
        and build.started_at.timestamp() > since
    )


def build_tag(actor: Actor, version: str | None) -> str | None:
    """Give the build tag of a version."""
    return next((each.build_tag for each in actor.versions if each.version_number == version), None)
