"""A thousand deferred builds in one triggerer, on sqlite and LocalExecutor."""

from __future__ import annotations

import sqlite3
import time

from bench.report import Report, Setting
from bench.scale import common
from rig.local_airflow import LocalAirflow
from rig.waiting import allow_open_files

TASKS = 1000
#: Longer than 1000 starts take (about 150 s on 2 cores), so that all builds are watched at the same time.
BUILD_SECONDS = 230.0
LIMIT = 480.0
#: How many tasks that only defer are measured first, for comparison.
NOTHING = 50

SETTINGS = (
    Setting("TRIGGERER__CAPACITY", "1000", "Airflow's default: how many triggers one triggerer takes"),
    Setting("CORE__PARALLELISM", "16", "tasks at once, but for the deferred; a loop of the scheduler starts so many"),
    Setting("CORE__MAX_MAP_LENGTH", "1024", "Airflow's default: longest list that a task may map over"),
    Setting("CORE__EXECUTE_TASKS_NEW_PYTHON_INTERPRETER", "False", "Airflow's default: tasks are forks"),
    Setting("CORE__DEFAULT_POOL_TASK_SLOT_COUNT", "128", "Airflow's default: deferred tasks leave their slot"),
    Setting("SCHEDULER__MAX_TIS_PER_QUERY", "0", "as many tasks as PARALLELISM allows; 0 = no limit of its own"),
    Setting("SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME", "0.5", "each loop reads all 1000 task instances of the run"),
    Setting("SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD", "30", "Airflow's default; the demo has less"),
    Setting("SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT", "300", "Airflow's default; the demo has less"),
    Setting("SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL", "15", "Airflow's default; the demo has less"),
    Setting("SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL", "300", "Airflow's default; the demo has less"),
    Setting("TRIGGERER__JOB_HEARTBEAT_SEC", "5", "Airflow's default; the demo has less"),
    Setting("TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD", "30", "Airflow's default; the demo has less"),
    Setting("WORKERS__MIN_HEARTBEAT_INTERVAL", "5", "Airflow's default; the demo has less"),
    Setting("DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL", "5", "Airflow's default; the demo has less"),
    Setting("DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL", "300", "the DAGs do not change, and parsing takes CPU"),
)


def run(tasks: int, build_seconds: float, limit: float, say: common.Say) -> Report:
    report = Report(f"{tasks} deferred builds of {build_seconds:.0f} s in one triggerer")
    files = allow_open_files()
    elsewhere = (
        Setting("max_active_tasks (DAG)", "10000", "16 by default: [core] max_active_tasks_per_dag"),
        Setting("ulimit -n", str(files), "the supervisor keeps a log file open for each trigger, the runner a socket"),
        Setting("sqlite journal_mode", "wal", "readers and the writer do not lock each other out"),
        Setting("airflow_local_settings", "preload", "what tasks import (requests, the provider) is imported once"),
    )
    report.settings = SETTINGS + elsewhere
    nothing = min(NOTHING, tasks)
    with common.workspace(report, say) as home, common.apify(tasks, build_seconds) as emulator:
        # The mode is kept in the file, so every component has it.
        with sqlite3.connect(home / "airflow.db") as database:
            database.execute("PRAGMA journal_mode=WAL")
        database.close()
        with LocalAirflow(home, common.DAGS, env=common.environment(SETTINGS, tasks, nothing), say=say) as local:
            common.prepare(local, emulator)
            _compare(report, local, nothing, say)
            with common.Meter(lambda: local.pids) as meter:
                started = time.monotonic()
                run_id = local.trigger(common.DAG_ID)
                say(f"{tasks} tasks triggered")
                state = common.wait(local, emulator, common.DAG_ID, run_id, 3 * limit, say)
                took = time.monotonic() - started
            say(f"the run is over after {took:.0f} s: {state}")
            common.check(report, local, emulator, run_id, state, tasks)
            peak = report.facts["most builds watched at the same time"]
            report.equal("builds watched at the same time", peak, tasks)
            report.claim(f"seconds from the trigger to the end, at most {limit:.0f}", round(took, 1), took <= limit)
            cpu = meter.cpu
            report.facts |= {
                "seconds from the trigger to the end": round(took, 1),
                "triggerer, peak MB": meter.peak_mb,
                "triggerer, CPU seconds": meter.triggerer_cpu,
                "CPU seconds": cpu,
                "CPU seconds per task": round((sum(cpu.values()) - cpu["emulator"]) / tasks, 2),
            }
    return report


def _compare(report: Report, local: LocalAirflow, tasks: int, say: common.Say) -> None:
    """Measure what Airflow's own machinery takes for tasks that only defer for 10 s."""
    local.wait_for_dag("scale_nothing")
    with common.Meter(lambda: local.pids) as meter:
        started = time.monotonic()
        local.wait_for_run("scale_nothing", local.trigger("scale_nothing"), timeout=600)
        took = time.monotonic() - started
    cpu = meter.cpu
    spent = round((sum(cpu.values()) - cpu["emulator"]) / tasks, 2)
    say(f"{tasks} tasks that only defer: {took:.0f} s, {spent} CPU seconds each")
    report.facts["CPU seconds per task that only defers"] = spent
