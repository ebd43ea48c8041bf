"""``make probe`` says what holds of an Apify and what does not, starts one build, and leaves none unfinished."""

from __future__ import annotations

import re
import sys
import time
from datetime import datetime, timezone
from email.utils import formatdate

import pytest

from airflow_provider_apify.api.job import Job, JobKind
from airflow_provider_apify.api.runs import RUN
from airflow_provider_apify.emulator import Actor, Emulator, Fault
from probe.__main__ import NOBODY, Probe, main
from tests.integration.conftest import start_build, statuses

STARTS = "/v2/acts/*/builds"
#: The four starts that have to be refused come first.
REFUSED = 4


@pytest.fixture(autouse=True)
def environment(apify: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TOKEN", apify.token), ("API_BASE_URL", apify.url)):
        monkeypatch.setenv(f"APIFY_{name}", value)
    monkeypatch.setenv("ACTOR", "~hello-world")
    monkeypatch.setattr(sys, "argv", ["probe"])


def test_all_holds_of_the_emulator(apify: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0
    table = capsys.readouterr().out
    rows = [re.split(r"\s{2,}", line)[0] for line in table.splitlines()[3:]]
    assert set(rows) == {"ok"}
    assert len(rows) >= 34
    assert statuses(apify) == ["SUCCEEDED"]
    assert [run["status"] for run in apify.runs] == ["SUCCEEDED"]
    assert apify.runs[0]["buildNumber"] == apify.builds[0]["buildNumber"]


def test_nothing_that_names_anybody_is_shown(apify: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    main()
    shown = "".join(capsys.readouterr())
    build = apify.builds[0]
    private = [apify.token, build["id"], build["actId"], build["userId"], build["meta"]["userAgent"], "hello-world"]
    assert [text for text in [*private, "127.0.0.1", "@", "emulator"] if text in shown] == []


@pytest.mark.parametrize(
    ("fault", "row"),
    [
        (
            Fault("user-agent", path=STARTS, value="proxy/1.0"),
            "User-Agent of the start in GET of a build .* another one",
        ),
        (Fault("user-agent", path=STARTS, value=""), "User-Agent of the start in GET of a build .* not shown"),
        (
            Fault("user-agent", path="*/runs", skip=1, value="proxy/1.0"),
            "User-Agent of the start in GET of a run .* another one",
        ),
        (
            Fault("stale-list", path=STARTS, seconds=4, times=None),
            "the Actor's list shows the build .* after [45]",
        ),
        (Fault("missing", path="/v2/actor-builds/*", seconds=11, times=None), r"GET shows the build .* after 1[12]"),
        (
            Fault("status", "POST", STARTS, status=422, body={"error": {"message": "No."}}),
            "start of an unknown version .* 422, no type",
        ),
        (Fault("status", "POST", "*/abort", status=400), "abort of a build that has ended .* 400, internal"),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
def test_what_does_not_hold_is_shown(
    fault: Fault, row: str, apify: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    apify.add_fault(fault)
    assert main() == 1
    wrong = [line for line in capsys.readouterr().out.splitlines() if line.startswith("NOT SO")]
    assert len(wrong) == 1
    assert re.search(row, wrong[0])
    assert statuses(apify) == ["SUCCEEDED"]


def test_a_start_that_is_not_refused_is_aborted_and_is_the_only_one(
    apify: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    apify.build_seconds = 600
    build = {"id": start_build(apify), "status": "READY"}
    apify.add_fault(Fault("status", "POST", f"/v2/acts/{NOBODY}/builds", status=201, body={"data": build}))
    assert main() == 1
    assert re.search(r"NOT SO +start of an unknown Actor .* not refused", capsys.readouterr().out)
    apify.wait_for(lambda emulator: statuses(emulator) == ["ABORTED"])


def test_a_start_whose_answer_is_lost_leaves_no_build(apify: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    apify.build_seconds = 600
    others = start_build(apify)
    apify.add_fault(Fault("lost-answer", "POST", STARTS, skip=REFUSED))
    assert main() == 2
    assert "Not everything could be found out. No answer from Apify to POST" in capsys.readouterr().err
    apify.wait_for(
        lambda emulator: statuses(emulator) == ["READY", "ABORTED"] or statuses(emulator) == ["RUNNING", "ABORTED"]
    )
    assert apify.builds[0]["id"] == others


def test_ctrl_c_aborts_the_build(
    apify: Emulator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    apify.build_seconds = 600

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("probe.__main__.Probe._end", interrupt)
    assert main() == 130
    assert "Stopped." in capsys.readouterr().err
    apify.wait_for(lambda emulator: statuses(emulator) == ["ABORTED"])


def test_clocks_that_differ_are_shown(
    apify: Emulator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probe.__main__.LOOK", 2.0)  # the tag never comes
    started = datetime.fromtimestamp(time.time() - 7200, timezone.utc).isoformat()
    body = {"data": {"id": start_build(apify), "status": "READY", "startedAt": started}}
    dated = {"Date": formatdate(time.time() - 3600, usegmt=True)}
    apify.add_fault(Fault("status", "POST", STARTS, skip=REFUSED, status=201, body=body, headers=dated))
    assert main() == 1
    table = capsys.readouterr().out
    assert re.search(r"ok +Date header .* shown; this machine's clock is \+360[01] s off", table)
    assert re.search(r"NOT SO +startedAt of a build against the Date of its answer +at most 60 s +-3[56]\d\d s", table)


def test_a_token_that_may_start_nothing_says_so(apify: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    apify.add_fault(Fault("status", "POST", STARTS, status=403))
    assert main() == 2
    assert "HTTP 403, insufficient-permissions" in capsys.readouterr().err
    assert apify.builds == []


def test_a_list_that_may_not_be_read_is_shown(apify: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    apify.add_fault(Fault("status", "GET", "/v2/actor-builds", status=403, times=8))
    assert main() == 1
    assert re.search(r"NOT SO +the account's list shows the build +within 3.5 s +after [45]", capsys.readouterr().out)


def test_a_build_that_fails_shows_what_was_found_and_asks_for_another_actor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ACTOR", "~always-fails")
    assert main() == 2
    said = capsys.readouterr()
    assert re.search(r"ok +User-Agent of the start in GET of a build +shown +shown", said.out)
    assert "The build is FAILED: name an Actor that builds with ACTOR=..." in said.err


def test_an_actor_that_needs_an_input_shows_what_was_found_and_asks_for_another(
    apify: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ACTOR", "~needs-input")
    assert main() == 2
    said = capsys.readouterr()
    assert re.search(r"ok +abort of a build that has ended", said.out)
    assert "The Actor cannot be run without an input: name another one with ACTOR=..." in said.err
    assert apify.runs == []


def test_ctrl_c_aborts_the_run(
    apify: Emulator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    apify.run_seconds = 600
    end = Probe._end

    def interrupt(probe: Probe, kind: JobKind[Job], job: Job) -> object:
        if kind is RUN:
            raise KeyboardInterrupt
        return end(probe, kind, job)

    monkeypatch.setattr("probe.__main__.Probe._end", interrupt)
    assert main() == 130
    apify.wait_for(lambda emulator: [run["status"] for run in emulator.runs] == ["ABORTED"])


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("APIFY_TOKEN", "", "Set both: APIFY_TOKEN=... (Apify Console, Settings, API & Integrations) and ACTOR=..."),
        ("ACTOR", "", "Set both: APIFY_TOKEN=..."),
        ("APIFY_TOKEN", "wrong", "HTTP 401, user-or-token-not-found"),
        ("ACTOR", "~nothing", "HTTP 404, record-not-found"),
        ("APIFY_API_BASE_URL", "http://192.0.2.1", "host starts with http://, which would send the token unencrypted"),
    ],
)
def test_what_cannot_be_asked_is_said_and_starts_nothing(
    variable: str,
    value: str,
    says: str,
    apify: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(variable, value)
    assert main() == 2
    said = capsys.readouterr()
    assert (said.out, apify.builds) == ("", [])
    assert says in said.err


def test_an_actor_without_a_version_is_refused(
    apify: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    apify.add_actor(Actor("empty", versions={}))
    monkeypatch.setenv("ACTOR", "~empty")
    assert main() == 2
    assert "has no version to build" in capsys.readouterr().err
