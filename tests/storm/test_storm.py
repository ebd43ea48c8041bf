"""Promises 1 to 5 at once: 200 builds and runs, while answers get lost and workers, triggerers, schedulers die."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import psutil
import pytest

from airflow_provider_apify.emulator import Actor, Emulator, Fault
from airflow_provider_apify.jobs.start import Fingerprint
from rig.local_airflow import LocalAirflow
from rig.tables import table
from tests.kinds import TERMINAL, Builds, Runs
from tests.rows import count_jobs
from tests.system.conftest import CANARY
from tests.system.test_token_stays_inside import places_of

#: How many jobs of each kind.
JOBS = 100
#: A task and its map index.
Attempt = tuple[str, int]
ATTEMPTS: list[Attempt] = [(task_id, index) for task_id in ("build", "run") for index in range(JOBS)]
#: Seconds of the quicker Actor's jobs; those of the other take a quarter longer.
JOB_SECONDS = 20.0
#: Seconds from the start of the run to the end of its last task.
LIMIT = 360.0
#: How many processes are killed: a task's own; one with its supervisor; components with all their children.
KILLS = {"runner": 24, "worker": 6, "triggerer": 2, "scheduler": 1}

#: What the system tests have small, so that Airflow notices things at once, costs time that 400 workers' stints need.
CALM = {
    "CORE__MAX_ACTIVE_TASKS_PER_DAG": "1000",
    "CORE__PARALLELISM": "16",
    "DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "60",
    "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
    "DAG_PROCESSOR__REFRESH_INTERVAL": "600",
    "WORKERS__MIN_HEARTBEAT_INTERVAL": "5",
}

START, LIST = ("POST", "/v2/acts/*/*s"), ("GET", "/v2/acts/*/*s")
ACTOR, POLL = ("GET", "/v2/acts/~storm-?"), ("GET", "/v2/actor-*s/*")
LATER = {"Retry-After": "1"}
#: What each request may meet: a probability, the kind, the rest. A start that is carried out late, and an Actor's list
#: that is behind for longer than a retry takes to come, could cost a second job: nobody can know of the first one.
WEATHER: dict[tuple[str, str], list[tuple[float, str, dict[str, Any]]]] = {
    START: [
        (0.08, "lost-answer", {}),
        (0.03, "reset", {}),
        (0.03, "reset", {"after_work": True}),
        (0.03, "status", {"status": 500}),
        (0.03, "status", {"status": 502, "after_work": True}),
        (0.03, "status", {"status": 503, "headers": LATER}),
        (0.04, "status", {"status": 429, "headers": LATER}),
        (0.02, "html", {"after_work": True}),
        (0.03, "cut-json", {}),
        (0.05, "delay", {"seconds": 3, "after_work": True}),
        (0.03, "drip", {"seconds": 2}),
        (0.05, "unknown-status", {}),
    ],
    LIST: [
        (0.04, "status", {"status": 500}),
        (0.04, "status", {"status": 429, "headers": LATER}),
        (0.04, "reset", {}),
        (0.04, "html", {}),
        (0.04, "cut-json", {}),
        (0.04, "delay", {"seconds": 1}),
        (0.30, "stale-list", {"seconds": 2}),
        (0.05, "unknown-status", {}),
    ],
    ACTOR: [
        (0.03, "status", {"status": 503, "headers": LATER}),
        (0.03, "status", {"status": 429, "headers": LATER}),
        (0.03, "reset", {}),
        (0.03, "html", {}),
        (0.03, "drip", {"seconds": 1}),
    ],
    POLL: [
        (0.04, "lost-answer", {}),
        (0.04, "reset", {}),
        (0.04, "status", {"status": 500}),
        (0.04, "status", {"status": 502}),
        (0.04, "status", {"status": 429, "headers": LATER}),
        (0.04, "html", {"status": 200}),
        (0.04, "cut-json", {}),
        (0.04, "delay", {"seconds": 1}),
        (0.04, "drip", {"seconds": 1}),
        (0.05, "missing", {"seconds": 2}),
    ],
}
#: Tries that the scheduler fails because their worker is done while they count as queued or running, in its log, and
#: those of a killed runner, for which that is right. The rest are Airflow's own failures: the end of the stint before a
#: deferral is taken for that of the stint after it.
GIVEN_UP = re.compile(r"ti_id=(\S+)> finished with state success, but the task instance's state attribute is")
KILLED = re.compile(r"Workload finished .*SIGKILL.* workload_id=(\S+)")


@pytest.fixture
def apify(seed: int) -> Iterator[Emulator]:
    settings: dict[str, Any] = {"memory_mbytes": 8192 * 2 * JOBS, "max_concurrent_jobs": 4 * JOBS}
    with Emulator(token=CANARY, build_seconds=JOB_SECONDS, run_seconds=JOB_SECONDS, seed=seed, **settings) as emulator:
        for index, slowness in enumerate([1.0, 1.25]):
            emulator.add_actor(Actor(f"storm-{index}", slowness=slowness, run_slowness=slowness))
        yield emulator


@pytest.fixture
def airflow(apify: Emulator) -> Iterator[LocalAirflow]:
    home = Path(tempfile.mkdtemp(prefix="airflow-storm-"))
    env = {"STORM_JOBS": str(JOBS), **{f"AIRFLOW__{key}": value for key, value in CALM.items()}}
    with LocalAirflow(home, Path(__file__).with_name("dags"), env=env) as local:
        local.add_connection(host=apify.url, password=CANARY)
        local.wait_for_dag("storm")
        yield local
    shutil.rmtree(home, ignore_errors=True)


@pytest.mark.timeout(LIMIT + 180)
def test_storm(apify: Emulator, airflow: LocalAirflow, seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    faults = [
        apify.add_fault(Fault(kind, *request, times=None, probability=probability, **rest))
        for request, kinds in WEATHER.items()
        for probability, kind, rest in kinds
    ]
    killer = Killer(airflow, random.Random(seed))
    begun = time.monotonic()
    run = airflow.trigger("storm")
    while airflow.run_state("storm", run) not in ("success", "failed") and time.monotonic() < begun + LIMIT:
        time.sleep(0.5)
        killer.strike(progress(apify))
    seconds = time.monotonic() - begun

    tasks = [
        ((task_id, index), state, tries)
        for task_id, index, state, tries in rows_of(
            airflow, "SELECT task_id, map_index, state, try_number FROM task_instance"
        )
    ]
    with capsys.disabled():
        print(report(apify, airflow, seed, seconds, tasks, killer, faults))
    tries_of = {attempt: tries for attempt, _, tries in tasks}

    def tell(attempt: Attempt) -> str:
        return story(airflow, run, attempt, tries_of[attempt])

    troubled = {attempt: state for attempt, state, _ in tasks if state != "success"}
    assert not troubled, "\n".join([str(troubled), *(tell(attempt) for attempt in list(troubled)[:5])])
    assert sorted(attempt for attempt, _, _ in tasks) == ATTEMPTS
    assert seconds < LIMIT
    assert not killer.due

    check_ledger(apify, tell)
    check_xcoms(apify, airflow, tell)
    assert places_of(CANARY, airflow, apify.requests) == []


class Killer:
    """Kills what ``KILLS`` says, in an order and at points of the storm's progress that are left to ``chance``."""

    def __init__(self, airflow: LocalAirflow, chance: random.Random) -> None:
        self._airflow = airflow
        self._chance = chance
        # By progress rather than by the clock, so that a quick machine meets as much as a slow one. A worker is missed
        # after 30 s only: not at the end.
        self.due = sorted((chance.uniform(0.05, 0.8), what) for what, count in KILLS.items() for _ in range(count))
        self.done: Counter[str] = Counter()

    def strike(self, progress: float) -> None:
        """Kill what is due."""
        while self.due and self.due[0][0] <= progress:
            what = self.due[0][1]
            if what in ("triggerer", "scheduler"):
                self._airflow.restart(what, signal.SIGKILL)
            elif not self._kill_task(with_supervisor=what == "worker"):
                return  # no task is running: at the next look
            self.done[what] += 1
            self.due.pop(0)

    def _kill_task(self, *, with_supervisor: bool) -> bool:
        scheduler = psutil.Process(self._airflow.component("scheduler").pid)
        # A queued task whose supervisor dies stays queued until Airflow's limit for that, which is minutes.
        running = {pid for (pid,) in rows_of(self._airflow, "SELECT pid FROM task_instance WHERE state = 'running'")}
        pairs = [
            (worker, runner)
            for worker in scheduler.children()
            for runner in children(worker)
            if runner.pid in running or not with_supervisor
        ]
        if not pairs:
            return False
        worker, runner = self._chance.choice(pairs)
        with suppress(psutil.NoSuchProcess):
            # The supervisor first, or it would tell that the runner has died.
            if with_supervisor:
                worker.kill()
            runner.kill()
        return True


