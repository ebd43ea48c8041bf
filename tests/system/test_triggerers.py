"""
Promise 3 on a real Airflow, however a triggerer goes: of what waits there nothing is lost, doubled, aborted or late.

Each row has three builds that wait, mapped, and one that waits until a deadline of its own, which must stay what it is.
"""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, NamedTuple

import psutil
import pytest

from airflow_provider_apify.emulator import Emulator
from rig.local_airflow import LocalAirflow
from rig.waiting import wait_until
from tests.system.conftest import build_of, builds_are, finish, frozen, long_polls, seconds

DAG = "watched"
MAPPED = range(3)
#: Seconds that the deadline's event may be late on a busy machine: the trigger fires, its log line is written.
LATE = 10


class Row(NamedTuple):
    """A trigger as Airflow's database has it."""

    build_id: str
    deadline: float | None
    triggerer: int | None


class Watched:
    """A run whose tasks all wait in the triggerer."""

    def __init__(self, airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]) -> None:
        self.airflow = airflow
        self.apify = apify
        self.run = start(DAG)
        count = len(MAPPED) + 1
        # Each trigger has begun to wait, and Airflow has made all that belongs to a deferral.
        wait_until(lambda: len(self.rows()) == count, "all tasks are deferred")
        wait_until(lambda: all(long_polls(apify, build["id"]) for build in apify.builds), "all triggers wait")
        self.builds = [airflow.xcom(DAG, self.run, "build", "build_id", map_index=index) for index in MAPPED]
        self.late = build_of(apify, "late")["id"]
        deadline = self.rows()[self.late].deadline
        assert deadline is not None
        self.deadline = deadline

    def rows(self) -> dict[str, Row]:
        """The triggers of this run by build."""
        found = query(
            self.airflow,
            "SELECT trigger.kwargs, trigger.triggerer_id FROM trigger"
            " JOIN task_instance ON task_instance.trigger_id = trigger.id WHERE task_instance.run_id = ?",
            self.run,
        )
        rows = []
        for kwargs, triggerer in found:
            plain = json.loads(kwargs)
            plain = plain.get("__var", plain)  # as Airflow 3.1 has it
            rows.append(Row(plain["build_id"], plain["deadline"], triggerer))
        return {row.build_id: row for row in rows}

    def held_by(self, triggerer: int) -> list[str]:
        return [row.build_id for row in self.rows().values() if row.triggerer == triggerer]

    def log(self, index: int) -> str:
        return self.airflow.task_log(DAG, self.run, "build", map_index=index)

    def let_go(self, build_ids: list[str]) -> bool:
        """Whether triggers were told to end, by a triggerer that had lost them, and have left these builds alone."""
        logs = "\n".join(self.log(index) for index in MAPPED)
        return all(f"build {build_id} is left running" in logs for build_id in build_ids if build_id in self.builds)

    def ends_as_if_nothing_had_happened(self, since: float) -> None:
        """
        Let the builds succeed and the deadline pass, and look at all that came of it.

        :param since: when the triggerer went. One that is back only after the deadline fires as soon as it is.
        """
        still = self.rows().get(self.late)
        assert still is None or still.deadline == self.deadline
        finish_all_but(self.apify, self.late)
        assert self.airflow.wait_for_run(DAG, self.run) == "failed"  # for the deadline's sake

        tasks = self.airflow.tasks(DAG, self.run)
        for index, build_id in zip(MAPPED, self.builds, strict=True):
            task, log = tasks[f"build[{index}]"], self.log(index)
            assert (task["state"], task["try_number"]) == ("success", 1)
            assert self.airflow.xcom(DAG, self.run, "build", map_index=index) == build_id
            outcomes = [line for line in log.splitlines() if " SUCCEEDED" in line and "compute units" in line]
            assert len(outcomes) == 1, log
            assert log.count("Trigger fired event") == 1, log

        assert tasks["late"]["state"] == "failed"
        log = self.airflow.task_log(DAG, self.run, "late")
        assert "ApifyJobTimeout" in log
        fired = [seconds(line.split()[0]) for line in log.splitlines() if "Trigger fired event" in line]
        asked = [request.at for request in self.apify.requests if self.late in request.path and request.at > since]
        assert fired, log
        assert self.deadline - 0.1 <= fired[0] <= max(self.deadline, min(asked, default=0)) + LATE, log

        # A triggerer that learns only after the task's success that it has lost the trigger aborts what has ended, be
        # it in the test before this one.
        ends = {build["id"]: seconds(build["finishedAt"]) for build in self.apify.builds}
        aborts = [
            (request.path.split("/")[-2], request.at) for request in self.apify.requests if "/abort" in request.path
        ]
        early = {build_id for build_id, at in aborts if at < ends.get(build_id, 0)}
        assert early == {self.late}, "nothing but the deadline aborts a build that goes on"
        builds_are(
            self.apify,
            *["ABORTED" if build["id"] == self.late else "SUCCEEDED" for build in self.apify.builds],
        )
        assert len(self.apify.builds) == len(MAPPED) + 1


