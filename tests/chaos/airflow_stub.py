"""
Airflow's side of a worker, in memory: the Execution API over a real socket, and what scheduler and users do to a task.

It answers as ``airflow.api_fastapi.execution_api`` of 3.3.2 does; the names of states, reasons and status codes are
from there. A request that it does not know ends up in ``unknown``.
"""

from __future__ import annotations

import datetime as dt
import json
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Answer = tuple[int, Any]


def now() -> str:
    return dt.datetime.now(dt.timezone.utc).isoformat()


@dataclass(eq=False)
class Gate:
    """A request that waits for the test: before Airflow works on it or, ``after_work``, with its answer ready."""

    method: str
    path: str
    after_work: bool = False
    body: str = "*"
    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)

    def reach(self) -> None:
        """Wait until the request is at the gate."""
        assert self.reached.wait(20), f"no {self.method} {self.path} within 20 s"


@dataclass
class Instance:
    """A task instance as Airflow's database has it, with the moves that the scheduler and users make."""

    dag_id: str
    task_id: str = "task"
    run_id: str = "scheduled__2026-11-23"
    map_index: int = -1
    retries: int = 0
    run_started: str = "2026-11-23T03:00:00+00:00"
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    state: str | None = None
    try_number: int = 0
    max_tries: int = 0
    pid: int | None = None
    #: Ids of tries that were archived: their workers are told that they are gone.
    past: set[str] = field(default_factory=set)
    xcoms: dict[str, Any] = field(default_factory=dict)
    store: dict[str, Any] = field(default_factory=dict)
    #: The job that each try has passed on.
    told: dict[int, str] = field(default_factory=dict)
    #: What the worker said when it deferred.
    deferral: dict[str, Any] = field(default_factory=dict)
    next_method: str | None = None
    next_kwargs: Any = None
    #: Pids of the runners of all tries.
    pids: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.max_tries = self.retries

    def schedule_try(self) -> None:
        """As the scheduler: the next try is queued. One that runs is given up for dead."""
        if self.state in ("running", "up_for_retry"):
            assert self.try_number <= self.max_tries, "Airflow would start no further try"
        if self.state == "running":
            self.archive()
        if self.state == "restarting":
            self.max_tries = self.try_number + self.retries
        self.try_number += 1
        self.next_method = self.next_kwargs = None
        self.state = "queued"

    def resume(self, event: Any) -> None:
        """As the triggerer: the try goes on, with an event of its trigger."""
        kwargs = self.deferral.get("next_kwargs") or {}
        kwargs = kwargs.get("__var", kwargs) if "__type" in kwargs else kwargs
        self.next_method, self.next_kwargs = self.deferral["next_method"], {**kwargs, "event": event}
        self.state = "queued"

    def clear(self) -> None:
        """As a user: the running task is ended first."""
        self.archive()
        if self.state == "running":
            self.state = "restarting"
        else:
            self.max_tries = self.try_number + self.retries
            self.state = None

    def archive(self) -> None:
        self.past.add(self.id)
        self.id = str(uuid.uuid4())


