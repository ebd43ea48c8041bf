"""
Run operators and sensors through Airflow's real task runner, without a database.

A supervisor made here answers the runner, so what comes back are true task states, XComs and links. Deferred tasks go
through their trigger, rescheduled ones run again, as the scheduler and the triggerer would have it.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import pkgutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog
from airflow.providers.common.compat.sdk import timezone  # type: ignore[attr-defined]
from airflow.sdk.api.datamodels._generated import DagRun, TIRunContext
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import (
    ConnectionResult,
    ErrorResponse,
    InactiveAssetsResult,
    TaskRescheduleStartDate,
    TaskStatesResult,
    XComResult,
)
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance, finalize, run

from tests.features import START_DATE

RUN_ID = "scheduled__2026-11-23"

if not structlog.is_configured():  # before Airflow 3.1; by default, what it prints is wrapped and coloured
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[plain])


class Supervisor:
    """Airflow as the task runner sees it: connections, XComs, task state store and the task instance's state."""

    _thread_lock = None  # on_kill looks for it to know that asking is safe

    def __init__(self) -> None:
        self.connections: dict[str, dict[str, Any]] = {}
        self.xcoms: dict[str, Any] = {}
        self.store: dict[str, Any] = {}
        self.has_store = True  # where Airflow has one
        self.state: Any = "running"
        self.sent: list[Any] = []
        self.first_start = timezone.utcnow()

    def send(self, msg: Any) -> Any:
        msg = getattr(msg, "msg", msg)
        self.sent.append(msg)
        match type(msg).__name__:
            case "GetConnection":
                found = self.connections.get(msg.conn_id)
                if found is None:
                    return ErrorResponse(error=ErrorType.CONNECTION_NOT_FOUND)
                blank = dict.fromkeys(("host", "schema", "login", "password", "port", "extra"))
                return ConnectionResult(conn_id=msg.conn_id, **{**blank, "conn_type": "apify", **found})
            case "SetXCom":
                self.xcoms[msg.key] = msg.value
            case "GetXCom":
                return XComResult(key=msg.key, value=self.xcoms.get(msg.key))
            case "SetTaskStateStore":
                self.store[msg.key] = msg.value
            case "GetTaskStateStore":
                from airflow.sdk.execution_time.comms import TaskStateStoreResult

                if msg.key not in self.store:
                    return ErrorResponse(error=ErrorType.TASK_STORE_NOT_FOUND)
                return TaskStateStoreResult(value=self.store[msg.key])
            case "GetTaskStates":
                if isinstance(self.state, Exception):
                    raise self.state
                return TaskStatesResult(task_states={RUN_ID: {msg.task_ids[0]: self.state}})
            case "ValidateInletsAndOutlets":
                return InactiveAssetsResult()
            case "GetTaskRescheduleStartDate":
                return TaskRescheduleStartDate(start_date=self.first_start)
        return None

    async def asend(self, msg: Any) -> Any:
        return self.send(msg)


