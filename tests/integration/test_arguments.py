"""Arguments as people write them, as templates render them and as other tasks hand them over."""

from __future__ import annotations

import datetime as dt
import re
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import literal
from airflow.sdk import DAG, BaseOperator

from airflow_provider_apify.emulator import Actor, Emulator, Fault
from airflow_provider_apify.exceptions import ApifyConfigurationError
from airflow_provider_apify.operators.build import ApifyBuildOperator
from airflow_provider_apify.sensors.build import ApifyBuildSensor
from tests.integration.conftest import operator, sensor, start_build, starts
from tests.runner import Runner

TROUBLESHOOTING = Path(__file__).parents[2] / "docs/troubleshooting.md"


@pytest.fixture(autouse=True)
def shop(apify: Emulator) -> None:
    """An Actor whose versions read as the same number."""
    apify.build_seconds = 0.05
    apify.add_actor(Actor("shop", versions={"0.1": "old", "0.10": "latest"}))


def native(make: Callable[[], Any], **params: Any) -> Callable[[], Any]:
    """Make a task in a DAG that renders natively."""

    def task() -> Any:
        with DAG("dag", start_date=dt.datetime(2026, 1, 1), render_template_as_native_obj=True, params=params):
            return make()

    return task


def build(**arguments: Any) -> ApifyBuildOperator:
    return ApifyBuildOperator(task_id="build", **{"actor_id": "~shop", **arguments})


