"""Promise 4: however a task waits, it ends in the same state, with the same XComs, exception and outcome in the log."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse

from airflow_provider_apify.emulator import Emulator, Fault
from tests.kinds import Kind
from tests.runner import Runner, Supervisor

SENSOR_MODES: dict[str, dict[str, Any]] = {
    "worker": {"mode": "poke"},
    "reschedule": {"mode": "reschedule", "poke_interval": 0},
    "deferred": {"deferrable": True},
    "deferred, mode=reschedule": {"deferrable": True, "mode": "reschedule"},
}
OPERATOR_MODES: dict[str, dict[str, Any]] = {
    "worker": {"wait_for_completion": True},
    "long-poll first": {"wait_for_completion": True, "wait_for_finish": 30},
    "deferred": {"wait_for_completion": True, "deferrable": True},
}

#: Scenario: the Actor, whether the job is over before the task looks, state without soft_fail, exception of the
#: sensor, exception of the operator; ``{Kind}`` is Build or Run.
SCENARIOS: dict[str, tuple[str, bool, str, str | None, str | None]] = {
    "succeeds at once": ("hello-world", True, "success", None, None),
    "succeeds later": ("hello-world", False, "success", None, None),
    "fails at once": ("always-fails", True, "failed", "Apify{Kind}FailedFinal", "Apify{Kind}Failed"),
    "fails later": ("always-fails", False, "failed", "Apify{Kind}FailedFinal", "Apify{Kind}Failed"),
    "is timed out by Apify": ("times-out", False, "failed", "Apify{Kind}FailedFinal", "Apify{Kind}Failed"),
    "outlasts the timeout": ("slow-build", False, "failed", "ApifyJobSensorTimeout", "ApifyJobTimeout"),
    "401": ("hello-world", False, "failed", "ApifyAuthenticationError", "ApifyAuthenticationError"),
}


@pytest.fixture(autouse=True)
def slow(kind: Kind) -> None:
    kind.set_actor("slow-build", seconds=60)


def expected_xcoms(kind: Kind, job: dict[str, Any], name: str, *, awaits_tag: bool) -> dict[str, Any]:
    """What the XComs must be, worked out from what Apify says of the job."""
    own = kind.own_summary(job, awaits_tag=awaits_tag)
    xcoms = {
        kind.id: job["id"],
        "build_number": job["buildNumber"],
        "actor_id": job["actId"],
        "_link_ApifyConsoleLink": kind.console_url(job),
    }
    xcoms |= {key: own[key] for key in kind.job_kind.job.announced if key not in xcoms}
    if job["finishedAt"]:
        xcoms["stats"] = job["stats"]
        xcoms["summary"] = {
            kind.id: job["id"],
            "actor_id": job["actId"],
            "build_number": job["buildNumber"],
            "status": job["status"],
            "started_at": time(job["startedAt"]).isoformat(),
            "finished_at": time(job["finishedAt"]).isoformat(),
            "duration_seconds": round((time(job["finishedAt"]) - time(job["startedAt"])).total_seconds(), 3),
            "stats": job["stats"],
            "usage": job.get("usage"),
            "usage_total_usd": job["usageTotalUsd"],
            "console_url": kind.console_url(job),
            "actor_name": name,
            **own,
        }
    return xcoms


def time(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text.replace("Z", "+00:00"))


@pytest.mark.parametrize("soft_fail", [False, True], ids=["hard", "soft_fail"])
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("mode", SENSOR_MODES)
def test_sensor(
    mode: str,
    scenario: str,
    soft_fail: bool,
    kind: Kind,
    apify: Emulator,
    runner: Runner,
    capsys: pytest.CaptureFixture[str],
) -> None:
    actor, over, state, exception, _ = SCENARIOS[scenario]
    timeout = 1.0 if scenario == "outlasts the timeout" else 60.0
    job_id = kind.start(actor)
    if over:
        kind.ended()
    if scenario == "401":
        apify.token = "rotated"

    outcome = runner.run_to_end(
        lambda: kind.sensor(job_id, retries=1, soft_fail=soft_fail, timeout=timeout, **SENSOR_MODES[mode])
    )

    check(
        outcome,
        "skipped" if soft_fail and state == "failed" else state,
        exception,
        actor,
        kind,
        capsys,
        awaits_tag=False,
    )
    if outcome.state == "success":
        assert outcome.xcoms["return_value"] == outcome.xcoms["summary"]
    assert kind.aborts == 0


#: Trouble of a sensor whose job succeeds in the end; what of it counts as final to Airflow's sensors.
TROUBLE = {
    "no connection": False,
    "no XCom": False,
    "an odd answer to the first look": True,
    "the token is refused": True,
}


@pytest.mark.parametrize("option", ["soft_fail", "never_fail", "silent_fail", None])
@pytest.mark.parametrize("trouble", TROUBLE)
@pytest.mark.parametrize("mode", SENSOR_MODES)
def test_a_sensor_skips_and_goes_on_in_the_same_cases(
    mode: str,
    trouble: str,
    option: str | None,
    kind: Kind,
    apify: Emulator,
    supervisor: Supervisor,
    runner: Runner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trouble that passes when met three times; ``silent_fail`` outlasts what is not final."""
    met, send = [0], supervisor.send
    what = {"no connection": "GetConnection", "no XCom": "SetXCom"}.get(trouble)

    def fail(msg: Any) -> Any:
        # Not the link, which Airflow itself stores, too.
        if type(msg).__name__ == what and met[0] < 3 and getattr(msg, "key", kind.id) == kind.id:
            met[0] += 1
            if what == "GetConnection":
                return ErrorResponse(error=ErrorType.CONNECTION_NOT_FOUND)
            raise RuntimeError("no XCom today")
        return send(msg)

    monkeypatch.setattr(supervisor, "send", fail)
    job_id = kind.start()
    if trouble == "an odd answer to the first look":
        apify.add_fault(Fault("status", status=409, **kind.get_request))
    if trouble == "the token is refused":
        apify.token = "rotated"
    options = {"retries": 1, "poke_interval": 0.1, "timeout": 20.0, **SENSOR_MODES[mode]}
    if option:
        options[option] = True
    outcome = runner.run_to_end(lambda: kind.sensor(job_id, **options))
    final = TROUBLE[trouble]
    if option == "never_fail" or (option == "soft_fail" and final):
        assert outcome.state == "skipped"
    elif option == "silent_fail" and not final:
        assert (outcome.state, outcome.error) == ("success", None)
    else:
        assert outcome.state == ("failed" if final else "up_for_retry")


