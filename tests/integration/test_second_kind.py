"""The core reads nothing of a job that only a build has: a made-up second kind keeps the promises, too."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
from airflow.sdk import DAG

from airflow_provider_apify.api.endpoints import Start
from airflow_provider_apify.api.job import Job, JobKind
from airflow_provider_apify.emulator import Emulator, Fault
from airflow_provider_apify.exceptions import ApifyJobFailed
from airflow_provider_apify.lifecycle.attempt import Attempt
from airflow_provider_apify.operators.job import JobOperator
from airflow_provider_apify.sensors.job import JobSensor
from airflow_provider_apify.triggers.job import JobTrigger
from tests.integration.conftest import ended, starts, statuses
from tests.integration.test_no_orphans import sigterm_when, waits
from tests.runner import Runner, Supervisor

# -- a kind of job ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Errand(Job):
    noun = "errand"


ERRAND = JobKind("/v2/actor-errands", Errand)


class ErrandTrigger(JobTrigger):
    job_kind = ERRAND

    def __init__(self, *, errand_id: str, **kwargs: Any) -> None:
        super().__init__(errand_id, **kwargs)


class ErrandOperator(JobOperator):
    job_kind = ERRAND
    failure = ApifyJobFailed

    def __init__(self, *, actor: str = "~hello-world", **kwargs: Any) -> None:
        options = {"wait_for_finish": None, "wait_for_completion": True, "deferrable": False, "timeout": None}
        super().__init__(**{**options, "abort_on_kill": True, "apify_conn_id": "apify_default", **kwargs})
        self.actor = actor

    def _attempt(self, context: Any, client: Any, begun: float) -> Attempt:
        errands = f"/v2/acts/{self.actor}/errands"
        start = Start(ERRAND, errands, (("version", "0.0"),))
        subject = f"Actor {self.actor}"
        return Attempt(self, context, client, ERRAND, errands, subject, lambda: start, lambda job: False, begun)

    def _trigger(self) -> Any:
        return ErrandTrigger


class ErrandSensor(JobSensor):
    job_kind = ERRAND
    failure = ApifyJobFailed

    def __init__(self, *, errand_id: str, **kwargs: Any) -> None:
        super().__init__(**{"deferrable": False, "apify_conn_id": "apify_default", **kwargs})
        self.errand_id = errand_id

    def _trigger(self) -> Any:
        return ErrandTrigger


# -- an Apify that has such jobs and no builds --------------------------------------------------------------------


@pytest.fixture(autouse=True)
def errands(apify: Emulator, supervisor: Supervisor) -> Iterator[None]:
    """Show the emulator's builds as errands, without the number that only builds must have; know no builds."""

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = "/nothing" if "builds" in self.path else self.path.replace("errands", "builds")
            names = ("Authorization", "User-Agent")
            headers = {name: str(self.headers[name]) for name in names}
            try:
                answer = requests.request(self.command, apify.url + path, headers=headers, timeout=70)
            except requests.RequestException:
                self.close_connection = True
                return
            body = answer.content.replace(b'"buildNumber"', b'"-"')
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the name that http.server calls

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        supervisor.connections["apify_default"]["host"] = f"http://127.0.0.1:{server.server_address[1]}"
        yield
        server.shutdown()


def operator(**kwargs: Any) -> ErrandOperator:
    with DAG("dag", start_date=dt.datetime(2026, 1, 1)):
        return ErrandOperator(task_id="errand", **kwargs)


# -- what it is promised ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
def test_it_starts_once_and_is_waited_for(deferrable: bool, apify: Emulator, runner: Runner) -> None:
    apify.add_fault(Fault("lost-answer", method="POST", path="/v2/acts/*/builds"))
    outcome = runner.run_to_end(lambda: operator(deferrable=deferrable))
    assert (outcome.state, starts(apify), statuses(apify)) == ("success", 1, ["SUCCEEDED"])
    assert outcome.xcoms["errand_id"] == outcome.xcoms["summary"]["errand_id"] == apify.builds[0]["id"]
    assert "build_id" not in json.dumps(outcome.xcoms)


def test_a_retry_continues_with_it(apify: Emulator, supervisor: Supervisor, runner: Runner) -> None:
    supervisor.has_store = False
    apify.build_seconds = 30
    runner.run(operator(wait_for_completion=False, retries=1))
    runner.retry()
    assert runner.run(operator(wait_for_completion=False, retries=1)).state == "success"
    assert (starts(apify), len(apify.builds)) == (1, 1)


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
def test_a_failed_one_fails_the_task_with_the_end_of_its_log(deferrable: bool, apify: Emulator, runner: Runner) -> None:
    outcome = runner.run_to_end(lambda: operator(actor="~always-fails", deferrable=deferrable))
    assert isinstance(outcome.error, ApifyJobFailed)
    assert str(outcome.error).startswith(f"Errand {apify.builds[0]['id']} of Actor ")
    assert "left-padd" in str(outcome.error)


def test_a_worker_told_to_stop_aborts_it(apify: Emulator, supervisor: Supervisor, runner: Runner) -> None:
    apify.build_seconds = 30
    supervisor.state = "failed"
    with sigterm_when(apify, waits):
        runner.run(operator())
    ended(apify)
    assert statuses(apify) == ["ABORTED"]


def test_its_trigger_aborts_it(apify: Emulator, supervisor: Supervisor, runner: Runner) -> None:
    apify.build_seconds = 30
    trigger = runner.run(operator(deferrable=True)).trigger
    asyncio.run(trigger.on_kill())  # as in a run inside one process: nobody comes after it
    ended(apify)
    assert statuses(apify) == ["ABORTED"]


@pytest.mark.parametrize(
    "options", [{}, {"mode": "reschedule"}, {"deferrable": True}], ids=["poke", "reschedule", "deferred"]
)
def test_a_sensor_waits_for_it(options: dict[str, Any], apify: Emulator, runner: Runner) -> None:
    apify.build_seconds = 1
    errand_id = runner.run(operator(wait_for_completion=False)).xcoms["errand_id"]

    def sensor() -> ErrandSensor:
        with DAG("dag", start_date=dt.datetime(2026, 1, 1)):
            return ErrandSensor(task_id="wait", errand_id=errand_id, poke_interval=1, **options)

    outcome = runner.run_to_end(sensor)
    assert (outcome.state, outcome.xcoms["errand_id"]) == ("success", errand_id)
