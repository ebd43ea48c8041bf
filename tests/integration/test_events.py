"""
Watchers of jobs that have ended, over real sockets and Airflow's own shared streams: each is announced, and at no cost
that grows with the watchers.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import json
import pkgutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_apify import compat
from airflow_provider_apify.api.job import Job
from airflow_provider_apify.client import polls
from airflow_provider_apify.emulator import Emulator, Fault
from airflow_provider_apify.jobs.ended import Mark
from airflow_provider_apify.triggers import events
from airflow_provider_apify.triggers.events import ApifyBuildsEventTrigger, ApifyRunsEventTrigger
from tests.features import WATCHERS
from tests.kinds import KINDS, Kind
from tests.runner import Supervisor

TRIGGERS: dict[str, Any] = {"build": ApifyBuildsEventTrigger, "run": ApifyRunsEventTrigger}


pytestmark = WATCHERS.needed


class Store:
    """Airflow's store of an asset's state, which may be out of order."""

    def __init__(self) -> None:
        self.saved: dict[str, Any] = {}
        self.broken = False

    async def aget(self, key: str, default: Any = None) -> Any:
        if self.broken:
            raise RuntimeError("the api-server is away")
        return self.saved.get(key, default)

    def __contains__(self, job_id: str) -> bool:
        """Whether it is saved that the job has been announced."""
        return any(job_id in record["handled"] for record in self.saved.values())

    async def aset(self, key: str, value: Any) -> None:
        if self.broken:
            raise RuntimeError("the api-server is away")
        self.saved[key] = json.loads(json.dumps(value))


class Triggerer:
    """What runs watchers in a triggerer: it stores their events as long as ``stores`` says so."""

    def __init__(self) -> None:
        from airflow.triggers.shared_stream import SharedStreamManager

        self.streams = SharedStreamManager()
        self.stores = True
        self.ids = itertools.count()
        self.payloads: list[dict[str, Any]] = []

    async def watch(self, trigger: Any) -> None:
        """As Airflow's ``run_trigger``, and the supervisor that stores an event within a moment."""
        _, kwargs = trigger.serialize()
        trigger = type(trigger)(**json.loads(json.dumps(kwargs)))
        key, trigger_id = trigger.shared_stream_key(), next(self.ids)
        stream = self.streams.subscribe(trigger_id=trigger_id, trigger=trigger, key=key)
        try:
            async for event in trigger.filter_shared_stream(stream):
                seq = self.streams.bind_pending_event(trigger_id=trigger_id, key=key)
                assert seq is not None
                if self.stores:
                    self.payloads.append(json.loads(json.dumps(event.payload)))
                    asyncio.get_running_loop().call_later(0.02, self.streams.confirm_persisted, [seq])
        finally:
            await self.streams.unsubscribe(trigger_id, key)

    @property
    def announced(self) -> Counter[str]:
        return Counter(job.get("run_id") or job["build_id"] for each in self.payloads for job in each["jobs"])


@asynccontextmanager
async def watched(*triggers: Any, stores: bool = True) -> AsyncIterator[Triggerer]:
    """A triggerer that runs these watchers, and is lost in the end."""
    triggerer = Triggerer()
    triggerer.stores = stores
    tasks = [asyncio.create_task(triggerer.watch(trigger)) for trigger in triggers]
    try:
        yield triggerer
    finally:
        assert not [task for task in tasks if task.done()], "a watcher never returns and never fails"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store()
    monkeypatch.setattr(compat, "asset_state_store", lambda name: store)
    return store


@pytest.fixture(params=TRIGGERS)
def kind(request: pytest.FixtureRequest, apify: Emulator) -> Kind:
    return KINDS[request.param](apify)


@pytest.fixture(autouse=True)
def quick(supervisor: Supervisor, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events.JobsEventTrigger, "least_interval", 0.0)
    monkeypatch.setattr(polls, "GATHER", 0.05)


def watcher(kind: Kind, **arguments: Any) -> Any:
    return TRIGGERS[kind.name](**{"asset_name": "jobs", "poll_interval": 0.15, **arguments})


