"""The life of a run, seen through the API."""

from __future__ import annotations

import gzip
import json
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest

from airflow_provider_apify.emulator import Actor, Emulator

from .conftest import Api, anyone, error, streamed

NEEDED = {"startUrls": [{"url": "https://example.com"}]}


def items(api: Api, run: dict[str, Any]) -> list[dict[str, Any]]:
    return list(api("GET", f"/datasets/{run['defaultDatasetId']}/items").json())


def record(api: Api, run: dict[str, Any], key: str) -> Any:
    return api("GET", f"/key-value-stores/{run['defaultKeyValueStoreId']}/records/{key}")


# -- starting -----------------------------------------------------------------------------------------------------


def test_a_run_starts_as_ready_and_says_who_asked_for_it(api: Api) -> None:
    run = api.start_run(run_input={"items": 3}, memory=512, timeout=60, build="latest", maxItems=5)
    assert (run["status"], run["finishedAt"], run["usageTotalUsd"]) == ("READY", None, 0)
    assert run["meta"] == {"origin": "API", "clientIp": "127.0.0.1", "userAgent": "tests/1"}
    assert run["options"] == {
        "build": "latest", "timeoutSecs": 60, "memoryMbytes": 512, "diskMbytes": 1024, "maxItems": 5
    }  # fmt: skip
    assert run["stats"]["inputBodyLen"] == len(b'{"items":3}')
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", run["startedAt"])
    assert run["actId"] == api("GET", "/actors/~hello-world").json()["data"]["id"]
    assert {"exitCode", "actorTaskId", "chargedEventCounts", "pricingInfo"}.isdisjoint(run)
    assert len({run[f"default{kind}Id"] for kind in ("Dataset", "KeyValueStore", "RequestQueue")}) == 3


def test_a_run_that_says_nothing_has_the_defaults_of_its_actor(api: Api) -> None:
    run = api.start_run()
    assert run["options"] == {"build": "latest", "timeoutSecs": 3600, "memoryMbytes": 1024, "diskMbytes": 2048}
    assert run["stats"]["inputBodyLen"] == 0
    assert error(record(api, run, "INPUT")) == (404, "record-not-found")


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("memory=300", "invalid-value"),
        ("memory=64", "invalid-value"),
        ("memory=65536", "invalid-value"),
        ("timeout=-1", "invalid-parameter"),
        ("maxItems=0", "max-items-must-be-greater-than-zero"),
        ("maxTotalChargeUsd=0", "max-total-charge-usd-below-minimum"),
        ("waitForFinish=-1", "invalid-parameter"),
        ("restartOnError=perhaps", "invalid-parameter"),
    ],
)
def test_a_run_with_bad_parameters_is_refused(api: Api, emulator: Emulator, query: str, kind: str) -> None:
    assert error(api("POST", f"/actors/~hello-world/runs?{query}")) == (400, kind)
    assert emulator.runs == []


def test_a_run_can_be_awaited_by_the_request_that_starts_it(api: Api) -> None:
    assert api.start_run(waitForFinish=60)["status"] == "SUCCEEDED"


def test_an_unknown_actor_cannot_be_run(api: Api) -> None:
    assert error(api("POST", "/actors/~nope/runs")) == (404, "record-not-found")


# -- its build ----------------------------------------------------------------------------------------------------


def test_an_actor_that_was_never_built_here_was_built_before(api: Api, emulator: Emulator) -> None:
    first, second = api.start_run(), api.start_run()
    assert (first["buildNumber"], first["buildId"]) == ("0.0.1", second["buildId"])
    assert emulator.builds == []
    assert api("GET", "/actor-builds").json()["data"]["total"] == 0
    assert api.built()["buildNumber"] == "0.0.2"
    assert api.start_run()["buildNumber"] == "0.0.2"
    assert api.start_run(build="0.0.1")["buildId"] == first["buildId"]


def test_a_tag_is_what_it_is_at_the_start(api: Api) -> None:
    old = api.built()
    run = api.start_run(build="latest")
    new = api.built()
    assert (api.run(run["id"])["buildId"], api.start_run()["buildId"]) == (old["id"], new["id"])
    assert api.start_run(build=old["buildNumber"])["buildNumber"] == "0.0.1"


