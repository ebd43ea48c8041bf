"""What a task shows of its build, the same for operator and sensor and on every way of waiting."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Asset, AssetAlias

from airflow_provider_apify import exceptions, metrics
from airflow_provider_apify.api.model import TERMINAL, ActorJobStatus
from airflow_provider_apify.links.build import ApifyBuildLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

    from airflow_provider_apify.api.model import Actor, Build, TaggedBuild
    from airflow_provider_apify.hooks.apify import ApifyHook
    from airflow_provider_apify.jobs.wait import Limits

#: Seconds for which a task waits for the tag to be on its build, and between two looks.
TAG_LIMIT, TAG_INTERVAL = 15.0, 1.0
#: Lines of a failed build's log that go into the exception and the task's log.
LOG_TAIL_LINES = 20


def announce(task: BaseOperator, context: Context, summary: Mapping[str, Any]) -> None:
    """Pass on and link to a build as soon as it is known."""
    ti = context["ti"]
    if task.do_xcom_push:
        for key in ("build_id", "build_number", "actor_id"):
            ti.xcom_push(key, summary.get(key))
    url = summary.get("console_url")
    task.console_url = url
    # Airflow asks for the link when the task leaves the worker; this shows it while it waits there, too.
    ti.xcom_push(ApifyBuildLink().xcom_key, url or "")


def say_status(task: BaseOperator, build: Build) -> None:
    task.log.info("Build %s is %s.", build.build_number or build.id, build.status)


def finish(
    task: BaseOperator,
    context: Context,
    hook: ApifyHook,
    summary: dict[str, Any],
    *,
    failure: type[exceptions.ApifyBuildFailed],
    limits: Limits,
    tag: str | None = None,
    await_tag: bool = False,
) -> None:
    """
    Pass on how a build ended: XComs, log, asset events.

    :param limits: of the try.
    :param tag: that the build was to get; ``None``: its version's.
    :param await_tag: wait some seconds for Apify to move the tag to the build, once that has succeeded.
    :raises ApifyBuildFailed: as ``failure``, if the build did not succeed; with the last lines of its log.
    """
    # Again, for a build that could not be seen before it ended.
    announce(task, context, summary)
    _add_actor(task, hook, summary, limits, tag, await_tag)
    if task.do_xcom_push:
        context["ti"].xcom_push("summary", summary)
        context["ti"].xcom_push("stats", summary.get("stats"))
    if summary["status"] != ActorJobStatus.SUCCEEDED.value:
        if summary["status"] != ActorJobStatus.ABORTED.value:
            metrics.count("failed", context["ti"], summary.get("actor_id"), status=summary["status"])
        raise _failed(task, hook, summary, failure)
    task.log.info("%s", _in_words(summary))
    _fill_asset_events(task, context, summary)


def ended(event: Mapping[str, Any] | None, build_id: str | None = None) -> dict[str, Any]:
    """
    Read a trigger's event and give the summary of the build that ended.

    :param build_id: the build that the event must be about, if known.
    :raises ApifyException: the one that the trigger met, such as :class:`ApifyBuildTimeout` at the deadline; or the
        event cannot be read.
    """
    status = event.get("status") if isinstance(event, Mapping) else None
    if event and status == "error":
        raise exceptions.from_event(event)
    summary = event.get("build") if event and status == "ended" else None
    if (
        not isinstance(summary, Mapping)
        or str(summary.get("status")) not in TERMINAL
        or not isinstance(summary.get("build_id"), str)
        or build_id not in (None, summary["build_id"])
    ):
        raise exceptions.ApifyException(
            f"The trigger's event cannot be read: {str(event)[:200]!r}. Do worker and triggerer run the same release of"
            " airflow-provider-apify?"
        )
    return dict(summary)


def _add_actor(
    task: BaseOperator, hook: ApifyHook, summary: dict[str, Any], limits: Limits, tag: str | None, await_tag: bool
) -> None:
    """
    Add to ``summary`` what only the Actor shows: its name, and whether the tag is on the build.

    Apify moves a tag some seconds after the build has succeeded. No trouble here fails the task.
    """
    build, actor_id = summary.get("build_number") or summary["build_id"], summary.get("actor_id")
    summary |= {"actor_name": None, "tag": tag, "tag_seen": None}
    left = limits.left(time.time())
    # A second before Airflow's own time-out, which would fail the task.
    seconds = TAG_LIMIT if left is None else min(TAG_LIMIT, left - 1)
    ends = time.monotonic() + seconds
    if not actor_id or seconds < 1:
        return
    asking: ApifyHook | None = None
    try:
        while True:
            try:
                # An answer that trickles may take four times as long.
                asking = asking or hook.quick(timeout=seconds / 5)
                actor = asking.get_actor(actor_id, attempts=1)
            except Exception as error:
                if await_tag and getattr(error, "transient", False) and time.monotonic() < ends:
                    time.sleep(TAG_INTERVAL)
                    continue
                task.log.warning("Actor %s could not be read, its name and tags are not known: %s", actor_id, error)
                return
            tag = tag or _build_tag(actor, summary)
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


def _build_tag(actor: Actor, summary: Mapping[str, Any]) -> str | None:
    """Give the build tag of the version that a build is of."""
    version = str(summary.get("build_number")).rpartition(".")[0]
    return next((each.build_tag for each in actor.versions if each.version_number == version), None)


def _ended_later(holder: TaggedBuild, summary: Mapping[str, Any]) -> bool:
    finished_at = summary.get("finished_at")
    return bool(holder.finished_at and finished_at and holder.finished_at > datetime.fromisoformat(finished_at))


def _failed(
    task: BaseOperator, hook: ApifyHook, summary: dict[str, Any], failure: type[exceptions.ApifyBuildFailed]
) -> exceptions.ApifyBuildFailed:
    try:
        tail = hook.get_build_log(summary["build_id"], tail_lines=LOG_TAIL_LINES, attempts=3)
    except Exception as error:
        tail = f"(The log could not be read: {error})"
    # On lines of their own: the UI cuts long ones.
    message = f"{_in_words(summary)}\nSee {summary.get('console_url')}\nThe end of its log:\n{tail}"
    return failure(message, summary=summary, log_tail=tail)


def _in_words(summary: Mapping[str, Any]) -> str:
    stats = summary.get("stats") or {}
    build = summary.get("build_number") or summary["build_id"]
    name, actor_id = summary.get("actor_name"), summary.get("actor_id")
    ended = f"Build {build} of Actor {f'{name} ({actor_id})' if name else actor_id} {summary['status']}"
    if summary.get("duration_seconds") is not None:
        ended += f" after {summary['duration_seconds']:.1f} s"
    facts = [ended]
    if isinstance(stats.get("computeUnits"), (int, float)):
        facts.append(f"using {stats['computeUnits']:.4g} compute units")
    if summary.get("usage_total_usd") is not None:
        facts.append(f"at {summary['usage_total_usd']:.4g} USD")
    words = ", ".join(facts) + "."
    return f"{words} The tag {summary['tag']!r} is on it." if summary.get("tag_seen") else words


def _fill_asset_events(task: BaseOperator, context: Context, summary: dict[str, Any]) -> None:
    for outlet in task.outlets:
        if isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra = dict(summary)
        elif isinstance(outlet, AssetAlias):
            # An alias says nothing by itself: the event belongs to the Actor.
            asset = Asset(f"apify://actors/{summary.get('actor_id')}")
            context["outlet_events"][outlet].add(asset, extra=dict(summary))
