"""
Rebuild many Actors at once, one mapped task each.

Each mapped task has its own build, retries, link and XComs. One that fails does not
hold up the others.

Every unfinished build takes 4 GB of the account's memory. A pool with a slot for each
4 GB that also counts deferred tasks keeps the builds below the limit. Create it once,
with the size that fits your plan, and set `pool` in the code:

    airflow pools set apify_builds 16 "Apify builds at once" --include-deferred
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_apify.operators.build import ApifyBuildOperator

#: Actors of the emulator, for the form. Put your own in their place.
ACTORS = {
    "~hello-world": "~hello-world: succeeds",
    "~two-versions": "~two-versions: succeeds",
    "~always-fails": "~always-fails: fails",
    "~slow-build": "~slow-build: takes long",
    "~times-out": "~times-out: is stopped",
}

with DAG(
    dag_id="apify_many_actors",
    dag_display_name="2 Rebuild many Actors at once",
    description="One mapped task for each Actor, with a list that the run chooses.",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2026, 1, 1),
    params={
        "actors": Param(
            ["~hello-world", "~two-versions"],
            title="Actors to build",
            type="array",
            items={"type": "string"},
            # What the form offers. Any id, user/name, or ~name is taken.
            examples=list(ACTORS),
            values_display=ACTORS,
            description="For others, change the JSON in Advanced Options",
        )
    },
    tags=["apify", "example"],
):

    @task
    def choose(params: dict[str, Any] | None = None) -> list[str]:
        """Make the list when the DAG runs: here from the form."""
        return list((params or {})["actors"])

    rebuild = ApifyBuildOperator.partial(
        task_id="rebuild",
        tag="latest",
        wait_for_completion=True,
        deferrable=True,
        retries=2,
        # pool="apify_builds",
        map_index_template="{{ task.actor_id }}",
    ).expand(actor_id=choose())

    @task
    def report(summaries: list[dict[str, Any]]) -> list[str]:
        """Say what each build has used."""
        return [
            f"{summary['actor_name']} {summary['build_number']}:"
            f" {(summary['stats'] or {}).get('computeUnits')} compute units"
            for summary in summaries
        ]

    report(rebuild.output["summary"])  # type: ignore[index]