class Airflow:
    """
    The Execution API, to be used as a context manager.

    :ivar connection: what Airflow knows of ``apify_default``.
    :ivar store: status that the task state store answers with instead of working; 0: it works.
    :ivar states_known: whether Airflow says what became of a task.
    """

    def __init__(self, connection: dict[str, Any]) -> None:
        self.connection = connection
        self.store = 0
        self.instances: list[Instance] = []
        self.unknown: list[str] = []
        self.asked: list[str] = []
        self._gates: list[Gate] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"airflow": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/execution/"

    def __enter__(self) -> Airflow:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for gate in self._gates:
            gate.opened.set()
        self._server.shutdown()
        self._server.server_close()

    def hold(self, method: str, path: str, *, after_work: bool = False, body: str = "*") -> Gate:
        """Let the next such request wait until the gate is opened."""
        self._gates.append(gate := Gate(method, path, after_work, body))
        return gate

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Answer:
        with self._lock:
            self.asked.append(f"{method} {path}")
            matches = (
                gate
                for gate in self._gates
                if not gate.reached.is_set()
                and gate.method == method
                and fnmatchcase(path, gate.path)
                and fnmatchcase(json.dumps(body), gate.body)
            )
            if gate := next(matches, None):
                gate.reached.set()
        if gate and not gate.after_work:
            gate.opened.wait(60)
        with self._lock:
            answer = self._work(method, path.split("/"), query, body)
        if gate and gate.after_work:
            gate.opened.wait(60)
        return answer

    def _work(self, method: str, path: list[str], query: dict[str, list[str]], body: Any) -> Answer:
        match [method, *path]:
            case ["PATCH", "task-instances", ti_id, "run"]:
                return self._of(ti_id, lambda instance: _run(instance, body))
            case ["PATCH", "task-instances", ti_id, "state"]:
                return self._of(ti_id, lambda instance: _report(instance, body))
            case ["PUT", "task-instances", ti_id, "heartbeat"]:
                return self._of(ti_id, lambda instance: _heartbeat(instance, body))
            case ["PUT" | "PATCH", "task-instances", ti_id, "rtif" | "rendered-map-index"]:
                return self._of(ti_id, lambda _: (201, None))
            case ["GET", "task-instances", "states"]:
                return 200, {"task_states": self._states(query)}
            case ["GET", "task-instances", _, "validate-inlets-and-outlets"]:
                return 200, {"inactive_assets": []}
            case ["GET", "task-reschedules", _, "start_date"]:
                return 200, now()
            case ["GET", "connections", "apify_default"]:
                blank = dict.fromkeys(("host", "schema", "login", "password", "port", "extra"))
                return 200, {**blank, "conn_id": "apify_default", "conn_type": "apify", **self.connection}
            case [_, "store", "ti", ti_id, key]:
                if self.store:
                    return self.store, {"detail": "Not Found"}
                return self._of(ti_id, lambda instance: _kept(instance.store, method, key, (body or {}).get("value")))
            case [_, "xcoms", dag_id, run_id, task_id, key]:
                which = (dag_id, run_id, task_id, int(query.get("map_index", ["-1"])[0]))
                for instance in self.instances:
                    if which == (instance.dag_id, instance.run_id, instance.task_id, instance.map_index):
                        if method == "POST" and key in ("build_id", "run_id"):
                            instance.told[instance.try_number] = body
                        return _kept(instance.xcoms, method, key, body, key=key)
            case ["GET", "connections" | "variables", _]:
                return _not_found()
        self.unknown.append(f"{method} {'/'.join(path)}")
        return _not_found()

    def _of(self, ti_id: str, work: Callable[[Instance], Answer]) -> Answer:
        for instance in self.instances:
            if instance.id == ti_id:
                return work(instance)
            if ti_id in instance.past:
                return 410, {"detail": {"reason": "not_found", "message": "It may have been moved to the history"}}
        return _not_found()

    def _states(self, query: dict[str, list[str]]) -> dict[str, dict[str, str | None]]:
        found: dict[str, dict[str, str | None]] = {}
        for instance in self.instances:
            wanted = {"dag_id": instance.dag_id, "task_ids": instance.task_id, "run_ids": instance.run_id}
            if int(query.get("map_index", [str(instance.map_index)])[0]) == instance.map_index and all(
                value in query[name] for name, value in wanted.items()
            ):
                suffix = f"_{instance.map_index}" if instance.map_index >= 0 else ""
                found.setdefault(instance.run_id, {})[instance.task_id + suffix] = instance.state
        return found


def _run(instance: Instance, body: Any) -> Answer:
    if instance.state not in ("queued", "restarting"):
        return 409, {"detail": {"reason": "invalid_state", "message": "", "previous_state": instance.state}}
    instance.state, instance.pid = "running", body["pid"]
    instance.pids.append(body["pid"])
    run = dict.fromkeys(("logical_date", "data_interval_start", "data_interval_end", "end_date", "partition_key"))
    run |= {
        "dag_id": instance.dag_id,
        "run_id": instance.run_id,
        "run_after": instance.run_started,
        "start_date": instance.run_started,
        "run_type": "scheduled",
        "state": "running",
        "consumed_asset_events": [],
    }
    resumed = instance.next_method is not None
    context = {
        "dag_run": run,
        "task_reschedule_count": 0,
        "max_tries": instance.max_tries,
        "xcom_keys_to_clear": [] if resumed else list(instance.xcoms),
        "should_retry": instance.max_tries != 0 and instance.try_number <= instance.max_tries,
    }
    if resumed:
        context |= {"next_method": instance.next_method, "next_kwargs": instance.next_kwargs, "start_date": now()}
    return 200, context


def _report(instance: Instance, body: Any) -> Answer:
    if instance.state == body["state"]:
        return 200, None
    if instance.state != "running":
        return 409, {"detail": {"reason": "invalid_state", "message": "", "previous_state": instance.state}}
    instance.state = body["state"]
    if instance.state == "deferred":
        instance.deferral = body
    elif instance.state == "up_for_retry":
        instance.archive()
    return 204, None


def _heartbeat(instance: Instance, body: Any) -> Answer:
    if instance.pid != body["pid"]:
        return 409, {"detail": {"reason": "running_elsewhere", "message": "TI is already running elsewhere"}}
    if instance.state != "running":
        detail = {"reason": "not_running", "message": "", "current_state": instance.state}
        return 409, {"detail": detail}
    return 204, None


def _kept(kept: dict[str, Any], method: str, name: str, value: Any, **more: Any) -> Answer:
    if method in ("PUT", "POST"):
        kept[name] = value
        return 201 if method == "POST" else 204, "ok" if method == "POST" else None
    if method == "DELETE":
        kept.pop(name, None)
        return 200, {"message": "deleted"}
    return (200, {**more, "value": kept[name]}) if name in kept else _not_found()


def _not_found() -> Answer:
    return 404, {"detail": {"reason": "not_found", "message": "Not found"}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    airflow: Airflow

    def _serve(self) -> None:
        url = urlsplit(self.path)
        length = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        path = unquote(url.path).removeprefix("/execution/")
        status, answer = self.airflow.answer(self.command, path, parse_qs(url.query), body)
        content = b"" if answer is None else json.dumps(answer).encode()
        try:
            self.send_response(status)
            # Airflow's client knows the reason of an error only under exactly this type.
            self.send_header("content-type", "application/json")
            if status != 204:
                self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            self.close_connection = True  # the worker is gone

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass
