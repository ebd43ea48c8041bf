"""Apify's own client works against the emulator without knowing it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_apify.emulator import Emulator, Fault

apify_client = pytest.importorskip("apify_client")


@pytest.fixture
def client(emulator: Emulator) -> Any:
    return apify_client.ApifyClient(emulator.token, api_url=emulator.url)


def test_it_builds_waits_and_reads_the_log(client: Any) -> None:
    build = client.actor("emulator/hello-world").build(version_number="0.0", use_cache=True, tag="candidate")
    finished = client.build(build.id).wait_for_finish()
    assert (finished.status, finished.build_number) == ("SUCCEEDED", "0.0.1")
    assert finished.stats.compute_units > 0
    assert "ACTOR: Build finished." in client.build(build.id).log().get()
    assert client.actor("emulator/hello-world").get().tagged_builds["candidate"].build_id == build.id


def test_it_streams_a_log(client: Any) -> None:
    build = client.actor("~always-fails").build(version_number="0.0")
    with client.log(build.id).stream() as stream:
        assert "npm ERR!" in stream.read().decode()


def test_it_aborts(client: Any, emulator: Emulator) -> None:
    emulator.build_seconds = 600
    build = client.build(client.actor("~hello-world").build(version_number="0.0").id)
    assert build.abort().status == "ABORTING"
    assert build.wait_for_finish(wait_duration=timedelta(seconds=5)).status == "ABORTED"


def test_it_lists(client: Any) -> None:
    ids = [client.actor("~two-versions").build(version_number=version).id for version in ("0.0", "1.0")]
    assert [build.id for build in client.builds().list(desc=True).items] == ids[::-1]
    assert [build.id for build in client.actor("~two-versions").builds().list().items] == ids
    assert [actor.name for actor in client.actors().list(my=True, limit=2).items] == ["hello-world", "always-fails"]
    assert [v.build_tag for v in client.actor("~two-versions").versions().list().items] == ["latest", "beta"]
    assert client.user().get().username == "emulator"
    assert client.user().limits().limits.max_concurrent_actor_jobs == 32


def test_it_deletes_and_gets_nothing_afterwards(client: Any) -> None:
    build = client.actor("~always-fails").build(version_number="0.0", wait_for_finish=60)
    client.build(build.id).delete()
    assert client.build(build.id).get() is None


def test_it_reports_errors_by_type(emulator: Emulator) -> None:
    client = apify_client.ApifyClient("wrong", api_url=emulator.url)
    with pytest.raises(apify_client.errors.UnauthorizedError) as caught:
        client.user().get()
    assert caught.value.type == "user-or-token-not-found"


def test_it_repeats_a_build_whose_answer_was_lost(client: Any, emulator: Emulator) -> None:
    emulator.add_fault(Fault("lost-answer", "POST"))
    client.actor("~hello-world").build(version_number="0.0")
    assert [build["buildNumber"] for build in emulator.builds] == ["0.0.1", "0.0.2"]


def test_it_calls_an_actor_and_reads_what_it_gave(client: Any) -> None:
    run = client.actor("emulator/scraper").call(
        run_input={"items": 4}, memory_mbytes=256, run_timeout=timedelta(minutes=1), logger=None
    )
    assert (run.status, run.exit_code, run.options.memory_mbytes, run.options.timeout_secs) == ("SUCCEEDED", 0, 256, 60)
    items = list(client.dataset(run.default_dataset_id).iterate_items())
    assert [item["title"] for item in items] == ["Product 1", "Product 2", "Product 3", "Product 4"]
    store = client.key_value_store(run.default_key_value_store_id)
    assert (store.get_record("INPUT")["value"], store.get_record("nothing")) == ({"items": 4}, None)
    assert "Finished!" in client.run(run.id).log().get()
    last = client.actor("emulator/scraper").last_run(status="SUCCEEDED")
    assert (last.get().id, len(last.dataset().list_items(limit=2).items)) == (run.id, 2)


def test_it_aborts_and_resurrects_a_run(client: Any, emulator: Emulator) -> None:
    emulator.run_seconds = 60
    run = client.run(client.actor("~hello-world").start().id)
    assert run.abort(gracefully=False).status == "ABORTING"
    assert run.wait_for_finish(wait_duration=timedelta(seconds=5)).status == "ABORTED"
    emulator.run_seconds = 0.1
    assert run.resurrect().status == "RUNNING"
    ended = run.wait_for_finish(wait_duration=timedelta(seconds=5))
    assert (ended.status, ended.stats.resurrect_count) == ("SUCCEEDED", 1)
    run.delete()
    assert run.get() is None


def test_it_runs_tasks(client: Any, emulator: Emulator) -> None:
    task = client.task("emulator/ten-products")
    assert (task.get().name, task.get_input()["items"]) == ("ten-products", 10)
    run = task.call(task_input={"items": 2})
    assert (run.status, run.actor_task_id) == ("SUCCEEDED", task.get().id)
    assert [item.id for item in task.runs().list(status="SUCCEEDED").items] == [run.id]
    assert task.last_run().get().id == run.id
    assert [each.name for each in client.tasks().list().items] == ["ten-products"]


def test_it_lists_and_filters_runs(client: Any) -> None:
    runs = [client.actor(f"~{name}").call(logger=None) for name in ("hello-world", "fails-half-way")]
    assert [run.id for run in client.runs().list(desc=True).items] == [run.id for run in reversed(runs)]
    assert [run.id for run in client.runs().list(status=["FAILED", "ABORTED"]).items] == [runs[1].id]
    listed = client.actor("~fails-half-way").runs().list(started_after=runs[1].started_at)
    assert [run.id for run in listed.items] == [runs[1].id]


def test_it_validates_inputs(client: Any) -> None:
    actor = client.actor("~needs-input")
    assert actor.validate_input({"startUrls": [{"url": "https://example.com"}]}) is True
    with pytest.raises(apify_client.errors.ApifyApiError, match=r"input\.startUrls is required") as caught:
        actor.start(run_input={})
    assert caught.value.type == "invalid-input"


def test_it_sees_what_is_charged(client: Any, emulator: Emulator) -> None:
    emulator.cost_seconds = 0
    run = client.actor("~charges-events").call(run_input={"items": 3}, logger=None)
    assert run.charged_event_counts == {"actor-start": 1, "product": 3}
    assert run.usage_total_usd == pytest.approx(0.031)


def test_it_repeats_a_run_whose_answer_was_lost(client: Any, emulator: Emulator) -> None:
    emulator.add_fault(Fault("lost-answer", "POST"))
    client.actor("~hello-world").start()
    assert len(emulator.runs) == 2
