"""``stream_log``: a job's own log in the task's log, which no trouble of it can fail."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_apify.emulator import Emulator, Fault
from airflow_provider_apify.lifecycle import job_log
from tests.kinds import Kind
from tests.runner import Runner

WAYS: dict[str, dict[str, Any]] = {
    "worker": {"wait_for_completion": True},
    "wait_for_finish": {"wait_for_finish": 30},
    "deferred": {"wait_for_completion": True, "deferrable": True},
}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_log, "FIRST_PAUSE", 0.2)


@pytest.fixture
def shown(kind: Kind, capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """The lines of the job's log that the task's log has, and what it says of them."""

    def shown() -> list[str]:
        out = capsys.readouterr().out
        about = rf"^\[.*?\] [A-Z]+ ({kind.name} \| .*|The (?:rest of the )?log of .*) \[[\w.]+\]"
        return re.findall(about, out, re.MULTILINE)

    return shown


def log_of(kind: Kind) -> list[str]:
    lines = kind.of_hook("get_{}_log")(kind.jobs[0]["id"], tail_lines=1000).splitlines()
    return [f"{kind.name} | {line}" for line in lines]


@pytest.mark.parametrize("way", WAYS)
def test_the_log_is_shown(way: str, kind: Kind, runner: Runner, shown: Callable[[], list[str]]) -> None:
    """All of it in a worker, its last lines after a deferral."""
    outcome = runner.run_to_end(lambda: kind.operator(stream_log=True, **WAYS[way]))
    assert outcome.state == "success"
    lines = shown()
    assert lines
    assert lines == log_of(kind)[-20 if way == "deferred" else 0 :]


@pytest.mark.parametrize("options", [{}, {"deferrable": True}], ids=["worker", "deferred"])
def test_a_sensor_shows_it_too(
    options: dict[str, Any], kind: Kind, runner: Runner, shown: Callable[[], list[str]]
) -> None:
    kind.seconds = 1
    job_id = kind.start()
    assert runner.run_to_end(lambda: kind.sensor(job_id, stream_log=True, **options)).state == "success"
    lines = shown()
    assert lines
    assert lines == log_of(kind)[-20 if options else 0 :]


@pytest.mark.parametrize("fault", [Fault("cut-json"), Fault("reset"), Fault("status", status=503)])
def test_a_stream_that_breaks_off_continues_where_it_was(
    fault: Fault, kind: Kind, apify: Emulator, runner: Runner, shown: Callable[[], list[str]]
) -> None:
    kind.seconds = 2
    fault.path = kind.path("*/log")
    apify.add_fault(fault)
    assert runner.run(kind.operator(stream_log=True, wait_for_completion=True)).state == "success"
    lines = [line for line in shown() if line.startswith(kind.name)]
    assert lines == log_of(kind), "no line is lost, none is shown twice"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "fault",
    [Fault("status", status=404), Fault("status", status=500), Fault("stall"), Fault("html")],
    ids=lambda fault: f"{fault.kind} {fault.status}",
)
def test_a_log_that_cannot_be_read_never_fails_the_task(
    fault: Fault, way: str, kind: Kind, apify: Emulator, supervisor: Any, runner: Runner, monkeypatch: Any
) -> None:
    monkeypatch.setattr(job_log, "LAST_LINES", 0.5)
    supervisor.connections["apify_default"]["extra"] = '{"timeout": 2}'
    fault.path, fault.times = kind.path("*/log"), None
    apify.add_fault(fault)
    outcome = runner.run_to_end(lambda: kind.operator(stream_log=True, **WAYS[way]))
    assert (outcome.state, outcome.error) == ("success", None)


def test_what_is_shown_is_bounded(
    kind: Kind, apify: Emulator, runner: Runner, shown: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_log, "MOST_LINES", 100)
    body = ("x" * 5000 + "\n") * 300
    apify.add_fault(Fault("status", status=200, body=body, path=kind.path("*/log"), times=None))
    assert runner.run(kind.operator(stream_log=True, wait_for_completion=True)).state == "success"
    *lines, last = shown()
    assert lines == [f"{kind.name} | {'x' * job_log.LONGEST_LINE}"] * 100
    assert last == f"The rest of the log of {kind.name} {kind.jobs[0]['id']} is not shown."


@pytest.mark.parametrize("way", WAYS)
def test_by_default_nothing_is_shown(way: str, kind: Kind, apify: Emulator, runner: Runner) -> None:
    assert runner.run_to_end(lambda: kind.operator(**WAYS[way])).state == "success"
    assert not [request for request in apify.requests if request.path.endswith("/log")]


def test_a_token_is_not_shown_however_its_letters_come(
    kind: Kind, apify: Emulator, supervisor: Any, runner: Runner, shown: Callable[[], list[str]]
) -> None:
    apify.token = supervisor.connections["apify_default"]["password"] = "ACTOR"  # which each log holds
    apify.add_fault(Fault("drip", path=kind.path("*/log"), times=None))
    assert runner.run(kind.operator(stream_log=True, wait_for_completion=True)).state == "success"
    lines = shown()
    assert any("***" in line for line in lines)
    assert not [line for line in lines if "ACTOR" in line]


def test_a_line_without_end_is_read_no_further_than_the_bound(
    kind: Kind, apify: Emulator, runner: Runner, shown: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_log, "MOST_BYTES", 100_000)
    apify.add_fault(Fault("status", status=200, body="x" * 2_000_000, path=kind.path("*/log"), times=None))
    assert runner.run(kind.operator(stream_log=True, wait_for_completion=True)).state == "success"
    assert shown() == [f"The rest of the log of {kind.name} {kind.jobs[0]['id']} is not shown."]
