"""What a task shows of its job, the same for operators and sensors and on every way of waiting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Asset, AssetAlias

from airflow_provider_apify import metrics
from airflow_provider_apify.api.job import ActorJobStatus
from airflow_provider_apify.lifecycle.job_log import LOG_TAIL_LINES, show_tail
from airflow_provider_apify.links.console import ApifyConsoleLink

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_apify.api.job import Job, JobKind
    from airflow_provider_apify.client.client import Client
    from airflow_provider_apify.exceptions import ApifyJobFailed


def announce(task: Any, context: Context, summary: Mapping[str, Any]) -> None:
    """Pass on and link to a job as soon as it is known."""
    ti = context["ti"]
    if task.do_xcom_push:
        for key in (f"{task.job_kind.name}_id", *task.job_kind.job.announced):
            ti.xcom_push(key, summary.get(key))
    url = summary.get("console_url")
    task.console_url = url
    task.known_job = summary
    # Airflow asks for the link when the task leaves the worker; this shows it while it waits there, too.
    ti.xcom_push(ApifyConsoleLink().xcom_key, url or "")


def finish(task: Any, context: Context, client: Client, summary: dict[str, Any]) -> None:
    """
    Pass on how a job ended: XComs, log, asset events.

    :raises ApifyJobFailed: as the task's ``failure``, if the job did not succeed; with the last lines of its log. Or
        what ``task.check_result`` raises.
    """
    if task.do_xcom_push:
        context["ti"].xcom_push("summary", summary)
        context["ti"].xcom_push("stats", summary.get("stats"))
    if summary["status"] != ActorJobStatus.SUCCEEDED.value:
        if summary["status"] != ActorJobStatus.ABORTED.value:
            metrics.count(task.job_kind, "failed", context["ti"], summary.get("actor_id"), status=summary["status"])
        raise _failed(task, client, summary)
    show_tail(task, client, summary)
    task.check_result(client, summary)
    task.log.info("%s", line_of_end(task.job_kind, summary))
    fill_asset_events(task, context, summary)


def _failed(task: Any, client: Client, summary: dict[str, Any]) -> ApifyJobFailed:
    kind: JobKind[Job] = task.job_kind
    failure: type[ApifyJobFailed] = task.failure
    try:
        tail = client.log_tail(kind, summary[f"{kind.name}_id"], lines=LOG_TAIL_LINES, attempts=3)
    except Exception as error:
        tail = f"(The log could not be read: {error})"
    # On lines of their own: the UI cuts long ones.
    lines = [line_of_end(kind, summary)]
    if summary.get("status_message"):
        lines.append(f"Its status message: {summary['status_message']}")
    lines += [f"See {summary.get('console_url')}", "The end of its log:", tail]
    return failure("\n".join(lines), summary=summary, log_tail=tail)


def line_of_end(kind: JobKind[Job], summary: Mapping[str, Any]) -> str:
    """Say in one line how a job ended."""
    stats = summary.get("stats") or {}
    job = kind.job.called(summary[f"{kind.name}_id"], summary.get("build_number"))
    name, actor_id = summary.get("actor_name"), summary.get("actor_id")
    actor = f"{name} ({actor_id})" if name else actor_id
    ended = f"{kind.title} {job} of Actor {actor} {summary['status']}"
    if summary.get("duration_seconds") is not None:
        ended += f" after {summary['duration_seconds']:.1f} s"
    facts = [ended]
    if summary.get("exit_code"):
        facts.append(f"with exit code {summary['exit_code']}")
    if isinstance(stats.get("computeUnits"), (int, float)):
        facts.append(f"using {stats['computeUnits']:.4g} compute units")
    if summary.get("usage_total_usd") is not None:
        facts.append(f"at {summary['usage_total_usd']:.4g} USD{kind.job.cost_note}")
    words = ", ".join(facts) + "."
    return f"{words} The tag {summary['tag']!r} is on it." if summary.get("tag_seen") else words


def fill_asset_events(task: Any, context: Context, summary: dict[str, Any]) -> None:
    """Give the events of a task's outlets the summary as ``extra``."""
    for outlet in task.outlets:
        if isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra = dict(summary)
        elif isinstance(outlet, AssetAlias):
            # An alias says nothing by itself: the event belongs to the Actor.
            asset = Asset(f"apify://actors/{summary.get('actor_id')}")
            context["outlet_events"][outlet].add(asset, extra=dict(summary))
