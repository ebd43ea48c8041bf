"""api/builds.py and api/job.py: Apify's objects as values, read leniently."""

from __future__ import annotations

import json
import logging
import uuid
from typing import Any

import pendulum
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_apify.api.builds import Actor, ActorVersion, Build, TaggedBuild
from airflow_provider_apify.api.job import ActorJobStatus, parse_status

FIELDS = (
    "id",
    "status",
    "actId",
    "userId",
    "buildNumber",
    "buildNumberInt",
    "startedAt",
    "finishedAt",
    "meta",
    "stats",
    "options",
    "usage",
    "usageUsd",
    "usageTotalUsd",
    "inputSchema",
    "readme",
    "actVersion",
    "actorDefinition",
)
OPTIONAL = FIELDS[2:]
MINIMAL = {"id": "b1", "status": "RUNNING"}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
offsets = st.sampled_from(("Z", "+00:00", "+14:00", "-12:00", ""))
times = st.builds(lambda moment, offset: moment.isoformat() + offset, st.datetimes(), offsets)
build_like = st.fixed_dictionaries(
    {"id": st.text(min_size=1), "status": st.sampled_from(ActorJobStatus).map(str)},
    optional={name: times if name.endswith("At") else json_values for name in OPTIONAL},
)


def test_every_field_is_read_and_the_summary_has_the_small_ones() -> None:
    sent = {
        "id": "b1",
        "status": "SUCCEEDED",
        "actId": "a1",
        "buildNumber": "0.1.7",
        "usageTotalUsd": 0.5,
        "startedAt": "2026-11-23T03:00:00.000Z",
        "finishedAt": "2026-11-23T04:01:30.500+01:00",
        "meta": {"meta": 1},
        "stats": {"stats": 1},
        "usage": {"usage": 1},
        "readme": "# Me",
    }
    build = Build.from_api(sent)
    assert build == Build(
        id="b1",
        status="SUCCEEDED",
        act_id="a1",
        build_number="0.1.7",
        started_at=pendulum.datetime(2026, 11, 23, 3),
        finished_at=pendulum.datetime(2026, 11, 23, 3, 1, 30, 500_000),
        meta={"meta": 1},
        stats={"stats": 1},
        usage={"usage": 1},
        usage_total_usd=0.5,
        console_url="another address does not make another build",
    )
    assert build.raw == sent
    assert build.summary() == {
        "build_id": "b1",
        "actor_id": "a1",
        "build_number": "0.1.7",
        "status": "SUCCEEDED",
        "started_at": "2026-11-23T03:00:00+00:00",
        "finished_at": "2026-11-23T03:01:30.500000+00:00",
        "duration_seconds": 90.5,
        "stats": {"stats": 1},
        "usage": {"usage": 1},
        "usage_total_usd": 0.5,
        "console_url": "https://console.apify.com/actors/a1#/builds/0.1.7",
    }
    assert (str(build), str(Build("b2", "READY"))) == ("0.1.7 (b1)", "(no number) (b2)")


def test_only_four_statuses_end_a_build() -> None:
    ended = {status.value for status in ActorJobStatus if status.is_terminal}
    assert ended == {"SUCCEEDED", "FAILED", "TIMED-OUT", "ABORTED"}


@pytest.mark.parametrize(
    ("status", "terminal", "live", "succeeded"),
    [
        ("READY", False, True, False),
        ("RUNNING", False, True, False),
        ("SUCCEEDED", True, False, True),
        ("FAILED", True, False, False),
        ("TIMING-OUT", False, False, False),
        ("TIMED-OUT", True, False, False),
        ("ABORTING", False, False, False),
        ("ABORTED", True, False, False),
        ("SOMETHING-NEW", False, True, False),
    ],
)
def test_what_a_status_says_of_a_build(status: str, terminal: bool, live: bool, succeeded: bool) -> None:
    build = Build.from_api({"id": "b1", "status": status})
    assert (build.is_terminal, build.is_live, build.is_succeeded) == (terminal, live, succeeded)
    assert build.abort_took == (status not in ("SUCCEEDED", "FAILED", "TIMED-OUT"))