class Triggerers:
    """One triggerer or two, by the ids that Airflow knows them by."""

    def __init__(self, airflow: LocalAirflow) -> None:
        self.airflow = airflow
        self.ids = {"triggerer": self._newest()}

    def launch(self, name: str) -> None:
        self.airflow.launch(name)
        self.ids[name] = self._newest()

    def stop(self, name: str, how: signal.Signals) -> None:
        self.airflow.stop(name, how)
        del self.ids[name]

    def have(self, *names: str) -> None:
        """Make these the ones that run."""
        for name in [name for name in self.ids if name not in names]:
            self.stop(name, signal.SIGTERM)
        for name in names:
            if name not in self.ids:
                self.launch(name)

    def busier(self, watched: Watched) -> tuple[str, str]:
        """Name the triggerer that holds most of the triggers, and the other one."""
        first, second = sorted(self.ids, key=lambda name: len(watched.held_by(self.ids[name])), reverse=True)
        return first, second

    def family(self, name: str) -> list[int]:
        """The processes of a triggerer: its supervisor, and the runner that has the event loop."""
        process = psutil.Process(self.airflow.component(name).pid)
        return [process.pid, *(child.pid for child in process.children(recursive=True))]

    def _newest(self) -> int:
        ((newest,),) = query(self.airflow, "SELECT max(id) FROM job WHERE job_type = 'TriggererJob'")
        return int(newest)


@pytest.fixture(scope="module")
def all_triggerers(airflow: LocalAirflow) -> Iterator[Triggerers]:
    triggerers = Triggerers(airflow)
    yield triggerers
    triggerers.have("triggerer")


@pytest.fixture
def triggerer(all_triggerers: Triggerers) -> Triggerers:
    """A single one."""
    all_triggerers.have("triggerer")
    return all_triggerers


@pytest.fixture
def triggerers(all_triggerers: Triggerers) -> Triggerers:
    """Two of them."""
    all_triggerers.have("triggerer", "triggerer-2")
    return all_triggerers


def query(airflow: LocalAirflow, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{airflow.database}?mode=ro", uri=True, timeout=30)) as database:
        return database.execute(sql, parameters).fetchall()


def finish_all_but(apify: Emulator, build_id: str) -> None:
    for build in apify.builds:
        if build["id"] != build_id:
            finish(apify, build["id"])


def now(apify: Emulator) -> float:
    """When the newest request came: later ones are of whoever takes over."""
    return max(request.at for request in apify.requests)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["sigterm", "sigkill"])
def test_a_build_that_ends_while_no_triggerer_runs(
    how: signal.Signals, triggerer: Triggerers, airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    watched = Watched(airflow, apify, start)
    triggerer.stop("triggerer", how)
    since = now(apify)
    finish(apify, watched.builds[0])
    triggerer.launch("triggerer")
    watched.ends_as_if_nothing_had_happened(since)


def test_a_stalled_event_loop_hands_its_triggers_over(
    triggerer: Triggerers, airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    """A trigger of somebody else blocks the loop until Airflow gives the triggerer up; then the loop goes on."""
    watched = Watched(airflow, apify, start)
    stall = airflow.home / airflow.trigger("stalling")
    wait_until(stall.with_name(f"{stall.name}.stalled").exists, "the loop is stalled")
    since = now(apify)
    triggerer.launch("triggerer-2")
    second = triggerer.ids["triggerer-2"]
    wait_until(lambda: {row.triggerer for row in watched.rows().values()} <= {second}, "the second has them all")
    stall.with_name(f"{stall.name}.go-on").touch()

    wait_until(lambda: watched.let_go(watched.builds), "the first has let them go")
    watched.ends_as_if_nothing_had_happened(since)


def test_a_frozen_triggerer_finds_its_triggers_with_another(
    triggerers: Triggerers, airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    """Both live on: the one that was frozen is told to cancel what the other waits for."""
    watched = Watched(airflow, apify, start)
    name, other = triggerers.busier(watched)
    moved = watched.held_by(triggerers.ids[name])
    with frozen(*triggerers.family(name)):
        since = now(apify)
        wait_until(lambda: not watched.held_by(triggerers.ids[name]), f"{other} has them all")

    wait_until(lambda: watched.let_go(moved), f"{name} has let them go")
    watched.ends_as_if_nothing_had_happened(since)


def test_a_killed_triggerer_is_replaced_by_the_one_that_lives(
    triggerers: Triggerers, airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    watched = Watched(airflow, apify, start)
    name, other = triggerers.busier(watched)
    lost = triggerers.ids[name]
    triggerers.stop(name, signal.SIGKILL)
    since = now(apify)
    wait_until(lambda: not watched.held_by(lost), f"{other} has them all")
    watched.ends_as_if_nothing_had_happened(since)
