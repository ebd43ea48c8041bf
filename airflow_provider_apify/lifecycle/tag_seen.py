"""The Actor's name, and whether the tag of a build is on it: what a build's own answer does not say."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_apify.api.builds import TaggedBuild, build_tag, version_of
from airflow_provider_apify.api.errors import first_line
from airflow_provider_apify.api.job import ActorJobStatus

if TYPE_CHECKING:
    from airflow_provider_apify.client.client import Client
    from airflow_provider_apify.jobs.wait import Limits

#: Seconds for which a task waits for the tag to be on its build, and between two looks.
TAG_LIMIT, TAG_INTERVAL = 15.0, 1.0


def add_actor(
    task: Any, client: Client, summary: dict[str, Any], limits: Limits, tag: str | None, await_tag: bool
) -> None:
    """
    Add to ``summary`` what only the Actor shows: its name, and whether the tag is on the build.

    Apify moves a tag some seconds after the build has succeeded. No trouble here fails the task.

    :param limits: of the try.
    :param tag: that the build was to get; ``None``: its version's.
    :param await_tag: wait some seconds for Apify to move the tag to the build, once that has succeeded.
    """
    build, actor_id = summary.get("build_number") or summary["build_id"], summary.get("actor_id")
    summary |= {"actor_name": None, "tag": tag, "tag_seen": None}
    left = limits.left(time.time())
    # A second before Airflow's own time-out, which would fail the task.
    seconds = TAG_LIMIT if left is None else min(TAG_LIMIT, left - 1)
    ends = time.monotonic() + seconds
    if not actor_id or seconds < 1:
        return
    asking: Client | None = None
    try:
        while True:
            try:
                # An answer that trickles may take four times as long.
                asking = asking or client.impatient(timeout=seconds / 5)
                actor = asking.get_actor(actor_id, attempts=1)
            except Exception as error:
                if await_tag and getattr(error, "transient", False) and time.monotonic() < ends:
                    time.sleep(TAG_INTERVAL)
                    continue
                task.log.warning("Actor %s could not be read, its name and tags are not known: %s", actor_id, error)
                return
            tag = tag or build_tag(actor, version_of(summary.get("build_number")))
            summary |= {"actor_name": actor.name, "tag": tag}
            if not (await_tag and tag) or summary["status"] != ActorJobStatus.SUCCEEDED.value:
                return
            holder = actor.tagged_builds.get(tag)
            if holder and holder.build_id == summary["build_id"]:
                summary["tag_seen"] = True
                return
            if holder and _ended_later(holder, summary):
                task.log.warning(
                    "The tag %r of Actor %s is on build %s, which ended later than build %s.",
                    tag,
                    actor.name,
                    holder.build_number or holder.build_id,
                    build,
                )
                break
            if time.monotonic() >= ends:
                task.log.warning(
                    "The tag %r of Actor %s is not on build %s yet: what uses the tag now may get another build.\nWhere"
                    " that matters, name the build by its number.",
                    tag,
                    actor.name,
                    build,
                )
                break
            time.sleep(TAG_INTERVAL)
        summary["tag_seen"] = False
    finally:
        if asking:
            asking.close()


def add_actor_name(task: Any, client: Client, summary: dict[str, Any]) -> None:
    """Add to the ``summary`` of a run its Actor's name. No trouble here fails the task."""
    actor_id = summary.get("actor_id")
    summary["actor_name"] = None
    if not actor_id:
        return
    asking = client.impatient()
    try:
        summary["actor_name"] = asking.get_actor(actor_id, attempts=2).name
    except Exception as error:
        task.log.warning("Actor %s could not be read, its name is not known: %s", actor_id, first_line(error))
    finally:
        asking.close()


def _ended_later(holder: TaggedBuild, summary: Mapping[str, Any]) -> bool:
    finished_at = summary.get("finished_at")
    return bool(holder.finished_at and finished_at and holder.finished_at > datetime.fromisoformat(finished_at))
