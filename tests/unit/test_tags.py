"""What is decided before a tag of an Actor is moved, and which builds can be reused."""

from __future__ import annotations

import json
from typing import Any

import pendulum
import pytest

from airflow_provider_apify.api import builds, tags
from airflow_provider_apify.api.builds import Actor, Build
from airflow_provider_apify.api.tags import TagConflict

BUILD = Build("b2", "SUCCEEDED", act_id="a1", build_number="0.0.2")


def actor(default: str = "latest", **on: str) -> Actor:
    """An Actor with these tags, each with the id of its build."""
    return Actor.from_api(
        {
            "id": "a1",
            "name": "shop",
            "versions": [
                {"versionNumber": "0.0", "buildTag": "latest"},
                {"versionNumber": "1.0", "buildTag": "beta"},
                {"versionNumber": "2.0", "buildTag": None},
            ],
            "taggedBuilds": {tag: {"buildId": build_id} for tag, build_id in on.items()},
            "defaultRunOptions": {"build": default},
        }
    )


def test_one_request_sets_both_tags_and_nothing_else() -> None:
    wanted = tags.changes(actor(latest="b1", beta="b9"), "latest", BUILD, "previous")
    request = tags.set_tags("~shop", wanted)
    assert (request.method, request.path, request.query) == ("PUT", "/v2/acts/~shop", ())
    assert json.loads(request.body or b"") == {
        "taggedBuilds": {"latest": {"buildId": "b2"}, "previous": {"buildId": "b1"}}
    }


@pytest.mark.parametrize(
    ("before", "keep", "wanted"),
    [
        ({"latest": "b1"}, "previous", {"latest": "b2", "previous": "b1"}),
        ({"latest": "b1", "previous": "b2"}, "previous", {"latest": "b2", "previous": "b1"}),
        ({"latest": "b1"}, None, {"latest": "b2"}),
        ({}, "previous", {"latest": "b2"}),
        ({"previous": "b0"}, "previous", {"latest": "b2"}),
        ({"latest": "b2", "previous": "b0"}, "previous", {}),
        ({"latest": "b2"}, "previous", {}),
    ],
)
def test_the_build_before_keeps_a_tag(before: dict[str, str], keep: str | None, wanted: dict[str, str]) -> None:
    assert tags.changes(actor(**before), "latest", BUILD, keep) == wanted


@pytest.mark.parametrize(
    ("on", "expected", "allowed"),
    [
        ({"latest": "b1"}, None, True),
        ({"latest": "b1"}, "b1", True),
        ({"latest": "b2"}, "b1", True),
        ({"latest": "b3"}, "b1", False),
        ({}, None, True),
        ({}, "b1", False),
    ],
)
def test_a_tag_is_moved_from_where_it_is_expected_alone(
    on: dict[str, str], expected: str | None, allowed: bool
) -> None:
    if allowed:
        tags.check_expected(actor(**on), "latest", BUILD, expected)
        return
    with pytest.raises(TagConflict, match="was not moved to build"):
        tags.check_expected(actor(**on), "latest", BUILD, expected)


@pytest.mark.parametrize(
    ("first", "now", "allowed"),
    [
        ({"latest": "b1"}, {"latest": "b1"}, True),
        ({"latest": "b1"}, {"latest": "b2"}, True),
        ({"latest": "b1"}, {"latest": "b3"}, False),
        ({"latest": "b1"}, {}, False),
        ({}, {}, True),
        ({}, {"latest": "b3"}, False),
    ],
)
def test_a_tag_that_moves_meanwhile_is_left_where_it_is(
    first: dict[str, str], now: dict[str, str], allowed: bool
) -> None:
    if allowed:
        tags.check_unmoved(actor(**first), actor(**now), "latest", BUILD)
        return
    with pytest.raises(TagConflict, match="Somebody else has moved the tag 'latest' of Actor shop"):
        tags.check_unmoved(actor(**first), actor(**now), "latest", BUILD)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        ({"status": "FAILED"}, "is FAILED"),
        ({"status": "RUNNING"}, "is RUNNING"),
        ({"status": "HIBERNATING"}, "is HIBERNATING"),
        ({"actId": "a2"}, "of another Actor"),
        ({"actId": None}, "of another Actor"),
    ],
)
def test_no_other_build_gets_a_tag(build: dict[str, Any], message: str) -> None:
    data = {"id": "b2", "status": "SUCCEEDED", "actId": "a1", "buildNumber": "0.0.2", **build}
    with pytest.raises(ValueError, match=message):
        tags.check_move(actor(), "latest", Build.from_api(data))


