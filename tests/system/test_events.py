"""
Jobs that somebody else started, announced by a real Airflow: none is lost, however the triggerer goes.

The last line of each test is a table: delivered, repeated, lost.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import pytest
import requests

from airflow_provider_apify.emulator import Emulator, Fault
from rig.local_airflow import LocalAirflow
from rig.tables import table
from rig.waiting import wait_until
from tests.features import WATCHERS
from tests.system.conftest import CANARY

pytestmark = WATCHERS.needed


def start_runs(apify: Emulator, count: int, actor: str = "hello-world") -> list[str]:
    """Start runs as somebody else would."""
    url, headers = f"{apify.url}/v2/acts/~{actor}/runs", {"Authorization": f"Bearer {CANARY}"}
    answers = [requests.post(url, headers=headers, timeout=5) for _ in range(count)]
    return [str(answer.json()["data"]["id"]) for answer in answers]


class Watching:
    """A DAG whose watcher announces runs, and what has been announced of those that a test starts."""

    def __init__(self, airflow: LocalAirflow, apify: Emulator) -> None:
        self.airflow = airflow
        self.apify = apify
        self.pause(False)
        self.looked()

    def pause(self, is_paused: bool) -> None:
        self.airflow.api("PATCH", "/dags/on_runs", json={"is_paused": is_paused})

    @property
    def looks(self) -> int:
        return sum(request.path == "/v2/actor-runs" for request in self.apify.requests)

    def stopped(self) -> bool:
        """Whether the watcher has not looked for three seconds."""
        before = self.looks
        time.sleep(3)
        return self.looks == before

    def looked(self, times: int = 2) -> None:
        """Wait until the watcher has looked some times more."""
        before = self.looks
        wait_until(lambda: self.looks >= before + times, "the watcher has looked", timeout=90)

    def run(self, count: int = 1, actor: str = "hello-world") -> list[str]:
        """Start runs as somebody else would."""
        return start_runs(self.apify, count, actor)

    def run_for(self, seconds: float) -> list[str]:
        """The same for a time, three runs every ten seconds."""
        ends, runs = time.monotonic() + seconds, []
        while time.monotonic() < ends:
            runs += self.run(3)
            time.sleep(10)
        return runs

    @property
    def announced(self) -> Counter[str]:
        """How often each run was announced."""
        own = {run["id"] for run in self.apify.runs}
        with closing(sqlite3.connect(f"file:{self.airflow.database}?mode=ro", uri=True, timeout=30)) as database:
            extras = [json.loads(extra) for (extra,) in database.execute("SELECT extra FROM asset_event")]
        jobs = [job for extra in extras if "payload" in extra for job in extra["payload"]["jobs"]]
        return Counter(job["run_id"] for job in jobs if job.get("run_id") in own)

    def announces(self, run_ids: list[str], timeout: float = 90) -> None:
        wait_until(lambda: set(run_ids) <= set(self.announced), "the runs are announced", timeout)

    def consumed(self) -> set[str]:
        """The runs that the DAG's runs have worked with."""
        runs = self.airflow.api("GET", "/dags/on_runs/dagRuns", params={"limit": 1000})["dag_runs"]
        found = set()
        for run in runs:
            if run["state"] == "success":
                found |= set(self.airflow.xcom("on_runs", run["dag_run_id"], "ended"))
        return found

    def lose_the_triggerer(self, point: str) -> None:
        (self.airflow.home / f"lose-the-triggerer-{point}").touch()

    def another_triggerer(self) -> None:
        """Start another triggerer when the first has been lost."""
        wait_until(lambda: "triggerer" in self.airflow.dead, "the triggerer is lost")
        self.airflow.stop("triggerer")
        self.airflow.launch("triggerer")

    def lost(self, name: str) -> int:
        """How many runs that have ended were not announced; prints a table."""
        ended, announced = [run["id"] for run in self.apify.runs if run["finishedAt"]], self.announced
        lost = sum(run_id not in announced for run_id in ended)
        repeated = sum(announced.values()) - len(announced)
        print(
            table(
                [["", "ended", "delivered", "repeated", "lost"], [name, len(ended), len(announced), repeated, lost]],
                "<>",
            )
        )
        return lost