def looks(kind: Kind) -> int:
    return sum(request.path == kind.job_kind.path for request in kind.requests)


async def until(reached: Callable[[], bool], seconds: float = 10) -> None:
    ends = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < ends, "not so in time"
        await asyncio.sleep(0.01)


async def looked(kind: Kind, times: int = 2) -> None:
    """Wait until a look that begins now has been worked on."""
    before = looks(kind)
    await until(lambda: looks(kind) > before + times - 1)
    await asyncio.sleep(0.1)


async def start(kind: Kind, actor: str = "hello-world") -> str:
    return await asyncio.to_thread(kind.start, actor)


async def test_a_job_that_somebody_else_started_is_announced_once(kind: Kind, store: Store) -> None:
    async with watched(watcher(kind)) as triggerer:
        await looked(kind)
        job_id = await start(kind)
        await until(lambda: job_id in triggerer.announced)
        await looked(kind, 3)
    assert triggerer.announced == {job_id: 1}
    (payload,) = triggerer.payloads
    (job,) = payload["jobs"]
    assert payload["kind"] == kind.name
    assert (job["status"], job["actor_id"]) == ("SUCCEEDED", kind.jobs[0]["actId"])
    assert job["finished_at"] and job["console_url"] == kind.console_url(kind.jobs[0])
    assert not {"stats", "usage"} & job.keys()


async def test_what_ended_before_the_first_start_is_not_announced_and_what_runs_then_is(kind: Kind) -> None:
    await start(kind)
    await asyncio.to_thread(kind.ended)
    kind.seconds = 60
    running = await start(kind)
    async with watched(watcher(kind)) as triggerer:
        await looked(kind)
        kind.finish(running)
        await until(lambda: bool(triggerer.payloads))
        await looked(kind)
    assert triggerer.announced == {running: 1}


async def test_since_announces_what_began_before_the_first_start(kind: Kind) -> None:
    old = await start(kind)
    await asyncio.to_thread(kind.ended)
    await asyncio.sleep(0.1)
    since = dt.datetime.now(dt.timezone.utc)
    new = await start(kind)
    await asyncio.to_thread(kind.ended, 2)
    async with watched(watcher(kind, since=since)) as triggerer:
        await until(lambda: bool(triggerer.payloads))
        await looked(kind)
    assert triggerer.announced == {new: 1}
    assert old not in triggerer.announced


async def test_since_knows_what_has_been_running_for_longer(
    kind: Kind, monkeypatch: pytest.MonkeyPatch, apify: Emulator
) -> None:
    """Even when the newest of the list do not show it."""
    monkeypatch.setattr(polls, "NEWEST", 4)
    monkeypatch.setattr(polls, "PAGE_LIMIT", 4)
    monkeypatch.setattr("airflow_provider_apify.jobs.ended.OVERLAP", 0.01)
    apify.memory_mbytes = 4096 * 100
    kind.seconds = 60
    long_one = await start(kind)
    await asyncio.sleep(0.1)
    kind.seconds = 0.05
    for _ in range(10):
        await start(kind)
    await asyncio.sleep(0.2)
    async with watched(watcher(kind, since=dt.datetime.now(dt.timezone.utc))) as triggerer:
        await looked(kind)
        kind.finish(long_one)
        await until(lambda: long_one in triggerer.announced)


