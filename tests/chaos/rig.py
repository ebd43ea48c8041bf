"""
The protocol rig: Airflow's real supervisor and task runner in processes of their own, which can be killed and frozen.

They talk over real sockets to a stub of Airflow's Execution API and to the emulator of Apify.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

from rig.waiting import wait_until
from tests.chaos.airflow_stub import Airflow, Instance
from tests.kinds import Kind
from tests.runner import fire, restored

DAGS = Path(__file__).parent / "dags"

#: Airflow's settings for all workers.
_SETTINGS = {
    "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "1",
    "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
    "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": "http://127.0.0.1:9/",
}


def start_forkserver() -> Any:
    """Start the process that all workers are forked from."""
    context = multiprocessing.get_context("forkserver")
    before = dict(os.environ)
    # The forkserver imports before it hears of our sys.path.
    os.environ.update(_SETTINGS, PYTHONPATH=os.pathsep.join(path for path in sys.path if path))
    try:
        context.set_forkserver_preload(["tests.chaos.worker"])
        probe = context.Process(target=os.getpid)
        probe.start()
        probe.join()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return context


class Worker:
    """The machine that runs one stretch of a try: supervisor and runner."""

    def __init__(self, process: Any) -> None:
        self._process = process
        self.began = time.time()

    def processes(self) -> list[psutil.Process]:
        """The supervisor and the runner, those that are there: the processes of the session that it began."""
        return [process for process in psutil.process_iter() if _session(process.pid) == self._process.pid]

    def freeze(self) -> None:
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        for process in reversed(self.processes()):
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def lose(self) -> None:
        """SIGKILL to all of it at once: nobody is left to tell Airflow."""
        self.freeze()
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.join()

    def kill_runner(self) -> None:
        for process in self.processes():
            if process.pid != self._process.pid:
                process.kill()

    def evict(self) -> None:
        """SIGTERM to the supervisor, as when a pod is taken away."""
        os.kill(self._process.pid, signal.SIGTERM)

    def ends(self, timeout: float = 40) -> None:
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"the worker has not ended within {timeout} s"

    @property
    def exists(self) -> bool:
        return self._process.exitcode is None


class Task:
    """
    One task instance, driven as scheduler, triggerer and user do.

    :param options: of the operator or sensor.
    """

    def __init__(self, rig: Rig, instance: Instance, options: dict[str, Any]) -> None:
        self._rig = rig
        self.options = options
        self.instance = instance
        self.workers: list[Worker] = []

    def start(self) -> Worker:
        """Start the next try: the first, a retry, or the first after a clear."""
        self.instance.schedule_try()
        return self._work()

    retry = start

    def clear(self) -> None:
        """Clear the task; :meth:`start` begins the next attempt, after a running one has been ended."""
        self.instance.clear()

    def mark(self, state: str) -> None:
        self.instance.state = state

    def fire_trigger(self) -> Worker:
        """Run the trigger that the task deferred to and resume the task with its event."""
        self.instance.resume(asyncio.run(fire(self.trigger)))
        return self._work()

    def run_to_end(self) -> str | None:
        """Let the newest try run until it ends, through its deferral; gives the state."""
        self.workers[-1].ends()
        while self.instance.state == "deferred":
            self.fire_trigger().ends()
        return self.instance.state

    def waits_for(self, timeout: float = 20) -> str | None:
        """Wait until the newest try waits for a job, in the worker or deferred; gives its id; ``None``: it ended."""
        worker = self.workers[-1]

        def polls() -> bool:
            # That it is this worker's poll shows in the id that it has passed on, and in the time.
            told = self.instance.told.get(self.instance.try_number, "none")
            return any(
                request.at >= worker.began and request.path.endswith(told) and "waitForFinish" in request.query
                for request in self._rig.kind.requests
            )

        wait_until(lambda: polls() or not worker.exists, "the task waits for its job", timeout, every=0.01)
        if self.instance.state == "deferred" or worker.exists:
            return self.instance.told[self.instance.try_number]
        return None

    def finish(self) -> str | None:
        """Let the job that the newest try comes to wait for succeed; gives the state that the task ends in."""
        if job_id := self.waits_for():
            self._rig.kind.finish(job_id)
        return self.run_to_end()

    @property
    def trigger(self) -> Any:
        """The trigger that the task has deferred to, as it is restored from the database."""
        return restored(SimpleNamespace(**self.instance.deferral))

    @property
    def job_id(self) -> str | None:
        """The job that the task has passed on, the same under both names."""
        xcoms, name = self.instance.xcoms, self._rig.kind.id
        assert xcoms.get("return_value", xcoms.get(name)) == xcoms.get(name)
        return xcoms.get(name)

    @property
    def log(self) -> str:
        return "".join(path.read_text() for path in sorted(self._rig.folder.glob(f"{id(self)}-*.log")))

    def _work(self) -> Worker:
        instance = self.instance
        names = ("id", "task_id", "dag_id", "run_id", "try_number", "map_index")
        log = self._rig.folder / f"{id(self)}-{len(self.workers):02}.log"
        arguments = ({name: getattr(instance, name) for name in names}, json.dumps(self.options))
        from tests.chaos.worker import supervise

        process = self._rig.forkserver.Process(target=supervise, args=(*arguments, self._rig.airflow.url, str(log)))
        process.start()
        self.workers.append(Worker(process))
        return self.workers[-1]


class Rig:
    """An Airflow with its workers, and an Apify whose jobs of one kind its tasks are about."""

    def __init__(self, forkserver: Any, airflow: Airflow, kind: Kind, folder: Path) -> None:
        self.forkserver = forkserver
        self.airflow = airflow
        self.kind = kind
        self.folder = folder
        self.tasks: list[Task] = []

    def task(
        self,
        *,
        dag_id: str = "nightly",
        task_id: str = "task",
        run_id: str = "scheduled__2026-11-23",
        map_index: int = -1,
        retries: int = 0,
        waits_for: str | None = None,
        **options: Any,
    ) -> Task:
        """Make a task that starts a job of ``~hello-world`` and waits for it, if ``options`` do not say otherwise.

        :param waits_for: id of a job of somebody else: then it is a sensor.
        """
        instance = Instance(dag_id=dag_id, task_id=task_id, run_id=run_id, map_index=map_index, retries=retries)
        options = {"kind": self.kind.name, "task_id": task_id, "dag_id": dag_id, "retries": retries, **options}
        if waits_for:
            options[self.kind.id] = waits_for
        else:
            defaults = {"actor_id": "~hello-world", **self.kind.one_request, "wait_for_completion": True}
            options = {**defaults, "mapped": map_index >= 0, **options}
        self.airflow.instances.append(instance)
        self.tasks.append(task := Task(self, instance, options))
        return task

    def stop(self) -> None:
        """Leave no process behind, not even the runner of a supervisor that is gone."""
        for worker in [worker for task in self.tasks for worker in task.workers]:
            worker.lose()


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None
