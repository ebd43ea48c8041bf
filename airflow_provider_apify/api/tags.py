"""Tags of an Actor: which build one may move to, what the move changes, and who may take the tag afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from airflow_provider_apify.api.builds import BUILD, LATEST, Actor, Build, TaggedBuild, check_tag, version_of
from airflow_provider_apify.api.endpoints import Request, actor_path, check_job_id
from airflow_provider_apify.api.runs import is_build_number


@dataclass(frozen=True)
class TagMove:
    """A tag that is on the build that it was to be moved to."""

    #: The Actor's id.
    actor_id: str
    tag: str
    build_id: str
    build_number: str | None
    #: The build that had the tag before. If the tag was on its build already, the one that was kept by the move then.
    previous_build_id: str | None
    previous_build_number: str | None
    #: Whether anything was changed; not if the tag was on the build already.
    moved: bool
    #: The build's page in Apify Console.
    console_url: str | None = None


class TagConflict(Exception):
    """Somebody else has moved the tag; the message says where it is."""


def set_tags(actor_id: object, builds: Mapping[str, str]) -> Request:
    """
    Put tags on builds, all at once; other tags and fields stay (https://docs.apify.com/api/v2/actor-put).

    :param builds: the id of a build by tag.
    :raises ValueError: ``actor_id`` is none.
    """
    body = {"taggedBuilds": {tag: {"buildId": build_id} for tag, build_id in builds.items()}}
    return Request("PUT", actor_path(actor_id), body=json.dumps(body).encode(), content_type="application/json")


def check_tags(tag: object, keep_previous_as: object) -> tuple[str, str | None]:
    """
    Give both back.

    :raises ValueError: one is no tag, or both are the same; the message says so.
    """
    checked = check_tag(tag)
    if checked is None:
        raise ValueError("tag must be a non-empty string such as 'latest'; got None")
    if keep_previous_as is not None and (not isinstance(keep_previous_as, str) or not keep_previous_as.strip()):
        raise ValueError(f"keep_previous_as must be a tag such as 'previous', or None; got {keep_previous_as!r}")
    if keep_previous_as == checked:
        raise ValueError(f"keep_previous_as must be another tag than tag; both are {checked!r}")
    return checked, keep_previous_as


def check_which(build_id: object, build_number: object) -> None:
    """
    Check that a build is named in one way.

    :raises ValueError: in none, in two, or by something that is no number; the message says so.
    """
    if (build_id is None) == (build_number is None):
        raise ValueError(
            "build_id and build_number: give one of them, and not both; got"
            f" build_id={build_id!r}, build_number={build_number!r}"
        )
    if build_number is not None and not (isinstance(build_number, str) and is_build_number(build_number)):
        raise ValueError(f"build_number must be a build's number such as '0.1.5'; got {build_number!r}")


def check_expected_id(expected_build_id: object) -> None:
    """
    Check that a build is named by its id.

    :raises ValueError: it is not; the message says so.
    """
    if expected_build_id is None:
        return
    if isinstance(expected_build_id, str) and is_build_number(expected_build_id):
        raise ValueError(f"expected_build_id must be the id of a build, not its number; got {expected_build_id!r}")
    check_job_id(BUILD, expected_build_id)


def check_move(actor: Actor, tag: str, build: Build) -> None:
    """
    Check that ``tag`` may be put on ``build``, and that this changes what runs use.

    :raises ValueError: it may not; the message says why.
    """
    name = actor.name or actor.id
    if build.act_id != actor.id:
        raise ValueError(f"Build {build} is of another Actor ({build.act_id}), not of {name} ({actor.id})")
    if not build.is_succeeded:
        raise ValueError(f"Build {build} of Actor {name} is {build.status}: a tag goes to a build that has SUCCEEDED")
    if tag == LATEST and is_build_number(actor.default_build):
        raise ValueError(
            f"Actor {name} runs build {actor.default_build} by default, whatever has the tag {tag!r}: moving the tag"
            " would release nothing.\nSet its default build to 'latest' in Apify Console, or move another tag"
        )


def check_not_moved_away(actor: Actor, tag: str, build: Build) -> None:
    """
    Check that ``tag``, which was moved to ``build``, is still there.

    :raises TagConflict: somebody else has moved it since.
    """
    holder = actor.tagged_builds.get(tag)
    if _id(holder) != build.id:
        raise TagConflict(
            f"This task has moved the tag {tag!r} of Actor {actor.name or actor.id} to build {build} in an earlier try,"
            f" and somebody else has moved it to {words(holder)} since: a retry does not undo that.\nTo release this"
            " build all the same, clear the task."
        )


def check_expected(actor: Actor, tag: str, build: Build, expected_build_id: str | None) -> None:
    """
    Check that ``tag`` is where it is expected, or on ``build`` already. ``None``: nothing is expected.

    :raises TagConflict: it is on another build, or on none.
    """
    holder = actor.tagged_builds.get(tag)
    if expected_build_id is None or _id(holder) in (expected_build_id, build.id):
        return
    raise TagConflict(
        f"The tag {tag!r} of Actor {actor.name or actor.id} is on {words(holder)}, and expected_build_id is"
        f" {expected_build_id}: it was not moved to build {build}.\nSomebody else has moved it meanwhile. To release"
        " this build all the same, clear the task that gives expected_build_id, too."
    )


def check_unmoved(first: Actor, now: Actor, tag: str, build: Build) -> None:
    """
    Check that ``tag`` still is where it was read ``first``, or on ``build`` already.

    :raises TagConflict: somebody else has moved it.
    """
    before, holder = first.tagged_builds.get(tag), now.tagged_builds.get(tag)
    if _id(holder) not in (_id(before), build.id):
        raise TagConflict(
            f"Somebody else has moved the tag {tag!r} of Actor {now.name or now.id} from {words(before)} to"
            f" {words(holder)} while it was to be moved to build {build}.\nDecide which of these builds is to have it;"
            " if it is this one, clear the task."
        )


def changes(actor: Actor, tag: str, build: Build, keep_previous_as: str | None) -> dict[str, str]:
    """Give the ids of builds by tag that a move sets: the tag's, and the other tag's that keeps the build before."""
    before = _id(actor.tagged_builds.get(tag))
    if before == build.id:
        return {}
    return {tag: build.id, **({keep_previous_as: before} if keep_previous_as and before else {})}


def is_done(actor: Actor, wanted: Mapping[str, str]) -> bool:
    """Whether each tag is on the build that it is wanted on."""
    return all(_id(actor.tagged_builds.get(tag)) == build_id for tag, build_id in wanted.items())


def will_take(actor: Actor, tag: str, builds: Iterable[Build]) -> list[Build]:
    """
    Give the unfinished builds that may take ``tag`` when they succeed: those of versions with this build tag.

    A build may have been started with a tag of its own instead, which Apify does not show.
    """
    tagged = {version.version_number for version in actor.versions if version.build_tag == tag}
    return [build for build in builds if not build.is_terminal and version_of(build.build_number) in tagged]


def words(holder: TaggedBuild | None) -> str:
    """Name a build that has a tag."""
    if holder is None:
        return "no build"
    return f"build {holder.build_number} ({holder.build_id})" if holder.build_number else f"build {holder.build_id}"


def _id(holder: TaggedBuild | None) -> str | None:
    return holder.build_id if holder else None
