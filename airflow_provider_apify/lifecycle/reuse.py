"""A good build that is young enough to be taken in place of a new one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow_provider_apify.api import builds
from airflow_provider_apify.api.builds import BUILD, Build
from airflow_provider_apify.client.failures import configuration
from airflow_provider_apify.exceptions import ApifyNotFoundError

if TYPE_CHECKING:
    from airflow_provider_apify.client.client import Client

#: Most builds that are got since the list does not show of which version they are.
MOST_GETS = 50


def young_build(client: Client, actor_id: str, version: str | None, tag: str | None, seconds: float) -> Build | None:
    """
    Give the last good build of a version, if it began less than ``seconds`` ago, and has the tag of a new one.

    :param version: ``None``: the one that is built without a version.
    :param tag: that a new build would get; ``None``: its version's, and if that has none, no tag counts.
    """
    actor = client.get_actor(actor_id)
    if version is None:
        with configuration():
            version, _ = builds.version_to_build(actor, tag)
    since = time.time() + (client.clock_offset or 0.0) - seconds
    if tag := tag or builds.build_tag(actor, version):
        holder = actor.tagged_builds.get(tag)
        build = _got(client, holder.build_id) if holder else None
    else:
        build = _last_good(client, actor_id, version, since)
    return build if build and builds.is_reusable(build, version, since=since) else None


def _last_good(client: Client, actor_id: str, version: str, since: float) -> Build | None:
    """Give the newest build that has succeeded and is of ``version``, of those that began after ``since``."""
    gets = 0
    for listed in client.list_jobs(BUILD, builds.collection(actor_id)):
        if gets == MOST_GETS or (listed.started_at and listed.started_at.timestamp() <= since):
            return None
        # The list need not show a number, nor anything of what the summary has.
        if listed.is_succeeded and builds.version_of(listed.build_number) in (version, None):
            gets += 1
            build = _got(client, listed.id)
            if build and builds.version_of(build.build_number) == version:
                return build
    return None


def _got(client: Client, build_id: str) -> Build | None:
    """Get a build; ``None`` if it has been deleted meanwhile."""
    try:
        return client.get(BUILD, build_id)
    except ApifyNotFoundError:
        return None
