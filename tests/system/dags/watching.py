"""A DAG that starts when runs end, and a watcher that loses its triggerer where a test wants it to."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, task
from airflow.triggers.base import BaseEventTrigger

if hasattr(BaseEventTrigger, "create_shared_stream_producer"):  # Airflow 3.3
    from airflow.sdk import AssetWatcher
    from airflow.triggers.base import TriggerEvent

    from airflow_provider_apify.triggers.events import ApifyBuildsEventTrigger, ApifyRunsEventTrigger
    from airflow_provider_apify.triggers.job_stream import EndedJobs

    def lose_the_triggerer(point: str) -> None:
        """End the triggerer at once, once, if the test has asked for it at this point."""
        file = Path(os.environ["AIRFLOW_HOME"], f"lose-the-triggerer-{point}")
        if file.exists():
            file.unlink()
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

    class Losing(EndedJobs):
        async def open_stream(self) -> AsyncIterator[tuple[dict[str, Any], Any]]:
            async for event, mark in super().open_stream():
                if event["jobs"]:
                    lose_the_triggerer("before-the-event")
                yield event, mark

        async def advance(self, batch: Sequence[Any]) -> None:
            lose_the_triggerer("before-saving")
            await super().advance(batch)
            lose_the_triggerer("after-saving")

    # Airflow's DAG processor imports this file under another name; the triggerer imports it by this one.
    class RunsEnd(ApifyRunsEventTrigger):
        least_interval = 1.0
        __module__ = "watching"

        @classmethod
        def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> Any:
            return Losing(cls.job_kind, **kwargs)

        async def filter_shared_stream(
            self, shared_stream: AsyncIterator[dict[str, Any]]
        ) -> AsyncIterator[TriggerEvent]:
            async for event in super().filter_shared_stream(shared_stream):
                yield event
                lose_the_triggerer("after-the-event")

    class BuildsEnd(ApifyBuildsEventTrigger):
        least_interval = 1.0
        __module__ = "watching"

    ARGUMENTS: dict[str, Any] = {"apify_conn_id": "apify_other", "poll_interval": 1}
    runs = Asset("runs", watchers=[AssetWatcher(name="runs", trigger=RunsEnd(asset_name="runs", **ARGUMENTS))])
    builds = Asset(
        "builds",
        watchers=[
            AssetWatcher(name="builds", trigger=BuildsEnd(asset_name="builds", actor_id="~hello-world", **ARGUMENTS))
        ],
    )

    for asset in (runs, builds):
        with DAG(f"on_{asset.name}", schedule=asset, start_date=datetime(2026, 1, 1), max_active_runs=4):

            @task
            def ended(triggering_asset_events: Any = None) -> list[str]:
                events = [event for of in triggering_asset_events.values() for event in of]
                return [
                    job.get("run_id") or job["build_id"] for event in events for job in event.extra["payload"]["jobs"]
                ]

            ended()
