"""What a task shows of its build, the same for operator and sensor and on every way of waiting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Asset, AssetAlias

from airflow_provider_apify import exceptions, metrics
from airflow_provider_apify.api.model import TERMINAL, ActorJobStatus
from airflow_provider_apify.links.build import ApifyBuildLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

    from airflow_provider_apify.api.model import Build
    from airflow_provider_apify.hooks.apify import ApifyHook

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
) -> None:
    """
    Pass on how a build ended: XComs, log, asset events.

    :raises ApifyBuildFailed: as ``failure``, if the build did not succeed; with the last lines of its log.
    """
    # Again, for a build that could not be seen before it ended.
    announce(task, context, summary)
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
    ended = f"Build {build} of Actor {summary.get('actor_id')} {summary['status']}"
    if summary.get("duration_seconds") is not None:
        ended += f" after {summary['duration_seconds']:.1f} s"
    facts = [ended]
    if isinstance(stats.get("computeUnits"), (int, float)):
        facts.append(f"using {stats['computeUnits']:.4g} compute units")
    if summary.get("usage_total_usd") is not None:
        facts.append(f"at {summary['usage_total_usd']:.4g} USD")
    return ", ".join(facts) + "."


def _fill_asset_events(task: BaseOperator, context: Context, summary: dict[str, Any]) -> None:
    for outlet in task.outlets:
        if isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra = dict(summary)
        elif isinstance(outlet, AssetAlias):
            # An alias says nothing by itself: the event belongs to the Actor.
            asset = Asset(f"apify://actors/{summary.get('actor_id')}")
            context["outlet_events"][outlet].add(asset, extra=dict(summary))
