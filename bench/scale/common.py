"""What the parts share: the run of N builds, the meter beside it, and what must be true afterwards."""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from airflow_provider_apify.emulator import Emulator
from airflow_provider_apify.jobs.start import Fingerprint
from bench.report import Report, Setting
from rig.local_airflow import LocalAirflow
from rig.waiting import wait_until

HERE = Path(__file__).resolve().parent
DAGS = HERE / "dags"
DAG_ID, TASK_ID = "scale_builds", "build"
BUILD_MEMORY_MBYTES = 4096

Say = Callable[[str], None]


def environment(settings: Iterable[Setting], tasks: int, nothing: int = 0) -> dict[str, str]:
    """Variables for Airflow's components; the settings that are none of Airflow's have no ``__``."""
    return {
        **{f"AIRFLOW__{setting.name}": setting.value for setting in settings if "__" in setting.name},
        # Where the scheduler finds airflow_local_settings.
        "PYTHONPATH": str(HERE / "preload"),
        "SCALE_TASKS": str(tasks),
        "SCALE_NOTHING": str(nothing),
    }


@contextlib.contextmanager
def workspace(report: Report, say: Say) -> Iterator[Path]:
    """Give a directory for everything that Airflow writes; it stays unless all claims hold."""
    home = Path(tempfile.mkdtemp(prefix="airflow-scale-"))
    try:
        yield home
    finally:
        if report.holds:
            shutil.rmtree(home, ignore_errors=True)
        else:
            say(f"the logs are in {home}")


@contextlib.contextmanager
def apify(tasks: int, build_seconds: float) -> Iterator[Emulator]:
    """Apify with memory for all builds at once."""
    with Emulator(build_seconds=build_seconds, memory_mbytes=tasks * BUILD_MEMORY_MBYTES) as emulator:
        yield emulator


def prepare(local: LocalAirflow, emulator: Emulator) -> None:
    local.add_connection(host=emulator.url, password=emulator.token)
    local.wait_for_dag(DAG_ID, timeout=120)


class Meter:
    """
    CPU seconds of each component, and the most memory of each triggerer's two processes.

    Runs in a thread inside the ``with`` block. CPU counts children that have ended, too: tasks are children of the
    scheduler's (or of Celery's) workers.
    """

    def __init__(self, components: Callable[[], dict[str, int]], every: float = 1.0) -> None:
        self._components, self._every = components, every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._before: dict[str, float] = {}
        self._after: dict[str, float] = {}
        self._triggerer_before: dict[str, float] = {}
        self._triggerer_after: dict[str, float] = {}
        self.peak_mb: dict[str, float] = {}

    def __enter__(self) -> Meter:
        self._sample()
        self._before, self._triggerer_before = dict(self._after), dict(self._triggerer_after)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()

    @property
    def cpu(self) -> dict[str, float]:
        """CPU seconds inside the block by component, and those of this process under ``emulator``."""
        return {name: round(spent - self._before.get(name, 0), 1) for name, spent in self._after.items()}

    @property
    def triggerer_cpu(self) -> dict[str, float]:
        before = self._triggerer_before
        return {name: round(spent - before.get(name, 0), 1) for name, spent in self._triggerer_after.items()}

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            self._sample()

    def _sample(self) -> None:
        spent: dict[int, float] = collections.defaultdict(float)
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, OSError):
                times = process.cpu_times()
                spent[os.getsid(process.pid)] += sum(times[:4])  # user, system, and the same of ended children
        for name, pid in self._components().items():
            self._after[name] = max(self._after.get(name, 0.0), spent.get(pid, 0.0))
            if name.startswith("triggerer"):
                self._sample_triggerer(name, pid)
        self._after["emulator"] = sum(psutil.Process().cpu_times()[:2])

    def _sample_triggerer(self, name: str, pid: int) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            supervisor = psutil.Process(pid)
            for part, process in [("supervisor", supervisor), *(("runner", child) for child in supervisor.children())]:
                key = f"{name} {part}"
                self.peak_mb[key] = max(self.peak_mb.get(key, 0.0), round(process.memory_info().rss / 2**20, 1))
                self._triggerer_after[key] = sum(process.cpu_times()[:2])


