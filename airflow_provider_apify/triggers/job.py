"""Wait for a job in the triggerer, whatever its kind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, ClassVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_apify import compat, metrics
from airflow_provider_apify.api.job import Job, JobKind
from airflow_provider_apify.client.client import Client
from airflow_provider_apify.exceptions import ApifyException
from airflow_provider_apify.jobs.ownership import Unknown, may_abort
from airflow_provider_apify.jobs.wait import Limits
from airflow_provider_apify.lifecycle.deferral import EARLIEST_EVENT
from airflow_provider_apify.lifecycle.events import to_event

#: Seconds for Airflow's word on a task, and for the abort of its job.
STATE_LIMIT, KILL_LIMIT = 30.0, 60.0


class JobTrigger(BaseTrigger):
    """What the triggers of all kinds of job share; its subclasses say which kind, and name its id."""

    job_kind: ClassVar[JobKind[Job]]
    #: Whether a job that is aborted is given time to save what it has.
    abort_gracefully: bool = False

    def __init__(
        self,
        job_id: str,
        *,
        apify_conn_id: str,
        deadline: float | None,
        execution_deadline: float | None,
        abort_on_kill: bool,
        not_before: float | None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_id = job_id
        self.apify_conn_id = apify_conn_id
        self.limits = Limits(deadline, execution_deadline)
        self.abort_on_kill = abort_on_kill
        self.not_before = not_before
        #: Whether there is nothing to abort any more: the job has ended, or the worker has been given the event.
        self._done = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                f"{self.job_kind.name}_id": self.job_id,
                "apify_conn_id": self.apify_conn_id,
                **self.limits._asdict(),
                "abort_on_kill": self.abort_on_kill,
                "not_before": self.not_before,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        try:
            event = await self._wait()
            self._done = event["status"] == "ended"
            await hold_back(self, self.not_before)
        except asyncio.CancelledError:
            # Where Airflow calls no on_kill, this is all that a trigger hears of its task. Of Ctrl-C in a run inside
            # one process it is all on every Airflow.
            if not compat.triggers_are_told_of_kills() or compat.runs_in_its_tasks_process(self):
                await self.on_kill()
            raise
        self._done = True
        job_id = {f"{self.job_kind.name}_id": self.job_id}
        # Nothing after it and nothing around it: the triggerer may stop a trigger right after its event, and an error
        # then would fail the task whose job has ended.
        yield TriggerEvent({**event, **self.limits._asdict(), **job_id})  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Abort the job if its task was ended or cleared. Airflow also calls this when it moves the trigger."""
        if self._done or not self.abort_on_kill:
            return
        ending = asyncio.create_task(self._end_job())
        # Airflow 3.3.2 cancels a trigger again every second until it is gone, which would cut this short.
        while not ending.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([ending])
        self.log.warning("%s", ending.result())

    async def _end_job(self) -> str:
        """Abort the job if Airflow says that its task is over, and say how that went."""
        noun = self.job_kind.name
        inline = compat.runs_in_its_tasks_process(self)
        # Another triggerer takes over a trigger that moves, so there is always a next try.
        if not inline and not may_abort(await self._state(), next_try=True):
            return f"Airflow does not say that the task is over: {noun} {self.job_id} is left running."
        try:
            abort = self._client().abort_async(self.job_kind, self.job_id, gracefully=self.abort_gracefully)
            job = await asyncio.wait_for(abort, KILL_LIMIT)
        except asyncio.TimeoutError:
            return f"{self.job_kind.title} {self.job_id} could not be aborted within {KILL_LIMIT:.0f} s."
        except ApifyException as error:
            return f"{self.job_kind.title} {self.job_id} could not be aborted: {error}"
        if job.abort_took and not inline:
            metrics.count(self.job_kind, "aborted", self.task_instance, job.act_id)
        return job.words_of_abort("the run was interrupted" if inline else "its task was ended or cleared")

    async def _state(self) -> str | Unknown | None:
        try:
            return await compat.ask_state_async(self.task_instance, seconds=STATE_LIMIT)
        except Exception:
            self.log.warning("Airflow did not say what became of the task.", exc_info=True)
            return Unknown.STATE

    async def _wait(self) -> dict[str, Any]:
        noun = self.job_kind.name
        try:
            job = await self._client().wait_async(
                self.job_kind,
                self.job_id,
                deadline=self.limits.first,
                on_status=lambda job: self.log.info("%s", job.status_line),
            )
        except ApifyException as error:
            return {"status": "error", **to_event(error)}
        except Exception as error:
            # What leaves run() would be printed by a worker that does not know the token yet, so nothing does.
            self.log.exception("Waiting for %s %s failed in a way that is not foreseen.", noun, self.job_id)
            message = f"Waiting for {noun} {self.job_id} failed ({type(error).__name__}); the log above says more."
            return {"status": "error", **to_event(ApifyException(message))}
        return {"status": "ended", noun: job.summary()}

    def _client(self) -> Client:
        return Client.of(self)


async def hold_back(trigger: BaseTrigger, not_before: float | None) -> None:
    """Wait until a trigger may send its event."""
    if not_before is not None and not compat.runs_in_its_tasks_process(trigger):
        # The worker's clock may be ahead of this one.
        await asyncio.sleep(min(not_before - time.time(), EARLIEST_EVENT))
