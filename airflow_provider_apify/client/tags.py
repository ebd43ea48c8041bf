"""Moving a tag of an Actor to a build: read, compare, send, read back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from airflow_provider_apify.api import builds, tags
from airflow_provider_apify.api.builds import BUILD, Actor, Build
from airflow_provider_apify.api.endpoints import PAGE_LIMIT, check_job_id
from airflow_provider_apify.api.errors import SERVER, ApiError, first_line
from airflow_provider_apify.api.tags import TagConflict, TagMove
from airflow_provider_apify.client.failures import configuration
from airflow_provider_apify.exceptions import ApifyServerError, ApifyTagConflictError

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_apify.client.client import Client

#: Seconds for which a tag that was moved is looked for on its build, and between two looks.
READ_BACK_LIMIT, READ_BACK_INTERVAL = 15.0, 1.0
#: Most pages of an Actor's builds in which a number is looked for, and most builds that are got since the list does not
#: show their number.
MOST_PAGES, MOST_GETS = 10, 50


def move_tag(
    client: Client,
    log: Logger,
    actor_id: str,
    tag: str,
    *,
    build_id: str | None,
    build_number: str | None,
    expected_build_id: str | None,
    keep_previous_as: str | None,
    moved_before: str | None = None,
    on_moved: Callable[[str], object] = lambda build_id: None,
) -> TagMove:
    """
    Move a tag as ``ApifyHook.tag_build`` says it.

    The request is sent only when the tag was just read where it is expected. So it is harmless to send it again after
    an answer that was lost: each time the tag is read before that.

    :param moved_before: id of the build that the tag was moved to for the same purpose before: not again.
    :param on_moved: called with the build's id as soon as Apify has accepted the move.
    """
    with configuration():
        tag, keep_previous_as = tags.check_tags(tag, keep_previous_as)
        tags.check_which(build_id, build_number)
        if build_id is not None:
            check_job_id(BUILD, build_id)
        tags.check_expected_id(expected_build_id)
    first = client.get_actor(actor_id)
    with configuration():
        build = client.get(BUILD, build_id or _id_of(client, actor_id, first, str(build_number)))
        tags.check_move(first, tag, build)
    before = first.tagged_builds.get(tag)
    wanted = tags.changes(first, tag, build, keep_previous_as)
    try:
        if moved_before == build.id:
            tags.check_not_moved_away(first, tag, build)
        tags.check_expected(first, tag, build, expected_build_id)
        _warn_of_unfinished(client, log, first, tag)
        if wanted:
            _send(client, first, tag, build, wanted)
            on_moved(build.id)
            _read_back(client, first, tag, build, wanted)
    except TagConflict as error:
        raise ApifyTagConflictError(str(error)) from None
    if wanted:
        kept = f", and {keep_previous_as!r} on {tags.words(before)}" if keep_previous_as in wanted else ""
        log.info("The tag %r of Actor %s is on build %s now%s.", tag, actor_id, build, kept)
    else:
        before = first.tagged_builds.get(keep_previous_as) if keep_previous_as else None
        log.info("The tag %r of Actor %s is on build %s already: nothing was sent.", tag, actor_id, build)
    return TagMove(
        actor_id=first.id,
        tag=tag,
        build_id=build.id,
        build_number=build.build_number,
        previous_build_id=before.build_id if before else None,
        previous_build_number=before.build_number if before else None,
        moved=bool(wanted),
        console_url=build.console_url,
    )


def _send(client: Client, first: Actor, tag: str, build: Build, wanted: Mapping[str, str]) -> None:
    """Send the request until it has been answered, or its work is seen."""
    put = tags.set_tags(first.id, wanted)
    failures = 0
    while True:
        now = client.get_actor(first.id)
        tags.check_unmoved(first, now, tag, build)
        if tags.is_done(now, wanted):
            return
        try:
            client.call(put, Actor.from_api, attempts=1)
            return
        except ApiError as error:
            failures += 1
            client.pause_after(error, failures, put)


def _read_back(client: Client, first: Actor, tag: str, build: Build, wanted: Mapping[str, str]) -> None:
    """Wait until Apify shows what was changed. Until then, an answer may come from where it is not known yet."""
    ends = time.monotonic() + READ_BACK_LIMIT
    while not tags.is_done(now := client.get_actor(first.id), wanted):
        if time.monotonic() >= ends:
            tags.check_unmoved(first, now, tag, build)
            raise ApifyServerError(
                f"Apify has accepted to move the tag {tag!r} of Actor {first.name or first.id} to build {build}, and"
                f" does not show that after {READ_BACK_LIMIT:.0f} s.\nA retry looks again.",
                SERVER,
            )
        time.sleep(READ_BACK_INTERVAL)


def _id_of(client: Client, actor_id: str, actor: Actor, number: str) -> str:
    """
    Find a build by its number, newest first.

    :raises ValueError: the Actor has no such build.
    """
    for holder in actor.tagged_builds.values():
        if holder.build_number == number:
            return holder.build_id
    gets = 0
    for page in range(MOST_PAGES):
        listed = client.list_jobs(BUILD, builds.collection(actor_id), offset=page * PAGE_LIMIT)
        for build in listed:
            if build.build_number is None and gets < MOST_GETS:
                gets += 1
                build = client.get(BUILD, build.id)
            if build.build_number == number:
                return build.id
        if len(listed) < PAGE_LIMIT:
            break
    raise ValueError(f"Actor {actor_id} has no build {number}, or Apify has deleted it: check build_number")


def _warn_of_unfinished(client: Client, log: Logger, actor: Actor, tag: str) -> None:
    """Warn of builds that may take the tag when they end. No trouble here keeps it from being moved."""
    try:
        listed = client.list_jobs(BUILD, builds.collection(actor.id), attempts=2)
        unfinished = [build for build in listed if not build.is_terminal][:MOST_GETS]
        known = [build if build.build_number else client.get(BUILD, build.id, attempts=2) for build in unfinished]
    except ApiError as error:
        log.warning("The unfinished builds of Actor %s are not known: %s", actor.name, first_line(error))
        return
    for build in tags.will_take(actor, tag, known):
        log.warning(
            "Build %s of Actor %s is %s, and the build tag of its version is %r: unless it was started with another"
            " tag, it takes this one when it succeeds.\nSee %s",
            build,
            actor.name,
            build.status,
            tag,
            build.console_url,
        )