def wait(local: LocalAirflow, emulator: Emulator, dag_id: str, run: str, limit: float, say: Say) -> str:
    """
    Wait for the end of a run: its state, or that it has none yet.

    Asks seldom, since that takes from what is measured, and says every 30 seconds how far it is.
    """
    said, state = time.monotonic(), ""

    def over() -> bool:
        nonlocal said, state
        if time.monotonic() - said >= 30:
            said = time.monotonic()
            builds = emulator.builds
            ended = sum(bool(build["finishedAt"]) for build in builds)
            say(
                f"{len(builds)} builds started, {ended} of them ended, {_succeeded(local, dag_id, run)} tasks succeeded"
            )
        state = local.run_state(dag_id, run)
        return state in ("success", "failed") or bool(local.dead)

    with contextlib.suppress(TimeoutError):
        wait_until(over, "the run is over", limit, every=2)
    return state if state in ("success", "failed") else f"still {state}"


def _succeeded(local: LocalAirflow, dag_id: str, run: str) -> int:
    path = f"/dags/{dag_id}/dagRuns/{run}/taskInstances"
    return int(local.api("GET", path, params={"state": "success", "limit": 1})["total_entries"])


def check(
    report: Report, local: LocalAirflow, emulator: Emulator, run: str, state: str, tasks: int
) -> dict[int, Sequence[float]]:
    """
    Add what must be true of a run of ``tasks`` builds, and what the emulator and Airflow recorded of it.

    Returns, for each map index, when the triggerer began each long-poll of that task's build.
    """
    instances = sorted(local.tasks(DAG_ID, run).values(), key=lambda task: task["map_index"])
    builds = {build["id"]: build for build in emulator.builds}
    requests = emulator.requests
    starts = [request for request in requests if request.method == "POST" and request.path.endswith("/builds")]
    aborts = [request for request in requests if request.path.endswith("/abort")]
    report.equal("the run succeeded", state, "success")
    report.equal("task instances that succeeded", _count(instances, "state", "success"), tasks)
    report.equal("builds in the ledger", len(builds), tasks)
    report.equal("of them succeeded", _count(builds.values(), "status", "SUCCEEDED"), tasks)
    report.equal("requests that start a build", len(starts), tasks)
    report.equal("requests that abort one", len(aborts), 0)

    # Airflow itself fails a try if a task is so short that the scheduler hears of its end too late.
    retried = sum(task["try_number"] > 1 for task in instances)
    own = local.api("GET", "/eventLogs", params={"event": "state mismatch", "limit": 1})["total_entries"]
    report.claim("task instances tried again, at most as often as Airflow failed them itself", retried, retried <= own)
    report.facts["tries that Airflow failed itself (state mismatch)"] = own

    values = _xcoms(local, run, instances)
    began = _moment(local.api("GET", f"/dags/{DAG_ID}/dagRuns/{run}")["start_date"])
    # The provider marks each build with the fingerprint of the task's first attempt.
    marks = [Fingerprint.of(DAG_ID, run, began, TASK_ID, task["map_index"], epoch=1) for task in instances]
    wrong = sum(not _is_own(builds, value, mark) for value, mark in zip(values, marks, strict=True))
    report.equal("task instances whose XComs differ from the ledger", wrong, 0)
    polls = _polls(requests)
    _watching(report, polls, builds)
    _delays(report, instances, values, builds)
    report.facts["requests by all, per build"] = round(len(requests) / max(1, len(builds)), 2)
    return {task["map_index"]: polls[value[0]] for task, value in zip(instances, values, strict=True)}