@pytest.fixture
def watching(airflow: LocalAirflow, other_apify: Emulator) -> Iterator[Watching]:
    other_apify.run_seconds = 0.5
    other_apify.set_actor("slow-run", run_seconds=3600)  # until a test ends it
    watching = Watching(airflow, other_apify)
    yield watching
    watching.pause(True)


@pytest.mark.parametrize(
    "points",
    [
        pytest.param(("after-the-event", "before-saving"), id="between"),
        pytest.param(("before-the-event", "after-saving"), id="before and after", marks=pytest.mark.long),
    ],
)
def test_a_triggerer_that_is_lost_at_any_moment_costs_no_event(points: tuple[str, ...], watching: Watching) -> None:
    for point in points:
        watching.lose_the_triggerer(point)
        runs = watching.run(2)
        watching.another_triggerer()
        watching.announces(runs)
    watching.looked()
    assert watching.lost(", ".join(points)) == 0
    # Only what was stored, and not yet saved as announced, is sent again.
    assert sum(watching.announced.values()) == 4 + 2 * ("before-saving" in points)
    wait_until(lambda: watching.consumed() >= set(watching.announced), "the DAG has worked with all")


def test_what_ends_while_its_dag_is_paused_is_announced_when_it_runs_again(watching: Watching) -> None:
    slow = watching.run(1, "slow-run")
    watching.looked()
    watching.pause(True)
    wait_until(watching.stopped, "nobody watches any more")
    missed = watching.run(3)
    watching.apify.finish_run(slow[0])
    watching.pause(False)
    watching.announces([*slow, *missed])
    watching.looked()
    assert watching.lost("paused and resumed") == 0
    assert set(watching.announced.values()) == {1}
    wait_until(lambda: watching.consumed() >= {*slow, *missed}, "the DAG has worked with all")


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_an_outage_of_ten_minutes_costs_no_event(watching: Watching) -> None:
    """First Apify cannot be reached, then no triggerer runs; jobs go on to begin and to end."""
    fault = watching.apify.add_fault(Fault("status", "GET", "/v2/actor-runs*", status=503, times=None))
    runs = watching.run(2, "slow-run")
    runs += watching.run_for(300)
    assert fault.fired
    watching.airflow.stop("triggerer")
    watching.apify.clear_faults()
    watching.apify.finish_run(runs[0], "FAILED")
    runs += watching.run_for(300)
    watching.airflow.launch("triggerer")
    watching.announces([runs[0], *runs[2:]])
    watching.apify.finish_run(runs[1])
    watching.announces(runs)
    assert watching.lost("an outage of ten minutes") == 0
    wait_until(lambda: watching.consumed() >= set(runs), "the DAG has worked with all")


@pytest.mark.long
def test_the_example_works_with_each_run_once(airflow: LocalAirflow, apify: Emulator) -> None:
    def pause(is_paused: bool) -> None:
        airflow.api("PATCH", "/dags/apify_on_run_finished", json={"is_paused": is_paused})

    def worked_with() -> Counter[str]:
        runs = airflow.api("GET", "/dags/apify_on_run_finished/dagRuns")["dag_runs"]
        ended = [run["dag_run_id"] for run in runs if run["state"] == "success"]
        return Counter(itertools.chain(*(airflow.xcom("apify_on_run_finished", run, "work") for run in ended)))

    pause(False)
    try:
        wait_until(lambda: any(each.path == "/v2/actor-runs" for each in apify.requests), "it has looked", timeout=90)
        runs = start_runs(apify, 2)
        wait_until(lambda: len(worked_with()) == 2, "the DAG has worked with the first", timeout=120)
        runs += start_runs(apify, 2)
        wait_until(lambda: len(worked_with()) == 4, "the DAG has worked with the others", timeout=120)
        assert worked_with() == dict.fromkeys(runs, 1)
    finally:
        pause(True)
