"""
Promise 3, one row for each kind of weather: what the task does, and the message that says it.

Three tables: what passes, what only another try can mend, what nobody but a person can mend.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_apify.emulator import Emulator, Fault
from airflow_provider_apify.exceptions import ApifyJobTimeout
from airflow_provider_apify.jobs import wait
from rig.network import Gate, self_signed
from tests.features import STORE
from tests.integration.conftest import client
from tests.kinds import Kind
from tests.rows import jobs_are
from tests.runner import Runner, Supervisor

#: Which requests the weather meets: a name of :class:`~tests.kinds.Kind`.
PHASES = {
    "starting": "start_request",
    "waiting in the worker": "get_request",
    "deferred": "get_request",
}

#: Weather that passes: the faults, and what the log says of it.
PASSES: dict[str, tuple[list[Fault], str]] = {
    "429": ([Fault("status", status=429, times=2)], "HTTP 429, rate-limit-exceeded"),
    "429 with Retry-After in seconds": ([Fault("status", status=429, headers={"Retry-After": "1"})], "HTTP 429"),
    "429 with Retry-After as a date": ([Fault("status", status=429, headers={"Retry-After": "DATE"})], "HTTP 429"),
    "a burst of 5xx": ([Fault("status", status=status) for status in (500, 502, 503, 504)][:2], "HTTP 500"),
    "408": ([Fault("status", status=408)], "HTTP 408"),
    "a reset": ([Fault("reset", times=2)], "the connection was cut"),
    "closed without an answer": ([Fault("lost-answer", times=2)], "the connection was cut"),
    "no answer in time": ([Fault("stall")], "no answer came in time"),
    "a slow drip": ([Fault("drip", seconds=0.5)], ""),
    "an HTML page with status 200": ([Fault("html")], "it is an HTML page"),
    "an HTML page with status 403": ([Fault("html", status=403)], "it is an HTML page"),
    "an HTML page with status 401": ([Fault("html", status=401)], "it is an HTML page"),
    "a proxy's plain 403": ([Fault("status", status=403, body="RBAC: access denied")], "it is no error of the API"),
    "425 without a word": ([Fault("status", status=425, body="")], "it is no error of the API"),
    "cut JSON": ([Fault("cut-json")], "cut"),
    "huge JSON": ([Fault("status", status=200, body='{"data":"' + "x" * (33 << 20) + '"}')], "larger than"),
    "JSON of another shape": ([Fault("status", status=200, body={"data": [1, 2]})], "expected a {kind}"),
    "JSON without data": ([Fault("status", status=200, body={"ok": True})], "no field 'data'"),
    "a redirect": ([Fault("status", status=302, headers={"Location": "/"})], "redirects elsewhere"),
}


def refusal(status: int, type_: str, message: str = "No.", **more: Any) -> Fault:
    return Fault("status", status=status, body={"error": {"type": type_, "message": message, **more}})


#: What fails the try and leaves the rest to its retries: the fault, and what the error says.
NEXT_TRY: dict[str, tuple[Fault, str]] = {
    f"{type_} as {status}": (refusal(status, type_), "an Airflow pool with include_deferred=True")
    for type_, status in [
        ("actor-memory-limit-exceeded", 402),
        ("actor-memory-limit-exceeded", 403),
        ("concurrent-runs-limit-exceeded", 402),
    ]
}

#: What fails the task at once, whatever its retries: the fault, its exception, and what the error says.
FINAL: dict[str, tuple[Fault, str, str]] = {
    "a token that is refused": (
        replace(refusal(401, "user-or-token-not-found"), times=None),
        "ApifyAuthenticationError",
        "valid API token",
    ),
    "a token that may not": (Fault("status", status=403), "ApifyPermissionError", "scoped tokens cannot modify Actors"),
    "used-up credits": (
        refusal(402, "not-enough-usage-to-run-paid-actor"),
        "ApifyQuotaError",
        "Billing; retrying does not help",
    ),
    "a disabled feature": (
        refusal(402, "platform-feature-disabled"),
        "ApifyQuotaError",
        "Billing; retrying does not help",
    ),
}

#: What Apify refuses to start at all, as in ``FINAL``.
REFUSED: dict[str, tuple[Fault, str, str]] = {
    "a refusal of the request": (
        refusal(400, "invalid-value", "Bad."),
        "ApifyInvalidRequestError",
        "invalid-value: Bad.\nCheck the arguments.\nConnection 'apify_default' to http",
    ),
    "an input that does not fit": (
        refusal(400, "invalid-input", "Field input.startUrls is required, Field input.n must be >= 0"),
        "ApifyInvalidRequestError",
        "Field input.startUrls is required, Field input.n must be >= 0.\nCorrect the input",
    ),
    "an input schema that is broken": (
        refusal(400, "invalid-input-schema"),
        "ApifyInvalidRequestError",
        "whoever maintains the Actor has to correct it",
    ),
    "permissions to approve": (
        refusal(403, "full-permission-actor-not-approved", data={"approvalUrl": "https://console.apify.com/approve/x"}),
        "ApifyPermissionError",
        "has to approve that once in Apify Console; then clear the task.\nhttps://console.apify.com/approve/x\nConn",
    ),
    "permissions to approve, at an address that is none": (
        refusal(403, "full-permission-actor-not-approved", data={"approvalUrl": "javascript:alert(1)"}),
        "ApifyPermissionError",
        "has to approve that once in Apify Console; then clear the task.\nConn",
    ),
    "an Actor to rent": (refusal(403, "actor-is-not-rented"), "ApifyQuotaError", "Rent the Actor in Apify Console"),
    "an Actor for those who pay": (
        refusal(403, "apify-plan-required-to-use-paid-actor"),
        "ApifyQuotaError",
        "The Actor needs a paid plan",
    ),
    "an Actor that is disabled": (
        refusal(403, "actor-disabled"),
        "ApifyPermissionError",
        "Ask whoever maintains the Actor",
    ),
    **{
        f"{type_} as 403": (refusal(403, type_), "ApifyInvalidRequestError", "Name a build that has succeeded")
        for type_ in ("unknown-build-tag", "invalid-build", "build-outdated")
    },
    "build-not-found as 403": (
        refusal(403, "build-not-found"),
        "ApifyNotFoundError",
        "Name a build that has succeeded",
    ),
}


@pytest.fixture(autouse=True)
def short_pauses(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their growth is tested with plain values (tests/unit/test_wait.py)."""
    if "long" not in request.keywords:
        monkeypatch.setattr("airflow_provider_apify.jobs.wait.LONGEST_PAUSE", 0.3)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """All that was logged: by the task, and by its trigger."""
    return lambda: capsys.readouterr().out + caplog.text