@pytest.mark.parametrize("full_lists", [False, True])
@pytest.mark.parametrize("before", [False, True], ids=["begins while watched", "before"])
async def test_one_that_ends_after_many_that_began_later(
    before: bool, full_lists: bool, kind: Kind, monkeypatch: pytest.MonkeyPatch, apify: Emulator
) -> None:
    """Even when the list shows it no more."""
    monkeypatch.setattr(polls, "NEWEST", 4)
    monkeypatch.setattr("airflow_provider_apify.jobs.ended.OVERLAP", 0.01)
    apify.full_lists = full_lists
    apify.memory_mbytes = 4096 * 100
    kind.seconds = 60
    long_one = await start(kind) if before else ""
    async with watched(watcher(kind)) as triggerer:
        await looked(kind)
        long_one = long_one or await start(kind)
        await looked(kind)
        kind.seconds = 0.05
        short = []
        for _ in range(10):
            short.append(await start(kind))
            await asyncio.sleep(0.02)
        await until(lambda: set(short) <= set(triggerer.announced))
        pages = [request for request in kind.requests if "offset" in request.query]
        kind.finish(long_one, "FAILED")
        await until(lambda: long_one in triggerer.announced)
        await looked(kind)
        assert pages == [request for request in kind.requests if "offset" in request.query], "it was asked for by id"
    assert triggerer.announced == dict.fromkeys([long_one, *short], 1)