def query(apify: Emulator) -> str:
    """The query of the one request that has started a build."""
    (query,) = (each.query for each in apify.requests if each.method == "POST" and each.path.endswith("/builds"))
    return query


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        ({}, "version=0.0"),
        ({"tag": "candidate"}, "version=0.0&tag=candidate"),
        ({"tag": "latest"}, "version=0.0&tag=latest"),
        ({"version": "1.0", "tag": "candidate"}, "version=1.0&tag=candidate"),
        ({"version": "0.0", "tag": "beta"}, "version=0.0&tag=beta"),
    ],
)
def test_the_tag_does_not_choose_the_version(
    arguments: dict[str, str], query: str, apify: Emulator, runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runner.run_to_end(lambda: operator("~two-versions", **arguments)).state == "success"
    assert [request.query for request in apify.requests if request.method == "POST"] == [query]
    chosen = "Building version 0.0 of Actor ~two-versions: its build tag is latest."
    assert (chosen in capsys.readouterr().out) == ("version" not in arguments)


def test_no_build_of_one_version_takes_the_tag_of_another(apify: Emulator, runner: Runner) -> None:
    outcome = runner.run_to_end(lambda: operator("~two-versions", tag="beta", retries=1))
    assert (outcome.state, starts(apify)) == ("failed", 0)
    assert "Name one with version=" in str(outcome.error)


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ({"version": "0.1"}, "version=0.1"),
        ({"version": "0.10"}, "version=0.10"),
        ({"tag": "2026"}, "version=0.10&tag=2026"),
        ({"tag": "2026_11"}, "version=0.10&tag=2026_11"),
        ({"tag": "1e3"}, "version=0.10&tag=1e3"),
        ({"tag": "None", "version": "None"}, "version=0.10"),
        ({"tag": "", "version": ""}, "version=0.10"),
        ({"use_cache": "False"}, "version=0.10&useCache=false"),
        ({"tag": "{{ params.day }}"}, "version=0.10&tag=20261123"),
        ({"tag": literal(2026)}, "version=0.10&tag=2026"),
        ({"tag": "{{ params.nothing }}", "version": "{{ params.nothing }}"}, "version=0.10"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("mapped", [False, True], ids=["plain", "mapped"])
def test_native_rendering_leaves_text_as_it_is_written(
    mapped: bool, arguments: dict[str, Any], sent: str, apify: Emulator, runner: Runner
) -> None:
    def make() -> Any:
        if not mapped:
            return build(**arguments)
        runner.map_index = 0
        both = {"actor_id": "~shop", **arguments}
        return ApifyBuildOperator.partial(task_id="build").expand_kwargs([both, {"actor_id": "~hello-world"}])

    outcome = runner.run_to_end(native(make, day="20261123", nothing=None))
    assert (outcome.state, outcome.error) == ("success", None)
    assert query(apify) == sent


def test_native_rendering_leaves_partial_and_expanded_text_as_it_is_written(apify: Emulator, runner: Runner) -> None:
    runner.map_index = 1
    partial = {"task_id": "build", "version": "0.10"}
    task = native(lambda: ApifyBuildOperator.partial(**partial).expand(actor_id=["~shop"] * 2, tag=["7"]))
    outcome = runner.run_to_end(task)
    assert (outcome.state, query(apify)) == ("success", "version=0.10&tag=7")


@pytest.mark.parametrize("build_id", ["12345678901234567", "1e345678901234567", "True"])
@pytest.mark.parametrize("late", [False, True], ids=["literal", "template"])
def test_a_sensor_takes_ids_that_read_as_numbers(late: bool, build_id: str, apify: Emulator, runner: Runner) -> None:
    body = {"data": {"id": build_id, "status": "SUCCEEDED"}}
    apify.add_fault(Fault("status", status=200, body=body, method="GET", path=f"/v2/actor-builds/{build_id}"))
    written = "'{{ params.id }}'" if late and not build_id.isdigit() else "{{ params.id }}" if late else build_id
    outcome = runner.run_to_end(native(lambda: ApifyBuildSensor(task_id="wait", build_id=written), id=build_id))
    assert (outcome.state, outcome.xcoms.get("build_id")) == ("success", build_id)


@pytest.mark.parametrize("mode", [{}, {"deferrable": True}, {"mode": "reschedule"}], ids=repr)
def test_a_sensor_takes_ids_with_blanks_around(mode: dict[str, Any], apify: Emulator, runner: Runner) -> None:
    apify.build_seconds = 1
    build_id = start_build(apify)
    outcome = runner.run_to_end(lambda: sensor(f" {build_id}\n", poke_interval=0.5, **mode))
    assert (outcome.state, outcome.xcoms["build_id"]) == ("success", build_id)


VERSIONS = [
    ("{{ params.version }}", "0.10", False),
    ("'{{ params.version }}'", "0.10", True),
    ("'{{ params.version }}'", "0.1", True),
]


@pytest.mark.parametrize(("template", "version", "works"), VERSIONS)
def test_the_advice_for_versions_in_templates_works(
    template: str, version: str, works: bool, apify: Emulator, runner: Runner
) -> None:
    outcome = runner.run_to_end(native(lambda: build(version=template), version=version))
    if works:
        assert query(apify) == f"version={version}"
    else:
        assert (outcome.state, starts(apify)) == ("failed", 0)
        (advice,) = re.findall('quote a template twice: version="(.*)"', str(outcome.error))
        assert (advice, "0.1", True) in VERSIONS
        assert f'version="{advice}"' in TROUBLESHOOTING.read_text()


@pytest.mark.parametrize("given", [0.1, True, 1], ids=repr)
def test_a_version_that_another_task_gives_as_a_number_is_refused(given: Any, apify: Emulator, runner: Runner) -> None:
    outcome = runner.run_to_end(lambda: operator(version=literal(given), retries=1))
    assert (outcome.state, apify.requests) == ("failed", [])
    assert "version must be a string" in str(outcome.error)


@pytest.mark.parametrize(
    ("timeout", "wait", "read"),
    [
        ("60", "5", (60, 5)),
        (" 1.5 ", "0", (1.5, 0)),
        ("", "None", (None, None)),
        (dt.timedelta(minutes=1), 5, (60, 5)),
        ("{{ params.seconds }}", "{{ params.seconds }}", (30, 30)),
        ("{{ params.nothing }}", "{{ params.nothing }}", (None, None)),
        (literal(dt.timedelta(minutes=1)), literal(5), (60, 5)),
        (literal(None), literal(None), (None, None)),
        ("{{ 0.5 }}", "{{ '' }}", (0.5, None)),
    ],
    ids=repr,
)
@pytest.mark.parametrize("natively", [False, True], ids=["text", "native"])
def test_timeout_and_wait_for_finish_take_templates(
    natively: bool, timeout: Any, wait: Any, read: tuple[Any, Any], apify: Emulator, runner: Runner
) -> None:
    seen: list[Any] = []
    options: dict[str, Any] = {"params": {"seconds": 30, "nothing": None}, "wait_for_completion": True}

    def task() -> ApifyBuildOperator:
        with DAG("dag", start_date=dt.datetime(2026, 1, 1), render_template_as_native_obj=natively):
            return build(
                timeout=timeout,
                wait_for_finish=wait,
                on_success_callback=lambda context: seen.append(context["ti"].task),
                **options,
            )

    assert runner.run_to_end(task).state == "success"
    assert [(each.timeout, each.wait_for_finish) for each in seen] == [read]


def test_a_timeout_may_be_the_output_of_another_task() -> None:
    with DAG("dag", start_date=dt.datetime(2026, 1, 1)):
        output = BaseOperator(task_id="decide").output
        task = build(timeout=output, wait_for_finish=output, wait_for_completion=True)
    assert task.upstream_task_ids == {"decide"}


def test_a_timeout_from_a_template_ends_the_wait(apify: Emulator, runner: Runner) -> None:
    apify.build_seconds = 30
    ways: list[dict[str, Any]] = [{}, {"deferrable": True}]
    for options in ways:
        outcome = runner.run_to_end(
            partial(
                operator, timeout="{{ params.seconds }}", wait_for_completion=True, params={"seconds": 1}, **options
            )
        )
        assert (outcome.state, type(outcome.error).__name__) == ("failed", "ApifyJobTimeout")
        runner.retry()


@pytest.mark.parametrize("name", ["timeout", "wait_for_finish"])
@pytest.mark.parametrize("value", ["1h", "-1", "ten", "1:00", -1, True, [60], float("nan"), float("inf")], ids=repr)
def test_no_number_is_refused_at_import_and_from_a_template_when_run(
    name: str, value: Any, apify: Emulator, runner: Runner
) -> None:
    with pytest.raises(ApifyConfigurationError, match=f"^{name} must be"):
        operator(**{name: value})
    options: dict[str, Any] = {name: literal(value)}
    outcome = runner.run_to_end(lambda: operator(**options, retries=1))
    assert (outcome.state, apify.requests) == ("failed", [])
    assert f"{name} must be" in str(outcome.error)


@pytest.mark.parametrize(("value", "read"), [(True, True), ("True", True), ("false", False), (" FALSE", False)])
@pytest.mark.parametrize("name", ["wait_for_completion", "deferrable", "abort_on_kill"])
def test_switches_take_bools_and_the_words(name: str, value: Any, read: bool) -> None:
    assert getattr(operator(**{name: value}), name) is read
    if name == "deferrable":
        assert sensor("b1", deferrable=value).deferrable is read


@pytest.mark.parametrize("value", ["yes", "", "None", "{{ params.wait }}", 1, 0, literal(True), []], ids=repr)
@pytest.mark.parametrize("name", ["wait_for_completion", "deferrable", "abort_on_kill"])
def test_switches_refuse_the_rest_at_import(name: str, value: Any) -> None:
    makers: list[Callable[..., Any]] = [operator, sensor] if name == "deferrable" else [operator]
    for make in makers:
        with pytest.raises(ApifyConfigurationError, match=f"^{name} must be True or False, got .* parses the DAG"):
            make("x", **{name: value})


def test_a_switch_refuses_the_output_of_another_task() -> None:
    with DAG("dag", start_date=dt.datetime(2026, 1, 1)):
        output = BaseOperator(task_id="decide").output
        with pytest.raises(ApifyConfigurationError, match=r"^wait_for_completion must be True or False"):
            build(wait_for_completion=output)


def test_an_abort_on_kill_in_words_keeps_the_build(apify: Emulator, runner: Runner) -> None:
    apify.build_seconds = 30
    runner.run_to_end(lambda: operator(wait_for_completion="true", timeout=0.5, abort_on_kill="false"))
    assert apify.builds[0]["status"] != "ABORTED"


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"deferrable": True}, "deferrable"),
        ({"timeout": 60}, "timeout"),
        ({"timeout": "{{ params.t }}", "params": {"t": 60}}, "timeout"),
        ({"deferrable": "true", "timeout": dt.timedelta(minutes=1)}, "deferrable and timeout"),
        ({"default_args": {"deferrable": True, "timeout": 60}}, "deferrable and timeout"),
        ({}, None),
        ({"wait_for_finish": 5}, None),
        ({"deferrable": False, "timeout": None}, None),
        ({"timeout": 60, "deferrable": True, "wait_for_completion": True}, None),
    ],
    ids=repr,
)
def test_what_has_no_effect_is_said_once_at_import_and_in_the_log(
    arguments: dict[str, Any],
    names: str | None,
    apify: Emulator,
    runner: Runner,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "False")
    with warnings.catch_warnings(record=True) as caught, DAG("dag", start_date=dt.datetime(2026, 1, 1)):
        warnings.simplefilter("always")
        task = build(**arguments)
    said = [str(each.message) for each in caught if each.category is UserWarning]
    assert len(said) == (0 if names is None else 1)
    runner.run(task)
    log = capsys.readouterr().out
    if names is None:
        assert "ignores" not in log
    else:
        assert said[0].startswith(f"Task build ignores {names}, since it does not wait")
        assert log.count(said[0]) == 1
        assert caught[0].filename == __file__, "the warning blames the DAG's line"


