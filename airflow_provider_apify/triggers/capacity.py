"""Wait in the triggerer until Apify may have room for a job."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_apify.client.client import Client
from airflow_provider_apify.jobs.room import patience
from airflow_provider_apify.jobs.wait import Limits
from airflow_provider_apify.triggers.job import hold_back


class ApifyCapacityTrigger(BaseTrigger):
    """
    Wait until the account may have room for a job that Apify has refused to start, then send one event.

    All that wait over one connection in one triggerer share a request for the account's limits every 10 s, and the one
    that has waited for the longest comes first. The trigger starts nothing, and owns nothing. Its event has ``status``:

    - ``room``: there may be room, or it is time to try without knowing
    - ``timeout``: the first of the deadlines has come
    - ``error``: also ``message``: the trigger failed

    :param apify_conn_id: Airflow connection. The token itself is never stored with a trigger.
    :param memory_mbytes: memory that the job takes, in MB; ``None`` if that is not known.
    :param since: when Apify refused the job first, in epoch seconds.
    :param refusals: how often it has refused it, from 1. Where neither ``memory_mbytes`` nor the account's limits are
        known, the trigger waits for a minute after the first, and up to ten minutes after more.
    :param deadline: by the task's ``wait_for_capacity``, in epoch seconds; ``None`` for none.
    :param execution_deadline: the same by its ``execution_timeout``.
    :param not_before: epoch seconds before which no event is sent, at most 15 s from now; ``None`` for at once. Ignored
        where no triggerer runs the trigger, as in ``dag.test()``.
    """

    def __init__(
        self,
        *,
        apify_conn_id: str,
        since: float,
        memory_mbytes: float | None = None,
        refusals: int = 1,
        deadline: float | None = None,
        execution_deadline: float | None = None,
        not_before: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.apify_conn_id = apify_conn_id
        self.since = since
        self.memory_mbytes = memory_mbytes
        self.refusals = refusals
        self.limits = Limits(deadline, execution_deadline)
        self.not_before = not_before

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "apify_conn_id": self.apify_conn_id,
                "since": self.since,
                "memory_mbytes": self.memory_mbytes,
                "refusals": self.refusals,
                **self.limits._asdict(),
                "not_before": self.not_before,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        # First, so that it is not given room that it cannot use yet.
        await hold_back(self, self.not_before)
        yield TriggerEvent(await self._wait())  # type: ignore[no-untyped-call]

    async def _wait(self) -> dict[str, Any]:
        client = Client.of(self)
        waiting = client.wait_for_room_async(self.memory_mbytes, since=self.since, patience=patience(self.refusals))
        try:
            await asyncio.wait_for(waiting, self.limits.left(time.time()))
        except asyncio.TimeoutError:
            return {"status": "timeout"}
        except Exception as error:
            # What leaves run() would be printed by a worker that does not know the token yet, so nothing does.
            self.log.exception("Waiting for room failed in a way that is not foreseen.")
            return {"status": "error", "message": f"Waiting for room failed ({type(error).__name__})."}
        self.log.info("Apify may have room: a worker tries to start again.")
        return {"status": "room"}