@dataclass
class Outcome:
    """How a run of a task went."""

    state: str
    error: BaseException | None
    message: Any
    xcoms: dict[str, Any]
    #: The trigger that a deferred task waits for, as it would be restored from the database.
    trigger: Any = None
    events: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Runner:
    """Runs one task instance, try after try."""

    supervisor: Supervisor
    try_number: int = 1
    max_tries: int | None = None
    map_index: int = -1
    run_started: dt.datetime = field(default_factory=timezone.utcnow)
    reschedules: int = 0

    def run(self, task: Any, **resume: Any) -> Outcome:
        """Run one stretch of a try, until it ends, defers or reschedules."""
        if not resume and not self.reschedules:
            self.supervisor.xcoms.clear()
            self.supervisor.first_start = timezone.utcnow()
        ti = self.task_instance(task, **resume)
        context = ti.get_template_context()
        if not self.supervisor.has_store:
            context.pop("task_state_store", None)
        log = structlog.get_logger("task")
        state, message, error = run(ti, context, log)
        context["exception"] = error
        finalize(ti, state, context, log, error)
        outcome = Outcome(str(getattr(state, "value", state)), error, message, dict(self.supervisor.xcoms))
        if outcome.state == "deferred":
            outcome.trigger = restored(message)
        return outcome

    def run_to_end(self, task: Callable[[], Any]) -> Outcome:
        """Run one try to its end; ``task`` makes the task anew for each stretch, as a new process would."""
        outcome, events = self.run(task()), []
        while outcome.state in ("deferred", "up_for_reschedule"):
            if outcome.state == "deferred":
                events.append(asyncio.run(fire(outcome.trigger)))
                outcome = self.resume(task(), outcome, events[-1])
                outcome.events = list(events)
            else:
                self.reschedules += 1
                outcome = self.run(task())
        return outcome

    def resume(self, task: Any, deferred: Outcome, event: dict[str, Any]) -> Outcome:
        """Continue a task that was deferred, with its trigger's event."""
        kwargs = unwrapped(deferred.message.next_kwargs or {}) | {"event": event}
        return self.run(task, next_method=deferred.message.next_method, next_kwargs=kwargs)

    def retry(self) -> None:
        self.try_number += 1
        self.reschedules = 0

    def clear(self, task: Any) -> None:
        """As Airflow's clear: more tries, a higher number."""
        self.max_tries = self.try_number + (task.retries or 0)
        self.try_number += 1
        self.reschedules = 0

    def task_instance(self, task: Any, **resume: Any) -> RuntimeTaskInstance:
        max_tries = (task.retries or 0) if self.max_tries is None else self.max_tries
        if "next_kwargs" in resume:
            resume["next_kwargs"] = stored(resume["next_kwargs"])
        # Not checked: Airflow 3.3 wants a partition_key, earlier ones refuse it.
        dag_run = DagRun.model_construct(
            dag_id=task.dag_id,
            run_id=RUN_ID,
            logical_date=None,
            data_interval_start=None,
            data_interval_end=None,
            run_after=self.run_started,
            start_date=self.run_started,
            end_date=None,
            run_type="manual",
            state="running",
            conf={},
            consumed_asset_events=[],
            partition_key=None,
        )
        server = TIRunContext(
            dag_run=dag_run,
            max_tries=max_tries,
            should_retry=self.try_number <= max_tries,
            task_reschedule_count=self.reschedules,
            **resume,
        )
        return RuntimeTaskInstance.model_construct(
            id=uuid.uuid4(),
            task_id=task.task_id,
            dag_id=task.dag_id,
            run_id=RUN_ID,
            try_number=self.try_number,
            map_index=self.map_index,
            dag_version_id=uuid.uuid4(),
            task=task,
            _ti_context_from_server=server,
            max_tries=max_tries,
            start_date=self.supervisor.first_start if resume and START_DATE.there else timezone.utcnow(),
            hostname="worker",
            is_mapped=self.map_index >= 0,
        )


def install(supervisor: Supervisor, monkeypatch: Any) -> None:
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)


def stored(next_kwargs: dict[str, Any]) -> Any:
    """Give the arguments of a resumption as the database would keep them."""
    try:
        from airflow.sdk.serde import serialize
    except ImportError:  # before Airflow 3.2
        from airflow.serialization.serialized_objects import BaseSerialization

        return BaseSerialization.serialize(next_kwargs)
    return serialize(next_kwargs)


def restored(message: Any) -> Any:
    """Make the trigger of a deferral again from what the database would keep of it."""
    return pkgutil.resolve_name(message.classpath)(**unwrapped(message.trigger_kwargs))


def unwrapped(kwargs: Any) -> dict[str, Any]:
    """Give arguments as they come back from the database."""
    kwargs = json.loads(json.dumps(kwargs))
    kwargs = kwargs.get("__var", kwargs) if "__type" in kwargs else kwargs
    return {
        name: value["__var"] if isinstance(value, dict) and "__type" in value else value
        for name, value in kwargs.items()
    }


async def fire(trigger: Any) -> dict[str, Any]:
    """Run a trigger as the triggerer does and give its event, as it comes back from the database."""
    events = [event async for event in trigger.run()]
    assert len(events) == 1
    payload: dict[str, Any] = json.loads(json.dumps(events[0].payload))
    return payload
