"""
Release an Actor: build a candidate, prove it by a run, and only then let runs have it.

Runs use the build with the tag `latest`. The candidate gets the tag `candidate`
instead, so nobody runs it but the task `prove`, which names it by its number. If the
build fails, or its run fails, finds too little or costs too much, the task that saw it
fails and says why, `promote` does not run, and `latest` stays where it was.

The build that was `latest` gets the tag `previous`. The DAG `apify_rollback` moves
`latest` back to it, or to any build by its number.

To try it: trigger `apify_release` twice, then `apify_rollback`. Choose another Actor
in the form to see a candidate that is not released.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_apify.hooks.apify import ApifyHook
from airflow_provider_apify.operators.build import ApifyBuildOperator
from airflow_provider_apify.operators.run import ApifyRunActorOperator
from airflow_provider_apify.operators.tag import ApifyTagBuildOperator

#: Actors of the emulator, for the form. Put your own in their place.
ACTORS = {
    "~scraper": "~scraper: is released",
    "~always-fails": "~always-fails: cannot be built",
    "~fails-half-way": "~fails-half-way: its run fails",
    "~finds-nothing": "~finds-nothing: its run finds too few items",
}
ACTOR = Param(
    "~scraper",
    title="Actor",
    type="string",
    examples=list(ACTORS),
    values_display=ACTORS,
)

with DAG(
    dag_id="apify_release",
    dag_display_name="8 Release an Actor when a run has proven it",
    description="Build a candidate, run it, then move the tag latest to it.",
    doc_md=__doc__,
    schedule=None,
    # One release at a time: the next one must not prove itself beside this one.
    max_active_runs=1,
    params={
        "actor": ACTOR,
        "max_usd": Param(
            0.5,
            title="Most that the test run may cost, in US dollars",
            type="number",
            exclusiveMinimum=0,
        ),
    },
    tags=["apify", "example"],
):

    @task
    def live(params: dict[str, Any] | None = None) -> str | None:
        """Give the build that is latest, if any: if another one is in the end, stop."""
        actor = ApifyHook().get_actor((params or {})["actor"])
        build = actor.tagged_builds.get("latest")
        return build.build_id if build else None

    build = ApifyBuildOperator(
        task_id="build",
        actor_id="{{ params.actor }}",
        # Without a tag it would get its version's, which most often is latest.
        tag="candidate",
        wait_for_completion=True,
        deferrable=True,
        timeout=timedelta(hours=1),
        retries=1,
    )
    prove = ApifyRunActorOperator(
        task_id="prove",
        actor_id="{{ params.actor }}",
        # The number: another build may have got the tag meanwhile.
        build=build.output["build_number"],  # type: ignore[index]
        run_input={"items": 20},
        min_items=20,
        max_total_charge_usd=1,
        run_timeout=timedelta(minutes=10),
        wait_for_completion=True,
        deferrable=True,
    )

    @task
    def check_cost(summary: dict[str, Any], most_usd: str) -> None:
        """Fail if the run was too dear. Apify still counts: this is the cost so far."""
        usd = summary["usage_total_usd"] or 0
        if usd > float(most_usd):
            raise RuntimeError(
                f"Run {summary['run_id']} of build {summary['build_number']} has cost"
                f" {usd:.4g} USD, more than {most_usd} USD: it is not released."
                f"\nSee {summary['console_url']}"
            )

    before = live()
    promote = ApifyTagBuildOperator(
        task_id="promote",
        actor_id="{{ params.actor }}",
        tag="latest",
        build_id=build.output,
        expected_build_id=before,
        retries=2,
    )
    before >> build
    summary = prove.output["summary"]  # type: ignore[index]
    check_cost(summary, "{{ params.max_usd }}") >> promote

with DAG(
    dag_id="apify_rollback",
    dag_display_name="9 Roll an Actor back to the build before",
    description="Move the tag latest to the build tagged previous, or to any other.",
    doc_md=__doc__,
    schedule=None,
    max_active_runs=1,
    params={
        "actor": ACTOR,
        "build_number": Param(
            None,
            title="Number of the build to go back to",
            type=["null", "string"],
            pattern=r"^\d+\.\d+\.\d+$",
            description="such as 0.1.5; if empty, the one tagged previous",
        ),
    },
    tags=["apify", "example"],
):

    @task
    def choose(params: dict[str, Any] | None = None) -> str:
        """Choose the build once, so that each retry of the next task has the same."""
        actor, number = (params or {})["actor"], (params or {})["build_number"]
        previous = ApifyHook().get_actor(actor).tagged_builds.get("previous")
        number = number or (previous and previous.build_number)
        if not number:
            raise RuntimeError(f"{actor} has no build previous: name one by number.")
        return str(number)

    ApifyTagBuildOperator(
        task_id="roll_back",
        actor_id="{{ params.actor }}",
        tag="latest",
        build_number=choose(),
        # previous stays on the good build: a second rollback changes nothing.
        keep_previous_as="rolled-back",
        retries=2,
    )