def test_the_default_of_deferrable_is_no_trap(
    apify: Emulator, runner: Runner, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "True")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task = operator()
    assert (task.deferrable, sensor("x").deferrable) == (True, True)
    runner.run(task)
    assert "ignores" not in capsys.readouterr().out


@pytest.mark.parametrize("written", ["None", "", " ", "{{ params.nothing }}", None], ids=repr)
def test_an_id_of_nothing_says_where_to_look(written: Any, apify: Emulator, runner: Runner) -> None:
    makers: list[tuple[Callable[..., Any], str]] = [
        (operator, "Does the template or the task that it comes from give anything?"),
        (sensor, "Does the task that starts the build push its id?"),
    ]
    for make, advice in makers:
        outcome = runner.run_to_end(partial(make, written, params={"nothing": None}, retries=1))
        assert (outcome.state, apify.requests) == ("failed", [])
        assert advice in str(outcome.error)


def test_an_actor_by_the_address_of_its_page(apify: Emulator, runner: Runner) -> None:
    runner.run_to_end(lambda: operator("~hello-world"))
    actor_id = apify.builds[0]["actId"]
    for address in (f" https://console.apify.com/actors/{actor_id}#/builds/0.0.1", "apify.com/emulator/hello-world"):
        assert runner.run_to_end(partial(operator, address)).state == "success"
    assert {build["actId"] for build in apify.builds} == {actor_id}


def test_a_name_without_its_user_says_how_to_write_it(apify: Emulator, runner: Runner) -> None:
    for arguments in ({}, {"version": "0.0"}):
        outcome = runner.run_to_end(partial(operator, "hello-world", retries=1, **arguments))
        assert outcome.state == "failed"
        assert "write ~hello-world for an Actor of your own, else user/hello-world" in str(outcome.error)


def test_a_build_number_is_no_build_id(apify: Emulator, runner: Runner) -> None:
    for written in ("0.0.1", "https://console.apify.com/actors/zdc3Pyhyz3m8vjDeM#/builds/0.0.1"):
        outcome = runner.run_to_end(partial(sensor, written, retries=1))
        assert (outcome.state, apify.requests) == ("failed", [])
        assert "build_id must be a build's id" in str(outcome.error)
