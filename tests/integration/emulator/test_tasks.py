"""Apify tasks: an Actor with an input and options that are saved."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_apify.emulator import Emulator

from .conftest import Api, error


def run_input(api: Api, run: dict[str, Any]) -> Any:
    return api("GET", f"/key-value-stores/{run['defaultKeyValueStoreId']}/records/INPUT").json()


def started(api: Api, task: str, **options: Any) -> dict[str, Any]:
    answer = api("POST", f"/actor-tasks/{task}/runs", **options)
    assert answer.status_code == 201, answer.text
    return dict(answer.json()["data"])


def test_a_task_is_found_by_id_and_by_name(api: Api, emulator: Emulator) -> None:
    task_id = emulator.add_task("mine", "scraper", {"items": 1}, memory_mbytes=256)
    task = api("GET", f"/actor-tasks/{task_id}").json()["data"]
    assert (task["name"], task["input"], task["options"]) == ("mine", {"items": 1}, {"memoryMbytes": 256})
    assert task["actId"] == api("GET", "/acts/~scraper").json()["data"]["id"]
    for key in ("~mine", "emulator~mine", "emulator%7Emine"):
        assert api("GET", f"/actor-tasks/{key}").json()["data"]["id"] == task_id
    for key in ("mine", "someone~mine", "~yours"):
        assert error(api("GET", f"/actor-tasks/{key}")) == (404, "record-not-found")
        assert error(api("POST", f"/actor-tasks/{key}/runs")) == (404, "record-not-found")
    names = [item["name"] for item in api("GET", "/actor-tasks").json()["data"]["items"]]
    assert names == ["ten-products", "mine"]
    assert api("GET", "/users/me/limits").json()["data"]["current"]["actorTaskCount"] == 2


def test_a_run_of_a_task_has_its_input_and_options(api: Api, emulator: Emulator) -> None:
    task_id = emulator.add_task("mine", "scraper", {"items": 1}, memory_mbytes=256, timeout_secs=30)
    run = started(api, "~mine", params={"timeout": 60})
    assert (run["actorTaskId"], run_input(api, run)) == (task_id, {"items": 1})
    assert (run["options"]["memoryMbytes"], run["options"]["timeoutSecs"]) == (256, 60)
    assert api("GET", "/actor-runs").json()["data"]["items"][0]["id"] == run["id"]
    assert api("GET", f"/actor-tasks/{task_id}").json()["data"]["stats"] == {"totalRuns": 1}


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ({"items": 2}, {"items": 2, "shop": {"country": "CZ"}}),
        ({"shop": {"city": "Brno"}}, {"items": 10, "shop": {"city": "Brno"}}),
        ({}, {"items": 10, "shop": {"country": "CZ"}}),
        (None, {"items": 10, "shop": {"country": "CZ"}}),
    ],
)
def test_an_input_replaces_saved_fields_whole(api: Api, given: Any, used: dict[str, Any]) -> None:
    assert run_input(api, started(api, "~ten-products", json=given)) == used
    saved = api("GET", "/actor-tasks/~ten-products").json()["data"]["input"]
    assert saved == api("GET", "/actor-tasks/~ten-products/input").json() == {"items": 10, "shop": {"country": "CZ"}}


def test_null_is_no_input(api: Api) -> None:
    headers = {"Content-Type": "application/json"}
    run = started(api, "~ten-products", content=b"null", headers=headers)
    assert run_input(api, run)["items"] == 10


@pytest.mark.parametrize(
    ("body", "content_type"), [(b"{}", "text/plain"), (b"{oops", "application/json"), (b"[]", "application/json")]
)
def test_an_input_that_is_no_json_object_is_refused(
    api: Api, emulator: Emulator, body: bytes, content_type: str
) -> None:
    headers = {"Content-Type": content_type}
    assert error(api("POST", "/actor-tasks/~ten-products/runs", content=body, headers=headers)) == (
        400,
        "invalid-input",
    )
    assert emulator.runs == []


def test_the_merged_input_is_checked(api: Api, emulator: Emulator) -> None:
    emulator.add_task("needy", "needs-input", {"items": 3})
    assert error(api("POST", "/actor-tasks/~needy/runs")) == (400, "invalid-input")
    urls = [{"url": "https://example.com"}]
    assert run_input(api, started(api, "~needy", json={"startUrls": urls})) == {"items": 3, "startUrls": urls}


def test_a_list_of_runs_of_a_task_knows_only_the_filter_by_status(api: Api, emulator: Emulator) -> None:
    runs = [started(api, "~ten-products") for _ in range(3)]
    api.start_run("scraper")
    emulator.finish_run(runs[1]["id"], "FAILED")
    path = "/actor-tasks/~ten-products/runs"
    ids = [run["id"] for run in runs]
    listed = api("GET", path, params={"startedAfter": "2100-01-01T00:00:00.000Z", "desc": "1", "limit": 2})
    assert [item["id"] for item in listed.json()["data"]["items"]] == [ids[2], ids[1]]
    assert listed.json()["data"]["total"] == 3
    failed = api("GET", path, params={"status": "FAILED,ABORTED"}).json()["data"]["items"]
    assert ([item["id"] for item in failed], "actorTaskId" in failed[0]) == ([ids[1]], False)


def test_the_last_run_of_a_task_is_none_of_its_actor(api: Api) -> None:
    last = "/actor-tasks/~ten-products/runs/last"
    assert error(api("GET", last)) == (404, "record-not-found")
    run = started(api, "~ten-products", params={"waitForFinish": 60})
    api.start_run("scraper")
    assert api("GET", last).json()["data"]["id"] == run["id"]
    assert len(api("GET", f"{last}/dataset/items").json()) == 10
    assert error(api("GET", last, params={"status": "FAILED"})) == (404, "record-not-found")


def test_mistakes_of_the_test_itself_are_refused(emulator: Emulator) -> None:
    with pytest.raises(KeyError):
        emulator.add_task("mine", "unknown")
    with pytest.raises(ValueError, match="a task 'ten-products' already"):
        emulator.add_task("ten-products", "scraper")
