"""What a try of a task writes down for later ones: in Airflow's task state store, which is there since 3.3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_apify import compat

if TYPE_CHECKING:
    from airflow.sdk import Context


def epoch(task: Any, context: Context) -> int:
    """Give a number that automatic retries keep, and a clear raises."""
    return max(0, context["ti"].max_tries - (task.retries or 0) + 1)


def read(task: Any, context: Context, key: str) -> dict[str, Any] | None:
    """Give what was written, by whichever try; ``None`` if nothing was, or it cannot be read."""
    store = compat.task_state_store(context)
    try:
        record = store.get(key) if store is not None else None
    except KeyError:
        return None
    except Exception as error:
        task.log.warning("Airflow's task state store could not be read (%s): looking at Apify only.", error)
        return None
    return record if isinstance(record, dict) else None


def write(task: Any, context: Context, key: str, record: dict[str, Any]) -> bool:
    """Write, if that can be done; ``False`` if there is no store."""
    store = compat.task_state_store(context)
    if store is None:
        return False
    try:
        store.set(key, record)
    except Exception as error:
        task.log.warning("Airflow's task state store could not be written (%s): continuing without it.", error)
    return True