@pytest.mark.parametrize(
    ("default", "tag", "refused"),
    [("latest", "latest", False), ("0.0.7", "latest", True), ("0.0.7", "stable", False), ("beta", "latest", False)],
)
def test_latest_is_not_moved_where_it_means_nothing(default: str, tag: str, refused: bool) -> None:
    if not refused:
        tags.check_move(actor(default), tag, BUILD)
        return
    with pytest.raises(ValueError, match=r"runs build 0\.0\.7 by default"):
        tags.check_move(actor(default), tag, BUILD)


def test_what_is_done_is_seen_only_with_all_tags() -> None:
    wanted = {"latest": "b2", "previous": "b1"}
    assert tags.is_done(actor(**wanted), wanted)
    assert not tags.is_done(actor(latest="b2"), wanted)
    assert not tags.is_done(actor(latest="b2", previous="b0"), wanted)


def test_unfinished_builds_whose_version_has_the_tag_may_take_it() -> None:
    listed = [
        Build("ready", "READY", build_number="0.0.3"),
        Build("unknown", "HIBERNATING", build_number="0.0.4"),
        Build("over", "SUCCEEDED", build_number="0.0.5"),
        Build("beta", "RUNNING", build_number="1.0.1"),
        Build("no tag", "RUNNING", build_number="2.0.1"),
        Build("no number", "RUNNING"),
    ]
    assert [build.id for build in tags.will_take(actor(), "latest", listed)] == ["ready", "unknown"]
    assert [build.id for build in tags.will_take(actor(), "beta", listed)] == ["beta"]


@pytest.mark.parametrize(
    ("tag", "keep"), [(None, "previous"), ("", None), (7, None), ("latest", "latest"), ("latest", ""), ("latest", 7)]
)
def test_tags_are_text_and_differ(tag: Any, keep: Any) -> None:
    with pytest.raises(ValueError, match="tag"):
        tags.check_tags(tag, keep)
    assert tags.check_tags("latest", None) == ("latest", None)


@pytest.mark.parametrize(
    ("build_id", "number"), [(None, None), ("b1", "0.0.1"), (None, "0.0"), (None, 0.1), (None, "latest")]
)
def test_a_build_is_named_in_one_way(build_id: Any, number: Any) -> None:
    with pytest.raises(ValueError, match="build_number"):
        tags.check_which(build_id, number)
    tags.check_which("b1", None)
    tags.check_which(None, "0.0.1")


@pytest.mark.parametrize(
    ("changes", "reusable"),
    [
        ({}, True),
        ({"status": "FAILED"}, False),
        ({"status": "RUNNING"}, False),
        ({"buildNumber": "0.10.3"}, False),
        ({"buildNumber": None}, False),
        ({"startedAt": None}, False),
        ({"startedAt": "2026-11-23T00:00:00Z"}, False),
    ],
)
def test_a_good_build_of_the_version_is_reused_while_it_is_young(changes: dict[str, Any], reusable: bool) -> None:
    data = {"id": "b1", "status": "SUCCEEDED", "buildNumber": "0.1.3", "startedAt": "2026-11-23T00:00:01Z", **changes}
    since = pendulum.datetime(2026, 11, 23).timestamp()
    assert builds.is_reusable(Build.from_api(data), "0.1", since=since) is reusable