def test_builds_that_cannot_be_run_are_refused_by_kind(api: Api, emulator: Emulator) -> None:
    failed, running = api.built("always-fails"), api.start("slow-build")
    foreign = api.built("two-versions", "1.0")
    emulator.add_actor(Actor("never-built", built_before=False))
    for actor, build, kind in (
        ("never-built", "latest", "unknown-build-tag"),
        ("hello-world", "candidate", "unknown-build-tag"),
        ("hello-world", foreign["buildNumber"], "build-not-found"),
        ("always-fails", failed["buildNumber"], "invalid-build"),
        ("slow-build", running["buildNumber"], "invalid-build"),
    ):
        assert error(api("POST", f"/actors/~{actor}/runs", params={"build": build})) == (403, kind)
        checked = api("POST", f"/actors/~{actor}/validate-input", params={"build": build}, json={})
        assert error(checked) == (403, kind)
    assert emulator.runs == []


def test_a_tag_that_is_removed_is_gone_for_runs_too(api: Api) -> None:
    api("PUT", "/actors/~hello-world", json={"taggedBuilds": {"latest": None}})
    assert error(api("POST", "/actors/~hello-world/runs")) == (403, "unknown-build-tag")


# -- its course ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("actor", "outcome", "statuses"),
    [
        ("hello-world", "SUCCEEDED", ["READY", "RUNNING", "SUCCEEDED"]),
        ("fails-half-way", "FAILED", ["READY", "RUNNING", "FAILED"]),
        ("hello-world", "TIMED-OUT", ["READY", "RUNNING", "TIMING-OUT", "TIMED-OUT"]),
    ],
)
def test_a_run_passes_through_its_statuses(
    api: Api, emulator: Emulator, actor: str, outcome: str, statuses: list[str]
) -> None:
    emulator.run_seconds = 0.7
    emulator.set_actor(actor, run_outcome=outcome)
    run = api.start_run(actor)
    seen = [run["status"]]
    while run["finishedAt"] is None:
        run = api.run(run["id"])
        if run["status"] != seen[-1]:
            seen.append(run["status"])
    assert seen == statuses
    assert 700 <= run["stats"]["durationMillis"] < 1500
    assert run.get("exitCode") == {"SUCCEEDED": 0, "FAILED": 1}.get(outcome)
    assert run["isStatusMessageTerminal"] is True
    assert run["usageTotalUsd"] == pytest.approx(run["stats"]["computeUnits"] * 0.3)


def test_builds_and_runs_of_an_actor_end_each_in_its_own_way(api: Api, emulator: Emulator) -> None:
    emulator.set_actor("always-fails", run_outcome="TIMED-OUT", run_seconds=0.2)
    assert [api.ran("always-fails")["status"], api.built("always-fails")["status"]] == ["TIMED-OUT", "FAILED"]
    assert (api.ran("fails-half-way")["status"], api.built("fails-half-way")["status"]) == ("FAILED", "SUCCEEDED")
    assert api.ran("slow-run")["stats"]["durationMillis"] >= 600
    emulator.run_seconds = 0
    assert [api.ran(actor)["status"] for actor in ("scraper", "fails-half-way")] == ["SUCCEEDED", "FAILED"]


def test_a_run_is_stopped_when_its_time_is_over(api: Api, emulator: Emulator) -> None:
    emulator.run_seconds = 60
    run = api.ran(timeout=1)
    assert (run["status"], "timeout of 1 seconds" in run["statusMessage"]) == ("TIMED-OUT", True)
    assert 1000 <= run["stats"]["durationMillis"] < 2000


def test_a_scraper_pushes_half_of_its_items_while_it_runs(api: Api, emulator: Emulator) -> None:
    emulator.run_seconds = 60
    run = api.start_run("scraper", {"items": 10})
    emulator.wait_for(lambda _: api.run(run["id"])["status"] == "RUNNING")
    assert api.run(run["id"])["statusMessage"] == "Scraped 5 of 10 items"
    assert [item["title"] for item in items(api, run)] == [f"Product {number}" for number in range(1, 6)]
    emulator.finish_run(run["id"])
    assert len({item["url"] for item in items(api, run)}) == 10
    assert record(api, run, "OUTPUT").json() == {"status": "done"}