@pytest.mark.parametrize("option", ["soft_fail", "never_fail", "silent_fail", None])
def test_a_trigger_that_crashed_is_no_failure_of_a_sensor(option: str | None, kind: Kind, runner: Runner) -> None:
    """Where the worker waits there is none, either."""
    job_id = kind.start()
    options: dict[str, Any] = {"deferrable": True, "retries": 1, **({option: True} if option else {})}
    assert runner.run(kind.sensor(job_id, **options)).state == "deferred"
    for resume in (("__fail__", {"error": "Trigger failure"}), ("execute_complete", {"event": {"status": "?"}})):
        outcome = runner.run(kind.sensor(job_id, **options), next_method=resume[0], next_kwargs=resume[1])
        assert (outcome.state, outcome.error) == ("success", None)


# With a refused token an operator has nothing to wait for; a long-poll comes before the timeout starts.
@pytest.mark.parametrize(
    ("mode", "scenario"),
    [
        (mode, scenario)
        for mode in OPERATOR_MODES
        for scenario in SCENARIOS
        if scenario != "401" and (mode, scenario) != ("long-poll first", "outlasts the timeout")
    ],
)
def test_operator(mode: str, scenario: str, kind: Kind, runner: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    actor, over, state, _, exception = SCENARIOS[scenario]
    timeout = 1.0 if scenario == "outlasts the timeout" else None
    if over:
        kind.seconds = 0

    outcome = runner.run_to_end(lambda: kind.operator(f"~{actor}", timeout=timeout, **OPERATOR_MODES[mode]))

    if timeout:
        kind.ended()
        assert kind.jobs[0]["status"] == "ABORTED"
        assert (outcome.state, type(outcome.error).__name__) == (state, exception)
        assert "summary" not in outcome.xcoms
        return
    check(outcome, state, exception, actor, kind, capsys, awaits_tag=True)
    if outcome.state == "success":
        assert outcome.xcoms["return_value"] == kind.jobs[0]["id"]


def check(
    outcome: Any,
    state: str,
    exception: str | None,
    actor: str,
    kind: Kind,
    capsys: pytest.CaptureFixture[str],
    *,
    awaits_tag: bool,
) -> None:
    job = kind.jobs[0]
    log = capsys.readouterr().out
    assert outcome.state == state
    xcoms = {key: value for key, value in outcome.xcoms.items() if key != "return_value"}
    if exception == "ApifyAuthenticationError":
        assert xcoms == {"_link_ApifyConsoleLink": ""}
    else:
        assert xcoms == expected_xcoms(kind, job, actor, awaits_tag=awaits_tag)
    if state == "success":
        name = kind.words(job)["short"]
        assert f"{kind.title} {name} of Actor {actor} ({job['actId']}) SUCCEEDED after" in log
    elif state == "failed":
        assert type(outcome.error).__name__ == str(exception).format(Kind=kind.title)
        if job["finishedAt"] and exception != "ApifyAuthenticationError":
            assert f"{job['status']} after" in str(outcome.error)
            assert outcome.error.log_tail.splitlines()[-1] in log
    assert kind.apify.token not in log


def test_an_operator_whose_token_is_refused_starts_nothing(kind: Kind, apify: Emulator, runner: Runner) -> None:
    apify.token = "rotated"
    outcome = runner.run_to_end(lambda: kind.operator(**kind.one_request, retries=3))
    assert (outcome.state, type(outcome.error).__name__) == ("failed", "ApifyAuthenticationError")
    assert "password" in str(outcome.error)
    assert kind.jobs == []


@pytest.mark.parametrize("deferrable", [False, True])
def test_execution_timeout_ends_the_wait_in_the_same_way(deferrable: bool, kind: Kind, runner: Runner) -> None:
    kind.seconds = 30

    def task() -> Any:
        return kind.operator(
            wait_for_completion=True, deferrable=deferrable, execution_timeout=dt.timedelta(seconds=1), retries=1
        )

    outcome = runner.run_to_end(task)

    assert (outcome.state, type(outcome.error).__name__) == ("up_for_retry", "AirflowTaskTimeout")
    kind.ended()
    assert kind.jobs[0]["status"] == "ABORTED"