def children(process: Any) -> list[Any]:
    with suppress(psutil.NoSuchProcess):
        return list(process.children())
    return []


def progress(apify: Emulator) -> float:
    """How much has begun and ended, from 0 to 1."""
    jobs = apify.builds + apify.runs
    return (len(jobs) + sum(job["status"] in TERMINAL for job in jobs)) / (2 * len(ATTEMPTS))


def rows_of(airflow: LocalAirflow, query: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{airflow.database}?mode=ro", uri=True)) as database:
        return database.execute(query).fetchall()


def check_ledger(apify: Emulator, tell: Callable[[Attempt], str]) -> None:
    """Every attempt has one job that succeeded, and whatever else there is has been aborted."""
    starts = starts_of(apify)
    assert sorted(starts.values()) == ATTEMPTS
    statuses: dict[Attempt, list[str]] = {attempt: [] for attempt in ATTEMPTS}
    for job in apify.builds + apify.runs:
        statuses[starts[fingerprint(job["meta"]["userAgent"])]].append(job["status"])
    wrong = {attempt: ended for attempt, ended in statuses.items() if {*ended} - {"ABORTED"} != {"SUCCEEDED"}}
    wrong |= {attempt: ended for attempt, ended in statuses.items() if ended.count("SUCCEEDED") > 1}
    assert not wrong, "\n".join([str(wrong), *(tell(attempt) for attempt in list(wrong)[:5])])
    count_jobs(len(ATTEMPTS), sum(ended.count("SUCCEEDED") for ended in statuses.values()))


def check_xcoms(apify: Emulator, airflow: LocalAirflow, tell: Callable[[Attempt], str]) -> None:
    """What a task passed on is what the ledger holds of the one job that bears its fingerprint."""
    starts = starts_of(apify)
    expected: dict[Attempt, dict[str, Any]] = {}
    for kind in (Builds(apify), Runs(apify)):
        for job in kind.jobs:
            if job["status"] == "SUCCEEDED":
                same = {"build_number": job["buildNumber"], "actor_id": job["actId"], "stats": job["stats"]}
                expected[starts[fingerprint(job["meta"]["userAgent"])]] = {
                    "return_value": job["id"],
                    kind.id: job["id"],
                    **same,
                    "summary": {kind.id: job["id"], "status": job["status"], "usage_total_usd": job["usageTotalUsd"]}
                    | same,
                }
    passed_on: dict[Attempt, dict[str, Any]] = {attempt: {"summary": {}} for attempt in ATTEMPTS}
    for task_id, index, key, value in rows_of(airflow, "SELECT task_id, map_index, key, value FROM xcom"):
        if key in expected[task_id, index]:
            passed_on[task_id, index][key] = json.loads(value)
    for attempt, xcoms in passed_on.items():
        xcoms["summary"] = {key: xcoms["summary"].get(key) for key in expected[attempt]["summary"]}
        assert xcoms == expected[attempt], tell(attempt)


def starts_of(apify: Emulator) -> dict[Fingerprint, Attempt]:
    """For which attempt starts with a fingerprint were sent: the tag of a build says so, and max_items of a run."""
    sent: set[tuple[Fingerprint, Attempt]] = set()
    for request in apify.requests:
        query = parse_qs(request.query)
        if request.method == "POST" and request.path.endswith("/builds"):
            attempt = ("build", int(query["tag"][0].removeprefix("index-")))
        elif request.method == "POST" and request.path.endswith("/runs"):
            attempt = ("run", int(query["maxItems"][0]) - 1)
        else:
            continue
        sent.add((fingerprint(request.headers["user-agent"]), attempt))
    assert len({mark for mark, _ in sent}) == len(sent), "a fingerprint that two tasks share"
    return dict(sent)


def fingerprint(user_agent: str) -> Fingerprint:
    found = Fingerprint.found_in(user_agent)
    assert found, user_agent
    return found


def report(
    apify: Emulator,
    airflow: LocalAirflow,
    seed: int,
    seconds: float,
    tasks: list[Any],
    killer: Killer,
    faults: list[Fault],
) -> str:
    jobs = Counter(job["status"] for job in apify.builds + apify.runs)
    log = (airflow.home / "scheduler.log").read_text(errors="replace")
    columns: list[tuple[str, Any]] = [
        ("seed", seed),
        ("attempts", len(tasks)),
        ("succeeded", jobs["SUCCEEDED"]),
        ("other jobs", jobs.total() - jobs["SUCCEEDED"]),
        ("tries", sum(tries for _, _, tries in tasks)),
        ("Airflow's own failures", len(set(GIVEN_UP.findall(log)) - set(KILLED.findall(log)))),
        ("requests", len(apify.requests)),
        *((f"{what}s killed", killer.done[what]) for what in KILLS),
        ("seconds", f"{seconds:.0f}"),
    ]
    fired: Counter[str] = Counter()
    for fault in faults:
        fired[f"{fault.kind} {fault.status}" if fault.kind == "status" else fault.kind] += fault.fired
    faults_fired = f"{fired.total()} faults: " + ", ".join(f"{kind} {count}" for kind, count in fired.most_common())
    return "\n".join(["", table(list(zip(*columns, strict=True)), ">"), faults_fired])


def story(airflow: LocalAirflow, run: str, attempt: Attempt, tries: int) -> str:
    """How the last tries of a task went."""
    task_id, index = attempt
    lines = [f"{task_id}, map index {index}, {tries} tries"]
    for number in range(max(1, tries - 2), tries + 1):
        with suppress(RuntimeError):
            log = airflow.task_log("storm", run, task_id, number, index)
            lines += [f"--- try {number}", *log.splitlines()[-30:]]
    return "\n".join(lines)