def task_for(kind: Kind, phase: str, **kwargs: Any) -> Callable[[], Any]:
    return lambda: kind.operator(wait_for_completion=True, deferrable=phase == "deferred", **kind.one_request, **kwargs)


def in_phase(kind: Kind, fault: Fault, phase: str) -> Fault:
    headers = {
        name: value.replace("DATE", formatdate(time.time() + 2, usegmt=True)) for name, value in fault.headers.items()
    }
    return replace(fault, headers=headers, **getattr(kind, PHASES[phase]))


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("weather", PASSES)
def test_what_passes_costs_neither_try_nor_job(
    weather: str,
    phase: str,
    kind: Kind,
    apify: Emulator,
    supervisor: Supervisor,
    runner: Runner,
    said: Callable[[], str],
) -> None:
    supervisor.connections["apify_default"]["extra"] = '{"timeout": 1, "wait_seconds": 2}'
    faults, says = PASSES[weather]
    for fault in faults:
        apify.add_fault(in_phase(kind, fault, phase))
    begun = time.time()
    outcome = runner.run_to_end(task_for(kind, phase))
    assert (outcome.state, outcome.error) == ("success", None)
    assert says.format(kind=kind.name) in said()
    assert outcome.xcoms[kind.id] == kind.jobs[0]["id"]
    jobs_are(kind, "SUCCEEDED")
    if "Retry-After in seconds" in weather:
        assert time.time() - begun >= 1