async def test_pages_are_read_as_far_as_needed(
    kind: Kind, apify: Emulator, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a time without triggerer."""
    monkeypatch.setattr(polls, "NEWEST", 3)
    monkeypatch.setattr(polls, "PAGE_LIMIT", 4)
    apify.memory_mbytes = 4096 * 100
    async with watched(watcher(kind)):
        await until(lambda: bool(store.saved))
    kind.seconds = 0.05
    missed = [await start(kind) for _ in range(20)]
    await asyncio.to_thread(kind.ended, 20)
    async with watched(watcher(kind)) as triggerer:
        await until(lambda: bool(triggerer.payloads))
        await looked(kind)
    assert triggerer.announced == dict.fromkeys(missed, 1)
    assert len(triggerer.payloads) == 1, "one event a look: Airflow may not start a DAG for each of several"


async def test_no_further_back_than_max_catch_up(
    kind: Kind, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("airflow_provider_apify.jobs.ended.OVERLAP", 0.0)
    monkeypatch.setattr(polls, "NEWEST", 2)
    monkeypatch.setattr(polls, "PAGE_LIMIT", 2)
    kind.seconds = 0.05
    await start(kind)
    async with watched(watcher(kind)):
        await until(lambda: bool(store.saved))
    old = [await start(kind) for _ in range(5)]
    await asyncio.sleep(2)
    new = [await start(kind) for _ in range(6)]
    await asyncio.to_thread(kind.ended, 12)
    monkeypatch.setattr("airflow_provider_apify.triggers.events.LEAST_CATCH_UP", 0.0)
    async with watched(watcher(kind, max_catch_up=1.5)) as triggerer:
        await until(lambda: bool(triggerer.payloads))
        await looked(kind)
    assert set(new) <= triggerer.announced.keys()
    assert not set(old[:3]) & triggerer.announced.keys()
    assert "Set max_catch_up for more." in caplog.text


async def test_only_what_is_wanted(kind: Kind, apify: Emulator) -> None:
    kind.set_actor("always-fails", outcome="FAILED")
    all_of_one = watcher(kind, actor_id="~always-fails", asset_name="one")
    good_ones = watcher(kind, statuses=["SUCCEEDED"], asset_name="good")
    async with watched(all_of_one) as of_one, watched(good_ones) as good:
        await looked(kind)
        bad, fine = await start(kind, "always-fails"), await start(kind)
        await until(lambda: bool(of_one.payloads) and bool(good.payloads))
        await looked(kind)
    assert (of_one.announced, good.announced) == ({bad: 1}, {fine: 1})


async def test_a_resurrected_run_ends_again(apify: Emulator, supervisor: Supervisor) -> None:
    import requests

    kind = KINDS["run"](apify)
    async with watched(watcher(kind)) as triggerer:
        await looked(kind)
        run_id = await start(kind)
        await until(lambda: bool(triggerer.payloads))
        apify.run_seconds = 1
        url, headers = f"{apify.url}/v2/actor-runs/{run_id}/resurrect", {"Authorization": f"Bearer {apify.token}"}
        answer = await asyncio.to_thread(requests.post, url, headers=headers, timeout=5)
        assert answer.status_code == 200
        await until(lambda: triggerer.announced[run_id] == 2)
        await looked(kind, 3)
    first, second = triggerer.payloads
    assert triggerer.announced == {run_id: 2}
    assert first["jobs"][0]["finished_at"] < second["jobs"][0]["finished_at"]


async def test_an_event_that_airflow_did_not_store_is_sent_again_and_one_that_it_did_is_not(
    kind: Kind, store: Store
) -> None:
    async with watched(watcher(kind), stores=False) as lost:
        await looked(kind)
        job_id = await start(kind)
        await asyncio.to_thread(kind.ended)
        await looked(kind)
        lost.stores = True  # what comes after it must not be taken for it
        later = await start(kind)
        await until(lambda: later in lost.announced)
    async with watched(watcher(kind)) as second:
        await until(lambda: job_id in store)
        assert second.announced == {job_id: 1, later: 1}
    async with watched(watcher(kind)) as third:
        await looked(kind)
    assert third.announced == {}


async def test_what_comes_after_an_event_that_was_lost_is_not_saved(store: Store) -> None:
    """Airflow tells of an event that it has given up, too, and goes on to the next."""
    from airflow.triggers.shared_stream import AdvanceItem, AdvanceOutcome

    _, kwargs = ApifyRunsEventTrigger(asset_name="jobs").serialize()
    stream = ApifyRunsEventTrigger.create_shared_stream_producer(kwargs)
    stored, lost = AdvanceOutcome(acked=1, failed=0, rejected=0), AdvanceOutcome(acked=0, failed=1, rejected=0)
    nobody = AdvanceOutcome(acked=0, failed=0, rejected=0)
    for outcome in (lost, nobody):
        await stream.advance([AdvanceItem(Mark(1.0), stored), AdvanceItem(Mark(2.0), outcome)])
        await stream.advance([AdvanceItem(Mark(3.0), stored)])
        assert [record["newest"] for record in store.saved.values()] == [1.0]


async def test_nothing_is_forgotten_while_airflow_cannot_save(
    kind: Kind, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_apify.triggers.job_stream.FIRST_PAUSE", 0.05)
    async with watched(watcher(kind)):
        await until(lambda: bool(store.saved))
    store.broken = True
    job_id = await start(kind)
    async with watched(watcher(kind)) as triggerer:
        await asyncio.sleep(0.5)
        assert not triggerer.payloads, "as long as it is not known what has been announced"
        store.broken = False
        await until(lambda: job_id in triggerer.announced)
        store.broken = True
        second = await start(kind)
        await until(lambda: second in triggerer.announced)
        store.broken = False
        third = await start(kind)
        await until(lambda: third in store)
        assert triggerer.announced == dict.fromkeys([job_id, second, third], 1)
    async with watched(watcher(kind)) as triggerer:
        await looked(kind)
    assert triggerer.announced == {}


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", status=500, times=3),
        Fault("status", status=403, times=2),
        Fault("status", status=429, times=2, headers={"Retry-After": "0"}),
        Fault("html", times=2),
        Fault("reset", times=3),
        Fault("status", status=200, body={"data": {"items": ["?", {"id": 3}]}}, times=2),
        Fault("status", status=200, body={"data": {}}, times=2),
    ],
    ids=["500", "403", "429", "HTML", "reset", "odd items", "no items"],
)
async def test_trouble_with_apify_costs_no_event(fault: Fault, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polls, "REFUSED_PAUSE", 0.2)
    monkeypatch.setattr(polls, "backoff", lambda errors, error: 0.1)
    fault.method, fault.path = "GET", f"{kind.job_kind.path}*"
    async with watched(watcher(kind)) as triggerer:
        await looked(kind)
        kind.apify.add_fault(fault)
        job_id = await start(kind)
        await until(lambda: job_id in triggerer.announced)
    assert triggerer.announced == {job_id: 1}


async def test_fifty_watchers_share_one_look(kind: Kind, apify: Emulator) -> None:
    """Which at 30 s, the usual interval, is 2 requests a minute."""
    async with watched(*[watcher(kind, asset_name=f"asset {n}", poll_interval=1) for n in range(50)]) as triggerer:
        await looked(kind)
        apify.clear_ledger()
        begun = time.monotonic()
        await asyncio.sleep(4.2)
        idle, seconds = len(apify.requests), time.monotonic() - begun
        job_id = await start(kind)
        await until(lambda: triggerer.announced[job_id] == 50)
    a_minute = idle / seconds * 60 / 30
    print(f"50 watchers: {a_minute:.1f} requests a minute at an interval of 30 s")
    assert a_minute <= 3
    # The emulator's lists do not say when a job ended: then all watchers together ask for it once.
    assert sum(request.path.endswith(job_id) for request in apify.requests) == 1


async def test_many_jobs_come_in_several_events(kind: Kind, apify: Emulator, store: Store, monkeypatch: Any) -> None:
    monkeypatch.setattr("airflow_provider_apify.triggers.job_stream.MOST_JOBS", 3)
    apify.memory_mbytes = 4096 * 100
    async with watched(watcher(kind)):
        await until(lambda: bool(store.saved))
    kind.seconds = 0.05
    missed = [await start(kind) for _ in range(8)]
    await asyncio.to_thread(kind.ended, 8)
    async with watched(watcher(kind)) as first:
        await until(lambda: bool(first.payloads))
    async with watched(watcher(kind)) as triggerer:
        await until(lambda: len(triggerer.payloads) == 3)
        await until(lambda: missed[-1] in store)
    assert triggerer.announced == dict.fromkeys(missed, 1), "all again, since the first triggerer was lost midway"
    async with watched(watcher(kind)) as third:
        await looked(kind)
    assert third.announced == {}


# -- what a release leaves behind -------------------------------------------------------------------------------------

LEFT = [
    json.loads(path.read_text())["event_trigger"]
    for path in sorted(Path(__file__).with_name("releases").glob("*.json"))
]


@pytest.mark.parametrize("left", LEFT, ids=lambda left: left["payload"]["kind"])
async def test_a_watcher_of_a_release_goes_on_where_it_was(
    left: dict[str, Any], apify: Emulator, store: Store, supervisor: Supervisor
) -> None:
    kind = KINDS[left["payload"]["kind"]](apify)
    announced, missed = await start(kind), await start(kind)
    await asyncio.to_thread(kind.ended, 2)
    kind.seconds = 60
    running = await start(kind)
    first, _, last = (Job.from_api(job) for job in kind.jobs)
    assert first.started_at and first.finished_at and last.started_at
    begun = first.started_at.timestamp()
    ((key, record),) = left["asset_state_store"].items()
    store.saved[key] = record | {
        "newest": begun,
        "unfinished": {running: last.started_at.timestamp()},
        "handled": {announced: [begun, first.finished_at.timestamp()]},
    }
    trigger = pkgutil.resolve_name(left["classpath"])(**left["kwargs"] | {"poll_interval": 0.15})
    async with watched(trigger) as triggerer:
        await until(lambda: missed in triggerer.announced)
        kind.finish(running)
        await until(lambda: running in store)
    assert triggerer.announced == {missed: 1, running: 1}
    assert store.saved.keys() == {key}


@pytest.mark.parametrize("left", LEFT, ids=lambda left: left["payload"]["kind"])
async def test_what_a_watcher_stores_and_sends_now_is_what_a_release_has(
    left: dict[str, Any], apify: Emulator, store: Store, supervisor: Supervisor
) -> None:
    kind = KINDS[left["payload"]["kind"]](apify)
    assert TRIGGERS[kind.name](**left["kwargs"]).serialize() == (left["classpath"], left["kwargs"])
    async with watched(watcher(kind)) as triggerer:
        await looked(kind)
        job_id = await start(kind)
        await until(lambda: job_id in store)
    (sent,) = triggerer.payloads
    assert left["payload"].keys() <= sent.keys()
    assert left["payload"]["jobs"][0].keys() <= sent["jobs"][0].keys()
    (saved,), (record,) = store.saved.values(), left["asset_state_store"].values()
    assert saved.keys() == record.keys()
