"""What newer Airflows have and older ones lack: tests that rest on it skip by it, docs/versions.md lists it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import pytest
from airflow import providers_manager
from airflow.models import taskinstance
from airflow.sdk.api.datamodels._generated import TIRunContext
from airflow.sdk.execution_time import comms, supervisor, task_runner
from airflow.triggers.base import BaseTrigger


@dataclass(frozen=True)
class Feature:
    """
    Something of Airflow's that the provider uses where it is there.

    :param without: what to know where it is not, in Markdown.
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
    " that had ended does not know what the run's earlier attempts left unfinished.",
)
ON_KILL = Feature(
    "`on_kill` of triggers",
    hasattr(BaseTrigger, "on_kill"),
    "The trigger itself asks what became of its task when it is cancelled: the build of a deferred task that is marked"
    " or cleared is aborted all the same.",
)
FORWARDED_SIGTERM = Feature(
    "SIGTERM forwarded to the task",
    "SIGTERM" in supervisor.ActivitySubprocess.wait.__code__.co_names,
    "A task hears nothing of the eviction of its worker. The next try goes on with the build, as ever; with none left,"
    " the build runs to its end.",
)
LOCK = Feature(
    "lock on the worker's channel to Airflow",
    hasattr(comms.CommsDecoder, "__attrs_attrs__")
    and any(attribute.name == "_thread_lock" for attribute in comms.CommsDecoder.__attrs_attrs__),
    "A task that is ended while it waits in the worker cannot ask why. With a try left it leaves its build running: the"
    " next attempt goes on with it, or aborts it after a clear, but after a mark there is none. Without one it aborts"
    " the build. Deferred tasks are not concerned.",
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
    "Airflow fails a task whose process is killed at once, whatever its `retries`: nobody goes on with its build, which"
    " runs to its end. Clear the task, and the build is aborted and started anew.",
)
ALIAS = Feature(
    "asset aliases with nested `extra`",
    "frozenset(event" not in inspect.getsource(taskinstance),
    "Airflow fails a task with an `AssetAlias` among its outlets after it has succeeded. Use an `Asset`.",
)
SKIP_LISTENERS = Feature(
    "listeners of skipped tasks",
    "on_task_instance_skipped" in inspect.getsource(task_runner),
    "Listeners, like that of OpenLineage, hear nothing of a sensor that skips (`soft_fail`).",
)
START_DATE = Feature(
    "start of a try, known after a deferral",
    "start_date" in TIRunContext.model_fields,
    "A task whose trigger has crashed waits on in the worker with its whole `timeout` and `execution_timeout` before"
    " it, not with what is left of them.",
)
FEATURES = (STORE, ON_KILL, FORWARDED_SIGTERM, LOCK, FORM, RETRY, ALIAS, SKIP_LISTENERS, START_DATE)
