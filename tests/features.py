"""What newer Airflows have and older ones lack: tests that rest on it skip by it, docs/versions.md lists it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import pytest
from airflow import providers_manager
from airflow.models import taskinstance
from airflow.sdk.api.datamodels._generated import TIRunContext
from airflow.sdk.execution_time import comms, context, supervisor, task_runner
from airflow.triggers.base import BaseEventTrigger, BaseTrigger


@dataclass(frozen=True)
class Feature:
    """
    Something of Airflow's that the provider uses where it is there.

    :param without: what you lose without it, in Markdown.
    """

    name: str
    there: bool
    without: str

    @property
    def needed(self) -> pytest.MarkDecorator:
        """The mark of a test, or of one of its parameters, that means nothing without it."""
        return pytest.mark.skipif(not self.there, reason=f"this Airflow has no {self.name}")


STORE = Feature(
    "task state store",
    hasattr(comms, "GetTaskStateStore"),
    "A retry finds its build only by the User-Agent that Apify recorded, so no proxy may rewrite it. A clear of a run"
    " that has ended does not know which builds the run's earlier tries left unfinished.",
)
ON_KILL = Feature(
    "`on_kill` of triggers",
    hasattr(BaseTrigger, "on_kill"),
    "Nothing: a trigger that is cancelled asks Airflow for the state of its task. The build of a deferred task that"
    " somebody marks as failed or success, or clears, is still aborted.",
)
FORWARDED_SIGTERM = Feature(
    "SIGTERM forwarded to the task",
    "SIGTERM" in supervisor.ActivitySubprocess.wait.__code__.co_names,
    "A task does not learn that its worker is evicted. The next try continues with the build. If no try is left, the"
    " build runs to its end.",
)
LOCK = Feature(
    "lock on the worker's channel to Airflow",
    hasattr(comms.CommsDecoder, "__attrs_attrs__")
    and any(attribute.name == "_thread_lock" for attribute in comms.CommsDecoder.__attrs_attrs__),  # type: ignore[misc]
    "A task that Airflow ends while it waits in the worker cannot ask why. If a try is left, its build keeps running:"
    " the next try continues with it, or aborts it after a clear. If somebody marked the task as failed or success,"
    " there is no next try, and the build runs to its end. If no try is left, the build is aborted. Deferred tasks are"
    " not affected.",
)
FORM = Feature(
    "declared connection form",
    "conn-fields" in inspect.getsource(providers_manager),
    "The form shows Airflow's own fields under their own names: the token goes into *Password*, the rest as JSON into"
    " *Extra*.",
)
RETRY = Feature(
    "retry of a task whose process was killed",
    "UP_FOR_RETRY" in supervisor.ActivitySubprocess.final_state.fget.__code__.co_names,  # type: ignore[attr-defined]
    "Airflow fails a task at once when its process is killed, whatever its `retries`, and the build runs to its end."
    " Clear the task: this aborts the build and starts another one.",
)
ALIAS = Feature(
    "asset aliases with nested `extra`",
    "frozenset(event" not in inspect.getsource(taskinstance),
    "Airflow fails a task with an `AssetAlias` among its outlets after it has succeeded. Use an `Asset`.",
)
SKIP_LISTENERS = Feature(
    "listeners of skipped tasks",
    "on_task_instance_skipped" in inspect.getsource(task_runner),
    "Airflow does not notify listeners, such as OpenLineage's, of a sensor that skips (`soft_fail`).",
)
START_DATE = Feature(
    "start of a try, known after a deferral",
    "start_date" in TIRunContext.model_fields,
    "When its trigger has crashed, a task waits in the worker for its whole `timeout`, `wait_for_capacity` and"
    " `execution_timeout` again, not for the rest of them.",
)
WATCHERS = Feature(
    "acknowledged events of watchers",
    hasattr(BaseEventTrigger, "create_shared_stream_producer"),
    "`ApifyRunsEventTrigger` and `ApifyBuildsEventTrigger` are refused when the DAG is parsed.",
)
MASKED = Feature(
    "secrets of connections masked in rendered templates",
    hasattr(context, "_mask_connection_secrets"),
    "A password that an input takes from a connection, as by `{{ conn.shop.password }}`, is readable under *Rendered"
    " Templates*. Let the Actor read it from its own environment variables instead.",
)
FEATURES = (STORE, ON_KILL, FORWARDED_SIGTERM, LOCK, FORM, RETRY, ALIAS, SKIP_LISTENERS, START_DATE, WATCHERS, MASKED)
