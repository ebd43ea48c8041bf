"""Bursts of deferred builds of seconds on busy cores, without retries: how many tasks Airflow itself fails."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow_provider_apify.emulator import Actor
from bench.report import Report, Setting
from bench.scale import common, servers
from rig.local_airflow import LocalAirflow

#: Builds at once in the largest burst, and seconds that the longest of them takes; the shortest takes 1.
TASKS = 200
BUILD_SECONDS = 6.0
LIMIT = 600.0
#: Parts of the largest burst, and how often each is triggered.
BURSTS = ((0.1, 5), (0.4, 2), (1.0, 1))

SETTINGS = (
    Setting("SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME", "1", "Airflow's default; the demo has less"),
    Setting("SCHEDULER__SCHEDULER_HEARTBEAT_SEC", "5", "Airflow's default; the demo has less"),
    Setting("SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD", "30", "Airflow's default; the demo has less"),
    Setting("SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT", "300", "Airflow's default; the demo has less"),
    Setting("SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL", "300", "Airflow's default; the demo has less"),
    Setting("TRIGGERER__JOB_HEARTBEAT_SEC", "5", "Airflow's default; the demo has less"),
    Setting("TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD", "30", "Airflow's default; the demo has less"),
    Setting("WORKERS__MIN_HEARTBEAT_INTERVAL", "5", "Airflow's default; the demo has less"),
    Setting("DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL", "300", "the DAGs do not change, and parsing takes CPU"),
)

#: When the scheduler reads that a task's process has ended.
_EXECUTOR_EVENT = re.compile(
    r"(\d{4}-\d\d-\d\dT[\d:.]+)\S* .*Received executor event with state success .*"
    r"dag_id='(.+?)'.*run_id='(.+?)'.*map_index=(\d+)"
)
_STATE = re.compile(r"state attribute is (\w+)")


def run(tasks: int, build_seconds: float, limit: float, say: common.Say) -> Report:
    bursts = [(max(1, round(part * tasks)), times) for part, times in BURSTS]
    longest = round(build_seconds)
    report = Report(f"bursts of up to {tasks} deferred builds of 1 to {longest} s, no retries, all cores busy")
    report.settings = SETTINGS
    env = {
        **common.environment(SETTINGS, tasks=0),
        "SCALE_BURSTS": " ".join(str(size) for size, _ in bursts),
        "SCALE_LONGEST": str(longest),
    }
    # With so much to do at a time, components end because sqlite is locked.
    with (
        common.workspace(report, say) as home,
        common.apify(tasks, build_seconds) as emulator,
        servers.postgresql(servers.find_postgresql()) as database,
    ):
        env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"postgresql+psycopg2://{database}"
        for seconds in range(1, longest + 1):
            emulator.add_actor(Actor(f"takes-{seconds}", build_seconds=seconds))
        with LocalAirflow(home, common.DAGS, env=env, timeout=120, say=say) as local:
            common.prepare(local, emulator)
            with _busy_cores():
                for size, times in bursts:
                    for _ in range(times):
                        run_id = local.trigger(dag_id := f"scale_short_{size}")
                        state = common.wait(local, emulator, dag_id, run_id, limit, say)
                        say(f"{size} builds: {state}; load {os.getloadavg()[0]:.1f}")
                report.facts["load at the end (1 and 5 minutes)"] = "{:.1f}, {:.1f}".format(*os.getloadavg())
            for size, times in bursts:
                _judge(report, local, home, f"scale_short_{size}", f"{times} x {size}")
            total = sum(size * times for size, times in bursts)
            report.equal("builds, one for each task", len(emulator.builds), total)
    return report


def _judge(report: Report, local: LocalAirflow, home: Path, dag_id: str, name: str) -> None:
    """Add what became of all runs of one DAG, and how early its triggers fired against the scheduler's news."""
    deferred = _logged(home, dag_id, "attempt=1.log", "Pausing task as DEFERRED")
    fired = _logged(home, dag_id, "attempt=1.log.trigger.*.log", "Trigger fired event")
    read = _executor_events(home / "scheduler.log", dag_id)
    states: collections.Counter[str] = collections.Counter()
    failed = 0
    early: list[float] = []
    events = local.api("GET", "/eventLogs", params={"event": "state mismatch", "dag_id": dag_id, "limit": 1000})
    own = {(entry["run_id"], entry["map_index"]): entry for entry in events["event_logs"]}
    for run_id in {run_id for run_id, _ in deferred}:
        for task in local.tasks(dag_id, run_id).values():
            key = (run_id, task["map_index"])
            failed += task["state"] != "success"
            if key in own:
                found = _STATE.search(own[key]["extra"] or "")
                states[found[1] if found else "unknown"] += 1
                if key in fired and key in deferred:
                    early.append(fired[key] - deferred[key])
    report.equal(f"{name}: tasks that failed", failed, 0)
    report.facts |= {
        f"{name}: failed by Airflow itself, by the state that it found": dict(states) or "none",
        f"{name}: seconds from the deferral to the event": _least_and_most(_between(deferred, fired)),
        f"{name}: the same of those that Airflow failed": _least_and_most(early) or "none",
        f"{name}: seconds from the deferral to the scheduler's news": _least_and_most(_between(deferred, read)),
    }


def _least_and_most(values: list[float]) -> dict[str, float]:
    return {"count": len(values), "min": round(min(values), 2), **common.spread(values)} if values else {}


def _between(before: dict[Any, float], after: dict[Any, float]) -> list[float]:
    return [after[key] - before[key] for key in before if key in after]


def _logged(home: Path, dag_id: str, file: str, event: str) -> dict[tuple[str, int], float]:
    """When the tasks of a DAG first logged ``event``, by run and map index."""
    found: dict[tuple[str, int], float] = {}
    for path in home.glob(f"logs/dag_id={dag_id}/run_id=*/task_id=build/map_index=*/{file}"):
        run_id, index = (path.parents[level].name.partition("=")[2] for level in (2, 0))
        for line in path.read_text().splitlines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if record["event"].startswith(event):
                    found[run_id, int(index)] = _seconds(record["timestamp"])
                    break
    return found


def _executor_events(log: Path, dag_id: str) -> dict[tuple[str, int], float]:
    found: dict[tuple[str, int], float] = {}
    for line in log.read_text(errors="replace").splitlines():
        if (match := _EXECUTOR_EVENT.search(line)) and match[2] == dag_id:
            found.setdefault((match[3], int(match[4])), _seconds(match[1] + "+00:00"))
    return found


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()


@contextlib.contextmanager
def _busy_cores() -> Iterator[None]:
    """Keep every core busy, as other tasks do."""
    command = [sys.executable, "-c", "while True: pass"]
    busy = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]
    try:
        time.sleep(1)
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()