def test_actors_to_play_with_push_what_they_say(api: Api) -> None:
    pushed = {actor: len(items(api, api.ran(actor))) for actor in ("scraper", "fails-half-way", "finds-nothing")}
    assert pushed == {"scraper": 100, "fails-half-way": 5, "finds-nothing": 0}
    assert len(items(api, api.ran("fails-half-way", {"items": 20}))) == 10
    assert items(api, api.ran("finds-nothing", {"items": 20})) == []
    assert error(record(api, api.ran("fails-half-way"), "OUTPUT")) == (404, "record-not-found")


def test_a_run_that_is_ended_early_pushes_the_rest_only_if_it_succeeds(api: Api, emulator: Emulator) -> None:
    emulator.run_seconds = 60
    runs = [api.start_run("scraper", {"items": 4}) for _ in range(2)]
    for run, status in zip(runs, ("SUCCEEDED", "ABORTED"), strict=True):
        emulator.finish_run(run["id"], status)
    assert [len(items(api, run)) for run in runs] == [4, 0]
    assert [run["status"] for run in emulator.runs] == ["SUCCEEDED", "ABORTED"]


def test_a_long_poll_ends_with_the_run(api: Api, emulator: Emulator) -> None:
    emulator.run_seconds = 60
    run = api.start_run()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(api.run, run["id"], wait=60)
        emulator.wait_for(lambda e: len(e.requests) == 2)
        emulator.finish_run(run["id"], "FAILED")
        assert waiting.result(timeout=2)["status"] == "FAILED"


def test_the_log_says_how_a_run_ended(api: Api) -> None:
    run = api.ran("fails-half-way")
    log = api("GET", f"/actor-runs/{run['id']}/log").text
    assert log == api("GET", f"/logs/{run['id']}").text
    assert "Starting the crawler" in log and "403 Forbidden" in log and "\x1b" not in log
    assert "403 Forbidden" in run["statusMessage"]
    assert "\x1b" in api("GET", f"/logs/{run['id']}", params={"raw": 1}).text


def test_a_streamed_log_ends_with_the_run(api: Api, emulator: Emulator) -> None:
    emulator.run_seconds = 60
    run = api.start_run()
    first, rest = streamed(
        f"{emulator.url}/v2/actor-runs/{run['id']}/log?stream=1", lambda: emulator.finish_run(run["id"])
    )
    assert first and rest
    assert first + rest == api("GET", f"/logs/{run['id']}").text


def test_a_run_shows_its_cost_only_with_a_token(api: Api, emulator: Emulator) -> None:
    run = api.ran()
    public = anyone.get(f"{emulator.url}/v2/actor-runs/{run['id']}").json()["data"]
    assert run.keys() - public.keys() == {"usageUsd", "usageTotalUsd"}
    assert anyone.get(f"{emulator.url}/v2/actor-runs").status_code == 401


# -- aborting, resurrecting, deleting -----------------------------------------------------------------------------


def test_abort_is_quick_and_may_be_repeated(api: Api, emulator: Emulator) -> None:
    emulator.run_seconds = 60
    run = api.start_run()
    aborting = api("POST", f"/actor-runs/{run['id']}/abort")
    assert (aborting.status_code, aborting.json()["data"]["status"]) == (200, "ABORTING")
    ended = api.run(run["id"], wait=5)
    assert (ended["status"], "exitCode" in ended) == ("ABORTED", False)
    assert api("POST", f"/actor-runs/{run['id']}/abort", params={"gracefully": "true"}).json()["data"] == ended


