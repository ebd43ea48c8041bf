"""
Three runs of one DAG at the same time: a build that succeeds, one that fails, and one whose worker is killed. The Actor
whose build succeeds is run by another DAG, which brings its items into a table.

Each scene is a generator that reads from top to bottom. It yields, while it waits, what it is waiting for.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import httpx
import psutil

from airflow_provider_apify.emulator import Emulator, Fault
from demo.screen import Screen
from rig.local_airflow import LocalAirflow

DAG_ID, TASK_ID = "apify_nightly_rebuild", "rebuild"
#: The DAG that runs Actors, and its tasks for the first of them.
LOAD_DAG_ID, RUN_TASK, FILES_TASK = "apify_run_and_load", "run", "to_files"
DATABASE = "products.duckdb"
#: Seconds between two looks at the runs.
INTERVAL = 0.5

#: Seconds that the scenes may take: on Apify a build may run for 1800 s, and has to wait for its turn.
LIMIT, LIMIT_ON_APIFY = 180.0, 3600.0
#: The Actors of the three scenes, with the colours of their lines.
STYLES = {"~hello-world": "green", "~always-fails": "red", "~slow-build": "cyan"}
INTRODUCTION = f"""
  The DAG {DAG_ID} runs three times, all at once:
    ~hello-world   a build that succeeds
    ~always-fails  a build that fails
    ~slow-build    a build whose worker is killed, just after the build was started
  Then the DAG {LOAD_DAG_ID} runs ~hello-world, and brings what it finds into a table.
"""

Scene = Iterator[str]
Task = dict[str, Any]


class Surprise(Exception):
    """A scene did not go as it does if all is well."""


def all_scenes(local: LocalAirflow, screen: Screen, apify: Emulator) -> None:
    """
    Play all scenes against the emulator.

    :raises Surprise: one did not go as it should.
    """
    screen.show(INTRODUCTION)
    delay_answer_to_start(apify)
    runs = [Run(local, screen, actor, style) for actor, style in STYLES.items()]
    good, bad, slow = runs
    build_and_run = chain(build_that_succeeds(good), run_into_a_table(local, screen))
    play([build_and_run, build_that_fails(bad), worker_that_is_killed(slow, apify)], screen, LIMIT)
    show_table(local.home / DATABASE, screen)


def one_scene(local: LocalAirflow, screen: Screen, actor: str) -> None:
    """
    Build an Actor on Apify.

    :raises Surprise: the build did not succeed.
    """
    play([build_that_succeeds(Run(local, screen, actor))], screen, LIMIT_ON_APIFY)


def play(scenes: list[Scene], screen: Screen, limit: float) -> None:
    """
    Let the scenes go on side by side until all are over.

    :param limit: seconds after which that is given up.
    :raises Surprise: a scene did not go as it should.
    """
    deadline = time.monotonic() + limit
    while scenes:
        waits = {scene: what for scene in scenes if (what := next(scene, None)) is not None}
        scenes = list(waits)
        screen.wait_for("   ".join(waits.values()))
        if time.monotonic() > deadline:
            raise Surprise(f"Not over after {limit:.0f} s: {', '.join(waits.values())}.")
        time.sleep(INTERVAL)


class Run:
    """One run of a DAG, for one Actor."""

    dag_id, task_key = DAG_ID, TASK_ID

    def __init__(self, local: LocalAirflow, screen: Screen, actor: str, style: str = "green") -> None:
        self._local, self._screen, self._actor, self._style = local, screen, actor, style
        self.id = local.trigger(self.dag_id, self._conf())

    def _conf(self) -> dict[str, Any]:
        return {"actor": self._actor} if self._actor in STYLES else {"own_actor": self._actor}

    def say(self, line: str) -> None:
        self._screen.say(line, label=f"{self._actor:13}  ", style=self._style)

    def say_ended(self, summary: dict[str, Any]) -> None:
        """Say how the build ended: what was built, for how long, at what cost, and where to see it."""
        seconds, usd = summary["duration_seconds"] or 0, summary["usage_total_usd"] or 0
        build = f"build {summary['build_number']} of {summary['actor_name']}"
        self.say(f"{summary['status']}: {build}, {seconds:.1f} s, cost {usd:.4f} USD.")
        self.say(f"Its page{' while the demo runs' if self._actor in STYLES else ''}: {summary['console_url']}")

    def show_failure(self, try_number: int) -> None:
        """Show what this try's log says at its end, without the middle."""
        records = self._local.task_log_records(self.dag_id, self.id, TASK_ID, try_number)
        errors = [error for record in records for error in record.get("error_detail") or ()]
        if not errors:
            raise Surprise(f"{self._actor}: the task has failed, but not because of its build.")
        lines = errors[-1]["exc_value"].splitlines()
        for line in [*lines[:3], "...", *lines[-5:]]:
            self._screen.show(f"         | {line}", style="dim")

    def task(self) -> Task:
        """The newest try of the task that builds or runs the Actor."""
        return self._local.tasks(self.dag_id, self.id).get(self.task_key) or {"state": None, "try_number": 0}

    def until(self, reached: Callable[[Task], bool], what: str) -> Iterator[str]:
        """
        Wait until this is true of the task.

        :raises Surprise: the run has ended without that.
        """
        while not reached(task := self.task()):
            if self.ended():
                raise Surprise(f"{self._actor}: the task is {task['state']}.\n{self._local.log_end(task)}")
            yield f"{self._actor}: {what}"

    def until_ended(self) -> Iterator[str]:
        """Wait for the tasks behind it, too."""
        while not self.ended():
            yield f"{self._actor}: the next task"

    def ended(self) -> str | None:
        """How the run of the DAG has ended, if it has."""
        state = self._local.run_state(self.dag_id, self.id)
        return state if state in ("success", "failed") else None

    def xcom(self, key: str) -> Any:
        return self._local.xcom(self.dag_id, self.id, TASK_ID, key)

    def process(self) -> int | None:
        """The process that executes the task, once there is one."""
        task = self.task()
        return int(task["pid"]) if task["state"] == "running" and task["pid"] else None


