"""The example DAGs as they are, and promise 4 on a real Airflow: outcomes, XComs, links, asset events."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from airflow_provider_apify.emulator import Emulator
from rig.local_airflow import LocalAirflow
from tests.rows import count_jobs
from tests.system.conftest import builds_are, expected_summary


def rebuild(run: str) -> tuple[str, str, str]:
    return "apify_nightly_rebuild", run, "rebuild"


def test_nightly_rebuild_passes_the_stats_on(airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]) -> None:
    run = start("apify_nightly_rebuild")
    airflow.wait_for_task("apify_nightly_rebuild", run, "rebuild", {"deferred"})
    (build,) = [build for build in apify.builds if build["id"] == airflow.xcom(*rebuild(run), "build_id")]
    url = f"https://console.apify.com/actors/{build['actId']}#/builds/{build['buildNumber']}"
    assert airflow.links("apify_nightly_rebuild", run, "rebuild") == {"Apify Console": url}
    assert airflow.xcom("apify_nightly_rebuild", run, "rebuild", "build_id") == build["id"]

    # Unpaused between 03:00 and 05:24 UTC, Airflow also makes the run of the night past.
    runs = [found["dag_run_id"] for found in airflow.api("GET", "/dags/apify_nightly_rebuild/dagRuns")["dag_runs"]]
    for each in runs:
        assert airflow.wait_for_run("apify_nightly_rebuild", each) == "success"
    airflow.api("PATCH", "/dags/apify_nightly_rebuild", json={"is_paused": True})

    (build,) = [found for found in apify.builds if found["id"] == build["id"]]
    summary = airflow.xcom("apify_nightly_rebuild", run, "rebuild", "summary")
    assert summary.items() >= expected_summary(build).items()
    assert airflow.xcom("apify_nightly_rebuild", run, "rebuild") == build["id"]
    assert airflow.links("apify_nightly_rebuild", run, "rebuild") == {"Apify Console": url}
    assert str(build["stats"]["computeUnits"]) in airflow.xcom("apify_nightly_rebuild", run, "report")
    builds_are(apify, *["SUCCEEDED"] * len(runs))


def test_start_and_wait_in_two_tasks(airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]) -> None:
    run = start("apify_start_and_wait")
    assert airflow.wait_for_run("apify_start_and_wait", run) == "success"
    (build,) = apify.builds
    assert airflow.xcom("apify_start_and_wait", run, "start") == build["id"]
    assert airflow.xcom("apify_start_and_wait", run, "wait").items() >= expected_summary(build).items()
    assert build["buildNumber"] in airflow.xcom("apify_start_and_wait", run, "use")
    builds_are(apify, "SUCCEEDED")


def test_many_actors_are_mapped_with_links_of_their_own(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    run = start("apify_many_actors")
    assert airflow.wait_for_run("apify_many_actors", run) == "success"
    builds_are(apify, "SUCCEEDED", "SUCCEEDED")
    by_id = {build["id"]: build for build in apify.builds}
    seen = set()
    for index in range(2):
        build = by_id[airflow.xcom("apify_many_actors", run, "rebuild", map_index=index)]
        seen.add(build["actId"])
        url = f"https://console.apify.com/actors/{build['actId']}#/builds/{build['buildNumber']}"
        assert airflow.links("apify_many_actors", run, "rebuild", map_index=index) == {"Apify Console": url}
    assert len(seen) == 2
    assert len(airflow.xcom("apify_many_actors", run, "report")) == 2


def test_a_pipeline_runs_on_the_asset_that_a_rebuild_emits(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    airflow.api("PATCH", "/dags/apify_pipeline_on_build", json={"is_paused": False})
    run = start("apify_rebuild_asset")
    assert airflow.wait_for_run("apify_rebuild_asset", run) == "success"

    def consumers() -> list[str]:
        runs = airflow.api("GET", "/dags/apify_pipeline_on_build/dagRuns")["dag_runs"]
        return [found["dag_run_id"] for found in runs]

    apify.wait_for(lambda _: bool(consumers()), timeout=60)
    (consumer,) = consumers()
    assert airflow.wait_for_run("apify_pipeline_on_build", consumer) == "success"
    (build,) = apify.builds
    assert airflow.xcom("apify_pipeline_on_build", consumer, "scrape") == [build["buildNumber"]]
    # Not before: Airflow 3.3.2 answers 500 while the run that an event has caused is still queued.
    (event,) = airflow.asset_events(source_run_id=run)
    assert event["extra"].items() >= expected_summary(build).items()
    builds_are(apify, "SUCCEEDED")


def test_asset_and_alias_get_the_summary(airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]) -> None:
    run = start("deferred_with_assets")
    assert airflow.wait_for_run("deferred_with_assets", run) == "success"
    (build,) = apify.builds
    events = {event["uri"]: event["extra"] for event in airflow.asset_events(source_run_id=run)}
    assert set(events) == {"apify://actors/built", f"apify://actors/{build['actId']}"}
    for extra in events.values():
        assert extra.items() >= expected_summary(build).items()
    builds_are(apify, "SUCCEEDED")


def test_a_failed_build_emits_no_asset_event(airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]) -> None:
    run = start("deferred_with_assets", "~always-fails")
    assert airflow.wait_for_run("deferred_with_assets", run) == "failed"
    assert airflow.asset_events(source_run_id=run) == []
    builds_are(apify, "FAILED", "FAILED")


@pytest.mark.parametrize("dag_id", ["in_worker", "deferred"])
def test_a_failed_build_is_rebuilt_by_the_retry_and_tells_why(
    dag_id: str, airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    run = start(dag_id, "~always-fails")
    assert airflow.wait_for_run(dag_id, run) == "failed"
    builds_are(apify, "FAILED", "FAILED")
    assert airflow.xcom(dag_id, run, "build", "summary")["status"] == "FAILED"
    for try_number, build in enumerate(apify.builds, start=1):
        log = airflow.task_log(dag_id, run, "build", try_number)
        assert f"Build {build['buildNumber']} of Actor always-fails ({build['actId']}) FAILED" in log
        assert "npm ERR! 404" in log
        assert f"https://console.apify.com/actors/{build['actId']}#/builds/{build['buildNumber']}" in log


@pytest.mark.parametrize("dag_id", ["sensor_poke", "sensor_reschedule", "sensor_deferred"])
def test_sensors_end_alike(dag_id: str, airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]) -> None:
    good, bad = start(dag_id), start(dag_id, "~always-fails")
    assert airflow.wait_for_run(dag_id, good) == "success"
    assert airflow.wait_for_run(dag_id, bad) == "failed"

    by_id = {build["id"]: build for build in apify.builds}
    build = by_id[airflow.xcom(dag_id, good, "start")]
    summary = airflow.xcom(dag_id, good, "wait")
    assert summary.items() >= expected_summary(build).items()
    assert airflow.xcom(dag_id, good, "wait", "summary") == summary
    assert airflow.xcom(dag_id, good, "use").startswith(f"{build['buildNumber']} SUCCEEDED")

    summary = airflow.xcom(dag_id, bad, "wait", "summary")
    assert summary["status"] == "FAILED"
    # Not "try 1": after a quick reschedule Airflow 3.3.2 sometimes counts another try.
    log = airflow.task_log(dag_id, bad, "wait", airflow.tasks(dag_id, bad)["wait"]["try_number"])
    assert "npm ERR! 404" in log
    reads = [request for request in apify.requests if request.path.endswith(f"{summary['build_id']}/log")]
    assert len(reads) == 1, "a sensor's failure is final, in spite of the retries"
    count_jobs(2, len(by_id))