def test_a_graceful_abort_leaves_an_actor_some_time_that_a_second_one_ends(
    api: Api, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_apify.emulator.runs.GRACEFUL_SECONDS", 60)
    emulator.run_seconds = 60
    run = api.start_run()
    emulator.wait_for(lambda _: api.run(run["id"])["status"] == "RUNNING")
    api("POST", f"/actor-runs/{run['id']}/abort", params={"gracefully": "true"})
    assert api.run(run["id"], wait=0.5)["status"] == "ABORTING"
    api("POST", f"/actor-runs/{run['id']}/abort")
    assert api.run(run["id"], wait=20)["status"] == "ABORTED"


def test_a_graceful_abort_ends_by_itself(api: Api, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_apify.emulator.runs.GRACEFUL_SECONDS", 0.3)
    emulator.run_seconds = 60
    run = api.start_run()
    emulator.wait_for(lambda _: api.run(run["id"])["status"] == "RUNNING")
    began = time.monotonic()
    api("POST", f"/actor-runs/{run['id']}/abort", params={"gracefully": "true"})
    assert api.run(run["id"], wait=5)["status"] == "ABORTED"
    assert 0.3 <= time.monotonic() - began < 20


def test_a_resurrected_run_is_the_same_run_with_the_same_storages(api: Api, emulator: Emulator) -> None:
    failed = api.ran("fails-half-way")
    emulator.set_actor("fails-half-way", run_outcome="SUCCEEDED", run_seconds=0.5)
    api.built("fails-half-way")
    answer = api("POST", f"/actor-runs/{failed['id']}/resurrect", params={"memory": 4096})
    resurrected = answer.json()["data"]
    assert (answer.status_code, resurrected["status"], resurrected["finishedAt"]) == (200, "RUNNING", None)
    assert "exitCode" not in resurrected
    current = api("GET", "/users/me/limits").json()["data"]["current"]
    assert (current["actorMemoryGbytes"], current["activeActorJobCount"]) == (4, 1)
    ended = api.run(failed["id"], wait=60)
    same = ("id", "startedAt", "buildId", "defaultDatasetId", "defaultKeyValueStoreId")
    assert {name: ended[name] for name in same} == {name: failed[name] for name in same}
    assert (ended["status"], ended["stats"]["resurrectCount"], len(items(api, ended))) == ("SUCCEEDED", 1, 10)
    assert (ended["options"]["memoryMbytes"], failed["options"]["memoryMbytes"]) == (4096, 1024)
    log = api("GET", f"/logs/{failed['id']}").text
    assert "403 Forbidden" in log and log.count("Starting the crawler") == 2


def test_a_run_can_be_resurrected_with_another_build(api: Api) -> None:
    run = api.ran()
    build = api.built()
    resurrected = api("POST", f"/actor-runs/{run['id']}/resurrect", params={"build": "latest"}).json()["data"]
    assert (run["buildNumber"], resurrected["buildId"]) == ("0.0.1", build["id"])
    refused = api("POST", f"/actor-runs/{api.ran()['id']}/resurrect", params={"build": "nope"})
    assert error(refused) == (403, "unknown-build-tag")


def test_only_a_run_that_has_ended_can_be_resurrected(api: Api, emulator: Emulator) -> None:
    emulator.run_seconds = 60
    run = api.start_run()
    assert error(api("POST", f"/actor-runs/{run['id']}/resurrect")) == (400, "invalid-request")
    emulator.finish_run(run["id"])
    emulator.memory_mbytes = 512
    assert error(api("POST", f"/actor-runs/{run['id']}/resurrect")) == (402, "actor-memory-limit-exceeded")
    assert api.run(run["id"])["status"] == "SUCCEEDED"


def test_a_run_that_has_ended_can_be_deleted(api: Api, emulator: Emulator) -> None:
    ended = api.ran()
    assert api("DELETE", f"/actor-runs/{ended['id']}").status_code == 204
    assert error(api("GET", f"/actor-runs/{ended['id']}")) == (404, "record-not-found")
    running = api.start_run("slow-run")
    assert error(api("DELETE", f"/actor-runs/{running['id']}")) == (400, "cannot-remove-running-run")
    emulator.delete_run(running["id"])
    assert emulator.runs == []


# -- lists --------------------------------------------------------------------------------------------------------


def test_items_of_lists_are_as_plain_as_recorded_ones(api: Api, emulator: Emulator) -> None:
    run = api.ran()
    (item,) = api("GET", "/acts/~hello-world/runs").json()["data"]["items"]
    assert item["meta"] == {"origin": "API"}
    assert {name: value for name, value in item.items() if name != "meta"} == {name: run[name] for name in (
        "id", "actId", "status", "startedAt", "buildId", "usageTotalUsd",
        "defaultKeyValueStoreId", "defaultDatasetId", "defaultRequestQueueId",
    )}  # fmt: skip
    emulator.full_lists = True
    (item,) = api("GET", "/actor-runs").json()["data"]["items"]
    assert (item["meta"]["userAgent"], item["buildNumberInt"], item["finishedAt"]) == ("tests/1", 1, run["finishedAt"])


def test_lists_are_pages_in_order_of_start(api: Api) -> None:
    ids = [api.start_run(actor)["id"] for actor in ("hello-world", "scraper", "hello-world", "hello-world")]
    everything = api("GET", "/actor-runs", params={"desc": "1", "limit": 3}).json()["data"]
    assert [item["id"] for item in everything["items"]] == ids[:0:-1]
    assert (everything["total"], everything["count"], everything["limit"]) == (4, 3, 3)
    own = api("GET", "/acts/~hello-world/runs", params={"offset": 1}).json()["data"]
    assert [item["id"] for item in own["items"]] == ids[2:]


@pytest.mark.parametrize("path", ["/actor-runs", "/actors/~hello-world/runs"])
def test_lists_can_be_filtered(api: Api, emulator: Emulator, path: str) -> None:
    runs = []
    for status in ("SUCCEEDED", "FAILED", "ABORTED"):
        runs.append(api.start_run())
        emulator.finish_run(runs[-1]["id"], status)
        time.sleep(0.005)

    def listed(**params: str) -> list[int]:
        answer = api("GET", path, params=params).json()["data"]
        assert answer["total"] == len(answer["items"])
        return [[run["id"] for run in runs].index(item["id"]) for item in answer["items"]]

    second = runs[1]["startedAt"]
    assert listed(status="FAILED,ABORTED") == [1, 2]
    assert (listed(startedAfter=second), listed(startedBefore=second)) == ([1, 2], [0, 1])
    assert listed(startedAfter=second, startedBefore=second, status="FAILED") == [1]
    assert error(api("GET", path, params={"startedAfter": "yesterday"})) == (400, "invalid-parameter")


def test_filters_and_shown_times_have_the_clock_of_the_platform(api: Api, emulator: Emulator) -> None:
    emulator.clock_offset = 3600
    run = api.start_run()
    ahead = datetime.strptime(run["startedAt"], "%Y-%m-%dT%H:%M:%S.%f%z").timestamp() - time.time()
    assert 3590 < ahead <= 3600.001
    assert api("GET", "/actor-runs", params={"startedAfter": run["startedAt"]}).json()["data"]["total"] == 1


def test_the_last_run_can_be_asked_for_by_status_and_with_what_is_below_it(api: Api, emulator: Emulator) -> None:
    last = "/acts/~scraper/runs/last"
    assert error(api("GET", last)) == (404, "record-not-found")
    first = api.ran("scraper", {"items": 3})
    emulator.set_actor("scraper", run_outcome="FAILED")
    second = api.ran("scraper", {"items": 8})
    assert api("GET", last).json()["data"]["id"] == second["id"]
    assert api("GET", last, params={"status": "SUCCEEDED", "origin": "API"}).json()["data"]["id"] == first["id"]
    assert error(api("GET", last, params={"origin": "SCHEDULER"})) == (404, "record-not-found")
    assert len(api("GET", f"{last}/dataset/items", params={"status": "SUCCEEDED"}).json()) == 3
    assert len(api("GET", f"{last}/dataset/items", params={"offset": 1}).json()) == 3
    assert api("GET", f"{last}/key-value-store/records/INPUT").json() == {"items": 8}
    assert "403 Forbidden" in api("GET", f"{last}/log").text
    assert api("POST", f"{last}/abort").json()["data"]["id"] == second["id"]
    assert error(api("GET", f"{last}/nothing")) == (404, "page-not-found")


def test_the_storages_of_a_run_are_below_it_too(api: Api) -> None:
    run = api.ran("scraper", {"items": 2})
    below = f"/actor-runs/{run['id']}"
    assert api("GET", f"{below}/dataset").json()["data"]["id"] == run["defaultDatasetId"]
    assert api("GET", f"{below}/dataset/items").json() == items(api, run)
    assert api("POST", f"{below}/dataset/items", json=[{"mine": 1}]).status_code == 201
    assert items(api, run)[-1] == {"mine": 1}
    assert api("PUT", f"{below}/key-value-store/records/key", json=7).status_code == 201
    assert record(api, run, "key").json() == 7


def test_the_items_of_a_run_may_be_more_or_gone_one_day(api: Api, emulator: Emulator) -> None:
    run = api.ran("scraper", {"items": 2})
    emulator.push_items(run["defaultDatasetId"], [{"late": True}])
    assert [len(item) for item in items(api, run)] == [4, 4, 1]
    emulator.delete_dataset(run["defaultDatasetId"])
    assert error(api("GET", f"/actor-runs/{run['id']}/dataset/items")) == (404, "record-not-found")
    assert api.run(run["id"])["status"] == "SUCCEEDED"


# -- room ---------------------------------------------------------------------------------------------------------


def test_runs_and_builds_share_the_memory_of_the_account(api: Api, emulator: Emulator) -> None:
    emulator.memory_mbytes = 8192
    emulator.run_seconds = 60
    run = api.start_run(memory=4096)
    build = api.start("slow-build")
    assert error(api("POST", "/actors/~hello-world/runs?memory=128")) == (402, "actor-memory-limit-exceeded")
    current = api("GET", "/users/me/limits").json()["data"]["current"]
    assert (current["actorMemoryGbytes"], current["activeActorJobCount"]) == (8, 2)
    emulator.finish_run(run["id"])
    assert api("GET", "/users/me/limits").json()["data"]["current"]["actorMemoryGbytes"] == 4
    assert api.start_run(memory=4096)["status"] == "READY"
    emulator.finish_build(build["id"])


def test_more_runs_than_the_account_may_have_are_refused(api: Api, emulator: Emulator) -> None:
    emulator.max_concurrent_jobs = 2
    emulator.run_seconds = 60
    first, _ = api.start_run(), api.start("slow-build")
    assert error(api("POST", "/actors/~hello-world/runs")) == (402, "concurrent-runs-limit-exceeded")
    assert api("GET", "/users/me/limits").json()["data"]["limits"]["maxConcurrentActorJobs"] == 2
    emulator.finish_run(first["id"])
    api.start_run()


# -- input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b'{"a": 1}', "application/json; charset=utf-8"), (b"\x00\xff", "image/png"), (b"a,b\n", "text/csv")],
)
def test_the_body_and_its_type_become_the_record_input(api: Api, body: bytes, content_type: str) -> None:
    answer = api("POST", "/acts/~hello-world/runs", content=body, headers={"Content-Type": content_type})
    kept = record(api, answer.json()["data"], "INPUT")
    assert (kept.content, kept.headers["Content-Type"]) == (body, content_type)


def test_a_packed_body_is_unpacked(api: Api) -> None:
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    answer = api("POST", "/acts/~hello-world/runs", content=gzip.compress(b'{"items": 1}'), headers=headers)
    assert record(api, answer.json()["data"], "INPUT").json() == {"items": 1}


@pytest.mark.parametrize(
    ("encoding", "refusal"),
    [
        ("gzip", (400, "invalid-request")),
        ("br", (400, "invalid-request")),
        ("zstd", (415, "unsupported-content-encoding")),
    ],
)
def test_a_body_that_cannot_be_unpacked_is_refused(api: Api, encoding: str, refusal: tuple[int, str]) -> None:
    headers = {"Content-Encoding": encoding}
    assert error(api("POST", "/acts/~hello-world/runs", content=b"plain", headers=headers)) == refusal


def test_without_brotli_the_emulator_says_what_to_install(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "brotli", None)
    refused = api("POST", "/acts/~hello-world/runs", content=b"x", headers={"Content-Encoding": "br"})
    assert error(refused) == (415, "unsupported-content-encoding")
    assert refused.json()["error"]["message"].endswith("pip install brotli")


def test_an_input_of_more_than_9_mb_is_refused(api: Api, emulator: Emulator) -> None:
    largest = json.dumps({"text": "x" * (9_437_184 - len('{"text": ""}'))}).encode()
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    packed = gzip.compress(largest + b" ", 1)
    for path in ("/acts/~hello-world/runs", "/actor-tasks/~ten-products/runs"):
        assert error(api("POST", path, content=packed, headers=headers)) == (413, "request-too-large")
    assert emulator.runs == []
    assert api("POST", "/acts/~hello-world/runs", content=largest).status_code == 201


def test_an_input_that_the_schema_allows_gets_its_defaults(api: Api) -> None:
    run = api.ran("needs-input", NEEDED)
    assert record(api, run, "INPUT").json() == {**NEEDED, "items": 10}
    assert api("POST", "/acts/~needs-input/validate-input", json=NEEDED).json() == {"valid": True}
    assert api("POST", "/acts/~hello-world/validate-input", content=b"anything").json() == {"valid": True}


MODES = 'must be equal to one of the allowed values: "fast", "slow"'
SCHEMA = {
    "type": "object",
    "properties": {
        "url": {"type": "string", "pattern": "^https:", "maxLength": 20},
        "depth": {"type": "integer", "minimum": 1, "maximum": 5},
        "mode": {"type": "string", "enum": ["fast", "slow"]},
        "tags": {"type": "array", "minItems": 1, "items": {"type": "string"}},
        "login": {"type": "object", "properties": {}, "required": ["user"]},
    },
    "required": ["url"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "Field input.url is required"),
        ({"url": 5}, "Field input.url must be string"),
        ({"url": "https://x", "depth": 0}, "Field input.depth must be >= 1"),
        ({"url": "https://x", "depth": 9}, "Field input.depth must be <= 5"),
        ({"url": "https://x", "mode": "odd"}, f"Field input.mode {MODES}"),
        ({"url": "https://x", "tags": []}, "Field input.tags must NOT have fewer than 1 items"),
        ({"url": "https://x", "tags": ["a", 1]}, "Field input.tags.1 must be string"),
        ({"url": "https://x", "login": {}}, "Field input.login.user is required"),
        ({"url": "https://x", "more": 1}, "Property input.more is not allowed."),
        ({"url": "ftp://x"}, 'Field input.url must match pattern "^https:"'),
        ({"mode": "odd", "depth": "x"}, 'Field input.url is required, Field input.depth must be integer, '
         f"Field input.mode {MODES}"),
    ],
)  # fmt: skip
def test_a_refused_input_names_each_field_in_the_words_of_apify(
    api: Api, emulator: Emulator, given: dict[str, Any], message: str
) -> None:
    emulator.add_actor(Actor("strict", input_schema=SCHEMA))
    for path in ("runs", "validate-input"):
        refused = api("POST", f"/acts/~strict/{path}", json=given)
        assert error(refused) == (400, "invalid-input")
        assert refused.json()["error"]["message"] == f"Input is not valid: {message}"
    assert emulator.runs == []


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"{}", "text/plain", 'Actor input must have content type "application/json".'),
        (b"{oops", "application/json", "Cannot parse input JSON body: "),
        (b"[1]", "application/json", 'The input JSON must be object, got "array" instead.'),
        (b"null", "application/json", "Input is not valid: Field input.startUrls is required"),
        (b"", "application/json", "Input is not valid: Field input.startUrls is required"),
    ],
)
def test_what_is_no_json_object_is_refused_where_there_is_a_schema(
    api: Api, body: bytes, content_type: str, message: str
) -> None:
    refused = api("POST", "/acts/~needs-input/runs", content=body, headers={"Content-Type": content_type})
    assert error(refused) == (400, "invalid-input")
    assert refused.json()["error"]["message"].startswith(message)


