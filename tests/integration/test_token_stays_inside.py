"""Promise 5 over real sockets: the token is in no text, chain or ``repr`` of anything that a task can lay hands on."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from airflow_provider_apify.api import endpoints
from airflow_provider_apify.client.polls import shared_polls
from airflow_provider_apify.emulator import Emulator, Fault
from airflow_provider_apify.hooks.apify import ApifyHook
from airflow_provider_apify.lifecycle.hold import Hold
from tests.integration.conftest import client
from tests.kinds import Kind
from tests.runner import Runner, Supervisor

CANARY = "apify_api_CANARY0aVtGzQ7yXk2mW9sPdL4hNcR"
#: What a chatty proxy or a debugging server sends back.
ECHO = f"Bad request. You sent: Authorization: Bearer {CANARY}"

TROUBLE = [
    Fault("status", status=401, body=ECHO),
    Fault("status", status=400, body={"error": {"type": CANARY, "message": ECHO}}),
    Fault("status", status=403, body={"error": {"type": "insufficient-permissions", "message": ECHO}}),
    Fault("status", status=502, body=ECHO),
    Fault("html", status=200, body=f"<p>{ECHO}</p>"),
    Fault("html", status=407, body=f"<p>{ECHO}</p>"),
    Fault("status", status=200, body={"data": ECHO}),
    Fault("status", status=302, headers={"Location": f"https://elsewhere.example/?token={CANARY}"}),
    Fault("cut-json"),
    Fault("reset"),
    Fault("lost-answer"),
]


@pytest.fixture
def apify() -> Iterator[Emulator]:
    with Emulator(build_seconds=0.2, run_seconds=0.2, token=CANARY) as emulator:
        yield emulator


def texts(error: BaseException) -> Iterator[str]:
    """All that the error says, and what hides behind it, told or not."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield from (str(each), repr(each), repr(each.args), repr(vars(each)))
        waiting += [each.__cause__, each.__context__]
    yield "".join(traceback.format_exception(error))


def holds_token(text: str) -> bool:
    return CANARY in text


@pytest.mark.parametrize("fault", TROUBLE, ids=lambda fault: f"{fault.kind} {fault.status}")
def test_no_error_tells_the_token(fault: Fault, kind: Kind, apify: Emulator, supervisor: Supervisor) -> None:
    job_id = kind.start()
    hook = ApifyHook()

    def call_async() -> Any:
        async def send() -> None:
            async with shared_polls("apify_default") as polls:
                await polls.transport.send(endpoints.get_job(kind.job_kind, job_id))

        return asyncio.run(send())

    calls = [
        lambda: client().get(kind.job_kind, job_id, attempts=1),
        lambda: client().list_jobs(kind.job_kind, kind.starts_of("~hello-world"), attempts=1),
        lambda: client().log_tail(kind.job_kind, job_id, attempts=1),
        lambda: client().abort(kind.job_kind, job_id, attempts=1),
        lambda: kind.of_hook(kind.starts_by, hook)("~hello-world", **kind.one_request),
        call_async,
    ]
    raised = 0
    for call in calls:
        apify.clear_faults()
        # A client may send a GET again by itself when a kept-alive connection turns out to be closed.
        apify.add_fault(replace(fault, times=2))
        try:
            call()
        except Exception as error:
            raised += 1
            assert not [text for text in texts(error) if holds_token(text)]
    assert raised >= 3
    apify.clear_faults()
    apify.add_fault(replace(fault))
    _, answer = hook.test_connection()
    assert not holds_token(answer)


def test_the_search_of_errors_finds_a_token_that_is_there() -> None:
    try:
        try:
            raise ValueError(CANARY)
        except ValueError:
            raise RuntimeError("hidden") from None
    except RuntimeError as error:
        assert any(holds_token(text) for text in texts(error))


def test_no_repr_tells_the_token(kind: Kind, supervisor: Supervisor, runner: Runner) -> None:
    outcome = runner.run(kind.operator(wait_for_completion=True, deferrable=True))
    hook = ApifyHook()
    job = kind.of_hook("wait_for_{}", hook)(outcome.xcoms[kind.id])
    task = kind.operator()
    used = hook._client
    task._hold = Hold(used, kind.job_kind, runner.task_instance(task), hook.log, abort=True, gracefully=False)
    public: list[object] = [hook, used, used.impatient(), used.settings, used._source, used._transport]
    public += [job, job.summary(), task, kind.sensor("x"), task._hold, used._transport._session]  # type: ignore[union-attr]
    public += [outcome.trigger, outcome.trigger.serialize(), outcome.message]
    for thing in public:
        assert not holds_token(f"{thing!r} {thing}"), type(thing)
    assert not holds_token(repr(vars(outcome.trigger)))


def test_nothing_that_is_stored_or_sent_tells_the_token(kind: Kind, apify: Emulator, supervisor: Supervisor) -> None:
    for deferrable in (False, True):
        for actor in ("~hello-world", "~always-fails", "~no-such-actor"):
            runner = Runner(supervisor)
            outcome = runner.run_to_end(partial(kind.operator, actor, wait_for_completion=True, deferrable=deferrable))
            assert not holds_token(json.dumps(outcome.events))
    # Airflow's own request to mask it names it, and goes no further than the supervisor.
    sent = [message for message in supervisor.sent if type(message).__name__ != "MaskSecret"]
    assert not [message for message in sent if holds_token(repr(message))]
    assert not holds_token(repr(supervisor.store) + repr(supervisor.xcoms))
    assert not [request for request in apify.requests if holds_token(request.path + request.query)]


def test_a_log_that_quotes_the_token_is_passed_on_without_it(
    kind: Kind, apify: Emulator, supervisor: Supervisor
) -> None:
    job_id = kind.start()
    apify.add_fault(Fault("status", status=200, body=f"npm ERR! token {CANARY}", path=kind.path("*/log")))
    assert kind.of_hook("get_{}_log")(job_id) == "npm ERR! token ***"


@pytest.mark.parametrize("field", ["host", "password", "extra"])
@pytest.mark.parametrize("nasty", ["../..", "x?y=z", "x#y", "a\r\nX-Evil: 1", "a\x00b", "é\u202e", "//evil.example@"])
def test_no_field_of_the_connection_changes_the_request(
    field: str, nasty: str, kind: Kind, apify: Emulator, supervisor: Supervisor
) -> None:
    connection = supervisor.connections["apify_default"]
    if field == "extra":
        connection["extra"] = json.dumps({"proxy": f"http://127.0.0.1:9/{nasty}", "wait_seconds": nasty})
    else:
        connection[field] = connection[field] + nasty
    with pytest.raises(Exception) as raised:
        client().get(kind.job_kind, "x", attempts=1)
    assert not [text for text in texts(raised.value) if holds_token(text)]
    for request in apify.requests:
        assert (request.method, request.path, request.query) == ("GET", kind.path("x"), "")
        assert "x-evil" not in request.headers
