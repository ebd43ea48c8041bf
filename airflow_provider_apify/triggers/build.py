"""Wait for a build in the triggerer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_apify import metrics
from airflow_provider_apify.api.model import Build
from airflow_provider_apify.exceptions import ApifyException, to_event
from airflow_provider_apify.hooks.apify import ApifyHook
from airflow_provider_apify.jobs.ownership import Unknown, may_abort, state_of
from airflow_provider_apify.jobs.wait import Limits

#: Seconds for Airflow's word on a task, and for the abort of its build.
STATE_LIMIT, KILL_LIMIT = 30.0, 60.0
#: Seconds from the deferral to the first moment for an event. Airflow takes the resumed task for one whose process was
#: killed, and fails it, if the scheduler reads only then that the process that deferred it has ended (make scale).
EARLIEST_EVENT = 15.0


class ApifyBuildTrigger(BaseTrigger):
    """
    Wait until a build ends, the deadline comes or asking again cannot help, then send one event.

    The event has ``build_id``, both deadlines and ``status``:

    - ``ended``: also ``build``, its summary, whether it succeeded or not
    - ``error``: also the exception as ``exceptions.to_event`` gives it; the deadline is an ``ApifyBuildTimeout``

    :param build_id: the build.
    :param apify_conn_id: Airflow connection. The token itself is never stored with a trigger.
    :param deadline: by the task's ``timeout``, in epoch seconds, so that a restart of the triggerer does not move it;
        ``None`` for none.
    :param execution_deadline: the same by its ``execution_timeout``.
    :param abort_on_kill: abort the build when Airflow says that the task was ended or cleared. For the task that
        started the build; who merely waits does not own it.
    :param not_before: epoch seconds before which no event is sent, at most ``EARLIEST_EVENT`` from now; ``None`` for at
        once. Ignored where no triggerer runs the trigger, as in ``dag.test()``.
    """

    def __init__(
        self,
        *,
        build_id: str,
        apify_conn_id: str,
        deadline: float | None = None,
        execution_deadline: float | None = None,
        abort_on_kill: bool = False,
        not_before: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.build_id = build_id
        self.apify_conn_id = apify_conn_id
        self.limits = Limits(deadline, execution_deadline)
        self.abort_on_kill = abort_on_kill
        self.not_before = not_before
        #: Whether there is nothing to abort any more: the build has ended, or the worker has been given the event.
        self._done = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            "airflow_provider_apify.triggers.build.ApifyBuildTrigger",
            {
                "build_id": self.build_id,
                "apify_conn_id": self.apify_conn_id,
                **asdict(self.limits),
                "abort_on_kill": self.abort_on_kill,
                "not_before": self.not_before,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        try:
            event = await self._wait()
            self._done = event["status"] == "ended"
            await self._hold_back()
        except asyncio.CancelledError:
            # Before Airflow 3.3, which calls on_kill, this is all that a trigger hears of its task. Of Ctrl-C in a run
            # inside one process it is all on every Airflow.
            if not hasattr(BaseTrigger, "on_kill") or self._runs_inline:
                await self.on_kill()
            raise
        self._done = True
        # Nothing after it and nothing around it: see "Ending" in the design.
        yield TriggerEvent({**event, **asdict(self.limits), "build_id": self.build_id})  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Abort the build if its task was ended or cleared. Airflow also calls this when it moves the trigger."""
        if self._done or not self.abort_on_kill:
            return
        ending = asyncio.create_task(self._end_build())
        # Airflow 3.3.2 cancels a trigger again every second until it is gone, which would cut this short.
        while not ending.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([ending])
        self.log.warning("%s", ending.result())

    @property
    def _runs_inline(self) -> bool:
        """Whether a run inside one process (``airflow dags test``) has called this: nobody comes after it."""
        return self.task_instance is None

    async def _end_build(self) -> str:
        """Abort the build if Airflow says that its task is over, and say how that went."""
        # Another triggerer takes over a trigger that moves, so there is always a next try.
        if not self._runs_inline and not may_abort(await self._state(), next_try=True):
            return f"Airflow does not say that the task is over: build {self.build_id} is left running."
        try:
            abort = ApifyHook(self.apify_conn_id).abort_build_async(self.build_id)
            build = await asyncio.wait_for(abort, KILL_LIMIT)
        except asyncio.TimeoutError:
            return f"Build {self.build_id} could not be aborted within {KILL_LIMIT:.0f} s."
        except ApifyException as error:
            return f"Build {self.build_id} could not be aborted: {error}"
        if not build.abort_took:
            return f"Build {build} is {build.status}."
        if self._runs_inline:
            return f"Build {build} is being aborted, since the run was interrupted."
        metrics.count("aborted", self.task_instance, build.act_id)
        return f"Build {build} is being aborted, since its task was ended or cleared."

    async def _wait(self) -> dict[str, Any]:
        try:
            build = await ApifyHook(self.apify_conn_id).wait_for_build_async(
                self.build_id, deadline=self.limits.first, on_status=self._say
            )
        except ApifyException as error:
            return {"status": "error", **to_event(error)}
        except Exception as error:
            # What leaves run() would be printed by a worker that does not know the token yet, so nothing does.
            self.log.exception("Waiting for build %s failed in a way that is not foreseen.", self.build_id)
            message = f"Waiting for build {self.build_id} failed ({type(error).__name__}); the log above says more."
            return {"status": "error", **to_event(ApifyException(message))}
        return {"status": "ended", "build": build.summary()}

    async def _hold_back(self) -> None:
        # A trigger without task instance runs in the process of its task, which has no scheduler.
        if self.not_before is not None and self.task_instance is not None:
            # The worker's clock may be ahead of this one.
            await asyncio.sleep(min(self.not_before - time.time(), EARLIEST_EVENT))

    def _say(self, build: Build) -> None:
        self.log.info("Build %s is %s.", build.build_number or build.id, build.status)

    async def _state(self) -> str | Unknown | None:
        ti = self.task_instance
        if ti is None:
            return Unknown.STATE
        try:
            from airflow.sdk.execution_time.comms import GetTaskStates
            from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

            question = GetTaskStates(
                dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
            )
            # Never cancelled: before Airflow 3.2 that would leave the answer for the next who asks something.
            asking = asyncio.ensure_future(SUPERVISOR_COMMS.asend(question))
            # The first question ever takes Airflow 3.3.2 some seconds.
            await asyncio.wait({asking}, timeout=STATE_LIMIT)
            return state_of(asking.result().task_states, ti.run_id)  # type: ignore[union-attr]
        except Exception:
            self.log.warning("Airflow did not say what became of the task.", exc_info=True)
            return Unknown.STATE
