"""Whether a run that succeeded has found enough: items are counted by reading them, for what Apify counts lags."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_provider_apify.api.errors import NOT_FOUND, ApiError
from airflow_provider_apify.lifecycle.outcome import line_of_end

if TYPE_CHECKING:
    from airflow_provider_apify.client.client import Client
    from airflow_provider_apify.exceptions import ApifyTooFewItems

#: Seconds to the second count: the last items of a run are readable some seconds after its end.
SECOND_COUNT = 6.0


def check_min_items(task: Any, client: Client, summary: dict[str, Any], failure: type[ApifyTooFewItems]) -> None:
    """
    Check that the run's dataset has ``task.min_items`` items.

    :raises ApifyTooFewItems: as ``failure``: it has fewer, also some seconds later.
    """
    wanted, dataset_id = task.min_items, summary.get("dataset_id")
    if wanted is None:
        return
    found = count_found(client, dataset_id, wanted)
    if found < wanted:
        task.log.info("Dataset %s has %d items: counting again in %.0f s.", dataset_id, found, SECOND_COUNT)
        time.sleep(SECOND_COUNT)
        found = count_found(client, dataset_id, wanted)
    if found < wanted:
        raise failure(
            f"{line_of_end(task.job_kind, summary)} But its dataset {dataset_id} has {found} items, fewer than"
            f" min_items={wanted}.\nSee {summary.get('console_url')}",
            summary=summary,
        )


def count_found(client: Client, dataset_id: str | None, most: int) -> int:
    """Count a dataset's items, ``most`` at most; one that is gone has none."""
    from airflow_provider_apify.client.items import count_items

    try:
        return count_items(client, dataset_id, most) if dataset_id else 0
    except ApiError as error:
        if error.kind == NOT_FOUND:
            return 0
        raise