# -- money --------------------------------------------------------------------------------------------------------


def test_the_cost_of_charged_events_is_behind_at_the_end(api: Api, emulator: Emulator) -> None:
    emulator.cost_seconds = 60
    run = api.ran("charges-events", {"items": 3})
    assert run["chargedEventCounts"] == {"actor-start": 1, "product": 3}
    assert run["accountedChargedEventCounts"] == {"actor-start": 1, "product": 0}
    assert run["usageTotalUsd"] == pytest.approx(0.001)
    assert (run["pricingInfo"]["pricingModel"], "usageUsd" in run) == ("PAY_PER_EVENT", False)
    assert run["pricingInfo"]["pricingPerEvent"]["actorChargeEvents"]["product"]["eventPriceUsd"] == 0.01
    emulator.cost_seconds = 0
    settled = api.ran("charges-events", {"items": 3})
    assert settled["accountedChargedEventCounts"] == settled["chargedEventCounts"]
    assert settled["usageTotalUsd"] == pytest.approx(0.031)


def test_a_cost_limit_ends_what_is_charged_for(api: Api) -> None:
    refused = api("POST", "/acts/~charges-events/runs", params={"maxTotalChargeUsd": 0.4})
    assert error(refused) == (400, "max-total-charge-usd-below-minimum")
    run = api.ran("charges-events", {"items": 200}, maxTotalChargeUsd=0.5)
    assert (len(items(api, run)), run["options"]["maxTotalChargeUsd"]) == (49, 0.5)