class LoadRun(Run):
    """One run of the DAG that runs an Actor and loads its items."""

    dag_id, task_key = LOAD_DAG_ID, f"{RUN_TASK}[0]"

    def _conf(self) -> dict[str, Any]:
        home = self._local.home
        return {"actors": [self._actor], "directory": f"file://{home}/items", "database": f"{home}/{DATABASE}"}

    def xcom(self, key: str, task_id: str = RUN_TASK) -> Any:
        return self._local.xcom(self.dag_id, self.id, task_id, key, map_index=0)


def build_that_succeeds(run: Run) -> Scene:
    yield from run.until(is_deferred, "a worker starts the build")
    run.say(f"Build {run.xcom('build_number')} runs on Apify, and its task is deferred:")
    run.say("Airflow's triggerer waits for it, as it can for a thousand others. No worker is held.")
    yield from run.until(has_succeeded, "deferred, no worker is held")
    run.say_ended(run.xcom("summary"))
    yield from run.until_ended()
    run.say("The next task, report, has used what the build has passed on.")


def build_that_fails(run: Run) -> Scene:
    yield from run.until(lambda task: has_failed(task, 1), "deferred, no worker is held")
    run.say("FAILED, and so its task has failed. The task's log shows the end of the build's log:")
    run.show_failure(1)
    run.say("Two retries are left, which start a fresh build each. The demo does not wait for them.")