def _xcoms(local: LocalAirflow, run: str, instances: Sequence[dict[str, Any]]) -> list[tuple[Any, Any]]:
    """Each task's returned build id and summary."""

    def read(task: dict[str, Any]) -> tuple[Any, Any]:
        index = task["map_index"]
        try:
            build_id = local.xcom(DAG_ID, run, TASK_ID, map_index=index)
            return build_id, local.xcom(DAG_ID, run, TASK_ID, "summary", index)
        except KeyError:
            return None, None

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(read, instances))


def _is_own(builds: dict[str, Any], value: tuple[Any, Any], mark: Fingerprint) -> bool:
    build_id, summary = value
    build = builds.get(build_id)
    if build is None or Fingerprint.found_in(build["meta"]["userAgent"]) != mark:
        return False
    expected = {"build_id": build["id"], "build_number": build["buildNumber"], "status": build["status"]}
    return bool(expected.items() <= summary.items() and summary["stats"] == build["stats"])


def _polls(requests: Sequence[Any]) -> dict[str, list[float]]:
    polls: dict[str, list[float]] = collections.defaultdict(list)
    for request in requests:
        if "waitForFinish" in request.query and request.method == "GET":
            polls[request.path.rsplit("/", 1)[-1]].append(request.at)
    return polls


def _watching(report: Report, polls: dict[str, list[float]], builds: dict[str, Any]) -> None:
    spans = [
        (min(polls[key]), _seconds(build["finishedAt"])) for key, build in builds.items() if polls[key] and _over(build)
    ]
    report.equal("builds that the triggerer asked for", len(spans), len(builds))
    changes = sorted(change for begin, end in spans if begin < end for change in ((begin, 1), (end, -1)))
    watched = itertools.accumulate((change for _, change in changes), initial=0)
    report.facts["most builds watched at the same time"] = max(watched)
    minutes = sum(_seconds(b["finishedAt"]) - _seconds(b["startedAt"]) for b in builds.values() if _over(b)) / 60
    polled = sum(len(of_build) for of_build in polls.values())
    report.facts["long-polls per build and minute"] = round(polled / max(minutes, 0.01), 2)
    firsts = [min(polls[key]) - _seconds(build["startedAt"]) for key, build in builds.items() if polls[key]]
    report.facts["seconds from a build's start to the first long-poll"] = spread(firsts)


def _delays(
    report: Report, instances: Sequence[dict[str, Any]], values: Sequence[tuple[Any, Any]], builds: dict[str, Any]
) -> None:
    ends = [
        (_seconds(builds[build_id]["finishedAt"]), task)
        for task, (build_id, _) in zip(instances, values, strict=True)
        if build_id in builds and _over(builds[build_id])
    ]
    # An event of the trigger makes a deferred task scheduled, in this moment.
    events = [_seconds(task["scheduled_when"]) - end for end, task in ends if task["scheduled_when"]]
    report.facts["seconds from a build's end to the event's arrival"] = spread(events)
    tasks = [_seconds(task["end_date"]) - end for end, task in ends if task["end_date"]]
    report.facts["seconds from a build's end to its task's end"] = spread(tasks)
    starts = [_seconds(build["startedAt"]) for build in builds.values()]
    if starts:
        report.facts["seconds from the first build's start to the last one's"] = round(max(starts) - min(starts), 1)


def spread(values: Iterable[float]) -> dict[str, float]:
    ordered = sorted(values)
    if not ordered:
        return {}
    at = {"median": 0.5, "p95": 0.95, "max": 1.0}
    return {name: round(ordered[min(len(ordered) - 1, int(part * len(ordered)))], 2) for name, part in at.items()}


def _count(items: Iterable[dict[str, Any]], key: str, value: str) -> int:
    return sum(item[key] == value for item in items)


def _over(build: dict[str, Any]) -> bool:
    return bool(build["finishedAt"])


def _seconds(moment: str) -> float:
    return _moment(moment).timestamp()


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))  # Python 3.10 reads no Z
