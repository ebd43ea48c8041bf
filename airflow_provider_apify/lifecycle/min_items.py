"""Whether a run that succeeded has found enough: items are counted by reading them, for what Apify counts lags."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_apify.exceptions import ApifyException
from airflow_provider_apify.lifecycle.outcome import line_of_end

if TYPE_CHECKING:
    from airflow_provider_apify.client.client import Client
    from airflow_provider_apify.exceptions import ApifyTooFewItems


def check_min_items(task: Any, client: Client, summary: dict[str, Any], failure: type[ApifyTooFewItems]) -> None:
    """
    Check that the run's dataset has ``task.min_items`` items.

    :raises ApifyTooFewItems: as ``failure``: it has fewer.
    :raises ApifyApiError: they cannot be counted, such as when the dataset is gone.
    """
    if task.min_items is None:
        return
    found = items_found(client, summary, task.min_items)
    if found < task.min_items:
        raise failure(
            f"{line_of_end(task.job_kind, summary)} But its dataset {summary['dataset_id']} has {found} items, fewer"
            f" than min_items={task.min_items}.\nSee {summary.get('console_url')}\nLower min_items if this is enough. A"
            " retry of the task that starts the run pays for another one.",
            summary=summary,
        )


def items_found(client: Client, summary: dict[str, Any], most: int) -> int:
    """
    Count the items of a run that has ended, ``most`` at most.

    :param summary: the run's.
    """
    from airflow_provider_apify.client.items import count_items, seconds_late

    if not summary.get("dataset_id"):
        raise ApifyException(f"Apify does not show the dataset of run {summary['run_id']}: it cannot be counted.")
    ended = summary.get("finished_at")
    late = seconds_late(client, datetime.fromisoformat(ended) if ended else None)
    return count_items(client, summary["dataset_id"], most, late=late)
