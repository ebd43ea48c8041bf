"""
Do something with each run of an Actor that succeeds, whoever started it.

A watcher looks at Apify's list of runs twice a minute. When runs have ended, whether
they were started in Apify Console, by a schedule of Apify's or by another DAG, it emits
an asset event, and Airflow runs this DAG. To try it: unpause it, wait for its first
look, a minute, then start a run of the Actor. Needs Airflow 3.3.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from airflow.sdk import (
    DAG,
    Asset,
    AssetOrTimeSchedule,
    AssetWatcher,
    CronTriggerTimetable,
    task,
)

from airflow_provider_apify import ApifyHook, ApifyRunsEventTrigger

ACTOR = "~hello-world"
#: Runs that began before are not worked with.
BEGIN = datetime(2026, 1, 1, tzinfo=timezone.utc)

watcher = ApifyRunsEventTrigger(
    asset_name="hello_world_runs",
    actor_id=ACTOR,
    statuses=["SUCCEEDED"],
)
finished_runs = Asset(
    name="hello_world_runs",
    watchers=[AssetWatcher(name="hello_world_runs", trigger=watcher)],
)

with DAG(
    dag_id="apify_on_run_finished",
    dag_display_name="10 Work with each run, whoever started it",
    description="Started when a run of the Actor has succeeded; once an hour, too.",
    doc_md=__doc__,
    # Airflow may keep an event until the next one comes: the hour is a net.
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("0 * * * *", timezone="UTC"),
        assets=finished_runs,
    ),
    start_date=BEGIN,
    catchup=False,
    tags=["apify", "example"],
):

    @task(inlets=[finished_runs], max_active_tis_per_dag=1, retries=2)
    def work(asset_state_store: Any = None) -> list[str]:
        """Work with each run once. The events only say that it is time to look."""
        done = asset_state_store.get("done") or []
        new = [
            run
            for run in reversed(ApifyHook().list_runs(actor_id=ACTOR))
            if run.is_succeeded and run.id not in done
            if run.started_at and run.started_at >= BEGIN
        ]
        for run in new:
            # load run.dataset_id here, such as into a table
            done.append(run.id)
            # A list has 1000 runs, and may lack one that the list before had.
            asset_state_store.set("done", done[-2000:])
        return [run.id for run in new]

    work()