@pytest.mark.parametrize("weather", NEXT_TRY)
def test_what_the_next_try_mends(weather: str, kind: Kind, apify: Emulator, runner: Runner) -> None:
    fault, says = NEXT_TRY[weather]
    apify.add_fault(in_phase(kind, fault, "starting"))
    task = task_for(kind, "starting", retries=1)
    outcome = runner.run_to_end(task)
    assert outcome.state == "up_for_retry"
    assert says in str(outcome.error)
    assert kind.starts == 1, "the memory is waited for by the retries, with their delay"
    runner.retry()
    assert runner.run_to_end(task).state == "success"
    jobs_are(kind, "SUCCEEDED")


@pytest.mark.parametrize("weather", FINAL | REFUSED)
def test_what_no_try_mends_while_starting(weather: str, kind: Kind, apify: Emulator, runner: Runner) -> None:
    fault, exception, says = (FINAL | REFUSED)[weather]
    apify.add_fault(in_phase(kind, fault, "starting"))
    outcome = runner.run_to_end(task_for(kind, "starting", retries=3))
    assert (outcome.state, kind.starts) == ("failed", 1)
    assert type(outcome.error).__name__ == exception
    assert says in str(outcome.error)
    jobs_are(kind)


@pytest.mark.parametrize("phase", ["waiting in the worker", "deferred"])
@pytest.mark.parametrize("weather", FINAL)
def test_what_no_try_mends_while_waiting(weather: str, phase: str, kind: Kind, apify: Emulator, runner: Runner) -> None:
    """The task fails at once and, the token allowing, its job is aborted: nobody waits for it any more."""
    kind.seconds = 30
    fault, exception, says = FINAL[weather]
    apify.add_fault(in_phase(kind, fault, phase))
    outcome = runner.run_to_end(task_for(kind, phase, retries=3))
    assert (outcome.state, type(outcome.error).__name__) == ("failed", exception)
    assert says in str(outcome.error)
    jobs_are(kind, "ABORTED")


def odd(kind: Kind, status: int, type_: str, **kwargs: Any) -> Fault:
    body = {"error": {"type": type_, "message": "Not now."}}
    return Fault("status", status=status, body=body, **kind.get_request, **kwargs)


#: Refusals of a poll that say nothing of the job or the token.
ODD = {
    f"{status} {type_}": (status, type_)
    for status, type_ in [
        (400, "operation-timed-out"),
        (400, "request-aborted-prematurely"),
        (409, "concurrent-update-detected"),
        (423, "locked"),
        (425, "too-early"),
        (499, "client-closed-request"),
    ]
}


@pytest.mark.parametrize("phase", ["waiting in the worker", "deferred"])
@pytest.mark.parametrize("answer", ODD)
def test_an_odd_answer_to_a_poll_is_waited_out(
    answer: str, phase: str, kind: Kind, apify: Emulator, runner: Runner, said: Callable[[], str]
) -> None:
    apify.add_fault(odd(kind, *ODD[answer], times=2))
    outcome = runner.run_to_end(task_for(kind, phase, retries=1))
    assert (outcome.state, outcome.error) == ("success", None)
    log = said()
    assert ODD[answer][1] in log and "Check the arguments" not in log
    jobs_are(kind, "SUCCEEDED")


