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
