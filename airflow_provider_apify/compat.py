"""
Every touch of Airflow that is private to it or differs between its versions (3.0.6 to 3.3), in one place.

Imports that only moved go through ``airflow.providers.common.compat.sdk`` elsewhere. ``tests/features.py`` lists what
older versions lack.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_apify.jobs.ownership import state_of

try:
    from airflow.sdk.exceptions import TaskDeferralError as TaskDeferralError
    from airflow.sdk.exceptions import TaskDeferralTimeout as TaskDeferralTimeout
except ImportError:  # before Airflow 3.2
    from airflow.exceptions import TaskDeferralError, TaskDeferralTimeout  # type: ignore[no-redef]  # noqa: F401

if TYPE_CHECKING:
    from airflow.sdk import Connection

T = TypeVar("T")


def get_connection(conn_id: str) -> Connection:
    """
    Read an Airflow connection, in a worker.

    :raises AirflowNotFoundException: there is none, or Airflow could not be asked.
    """
    from airflow.providers.common.compat.sdk import BaseHook

    return BaseHook.get_connection(conn_id)


async def off_the_loop(call: Callable[[], T]) -> T:
    """
    Call what talks to Airflow as a worker does, such as :func:`get_connection` and :func:`mask`, on an event loop.

    Airflow 3.0 cannot be talked to from the loop's own thread, and ``aget_connection`` fails under ``dag.test()`` of
    3.3.2: it finds no connection that is in Airflow's database.
    """
    from asgiref.sync import sync_to_async

    return await sync_to_async(call)()


def announce_output(path: Any) -> None:
    """Let whoever collects lineage know that the task has written the file ``path``, an ``ObjectStoragePath``."""
    try:
        from airflow.sdk.lineage import get_hook_lineage_collector
    except ImportError:  # before Airflow 3.2
        from airflow.lineage.hook import (  # type: ignore[import-not-found, no-redef]
            get_hook_lineage_collector,
        )
    get_hook_lineage_collector().add_output_asset(context=path, uri=str(path))


def mask(secrets: Iterable[Any]) -> None:
    """Keep secrets out of logs: Airflow itself masks the field ``proxy`` only since 3.1.6, and variables never."""
    try:
        from airflow.sdk.log import mask_secret
    except ImportError:  # before Airflow 3.1
        from airflow.sdk.execution_time.secrets_masker import mask_secret  # type: ignore[no-redef]
    mask_secret(list(secrets))


def metric_tags(ti: Any) -> dict[str, Any]:
    """Give the tags of a task's metrics. Airflow 3.3 names the team, too."""
    return getattr(ti, "stats_tags", None) or {"dag_id": ti.dag_id, "task_id": ti.task_id}


def task_state_store(context: Any) -> Any:
    """Give the store that lives as long as the task instance and survives a clear; ``None`` before Airflow 3.3."""
    return context.get("task_state_store")


def has_acknowledged_events() -> bool:
    """Whether Airflow says when it has stored the event of a watcher's trigger (3.3)."""
    from airflow.triggers.base import BaseEventTrigger

    return hasattr(BaseEventTrigger, "create_shared_stream_producer")


def asset_state_store(name: str) -> Any:
    """Give the store of an asset, in the triggerer: a trigger of several assets is given none that says whose it is."""
    from airflow.sdk.execution_time.context import AssetStateStoreAccessor

    return AssetStateStoreAccessor(name=name)


def is_tasks_test(ti: Any) -> bool:
    """Whether this is ``airflow tasks test``, which runs a single try, whatever the task's retries."""
    from airflow.sdk.execution_time import task_runner

    comms = getattr(task_runner, "SUPERVISOR_COMMS", None)
    in_one_process = type(comms).__name__ == "InProcessSupervisorComms"
    # Airflow 3.0 sets no variable, but no scheduler has counted the try.
    return in_one_process and ("AIRFLOW_TEST_MODE" in os.environ or ti.try_number < 1)


def ask_state(ti: Any) -> str | None:
    """
    Ask Airflow what became of a running task, from any thread of its worker; ``None``: it was cleared.

    :raises Exception: Airflow could not be asked, as before 3.2.
    """
    from airflow.sdk.execution_time import task_runner

    # Before Airflow 3.2 the channel has no lock: a word on it now could garble what the main thread is sending.
    if not hasattr(task_runner.SUPERVISOR_COMMS, "_thread_lock"):
        raise RuntimeError("the supervisor cannot be asked safely")
    states = ti.get_task_states(dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index)
    return state_of(states, ti.run_id)


async def ask_state_async(ti: Any, *, seconds: float) -> str | None:
    """
    Ask Airflow what became of a deferred task, in the triggerer; ``None``: it was cleared.

    :param seconds: to wait for the answer: the first question ever takes Airflow 3.3.2 some seconds.
    :raises Exception: Airflow could not be asked, or did not answer in time.
    """
    from airflow.sdk.execution_time.comms import GetTaskStates
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    question = GetTaskStates(dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index)
    # Never cancelled: before Airflow 3.2 that would leave the answer for the next who asks something.
    asking = asyncio.ensure_future(SUPERVISOR_COMMS.asend(question))
    await asyncio.wait({asking}, timeout=seconds)
    return state_of(asking.result().task_states, ti.run_id)  # type: ignore[union-attr]


def triggers_are_told_of_kills() -> bool:
    """Whether Airflow calls ``on_kill`` of a trigger (3.3); before, a trigger is merely cancelled."""
    from airflow.triggers.base import BaseTrigger

    return hasattr(BaseTrigger, "on_kill")


def runs_in_its_tasks_process(trigger: Any) -> bool:
    """
    Whether a run inside one process (``airflow dags test``) runs the trigger: no triggerer, no scheduler, and nobody
    comes after it. Airflow gives it no task instance then.
    """
    return trigger.task_instance is None
