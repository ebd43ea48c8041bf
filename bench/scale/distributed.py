"""Airflow on Celery, Redis and PostgreSQL, with two workers and two triggerers, of which one is lost."""

from __future__ import annotations

import signal
import time
from functools import partial

from bench.report import Report, Setting
from bench.scale import common, servers
from rig.local_airflow import LocalAirflow
from rig.waiting import allow_open_files

TASKS = 200
BUILD_SECONDS = 120.0
LIMIT = 480.0
WORKERS = {
    name: ("celery", "worker", "--skip-serve-logs", "--celery-hostname", f"{name}@localhost")
    for name in ("worker-a", "worker-b")
}
TRIGGERERS = ("triggerer", "triggerer-2")

SETTINGS = (
    Setting("CORE__EXECUTOR", "CeleryExecutor", "tasks run in Celery's workers, on other machines if need be"),
    Setting("CELERY__WORKER_CONCURRENCY", "4", "tasks at once in each of the two workers; the machine has 2 cores"),
    Setting("CORE__PARALLELISM", "32", "Airflow's default: tasks with Celery at once, queued ones included"),
    Setting("SCHEDULER__MAX_TIS_PER_QUERY", "0", "as many tasks as PARALLELISM allows; 0 = no limit of its own"),
    Setting(
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME", "0.5", "half of Airflow's default: Celery's slots are filled sooner"
    ),
    Setting("SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD", "30", "Airflow's default; the demo has less"),
    Setting("SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT", "300", "Airflow's default; the demo has less"),
    Setting("TRIGGERER__JOB_HEARTBEAT_SEC", "5", "Airflow's default; the demo has less"),
    Setting("TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD", "30", "Airflow's default: a lost triggerer's triggers move"),
    Setting("SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL", "15", "Airflow's default: how often that is looked for"),
)


def run(tasks: int, build_seconds: float, limit: float, say: common.Say) -> Report:
    postgres, redis = servers.find()
    report = Report(f"{tasks} deferred builds of {build_seconds:.0f} s on Celery, one of two triggerers killed")
    files = allow_open_files()
    elsewhere = (
        Setting("max_active_tasks (DAG)", "10000", "16 by default: [core] max_active_tasks_per_dag"),
        Setting("ulimit -n", str(files), "the supervisor keeps a log file open for each trigger, the runner a socket"),
    )
    report.settings = SETTINGS + elsewhere
    with (
        common.workspace(report, say) as home,
        common.apify(tasks, build_seconds) as emulator,
        servers.postgresql(postgres) as database,
        servers.redis(redis) as broker,
    ):
        env = {
            **common.environment(SETTINGS, tasks, nothing=1),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{database}",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+postgresql+psycopg2://{database}",
            "AIRFLOW__CELERY__BROKER_URL": broker,
        }
        with LocalAirflow(home, common.DAGS, env=env, components=WORKERS, say=say) as local:
            # One after the other: by the order of their jobs it is known which is which.
            local.launch("triggerer-2")
            for name in WORKERS:
                local.launch(name)
            for name in WORKERS:
                local.wait_until(partial(_is_ready, local, name), partial("{} is not ready".format, name), 120)
                say(f"{name} is up")
            common.prepare(local, emulator)
            with common.Meter(lambda: local.pids) as meter:
                started = time.monotonic()
                run_id = local.trigger(common.DAG_ID)
                say(f"{tasks} tasks triggered")
                lost, held = _lose_a_triggerer(local, run_id, tasks, limit, say)
                killed_at, killed_after = time.time(), time.monotonic() - started
                state = common.wait(local, emulator, common.DAG_ID, run_id, 3 * limit, say)
                took = time.monotonic() - started
            say(f"the run is over after {took:.0f} s: {state}")
            polls = common.check(report, local, emulator, run_id, state, tasks)
            taken_over = sum(max(polls[index], default=0) > killed_at for index in held)
            report.claim("builds that the killed triggerer had, at least 1", len(held), len(held) > 0)
            report.equal("of them asked for by the other one", taken_over, len(held))
            report.claim(f"seconds from the trigger to the end, at most {limit:.0f}", round(took, 1), took <= limit)
            cpu = meter.cpu
            report.facts |= {
                "killed": f"{lost}, {killed_after:.0f} s after the trigger",
                "seconds from the trigger to the end": round(took, 1),
                "triggerers, peak MB": meter.peak_mb,
                "CPU seconds": cpu,
                "CPU seconds per task": round((sum(cpu.values()) - cpu["emulator"]) / tasks, 2),
            }
    return report


def _is_ready(local: LocalAirflow, worker: str) -> bool:
    log = local.log(worker).read_text(errors="replace")
    if worker in local.dead:
        raise RuntimeError(f"{worker} ended:\n{log[-3000:]}")
    return " ready." in log


def _watched(local: LocalAirflow, run: str) -> dict[str, set[int]]:
    """The map indexes of the deferred tasks that each triggerer has, by its name here; they began in this order."""
    jobs = local.api("GET", "/jobs", params={"job_type": "TriggererJob", "order_by": "start_date"})["jobs"]
    names = {job["id"]: name for job, name in zip(jobs, TRIGGERERS, strict=True)}
    held: dict[str, set[int]] = {name: set() for name in TRIGGERERS}
    for task in local.tasks(common.DAG_ID, run).values():
        if task["state"] == "deferred" and task["triggerer_job"]:
            held[names[task["triggerer_job"]["id"]]].add(task["map_index"])
    return held


def _lose_a_triggerer(local: LocalAirflow, run: str, tasks: int, limit: float, say: common.Say) -> tuple[str, set[int]]:
    """Kill the triggerer that watches most, once half of the builds are watched: its name, and what it had."""
    held: dict[str, set[int]] = {}

    def counts() -> dict[str, int]:
        return {name: len(indexes) for name, indexes in held.items()}

    def half() -> bool:
        held.update(_watched(local, run))
        return sum(counts().values()) >= tasks / 2

    local.wait_until(half, lambda: f"not half of the builds are watched: {counts()}", limit)
    lost = max(held, key=lambda name: len(held[name]))
    local.stop(lost, signal.SIGKILL)
    say(f"{lost} is killed; builds watched by each: {counts()}")
    return lost, held[lost]
