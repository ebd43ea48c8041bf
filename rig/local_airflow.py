"""
A real Airflow around a block of code: api-server, scheduler, dag-processor, triggerer, on sqlite and LocalExecutor.

Every component is a child of this process in a session of its own, so that stopping is complete:
``airflow standalone`` leaves its children behind when it gets a SIGTERM.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import psutil

from rig.waiting import LOOPBACK, free_ports, wait_until

T = TypeVar("T")

START_TIMEOUT = 120
STOP_GRACE = 5  # seconds between SIGTERM and SIGKILL; the scheduler would wait for its running tasks without end
ENDED = ("success", "failed", "skipped", "upstream_failed", "removed")
#: What the ``airflow`` of each component is called with.
COMPONENTS = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}

#: What makes Airflow quick to notice things. Where a number is not smaller, the reason stands beside it.
QUICK = {
    "CORE__DEFAULT_TASK_RETRY_DELAY": "1",
    "CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "1",
    "CORE__PARALLELISM": "8",
    "DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
    "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",  # a changed file is parsed at once all the same
    "DAG_PROCESSOR__PARSING_PROCESSES": "1",
    "DAG_PROCESSOR__REFRESH_INTERVAL": "1",
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",  # the heartbeat waits for the scheduling loop
    "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
    "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",  # running tasks outlive a restart of the api-server (16 s)
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "2",
    "TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",  # how soon a killed triggerer's triggers move to the next
    "WORKERS__EXECUTION_API_RETRIES": "15",  # these two likewise
    "WORKERS__EXECUTION_API_RETRY_WAIT_MAX": "3",
    "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",  # how soon a running task learns that it was marked or cleared
}


class LocalAirflow:
    """
    Airflow with everything it writes under ``home``; healthy inside the ``with`` block, gone after it.

    :param env: goes to every component and to :meth:`cli`, over the settings made here. Nothing named ``AIRFLOW...``
        comes from the caller's own environment.
    :param components: further kinds that :meth:`launch` can start, and what ``airflow`` is called with.
    :param port: of the api-server; any free one by default.
    :param timeout: seconds that the api-server may take for an answer.
    :param say: gets short lines about progress.
    """

    def __init__(
        self,
        home: Path,
        dags_folder: Path,
        *,
        env: Mapping[str, str] = {},
        components: Mapping[str, Sequence[str]] = {},
        port: int | None = None,
        timeout: float = 30,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.home = Path(home).resolve()
        self.dags_folder = Path(dags_folder).resolve()
        self.database = self.home / "airflow.db"
        self.say = say
        api, worker_logs, trigger_logs = free_ports(3)
        api = port or api
        self.url = f"http://{LOOPBACK}:{api}"
        self.environment = {
            **_callers_environment(self.home),
            "AIRFLOW_HOME": str(self.home),
            **{f"AIRFLOW__{key}": value for key, value in QUICK.items()},
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__HOST": LOOPBACK,
            "AIRFLOW__API__MAXIMUM_PAGE_LIMIT": "10000",
            "AIRFLOW__API__PORT": str(api),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags_folder),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.database}",
            "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
            # Nobody listens on these two: the log servers bind every interface, and all logs are on this disk anyway.
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_logs),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_logs),
            **env,
        }
        self._commands: dict[str, Sequence[str]] = {**COMPONENTS, **components}
        self._components: dict[str, subprocess.Popen[bytes]] = {}
        self._token: str | None = None
        # Without keep-alive there is no pooled connection that a restarted api-server has forgotten.
        self._http = httpx.Client(
            base_url=self.url, trust_env=False, timeout=timeout, limits=httpx.Limits(max_keepalive_connections=0)
        )

    # -- life -------------------------------------------------------------------------------------------------------

    def __enter__(self) -> LocalAirflow:
        started = time.monotonic()
        self.home.mkdir(parents=True, exist_ok=True)
        self._write_keys()
        try:
            # The api-server takes longest, 10 s of CPU, and needs no tables before its first request.
            self._launch("api-server", AIRFLOW__DATABASE__CHECK_MIGRATIONS="False")
            log = self.log("db-migrate")
            with log.open("ab") as output:
                command = [_airflow(), "db", "migrate"]
                migrated = subprocess.run(
                    command, env=self.environment, stdout=output, stderr=subprocess.STDOUT, timeout=START_TIMEOUT
                )
            if migrated.returncode:
                raise RuntimeError(f"airflow db migrate failed:\n{_tail(log)}")
            self.say(f"database ready after {time.monotonic() - started:.0f} s")
            since = datetime.now(timezone.utc)
            for name in COMPONENTS.keys() - {"api-server"}:
                self._launch(name)
            self._wait_healthy(list(COMPONENTS), since, started)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.say(f"Airflow is ready at {self.url} after {time.monotonic() - started:.0f} s")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.say("Stopping Airflow ...")
        self._http.close()
        self._stop(list(self._components), signal.SIGTERM)
        # Ctrl-C can come after a process was started and before it has its name here.
        _kill(
            {process for child in psutil.Process().children() if self._is_ours(child) for process in _family(child.pid)}
        )

    def _is_ours(self, process: Any) -> bool:
        with contextlib.suppress(psutil.Error):
            return bool(process.environ().get("AIRFLOW_HOME") == str(self.home))
        return False

    def component(self, name: str) -> subprocess.Popen[bytes]:
        """The process of ``scheduler``, ``triggerer``, ``api-server``, ``dag-processor`` or one launched later."""
        return self._components[name]

    @property
    def pids(self) -> dict[str, int]:
        """The process of each component, which is also its session."""
        return {name: process.pid for name, process in self._components.items()}

    @property
    def dead(self) -> list[str]:
        """The components that have ended without being stopped."""
        return [name for name, process in self._components.items() if process.poll() is not None]

    def log(self, name: str) -> Path:
        """What a component has written."""
        return self.home / f"{name}.log"

    def restart(self, name: str, kill: signal.Signals = signal.SIGTERM) -> None:
        """
        Stop one component and start it again; returns when it is healthy.

        SIGKILL takes the component's children with it at once, like the loss of a machine: for the scheduler these are
        the LocalExecutor's workers and all running tasks. SIGTERM leaves running tasks 5 s to finish.
        """
        self.stop(name, kill)
        self.launch(name)

    def stop(self, name: str, kill: signal.Signals = signal.SIGTERM) -> None:
        """Stop one component, as :meth:`restart` does, and leave it so."""
        self._stop([name], kill)
        del self._components[name]

    def launch(self, name: str) -> None:
        """
        Start a component that does not run; returns when it is healthy. ``triggerer-2`` is a further triggerer.

        Of the further kinds Airflow does not know whether they are: see :meth:`wait_until`.
        """
        since, started = datetime.now(timezone.utc), time.monotonic()
        self._launch(name)
        if _kind(name) in COMPONENTS:
            self._wait_healthy([name], since, started)

    def _launch(self, name: str, **env: str) -> None:
        with self.log(name).open("ab") as output:
            self._components[name] = subprocess.Popen(
                [_airflow(), *self._commands[_kind(name)]],
                env=self.environment | env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait_healthy(self, names: list[str], since: datetime, started: float) -> None:
        waiting = set(names)
        while waiting:
            for name in names:
                if (code := self._components[name].poll()) is not None:
                    raise RuntimeError(f"{name} ended with exit code {code}:\n{_tail(self.log(name))}")
            healthy = self._healthy(since)
            for name in sorted(name for name in waiting if _kind(name) in healthy):
                waiting.remove(name)
                self.say(f"{name} is up after {time.monotonic() - started:.0f} s")
            if waiting and time.monotonic() - started > START_TIMEOUT:
                logs = "\n".join(f"--- {name}\n{_tail(self.log(name))}" for name in sorted(waiting))
                raise RuntimeError(f"not healthy after {START_TIMEOUT} s: {', '.join(sorted(waiting))}\n{logs}")
            time.sleep(0.2)

    def _healthy(self, since: datetime) -> set[str]:
        """Kinds of components that began after ``since`` and have a heartbeat: a killed one still looks healthy."""
        try:
            report = self._http.get("/api/v2/monitor/health", timeout=5).raise_for_status().json()
        except httpx.HTTPError:
            return set()
        healthy = {"api-server"}
        for key, part in report.items():
            beat = part.get(f"latest_{key}_heartbeat")
            if part["status"] == "healthy" and beat and datetime.fromisoformat(beat) > since:
                healthy.add(key.replace("_", "-"))
        # The report shows one triggerer, whichever was heard of last: a new one among several is known by its job.
        if "triggerer" in healthy and not self._began("TriggererJob", since):
            healthy.remove("triggerer")
        return healthy

    def _began(self, job_type: str, since: datetime) -> bool:
        began = {"job_type": job_type, "start_date_gte": since.isoformat()}
        answer = self._send("GET", "/jobs", params=began)
        return answer.is_success and bool(answer.json()["jobs"])

    def _stop(self, names: list[str], how: signal.Signals) -> None:
        components = [self._components[name] for name in names]
        family = {process for component in components for process in _family(component.pid)}
        try:
            if how != signal.SIGKILL:
                for component in components:
                    component.send_signal(how)
                deadline = time.monotonic() + STOP_GRACE
                for component in components:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        component.wait(max(0.0, deadline - time.monotonic()))
        finally:
            while alive := [
                process
                for process in family.union(*(_family(component.pid) for component in components))
                if _alive(process)
            ]:
                _kill(alive)
            for component in components:
                component.wait()

    def _write_keys(self) -> None:
        """Give all components the same keys, before two of them generate different ones at the same time."""
        config = self.home / "airflow.cfg"
        if not config.exists():
            key = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
            config.write_text(
                f"[core]\nfernet_key = {key}\n"
                f"[api]\nsecret_key = {secrets.token_hex(16)}\n"
                f"[api_auth]\njwt_secret = {secrets.token_hex(32)}\n"
            )
            config.chmod(0o600)

    # -- talking to it ----------------------------------------------------------------------------------------------

    def cli(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """``airflow ARGS``. Log lines precede the answer on stdout, also with ``-o json``."""
        done = subprocess.run([_airflow(), *args], env=self.environment, capture_output=True, text=True)
        if check and done.returncode:
            raise RuntimeError(f"airflow {' '.join(args)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def api(self, method: str, path: str, *, ok: bool = True, **kw: Any) -> Any:
        """JSON of ``/api/v2`` + ``path``; ``kw`` as for httpx. With ``ok``, RuntimeError unless the answer is 2xx."""
        answer = self._send(method, path, **kw)
        if ok and not answer.is_success:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else None

    def _send(self, method: str, path: str, **kw: Any) -> httpx.Response:
        headers = kw.pop("headers", {})
        for pause in (0.5, 1, 2, 4, None):
            try:
                if self._token is None:
                    answer = self._http.get("/auth/token")
                    self._token = answer.raise_for_status().json()["access_token"]
                authorised = {"Authorization": f"Bearer {self._token}", **headers}
                answer = self._http.request(method, f"/api/v2{path}", headers=authorised, **kw)
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                if pause is None:
                    raise
                time.sleep(pause)
                continue
            if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
                self._token = None  # an expired token is a 401, one signed with other keys a 403
            elif "Database error" not in answer.text or answer.is_success:
                break
            elif pause is not None:
                time.sleep(pause)  # sqlite was locked, all was rolled back
        return answer

    def add_connection(self, *, host: str, password: str, connection_id: str = "apify_default", **fields: str) -> None:
        """Add a connection to Apify, or to an emulator; ``fields`` as Airflow's API names them."""
        connection = {"connection_id": connection_id, "conn_type": "apify", "host": host, "password": password}
        self.api("POST", "/connections", json=connection | fields)

    def wait_until(self, probe: Callable[[], T | None], what: Callable[[], str], timeout: float = 60) -> T:
        """As :func:`rig.waiting.wait_until`; the error also names the components that have ended."""

        def seen() -> str:
            return (f"{', '.join(self.dead)} not running; " if self.dead else "") + what()

        return wait_until(probe, seen, timeout)

    def wait_for_dag(self, dag_id: str, timeout: float = 60) -> None:
        """Until the DAG is stored as its file is now; RuntimeError at once if a file cannot be imported."""

        def stored() -> bool:
            answer = self._send("GET", f"/dags/{quote(dag_id, safe='')}")
            if answer.is_success:
                dag = answer.json()
                if not dag["is_stale"] and _newer(dag["last_parsed_time"], Path(dag["fileloc"])):
                    return True
            for error in self.api("GET", "/importErrors")["import_errors"]:
                if _newer(error["timestamp"], self.dags_folder / error["filename"]):
                    raise RuntimeError(f"{error['filename']}:\n{error['stack_trace']}")
            return False

        self.wait_until(stored, lambda: f"DAG {dag_id} is not there", timeout)

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Once the DAG is there, unpause it and start a run of it: the run id."""
        self.wait_for_dag(dag_id)
        dag = f"/dags/{quote(dag_id, safe='')}"
        self.api("PATCH", dag, json={"is_paused": False})
        run = self.api("POST", f"{dag}/dagRuns", json={"logical_date": None, "conf": dict(conf or {})})
        return str(run["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        return str(self.api("GET", _run(dag_id, run_id))["state"])

    def tasks(self, dag_id: str, run_id: str) -> dict[str, dict[str, Any]]:
        """The newest try of each task instance, under ``task_id`` or ``task_id[map_index]``."""
        found = self.api("GET", f"{_run(dag_id, run_id)}/taskInstances", params={"limit": 10000})["task_instances"]
        return {
            task["task_id"] if task["map_index"] < 0 else f"{task['task_id']}[{task['map_index']}]": task
            for task in found
        }

    def wait_for_run(self, dag_id: str, run_id: str, timeout: float = 120) -> str:
        """The state in which the run ended."""

        def ended() -> str | None:
            state = self.run_state(dag_id, run_id)
            return state if state in ("success", "failed") else None

        def seen() -> str:
            tasks = self.tasks(dag_id, run_id)
            states = {key: task["state"] for key, task in tasks.items()}
            ends = [self.log_end(task) for task in tasks.values() if task["state"] not in ENDED]
            return "\n".join([f"run {run_id} of {dag_id} has not ended: {states}", *ends])

        return self.wait_until(ended, seen, timeout)

    def wait_for_task(
        self, dag_id: str, run_id: str, task: str, states: Collection[str], timeout: float = 60
    ) -> dict[str, Any]:
        """
        The task instance (``task_id`` or ``task_id[map_index]``) once it is in one of ``states``.

        TimeoutError, with the state last seen and the end of the log, also as soon as task and run ended otherwise.
        """
        last: dict[str, Any] = {}

        def reached() -> dict[str, Any] | None:
            last.update(self.tasks(dag_id, run_id).get(task, {}))
            if last.get("state") in states:
                return last
            if last.get("state") in ENDED and self.run_state(dag_id, run_id) in ("success", "failed"):
                raise TimeoutError(f"nothing will change any more: {seen()}")
            return None

        def seen() -> str:
            return f"{task} of {dag_id} is {last.get('state')}, not {' or '.join(states)}\n{self.log_end(last)}"

        return self.wait_until(reached, seen, timeout)

    def log_end(self, task: Mapping[str, Any]) -> str:
        """The last lines of the newest try's log."""
        with contextlib.suppress(RuntimeError, KeyError):
            names = ("dag_id", "dag_run_id", "task_id", "try_number", "map_index")
            return "\n".join(self.task_log(*(task[name] for name in names)).splitlines()[-30:])
        return "(no log)"

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """The value; KeyError if there is none."""
        path = f"{_task(dag_id, run_id, task_id)}/xcomEntries/{quote(key, safe='')}"
        answer = self._send("GET", path, params={"map_index": map_index})
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise KeyError(key)
        if not answer.is_success:
            raise RuntimeError(f"GET {path}: {answer.status_code} {answer.text}")
        return answer.json()["value"]

    def links(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, str | None]:
        """The task's extra links as the UI gets them: name to URL."""
        answer = self.api("GET", f"{_task(dag_id, run_id, task_id)}/links", params={"map_index": map_index})
        return dict(answer["extra_links"])

    def task_log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1) -> str:
        """The log of one try as text: time, level, event, its other fields, and the exceptions under it."""
        records = self.task_log_records(dag_id, run_id, task_id, try_number, map_index)
        return "\n".join(line for record in records for line in _render(record))

    def task_log_records(
        self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1
    ) -> list[dict[str, Any]]:
        """The log of one try as Airflow keeps it."""
        path = f"{_task(dag_id, run_id, task_id)}/logs/{try_number}"
        answer = self._send("GET", path, params={"map_index": map_index}, headers={"Accept": "application/x-ndjson"})
        if not answer.is_success:
            raise RuntimeError(f"GET {path}: {answer.status_code} {answer.text}")
        return [json.loads(record) for record in answer.text.splitlines()]

    def asset_events(self, **query: Any) -> list[dict[str, Any]]:
        """Asset events, for example ``source_run_id=...``, ``source_task_id=...``."""
        return list(self.api("GET", "/assets/events", params={"limit": 10000, **query})["asset_events"])

    def clear(self, dag_id: str, run_id: str, *task_ids: str | tuple[str, int]) -> None:
        """Clear these tasks (all if none is named), with all map indexes or the one given, whatever their state."""
        body = {"dry_run": False, "only_failed": False, "dag_run_id": run_id, "task_ids": list(task_ids) or None}
        self.api("POST", f"/dags/{quote(dag_id, safe='')}/clearTaskInstances", json=body)

    def mark_run(self, dag_id: str, run_id: str, state: str) -> None:
        """Mark the whole run ``success`` or ``failed``, as a user does in the UI."""
        self.api("PATCH", _run(dag_id, run_id), json={"state": state})

    def mark(self, dag_id: str, run_id: str, task_id: str, state: str, map_index: int = -1) -> None:
        """Mark the task instance ``success``, ``failed`` or ``skipped``, as a user does in the UI."""
        path = _task(dag_id, run_id, task_id) + (f"/{map_index}" if map_index >= 0 else "")
        self.api("PATCH", path, json={"new_state": state})

    # -- looking behind it ------------------------------------------------------------------------------------------

    def task_process(self, dag_id: str, run_id: str, task_id: str) -> int:
        """
        The pid of the process that executes the operator, once the task (or ``task_id[map_index]``) runs.

        This is the ``pid`` that Airflow stores. Its parent, the LocalExecutor's worker, is the supervisor: killed with
        it, the loss shows after the heartbeat timeout; killed alone, it leaves the operator running as an orphan.
        """
        pid = int(self.wait_for_task(dag_id, run_id, task_id, {"running"})["pid"])
        if os.getsid(pid) != self.component("scheduler").pid:
            raise RuntimeError(f"process {pid} is not ours")
        return pid