def test_unknown_status_is_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    status = f"HIBERNATING-{uuid.uuid4()}"  # new to this process, however often the test runs
    with caplog.at_level(logging.WARNING, logger="airflow_provider_apify"):
        assert [parse_status(status) for _ in range(3)] == [None, None, None]
    assert len([record for record in caplog.records if status in record.getMessage()]) == 1


def test_every_status_of_the_reference_is_known(openapi: dict[str, Any]) -> None:
    documented = openapi["components"]["schemas"]["ActorJobStatus"]["enum"]
    assert {status.value for status in ActorJobStatus} == set(documented)


def test_the_example_of_the_reference_is_read_in_full(openapi: dict[str, Any]) -> None:
    sent = openapi["components"]["schemas"]["Build"]["example"]
    build = Build.from_api(sent)
    assert (build.id, build.act_id, build.status) == (sent["id"], sent["actId"], sent["status"])
    assert (build.build_number, build.user_agent) == (sent["buildNumber"], sent["meta"]["userAgent"])
    assert (build.stats, build.usage, build.raw) == (sent["stats"], sent["usage"], sent)
    assert build.started_at and build.started_at.to_iso8601_string() == "2019-11-30T07:34:24.202000Z"
    assert build.finished_at and build.finished_at > build.started_at
    assert build.duration_seconds == (build.finished_at - build.started_at).total_seconds()


def test_missing_fields_become_none() -> None:
    build = Build.from_api(MINIMAL)
    assert {value for name, value in vars(build).items() if name not in (*MINIMAL, "raw")} == {None}


def test_nulls_become_none() -> None:
    assert Build.from_api({**dict.fromkeys(FIELDS), **MINIMAL}) == Build.from_api(MINIMAL)


@pytest.mark.parametrize("odd", [True, 7, [], {}, "", "no date"], ids=repr)
@pytest.mark.parametrize("name", ["startedAt", "finishedAt"])
def test_a_time_of_odd_type_becomes_none(name: str, odd: object) -> None:
    assert Build.from_api({**MINIMAL, name: odd}) == Build.from_api(MINIMAL)


@pytest.mark.parametrize("text", ["yesterday", "P1D", "2020-01-01/2021-01-01", "2020-13-01T00:00:00Z", "12:00", "now"])
def test_a_text_that_is_no_point_in_time_becomes_none(text: str) -> None:
    assert Build.from_api({**MINIMAL, "startedAt": text}).started_at is None


@pytest.mark.parametrize(
    ("name", "odd"),
    [
        ("actId", 5),
        ("buildNumber", 0.1),
        ("buildNumberInt", "1"),
        ("buildNumberInt", True),
        ("usageTotalUsd", "0.02"),
        ("usageTotalUsd", True),
        ("stats", []),
        ("meta", "x"),
        ("actVersion", 1),
    ],
)
def test_a_field_of_odd_type_becomes_none(name: str, odd: object) -> None:
    assert Build.from_api({**MINIMAL, name: odd}) == Build.from_api(MINIMAL)


@pytest.mark.parametrize("meta", [None, {}, {"userAgent": None}, {"userAgent": 5}, {"origin": "API"}])
def test_a_build_without_user_agent_has_an_empty_one(meta: object) -> None:
    assert Build.from_api({**MINIMAL, "meta": meta}).user_agent == ""


def test_times_are_given_in_utc() -> None:
    build = Build.from_api({**MINIMAL, "startedAt": "2026-01-01T01:00:00.500+01:00"})
    assert build.summary()["started_at"] == "2026-01-01T00:00:00.500000+00:00"


@pytest.mark.parametrize("data", [None, [], "build", 1, {}, {"id": "b1"}, {"id": "", "status": "READY"}, {"id": 1}])
def test_what_is_no_build_is_refused(data: object) -> None:
    with pytest.raises(ValueError, match="expected a build"):
        Build.from_api(data)


