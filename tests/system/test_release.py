"""Releases on a real Airflow, by the example DAGs: what is proven is released, and what is not leaves the tag alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from airflow_provider_apify.emulator import Emulator, Fault
from rig.local_airflow import LocalAirflow
from tests.rows import count_jobs

RELEASE, ROLLBACK = "apify_release", "apify_rollback"
Start = Callable[..., str]


@pytest.fixture(autouse=True)
def quick(apify: Emulator) -> None:
    apify.run_seconds = 1.0


def tags(apify: Emulator, actor: str = "~scraper") -> dict[str, str]:
    """The numbers of builds by tag."""
    headers = {"Authorization": f"Bearer {apify.token}"}
    shown = httpx.get(f"{apify.url}/v2/acts/{actor}", headers=headers, trust_env=False).raise_for_status().json()
    return {tag: build["buildNumber"] for tag, build in shown["data"]["taggedBuilds"].items()}


def build(apify: Emulator, actor: str, tag: str) -> None:
    """Build an Actor as somebody else would."""
    headers = {"Authorization": f"Bearer {apify.token}"}
    url = f"{apify.url}/v2/acts/{actor}/builds?version=0.0&tag={tag}&waitForFinish=10"
    httpx.post(url, headers=headers, trust_env=False, timeout=20).raise_for_status()


def states(airflow: LocalAirflow, run: str, dag_id: str = RELEASE) -> dict[str, str]:
    return {key: task["state"] for key, task in airflow.tasks(dag_id, run).items()}


def puts(apify: Emulator) -> int:
    """How many requests to change an Actor have come."""
    return sum(request.method == "PUT" for request in apify.requests)


def test_good_candidates_are_released_and_rolled_back(airflow: LocalAirflow, apify: Emulator, start: Start) -> None:
    apify.add_fault(Fault("lost-answer", "PUT", "/v2/acts/*", skip=1))
    for _ in range(2):
        assert airflow.wait_for_run(RELEASE, run := start(RELEASE)) == "success"
    assert tags(apify) == {"candidate": "0.0.2", "latest": "0.0.2", "previous": "0.0.1"}
    assert airflow.xcom(RELEASE, run, "promote", "previous_build_number") == "0.0.1"
    for _ in range(2):
        assert airflow.wait_for_run(ROLLBACK, start(ROLLBACK)) == "success"
        assert tags(apify) == {
            "candidate": "0.0.2",
            "latest": "0.0.1",
            "previous": "0.0.1",
            "rolled-back": "0.0.2",
        }
    # Two releases and a rollback; the second rollback had nothing to do, and nothing was sent twice.
    count_jobs(3, puts(apify))


@pytest.mark.parametrize(
    ("conf", "task", "says"),
    [
        pytest.param({"actor": "~fails-half-way"}, "prove", "FAILED", marks=pytest.mark.long),
        ({"actor": "~finds-nothing"}, "prove", "has 0 items, fewer than min_items=20"),
        pytest.param(
            {"actor": "~scraper", "max_usd": 0.000001},
            "check_cost",
            "USD, more than 1e-06 USD: it is not released",
            marks=pytest.mark.long,
        ),
    ],
    ids=["its run fails", "too few items", "too dear"],
)
def test_a_bad_candidate_leaves_latest_and_says_why(
    conf: dict[str, Any],
    task: str,
    says: str,
    airflow: LocalAirflow,
    apify: Emulator,
) -> None:
    run = airflow.trigger(RELEASE, conf)
    assert airflow.wait_for_run(RELEASE, run) == "failed"
    ended = states(airflow, run)
    assert (ended[task], ended["promote"]) == ("failed", "upstream_failed")
    tries = airflow.tasks(RELEASE, run)[task]["try_number"]
    assert says in airflow.task_log(RELEASE, run, task, tries)
    assert "latest" not in tags(apify, conf["actor"])
    count_jobs(0, puts(apify))


def test_a_release_in_between_is_not_undone(airflow: LocalAirflow, apify: Emulator, start: Start) -> None:
    """Somebody else has released a build while this one was proven."""
    assert airflow.wait_for_run(RELEASE, start(RELEASE)) == "success"
    slow = apify.add_fault(Fault("delay", "POST", "/v2/acts/*/runs", seconds=2))
    run = start(RELEASE)
    apify.wait_for(lambda _: slow.fired == 1, timeout=90)
    build(apify, "~scraper", "latest")
    assert airflow.wait_for_run(RELEASE, run) == "failed"
    assert states(airflow, run)["promote"] == "failed"
    assert "Somebody else has moved it meanwhile" in airflow.task_log(RELEASE, run, "promote", 1)
    assert tags(apify)["latest"] == "0.0.3"
    count_jobs(1, puts(apify))


def test_two_releases_at_once_end_in_one_state(airflow: LocalAirflow, apify: Emulator, start: Start) -> None:
    for tag in ("latest", "candidate", "candidate"):
        build(apify, "~hello-world", tag)
    # Both have read the tag before either has moved it.
    slow = apify.add_fault(Fault("delay", "PUT", "/v2/acts/*", seconds=5, times=2))
    run = start("two_releases")
    airflow.wait_for_run("two_releases", run)
    ended = states(airflow, run, "two_releases")
    good = [number for number, key in (("0.0.2", "promote[0]"), ("0.0.3", "promote[1]")) if ended[key] == "success"]
    live, kept = (tags(apify, "~hello-world")[tag] for tag in ("latest", "previous"))
    assert slow.fired == 2
    assert live in good
    assert kept in {"0.0.1", *good} - {live}
    for index, key in enumerate(("promote[0]", "promote[1]")):
        if ended[key] == "failed":
            log = airflow.task_log("two_releases", run, "promote", map_index=index)
            assert "Somebody else has moved the tag 'latest'" in log