def _airflow() -> str:
    """The ``airflow`` of the environment that runs this module, whatever PATH says."""
    found = Path(sys.executable).with_name("airflow")
    if not found.exists():
        raise RuntimeError(f"no {found}: install apache-airflow beside this Python")
    return str(found)


def _kind(name: str) -> str:
    """Of which kind a component is: ``triggerer-2`` is a ``triggerer``."""
    return name.rstrip("0123456789").rstrip("-")


def _callers_environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.lstrip("_").startswith("AIRFLOW")}
    for name in ("NO_PROXY", "no_proxy"):
        kept[name] = ",".join(filter(None, [kept.get(name), LOOPBACK, "localhost"]))
    # Where nothing may be written beside the sources, each of a dozen processes would compile all of Airflow anew.
    if kept.pop("PYTHONDONTWRITEBYTECODE", None):
        kept.setdefault("PYTHONPYCACHEPREFIX", str(home / "pycache"))
    return kept


def _family(pid: int) -> Iterator[Any]:
    """The processes of a component: those in its session, and the descendants that left it."""
    for other in psutil.pids():
        with contextlib.suppress(OSError, psutil.NoSuchProcess):
            if os.getsid(other) == pid:
                yield psutil.Process(other)
    with contextlib.suppress(psutil.NoSuchProcess):
        yield from psutil.Process(pid).children(recursive=True)