@given(json_values | build_like)
@example({**MINIMAL, "usageTotalUsd": 10**400})
@example({**MINIMAL, "startedAt": "9999-12-31T23:59:59-12:00"})
@example({**MINIMAL, "finishedAt": "0001-01-01T00:00:00+12:00"})
def test_any_json_is_a_build_that_can_be_passed_on_or_a_value_error(data: object) -> None:
    try:
        build = Build.from_api(data)
    except ValueError:
        return
    json.dumps(build.summary())
    assert build.is_terminal in (True, False) and build.is_live in (True, False)


def test_the_summary_is_small_and_leaves_out_big_fields_and_sources() -> None:
    secret = "source code " * 10_000
    build = Build.from_api(
        {
            **MINIMAL,
            "actId": "a1",
            "stats": {"computeUnits": 0.01},
            "inputSchema": secret,
            "readme": secret,
            "actVersion": {"sourceFiles": [{"content": secret}]},
            "actorDefinition": {"readme": secret},
        }
    )
    text = json.dumps(build.summary())
    assert json.loads(text) == build.summary()
    assert len(text) < 1000 and "source code" not in text
    assert "source code" not in repr(build)


@pytest.mark.parametrize(
    ("act_id", "number", "url"),
    [
        ("a1", "0.1.7", "https://console.apify.com/actors/a1#/builds/0.1.7"),
        ("a1", None, "https://console.apify.com/actors/a1"),
        (None, "0.1.7", None),
    ],
)
def test_console_url_is_addressed_by_build_number(act_id: str | None, number: str | None, url: str | None) -> None:
    assert Build.from_api({**MINIMAL, "actId": act_id, "buildNumber": number}).console_url == url


@pytest.mark.parametrize(
    ("stated", "base", "url"),
    [
        (None, "https://x.example/organization/o", "https://x.example/organization/o/actors/a1#/builds/0.1.7"),
        ("https://x.example/b", None, "https://x.example/b"),
        ("http://x.example/b", None, "http://x.example/b"),
        ("https://x.example/b", "https://y.example", "https://y.example/actors/a1#/builds/0.1.7"),
        ("javascript:alert(1)", None, "https://console.apify.com/actors/a1#/builds/0.1.7"),
        ("", None, "https://console.apify.com/actors/a1#/builds/0.1.7"),
        (["https://x.example/b"], None, "https://console.apify.com/actors/a1#/builds/0.1.7"),
    ],
)
def test_console_url_follows_the_connection_then_apify(stated: object, base: str | None, url: str) -> None:
    sent = {**MINIMAL, "actId": "a1", "buildNumber": "0.1.7", "consoleUrl": stated}
    assert Build.from_api(sent, console_url=base).console_url == url


def test_an_actor_is_read_with_its_versions_and_tags() -> None:
    actor = Actor.from_api(
        {
            "id": "a1",
            "name": "shop",
            "username": "jane",
            "versions": [{"versionNumber": "0.1", "buildTag": "latest"}, {"versionNumber": "0.10", "buildTag": None}],
            "taggedBuilds": {"latest": {"buildId": "b1", "buildNumber": "0.1.3"}, "beta": None},
        }
    )
    assert (actor.id, actor.name, actor.username) == ("a1", "shop", "jane")
    assert actor.versions == (ActorVersion("0.1", "latest"), ActorVersion("0.10", None))
    assert actor.tagged_builds == {"latest": TaggedBuild("b1", "0.1.3")}


@pytest.mark.parametrize("odd", [None, "x", 5, {}, [None, 3, {"versionNumber": 0.1}]], ids=repr)
def test_an_actor_of_odd_versions_and_tags_has_none(odd: object) -> None:
    actor = Actor.from_api({"id": "a1", "versions": odd, "taggedBuilds": odd})
    assert (actor.versions, actor.tagged_builds) == ((), {})


@given(json_values | st.fixed_dictionaries({"id": st.text(), "versions": json_values, "taggedBuilds": json_values}))
def test_any_json_is_an_actor_or_a_value_error(data: object) -> None:
    try:
        actor = Actor.from_api(data)
    except ValueError:
        return
    assert actor.id
