"""Builds and runs that wait for room on a real Airflow with two triggerers: all succeed, and none starts twice."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from airflow_provider_apify.emulator import Emulator
from airflow_provider_apify.emulator.call import RequestRecord
from airflow_provider_apify.jobs.start import Fingerprint
from rig.local_airflow import LocalAirflow
from rig.tables import table
from rig.waiting import wait_until
from tests.rows import count_jobs
from tests.system.conftest import seconds

#: Memory that each of the crowd takes, in MB.
EACH = 4096
#: What is asked of Apify: for room, before a start, to start, and for the end of a job and its Actor.
KINDS = ("limits", "looks", "starts", "waits")


@pytest.fixture
def two_triggerers(airflow: LocalAirflow) -> Iterator[LocalAirflow]:
    airflow.launch("triggerer-2")
    yield airflow
    airflow.stop("triggerer-2")


@pytest.mark.parametrize(
    ("crowd", "room", "job_seconds", "limit"),
    [(12, 6, 2.0, 240.0), pytest.param(60, 16, 40.0, 900.0, marks=[pytest.mark.long, pytest.mark.timeout(1200)])],
    ids=["12 with room for 6", "60 with room for 16"],
)
def test_a_crowd_waits_for_room_and_each_starts_once(
    crowd: int,
    room: int,
    job_seconds: float,
    limit: float,
    two_triggerers: LocalAirflow,
    apify: Emulator,
    start: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    apify.memory_mbytes = EACH * room
    apify.build_seconds = apify.run_seconds = 3600
    dag = f"crowd_{crowd}"
    run = start(dag)
    # However slow Airflow starts tasks, all of them have met each other.
    wait_until(lambda: len(refused(apify)) >= crowd - room, "the rest was refused", limit)
    apify.build_seconds = apify.run_seconds = job_seconds
    for build in apify.builds:
        apify.finish_build(build["id"])
    for each in apify.runs:
        apify.finish_run(each["id"])
    state = two_triggerers.wait_for_run(dag, run, timeout=limit)
    tasks = two_triggerers.tasks(dag, run)
    jobs = [*apify.builds, *apify.runs]
    with capsys.disabled():
        print(report(apify, two_triggerers, jobs, sum(task["try_number"] for task in tasks.values())))
    assert state == "success"
    count_jobs(crowd, len(jobs))
    assert {job["status"] for job in jobs} == {"SUCCEEDED"}
    assert len({Fingerprint.found_in(job["meta"]["userAgent"]) for job in jobs}) == crowd
    assert at_once(jobs) == room


def refused(apify: Emulator) -> list[float]:
    """When Apify refused a start for lack of room."""
    return [request.at for request in apify.requests if request.status == 402]


def at_once(jobs: list[dict[str, Any]]) -> int:
    """The most jobs that were unfinished at the same time."""
    ends = [(seconds(job["finishedAt"]), -1) for job in jobs]
    begins = [(seconds(job["startedAt"]), 1) for job in jobs]
    count = most = 0
    for _, change in sorted(begins + ends):
        count += change
        most = max(most, count)
    return most


def report(apify: Emulator, airflow: LocalAirflow, jobs: list[dict[str, Any]], tries: int) -> str:
    """What was asked while some of the crowd waited: from the first refusal to the last start."""
    begun, ended = min(refused(apify)), max(seconds(job["startedAt"]) for job in jobs)
    asked = Counter(what(request) for request in apify.requests if begun <= request.at <= ended)
    columns: list[tuple[str, Any]] = [
        ("jobs", len(jobs)),
        ("tries", tries),
        ("refused", len(refused(apify))),
        ("s of waiting", f"{ended - begun:.0f}"),
        *((f"{kind} a minute", f"{60 * asked[kind] / (ended - begun):.1f}") for kind in KINDS),
        ("triggerers", len(triggerers(airflow))),
    ]
    return "\n" + table(list(zip(*columns, strict=True)), ">")


def what(request: RequestRecord) -> str:
    """What a request was for, one of ``KINDS``."""
    end = request.path.split("/")[-1]
    if end in ("builds", "runs"):
        return "starts" if request.method == "POST" else "looks"
    return end if end == "limits" else "waits"


def triggerers(airflow: LocalAirflow) -> list[Any]:
    with closing(sqlite3.connect(f"file:{airflow.database}?mode=ro", uri=True)) as database:
        return database.execute("SELECT id FROM job WHERE job_type = 'TriggererJob' AND state = 'running'").fetchall()