def _kill(processes: Collection[Any]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=1)


def _newer(moment: str, file: Path) -> bool:
    """Whether something that Airflow did at this moment was done with the file as it is now."""
    done = datetime.fromisoformat(moment.replace("Z", "+00:00"))  # Python 3.10 reads no Z
    return file.exists() and done.timestamp() > file.stat().st_mtime


def _alive(process: Any) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _tail(log: Path, lines: int = 30) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def _run(dag_id: str, run_id: str) -> str:
    return f"/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}"


def _task(dag_id: str, run_id: str, task_id: str) -> str:
    return f"{_run(dag_id, run_id)}/taskInstances/{quote(task_id, safe='')}"


#: Fields of a log record that stand elsewhere in its line, and those that only repeat which task this is.
RENDERED = {
    *("timestamp", "level", "event", "error_detail", "logger", "filename", "lineno", "loc"),
    *("dag_id", "run_id", "task_id", "map_index", "try_number", "ti_id"),
}


def _render(record: dict[str, Any]) -> Iterator[str]:
    fields = " ".join(f"{key}={value}" for key, value in record.items() if key not in RENDERED)
    parts = (record.get("timestamp"), (record.get("level") or "").upper(), record.get("event"), fields)
    yield " ".join(str(part) for part in parts if part)
    for error in record.get("error_detail") or ():
        yield f"    {error['exc_type']}: {error['exc_value']}"