@pytest.mark.parametrize("phase", ["waiting in the worker", "deferred"])
@pytest.mark.parametrize("retries", [0, 1])
def test_an_odd_answer_that_stays_leaves_the_job_to_the_next_try(
    retries: int, phase: str, kind: Kind, apify: Emulator, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wait.REFUSED_GRACE == 600
    monkeypatch.setattr(wait, "REFUSED_GRACE", 1.5)
    kind.seconds = 30
    apify.add_fault(odd(kind, 409, "concurrent-update-detected", times=None))
    outcome = runner.run_to_end(task_for(kind, phase, retries=retries))
    assert type(outcome.error).__name__ == "ApifyPollError"
    assert f"given no other answer about the {kind.name}" in str(outcome.error)
    if not retries:
        assert outcome.state == "failed"
        jobs_are(kind, "ABORTED")
        return
    assert outcome.state == "up_for_retry"
    apify.clear_faults()
    kind.finish(kind.jobs[0]["id"])
    runner.retry()
    assert runner.run_to_end(task_for(kind, phase, retries=1)).state == "success"
    jobs_are(kind, "SUCCEEDED")


SENSORS: dict[str, dict[str, Any]] = {
    "worker": {},
    "reschedule": {"mode": "reschedule", "poke_interval": 0.1},
    "deferred": {"deferrable": True},
}


@pytest.mark.parametrize("mode", SENSORS)
def test_an_odd_answer_to_a_sensor(mode: str, kind: Kind, apify: Emulator, runner: Runner) -> None:
    """Final at the first look; later it passes."""
    job_id = kind.start()
    apify.add_fault(odd(kind, 409, "concurrent-update-detected"))
    task = lambda: kind.sensor(job_id, retries=1, **SENSORS[mode])  # noqa: E731
    outcome = runner.run_to_end(task)
    assert (outcome.state, type(outcome.error).__name__) == ("failed", "ApifyInvalidRequestError")
    apify.add_fault(odd(kind, 409, "concurrent-update-detected", skip=1))
    job_id = kind.start()
    assert runner.run_to_end(task).state == "success"


def test_a_certificate_is_waited_out_while_a_job_is_polled(
    kind: Kind, supervisor: Supervisor, runner: Runner, certificate: str
) -> None:
    """As while a company's proxy has its certificate renewed."""
    with Emulator(ssl_certfile=certificate) as other:
        supervisor.connections["apify_default"]["host"] = other.url
        with pytest.raises(ApifyJobTimeout, match=r"it could not be seen.\n.*certificate"):
            kind.of_hook("wait_for_{}")("known", timeout=1)
        with pytest.raises(ApifyJobTimeout, match=r"it could not be seen.\n.*certificate"):
            asyncio.run(client().wait_async(kind.job_kind, "known", deadline=time.time() + 1))
        runner.reschedules = 1
        assert runner.run(kind.sensor("known", **SENSORS["reschedule"])).state == "up_for_reschedule"


@pytest.mark.parametrize("phase", ["waiting in the worker", "deferred"])
def test_a_job_deleted_while_waiting_fails_the_task_with_its_id(
    phase: str, kind: Kind, apify: Emulator, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_apify.jobs.wait.MISSING_GRACE", 1.0)
    kind.seconds = 30

    def delete() -> None:
        waits(apify)
        kind.delete(kind.jobs[0]["id"])
        apify.add_fault(Fault("reset", **kind.get_request))  # ends the long-poll of what is gone

    with meanwhile(delete):
        outcome = runner.run_to_end(task_for(kind, phase, retries=3))
    assert outcome.state == "failed"
    assert "record-not-found" in str(outcome.error)
    assert outcome.xcoms[kind.id] in str(outcome.error)
    jobs_are(kind)


@pytest.mark.parametrize("phase", ["waiting in the worker", "deferred"])
def test_a_job_not_found_just_after_its_creation_is_waited_for(
    phase: str, kind: Kind, apify: Emulator, runner: Runner
) -> None:
    apify.add_fault(Fault("missing", **kind.get_request, seconds=1.5, times=None))
    assert runner.run_to_end(task_for(kind, phase)).state == "success"
    jobs_are(kind, "SUCCEEDED")


@pytest.mark.parametrize("phase", ["waiting in the worker", "deferred"])
def test_an_unknown_status_is_waited_out_and_named(
    phase: str, kind: Kind, apify: Emulator, supervisor: Supervisor, runner: Runner, said: Callable[[], str]
) -> None:
    supervisor.connections["apify_default"]["extra"] = '{"wait_seconds": 1}'
    kind.seconds = 2
    apify.add_fault(Fault("unknown-status", **kind.get_request, times=None))
    assert runner.run_to_end(task_for(kind, phase)).state == "success"
    assert "HIBERNATING" in said()
    jobs_are(kind, "SUCCEEDED")


#: The definition of a build or run requires few fields and lets many be null, and new ones come (docs/apify-api.md).
SHAPES: dict[str, dict[str, Any] | None] = {
    "nothing but what is certain": {},
    "null everywhere else": None,
    "fields of tomorrow": {"stats": {"computeUnits": None, "new": [1]}, "aFieldOfTomorrow": {"deep": [None]}},
    "other types": {"stats": [], "buildNumber": 7, "startedAt": "yesterday", "usageTotalUsd": "free", "actId": {}},
}


@STORE.needed  # without it, a job that does not say who started it leaves a doubt
@pytest.mark.parametrize("phase", ["waiting in the worker", "deferred"])
@pytest.mark.parametrize("shape", SHAPES)
def test_missing_odd_and_further_fields_do_no_harm(
    shape: str, phase: str, kind: Kind, apify: Emulator, runner: Runner
) -> None:
    task = task_for(kind, "deferred")
    job_id = runner.run(task()).xcoms[kind.id]
    fields = SHAPES[shape]
    if fields is None:
        fields = dict.fromkeys(kind.jobs[0])
    body = {"data": {**fields, "id": job_id, "status": "SUCCEEDED"}}
    apify.add_fault(Fault("status", status=200, body=body, **kind.get_request, times=None))
    runner.retry()
    runner.max_tries = 2
    outcome = runner.run_to_end(task_for(kind, phase, retries=2))
    assert (outcome.state, outcome.error) == ("success", None)
    assert outcome.xcoms["return_value"] == job_id
    jobs_are(kind, "SUCCEEDED")


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("http://no-such-host.invalid", "name could not be resolved"),
        ("http://127.0.0.1:9", "refused"),
        ("https://127.0.0.1:PORT", "speaks https"),
        ("TLS", "ca_bundle"),
    ],
    ids=["DNS failure", "refused", "no TLS there", "certificate of unknown authority"],
)
def test_a_host_that_cannot_be_reached_fails_the_try_and_says_which_field(
    host: str,
    says: str,
    kind: Kind,
    apify: Emulator,
    supervisor: Supervisor,
    runner: Runner,
    certificate: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Emulator(ssl_certfile=certificate) as other:
        where = other.url if host == "TLS" else host.replace("PORT", apify.url.rpartition(":")[2])
        supervisor.connections["apify_default"].update(host=where, extra='{"allow_http": true, "timeout": 2}')
        outcome = runner.run_to_end(task_for(kind, "starting", retries=1))
        assert outcome.state == "up_for_retry"
        assert says in str(outcome.error)
        assert not other.builds and not other.runs
        if host == "TLS":
            assert "Sending again" not in capsys.readouterr().out
            of_sensor = runner.run(kind.sensor("x", retries=1, mode="reschedule", timeout=60))
            assert (of_sensor.state, type(of_sensor.error).__name__) == ("up_for_retry", "ApifyNetworkError")
    supervisor.connections["apify_default"].update(host=apify.url)
    runner.retry()
    assert runner.run_to_end(task_for(kind, "starting", retries=1)).state == "success"
    jobs_are(kind, "SUCCEEDED")


@pytest.mark.long
@pytest.mark.parametrize("phase", PHASES)
def test_a_minute_of_refused_connections(
    phase: str, kind: Kind, apify: Emulator, supervisor: Supervisor, runner: Runner
) -> None:
    """Waiting takes it in its stride; a start may need its retry, which begins anew with the minute's patience."""
    kind.seconds = 5
    task = task_for(kind, phase, retries=1)
    with Gate(int(apify.url.rpartition(":")[2])) as gate:
        supervisor.connections["apify_default"]["host"] = gate.url
        if phase == "starting":
            gate.shut()

        def minute() -> None:
            if phase != "starting":
                waits(apify)
                gate.shut()
            time.sleep(60)
            gate.open()

        with meanwhile(minute):
            outcome = runner.run_to_end(task)
            if phase == "starting" and outcome.state == "up_for_retry":
                assert "refused" in str(outcome.error)
                runner.retry()
                outcome = runner.run_to_end(task)
        assert (outcome.state, outcome.error) == ("success", None)
    jobs_are(kind, "SUCCEEDED")


def waits(apify: Emulator) -> None:
    apify.wait_for(lambda emulator: any("waitForFinish" in request.query for request in emulator.requests), 30)


@pytest.fixture
def certificate(tmp_path: Path) -> str:
    path = tmp_path / "certificate.pem"
    path.write_bytes(self_signed())
    return str(path)


@contextmanager
def meanwhile(work: Callable[[], Any]) -> Iterator[None]:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield
    thread.join(90)
