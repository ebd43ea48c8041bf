"""
Rebuild an Actor every night, and use the build's stats in the next task.

One task starts the build and waits for it, *deferred*: while Apify builds, no worker
is held. If the build fails, a retry of the task starts a fresh one. If the worker
dies, the retry continues the build that is already there.

To try it: trigger this DAG, and choose another Actor in the form. Then open the task
`rebuild`: its log says what happened, and the button *Apify Console* among its
details opens the build.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_apify.operators.build import ApifyBuildOperator

#: Actors of the emulator, for the form. Put your own in their place.
ACTORS = {
    "~hello-world": "~hello-world: the build succeeds",
    "~two-versions": "~two-versions: succeeds, has the versions 0.0 and 1.0",
    "~always-fails": "~always-fails: the build fails, and its log says why",
    "~slow-build": "~slow-build: succeeds, but takes six times as long",
    "~times-out": "~times-out: Apify stops the build, it took too long",
}

with DAG(
    dag_id="apify_nightly_rebuild",
    dag_display_name="1 Start here: rebuild an Actor every night",
    description="Start a build, wait for it without holding a worker, use its stats.",
    doc_md=__doc__,
    # Without a start date the first run is the next at 03:00; or last night's, in the
    # 2.4 hours after it.
    schedule="0 3 * * *",
    catchup=False,
    params={
        "actor": Param(
            "~hello-world",
            title="Actor to build",
            type="string",
            enum=list(ACTORS),
            values_display=ACTORS,
        ),
        "own_actor": Param(
            None,
            title="Or an Actor of yours",
            type=["null", "string"],
            description="id, user/name, or ~name; built in place of the one above",
        ),
    },
    tags=["apify", "example"],
):
    rebuild = ApifyBuildOperator(
        task_id="rebuild",
        actor_id="{{ params.own_actor or params.actor }}",
        use_cache=False,
        wait_for_completion=True,
        deferrable=True,
        timeout=timedelta(hours=1),
        retries=2,
    )

    @task
    def report(summary: dict[str, Any]) -> str:
        """Use what the build has passed on: its summary."""
        stats = summary["stats"] or {}
        return (
            f"{summary['actor_name']}: build {summary['build_number']}"
            f" {summary['status']} in {summary['duration_seconds']} s,"
            f" computeUnits: {stats.get('computeUnits')},"
            f" image: {stats.get('imageSizeBytes')} bytes"
        )

    report(rebuild.output["summary"])  # type: ignore[index]