def worker_that_is_killed(run: Run, apify: Emulator) -> Scene:
    while not (builds := builds_of(apify, "~slow-build")) or not (process := run.process()):
        yield "~slow-build: a worker starts the build"
    build = builds[0]
    run.say(f"Apify has started build {build['buildNumber']}, but its answer has not reached the worker yet.")
    run.say(f"Now the worker is killed: kill -9 {' '.join(map(str, kill_worker(process)))}")
    run.say("So Airflow does not know the id of this build.")
    yield from run.until(lambda task: has_failed(task, 1), "Airflow has not noticed yet that the worker is dead")
    run.say("Airflow has noticed, and starts a second try of the task. A second build, too?")
    yield from run.until(lambda task: is_deferred(task) or has_succeeded(task), "the second try begins")
    run.say(f"No: the second try has found build {run.xcom('build_number')}, and continues to wait for it, deferred.")
    yield from run.until(has_succeeded, "deferred, no worker is held")
    summary = run.xcom("summary")
    run.say_ended(summary)
    starts = sum(request.method == "POST" and "~slow-build" in request.path for request in apify.requests)
    if summary["build_id"] != build["id"] or starts != 1:
        raise Surprise(f"~slow-build: build {build['id']} became {summary['build_id']}, with {starts} starts at Apify.")
    run.say(f"Build id before the kill: {build['id']}, after it: {summary['build_id']}. Starts at Apify: {starts}.")


def run_into_a_table(local: LocalAirflow, screen: Screen) -> Scene:
    run = LoadRun(local, screen, "~hello-world")
    run.say(f"Now that it is built, the DAG {LOAD_DAG_ID} runs it.")
    yield from run.until(is_deferred, "a worker starts the run")
    run.say(f"Run {run.xcom('run_id')} scrapes on Apify, and its task is deferred, too.")
    yield from run.until(has_succeeded, "deferred, no worker is held")
    summary = run.xcom("summary")
    seconds, usd = summary["duration_seconds"] or 0, summary["usage_total_usd"] or 0
    run.say(f"{summary['status']}: {summary['status_message']} {seconds:.1f} s, cost {usd:.4f} USD so far.")
    yield from run.until_ended()
    if run.ended() != "success":
        raise Surprise(f"The run {run.id} of {LOAD_DAG_ID} has failed.")
    written = run.xcom("return_value", FILES_TASK)
    run.say(f"Its {written['items']} items went to files, and from there into a table.")


def show_table(database: Path, screen: Screen) -> None:
    """Show what has come of it all."""
    with duckdb.connect(database, read_only=True) as db:
        table = db.sql("SELECT title, price, url FROM products ORDER BY price, title")
        screen.show(f"\nThe table products in {database.name} has {len(table)} rows. The cheapest:")
        for title, price, url in table.limit(3).fetchall():
            screen.show(f"  {title:12} {price:6.2f}  {url}")


def delay_answer_to_start(apify: Emulator) -> None:
    """Let Apify start the build of ~slow-build, and say so only a minute later."""
    path = "/v2/acts/~slow-build/builds"
    apify.add_fault(Fault("delay", method="POST", path=path, seconds=60, after_work=True))


def kill_worker(process: int) -> tuple[int, int]:
    """Kill the process that executes a task, and the one that watches over it."""
    supervisor = psutil.Process(process).ppid()
    for pid in (supervisor, process):
        os.kill(pid, signal.SIGKILL)
    return supervisor, process


def is_deferred(task: Task) -> bool:
    return bool(task["state"] == "deferred")


def has_succeeded(task: Task) -> bool:
    return bool(task["state"] == "success")


def has_failed(task: Task, try_number: int) -> bool:
    """Whether this try has failed; a later one may have begun."""
    return bool(task["try_number"] > try_number or task["state"] in ("up_for_retry", "failed"))


def builds_of(apify: Emulator, actor: str) -> list[dict[str, Any]]:
    """What Apify lists."""
    token = {"Authorization": f"Bearer {apify.token}"}
    answer = httpx.get(f"{apify.url}/v2/acts/{actor}/builds", headers=token, trust_env=False).raise_for_status()
    return list(answer.json()["data"]["items"])
