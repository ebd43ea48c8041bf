"""The life of a build, seen through the API."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from airflow_provider_apify.emulator import Actor, Emulator, call

from .conftest import Api, anyone, error, streamed

LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \S.*")


def test_a_build_starts_as_ready_and_says_who_asked_for_it(api: Api, emulator: Emulator) -> None:
    build = api.start(useCache="1", betaPackages="true")
    assert (build["status"], build["buildNumber"], build["finishedAt"]) == ("READY", "0.0.1", None)
    assert build["meta"] == {"origin": "API", "clientIp": "127.0.0.1", "userAgent": "tests/1"}
    assert build["options"] == {"useCache": True, "betaPackages": True, "memoryMbytes": 4096, "diskMbytes": 8192}
    assert (build["stats"], build["usageTotalUsd"]) == (None, None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", build["startedAt"])
    assert build["actId"] == api("GET", "/actors/~hello-world").json()["data"]["id"]


@pytest.mark.parametrize(
    ("actor", "statuses"),
    [
        ("hello-world", ["READY", "RUNNING", "SUCCEEDED"]),
        ("always-fails", ["READY", "RUNNING", "FAILED"]),
        ("times-out", ["READY", "RUNNING", "TIMING-OUT", "TIMED-OUT"]),
    ],
)
def test_a_build_passes_through_its_statuses(api: Api, emulator: Emulator, actor: str, statuses: list[str]) -> None:
    emulator.build_seconds = 0.7
    build = api.start(actor)
    seen = [build["status"]]
    while build["finishedAt"] is None:
        build = api.build(build["id"])
        if build["status"] != seen[-1]:
            seen.append(build["status"])
    assert seen == statuses
    assert 700 <= build["stats"]["durationMillis"] < 60_000
    assert build["usageTotalUsd"] == pytest.approx(build["stats"]["computeUnits"] * 0.3)


def test_a_slow_build_takes_six_times_as_long(api: Api) -> None:
    assert api.built("slow-build")["stats"]["durationMillis"] >= 600


def test_builds_that_take_no_time_are_over_at_once(api: Api, emulator: Emulator) -> None:
    emulator.build_seconds = 0
    assert [api.built(actor)["status"] for actor in ("hello-world", "always-fails", "times-out")] == [
        "SUCCEEDED",
        "FAILED",
        "TIMED-OUT",
    ]


def test_build_numbers_count_per_actor_and_version(api: Api, emulator: Emulator) -> None:
    emulator.full_lists = True
    started = [api.start("two-versions", version)["buildNumber"] for version in ("0.0", "1.0", "0.0", "1.0")]
    assert started == ["0.0.1", "1.0.1", "0.0.2", "1.0.2"]
    items = api("GET", "/actors/~two-versions/builds").json()["data"]["items"]
    assert [item["buildNumberInt"] for item in items] == [1, 10_000_001, 2, 10_000_002]


@pytest.mark.parametrize(
    "query",
    ["", "version=1", "version=0.100", "version=0.0&useCache=yes", "version=0.0&waitForFinish=-1"],
)
def test_a_build_with_bad_parameters_is_refused(api: Api, emulator: Emulator, query: str) -> None:
    assert error(api("POST", f"/actors/~hello-world/builds?{query}")) == (400, "invalid-parameter")
    assert emulator.builds == []


def test_an_unknown_version_cannot_be_built(api: Api) -> None:
    refused = api("POST", "/actors/~hello-world/builds", params={"version": "9.9"})
    assert error(refused) == (404, "record-not-found")
    assert "9.9" in refused.json()["error"]["message"]


def test_builds_beyond_the_memory_of_the_account_are_refused_until_one_ends(api: Api, emulator: Emulator) -> None:
    emulator.memory_mbytes = 8192
    first, _ = api.start("slow-build"), api.start("slow-build")
    refused = api("POST", "/actors/~slow-build/builds", params={"version": "0.0"})
    assert error(refused) == (402, "actor-memory-limit-exceeded")
    emulator.finish_build(first["id"])
    assert api.start("slow-build")["buildNumber"] == "0.0.3"


def test_a_long_poll_ends_with_the_build(api: Api, emulator: Emulator) -> None:
    emulator.build_seconds = 30
    build = api.start()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(api.build, build["id"], wait=999999)
        emulator.wait_for(lambda e: len(e.requests) == 2)
        emulator.finish_build(build["id"], "FAILED")
        assert waiting.result(timeout=20)["status"] == "FAILED"


def test_a_long_poll_that_ends_first_shows_the_build_as_it_is(api: Api, emulator: Emulator) -> None:
    emulator.build_seconds = 30
    build = api.start(waitForFinish="0.1")
    assert build["status"] == "READY"
    began = time.monotonic()
    assert api.build(build["id"], wait=0.2)["status"] == "READY"
    assert 0.2 <= time.monotonic() - began < 20


def test_a_long_poll_is_clipped_at_60_seconds(api: Api, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call.MAX_WAIT_SECONDS == 60
    monkeypatch.setattr(call, "MAX_WAIT_SECONDS", 0.1)
    emulator.build_seconds = 30
    assert api.build(api.start(waitForFinish=999999)["id"], wait=61)["status"] == "READY"


def test_a_build_can_be_awaited_by_the_request_that_starts_it(api: Api) -> None:
    assert api.start(waitForFinish=60)["status"] == "SUCCEEDED"


def test_abort_passes_through_aborting_and_may_be_repeated(api: Api, emulator: Emulator) -> None:
    emulator.build_seconds = 30
    build = api.start()
    aborting = api("POST", f"/actor-builds/{build['id']}/abort")
    assert (aborting.status_code, aborting.json()["data"]["status"]) == (200, "ABORTING")
    again = api("POST", f"/actor-builds/{build['id']}/abort")
    assert (again.status_code, again.json()["data"]["status"]) in [(200, "ABORTING"), (200, "ABORTED")]  # after 50 ms
    assert api.build(build["id"], wait=5)["status"] == "ABORTED"
    assert api("POST", f"/actors/~hello-world/builds/{build['id']}/abort").json()["data"]["status"] == "ABORTED"
    assert api.tags() == {}


def test_abort_leaves_a_finished_build_alone(api: Api) -> None:
    build = api.built()
    assert api("POST", f"/actor-builds/{build['id']}/abort").json()["data"] == build


def test_a_finished_build_can_be_deleted_unless_a_tag_needs_it(api: Api, emulator: Emulator) -> None:
    tagged, failed = api.built(), api.built("always-fails")
    assert error(api("DELETE", f"/actor-builds/{tagged['id']}")) == (400, "deleting-default-build")
    deleted = api("DELETE", f"/actor-builds/{failed['id']}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert error(api("GET", f"/actor-builds/{failed['id']}")) == (404, "record-not-found")
    unfinished = api.start("slow-build")
    assert error(api("DELETE", f"/actor-builds/{unfinished['id']}")) == (400, "deleting-unfinished-build")


def test_a_build_deleted_meanwhile_ends_the_long_poll_as_not_found(api: Api, emulator: Emulator) -> None:
    build = api.start("slow-build")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(api, "GET", f"/actor-builds/{build['id']}", params={"waitForFinish": 60})
        emulator.wait_for(lambda e: len(e.requests) == 2)
        emulator.delete_build(build["id"])
        assert error(waiting.result(timeout=2)) == (404, "record-not-found")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("DELETE", ""), ("POST", "/abort"), ("GET", "/log"), ("GET", "/nope")]
)
def test_an_unknown_build_is_not_found(api: Api, method: str, path: str) -> None:
    kind = "page-not-found" if path == "/nope" else "record-not-found"
    assert error(api(method, f"/actor-builds/unknown{path}")) == (404, kind)


def test_a_build_is_found_below_its_own_actor_only(api: Api) -> None:
    build = api.built()
    assert api("GET", f"/acts/~hello-world/builds/{build['id']}").json()["data"] == build
    assert error(api("GET", f"/acts/~two-versions/builds/{build['id']}")) == (404, "record-not-found")


def test_build_lists_are_pages_in_order_of_start(api: Api) -> None:
    ids = [api.start(actor)["id"] for actor in ("hello-world", "always-fails", "hello-world", "hello-world")]
    everything = api("GET", "/actor-builds", params={"desc": "1", "limit": 3}).json()["data"]
    assert [item["id"] for item in everything["items"]] == ids[:0:-1]
    assert (everything["total"], everything["count"], everything["limit"]) == (4, 3, 3)
    own = api("GET", "/acts/~hello-world/builds", params={"offset": 1, "limit": 5000}).json()["data"]
    assert [item["id"] for item in own["items"]] == ids[2:]
    assert (own["total"], own["offset"], own["limit"]) == (3, 1, 1000)


def test_the_default_build_is_the_one_tagged_latest(api: Api) -> None:
    assert error(api("GET", "/actors/~hello-world/builds/default")) == (404, "unknown-build-tag")
    build = api.built()
    assert api("GET", "/actors/~hello-world/builds/default").json()["data"] == build


def test_a_build_shows_its_cost_only_with_a_token_and_refuses_a_wrong_one(api: Api, emulator: Emulator) -> None:
    build = api.built()
    for path in (f"actor-builds/{build['id']}", "acts/~hello-world/builds/default"):
        public = anyone.get(f"{emulator.url}/v2/{path}").json()["data"]
        assert build.keys() - public.keys() == {"usageUsd", "usageTotalUsd"}
        assert anyone.get(f"{emulator.url}/v2/{path}?token=wrong").status_code == 401


@pytest.mark.parametrize(
    ("actor", "ending"),
    [
        ("hello-world", "ACTOR: Build finished."),
        ("always-fails", "ACTOR: ERROR: Build failed."),
        ("times-out", "ACTOR: ERROR: Build timed out and was stopped."),
    ],
)
def test_the_log_says_how_a_build_ended(api: Api, actor: str, ending: str) -> None:
    build = api.built(actor)
    answer = api("GET", f"/actor-builds/{build['id']}/log")
    assert answer.headers["Content-Type"].startswith("text/plain")
    lines = answer.text.splitlines()
    assert all(LOG_LINE.fullmatch(line) for line in lines)
    assert lines == sorted(lines, key=lambda line: line[:24])
    assert lines[-1].endswith(ending)
    assert ("npm ERR!" in answer.text) == (actor == "always-fails")
    assert "\x1b" not in answer.text
    assert "\x1b" in api("GET", f"/logs/{build['id']}", params={"raw": 1}).text


def test_the_log_grows_while_the_build_runs(api: Api, emulator: Emulator) -> None:
    emulator.build_seconds = 10
    build = api.start()
    logs: list[str] = []
    while len(set(logs)) < 3 and api.build(build["id"])["finishedAt"] is None:
        logs.append(api("GET", f"/logs/{build['id']}").text)
    assert len(set(logs)) == 3
    assert all(later.startswith(earlier) for earlier, later in pairwise(logs))


def test_a_streamed_log_ends_with_the_build(api: Api, emulator: Emulator) -> None:
    emulator.build_seconds = 60
    build = api.start()
    first, rest = streamed(f"{emulator.url}/v2/logs/{build['id']}?stream=1", lambda: emulator.finish_build(build["id"]))
    assert first and rest
    assert first + rest == api("GET", f"/logs/{build['id']}").text


def test_the_log_of_an_aborted_build_says_so(api: Api, emulator: Emulator) -> None:
    emulator.add_actor(Actor("endless", build_seconds=600))
    build = api.start("endless")
    api("POST", f"/actor-builds/{build['id']}/abort")
    with anyone.stream("GET", f"{emulator.url}/v2/logs/{build['id']}?stream=true") as stream:
        assert stream.read().decode().endswith("ACTOR: Build was aborted.\n")
