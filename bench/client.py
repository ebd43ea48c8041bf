"""
The measured process of ``waiting`` and ``growth``: one event loop full of triggers, as in a triggerer.

Called with one JSON argument by a fresh interpreter, it prints one line of JSON. One trigger has run before the
measurement, so that imports and other things done once are not counted. Logging is off.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import random
import resource
import ssl
import sys
import time
import urllib.request
from statistics import quantiles
from typing import Any

import aiohttp
import psutil
import structlog
from airflow.triggers.base import BaseTrigger, TriggerEvent

from bench.common import TOKEN
from rig.waiting import allow_open_files

#: Whose every second job is a run.
MIXED = "apify, builds and runs"
TICK = 0.02
#: Airflow warns that the event loop was blocked from this on.
LATE = 0.2
_MB = 1e6
_ME = psutil.Process()


class Sleeper(BaseTrigger):
    """Knows the end and sleeps until then: what the measurement itself costs."""

    def __init__(self, end: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.end = end

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "bench.client.Sleeper", {"end": self.end}

    async def run(self) -> Any:
        await asyncio.sleep(max(0.0, self.end - time.time()))
        yield TriggerEvent({"status": "success"})  # type: ignore[no-untyped-call]


class LongPoll(BaseTrigger):
    """The least that a long-poll takes: aiohttp, one session for all, and ``json.loads``."""

    _session: aiohttp.ClientSession | None = None

    def __init__(self, url: str, build_id: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.url, self.build_id = url, build_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "bench.client.LongPoll", {"url": self.url, "build_id": self.build_id}

    async def run(self) -> Any:
        if self._session is None:
            tls = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
            type(self)._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=tls), headers={"Authorization": f"Bearer {TOKEN}"}
            )
        assert self._session is not None
        address, status = f"{self.url}/v2/actor-builds/{self.build_id}?waitForFinish=60", "READY"
        while status in ("READY", "RUNNING"):
            async with self._session.get(address) as answer:
                status = json.loads(await answer.read())["data"]["status"]
        yield TriggerEvent({"status": "success" if status == "SUCCEEDED" else status})  # type: ignore[no-untyped-call]


def make_trigger(who: str, url: str, index: int, job_id: str, end: float, poll: float | None) -> Any:
    """Make the trigger that waits for a job of the server, which Apify knows by id, the others by number."""
    if who == MIXED and index % 2 == 0:
        from airflow_provider_apify.triggers.run import ApifyRunTrigger

        return ApifyRunTrigger(run_id=job_id, apify_conn_id="apify_default")
    if who in ("apify", MIXED):
        from airflow_provider_apify.triggers.build import ApifyBuildTrigger

        return ApifyBuildTrigger(build_id=job_id, apify_conn_id="apify_default")
    if who == "airbyte":
        from airflow.providers.airbyte.triggers.airbyte import AirbyteSyncTrigger

        return AirbyteSyncTrigger(
            job_id=index, conn_id="airbyte_default", end_time=time.time() + 86400, poll_interval=poll
        )
    if who == "databricks":
        from airflow.providers.databricks.triggers.databricks import DatabricksExecutionTrigger

        return DatabricksExecutionTrigger(
            run_id=index, databricks_conn_id="databricks_default", polling_period_seconds=poll
        )
    return LongPoll(url, job_id) if who == "aiohttp" else Sleeper(end)


def succeeded(payload: dict[str, Any]) -> bool:
    if "run_state" in payload:
        return '"SUCCESS"' in payload["run_state"]
    job = payload.get("build") or payload.get("run") or {}
    return bool(payload["status"] == "success" or job.get("status") == "SUCCEEDED")


def ask(url: str, body: Any = None) -> Any:
    """Talk to the server about the benchmark itself."""
    context = ssl._create_unverified_context() if url.startswith("https:") else None
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None)
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, context=context, timeout=600) as answer:
        return json.loads(answer.read())


class Meter:
    """Measures this process from its making on."""

    def __init__(self) -> None:
        gc.collect()
        self.lags: list[float] = []
        #: Seconds since the beginning, resident MB, open descriptors: about once a second.
        self.samples: list[tuple[float, float, int]] = []
        self._at = self._due = time.monotonic()
        self.sample()
        self._cpu = self._cpu_now()
        self._ticker = asyncio.create_task(self._tick())

    def sample(self) -> None:
        self.samples.append((time.monotonic() - self._at, _ME.memory_info().rss / _MB, _ME.num_fds()))

    def stop(self) -> dict[str, float]:
        cpu = self._cpu_now() - self._cpu
        self._ticker.cancel()
        # The tick that is due may be late already: a loop that was blocked all the time has had no other.
        self.lags.append(max(0.0, time.monotonic() - self._due))
        self.sample()
        return {
            "cpu_s": cpu,
            "rss_mb": max(rss for _, rss, _ in self.samples) - self.samples[0][1],
            "lag_max_s": max(self.lags, default=0.0),
            "ticks_late": sum(lag > LATE for lag in self.lags),
            "seconds": time.monotonic() - self._at,
        }

    async def _tick(self) -> None:
        while True:
            self._due = time.monotonic() + TICK
            await asyncio.sleep(TICK)
            self.lags.append(time.monotonic() - self._due)
            if time.monotonic() - self._at - self.samples[-1][0] >= 1:
                self.sample()

    @staticmethod
    def _cpu_now() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime


class Waiting:
    """Triggers that wait for the jobs of a plan, and what they have noticed."""

    def __init__(self, who: str, url: str, poll: float | None, ids: list[str], ends: list[float]) -> None:
        self.who, self.url, self.poll = who, url, poll
        self.ids, self.ends = ids, ends
        self.latencies: list[float] = []
        self.errors = 0

    async def one(self, index: int) -> None:
        end = self.ends[index]
        trigger = make_trigger(self.who, self.url, index + 1, self.ids[index], end, self.poll)
        try:
            async for event in trigger.run():
                self.latencies.append(time.time() - end)
                self.errors += not succeeded(event.payload)
        finally:
            await trigger.cleanup()

    def figures(self) -> dict[str, float]:
        cuts = quantiles(self.latencies, n=100, method="inclusive") if len(self.latencies) > 1 else self.latencies * 99
        return {
            "p50_s": cuts[49],
            "p95_s": cuts[94],
            "max_s": max(self.latencies),
            "errors": self.errors,
        }


async def measure(task: dict[str, Any]) -> dict[str, Any]:
    """Wait for ``n`` jobs, all triggers started at once."""
    source = random.Random(task["seed"])
    seconds = [source.uniform(task["shortest"], task["longest"]) for _ in range(task["n"])]
    waiting = await planned(task, seconds)
    meter = Meter()
    tasks = {asyncio.create_task(waiting.one(index)): end for index, end in enumerate(waiting.ends)}
    done, late = await asyncio.wait(tasks, timeout=task["limit"])
    figures = meter.stop()
    for each in done:
        each.result()
    # The limit was reached: how late they are so far is the least that can be said.
    waiting.latencies += [time.time() - tasks[each] for each in late]
    for each in late:
        each.cancel()
    minutes = sum(-(-each // 60) for each in seconds)
    return figures | waiting.figures() | seen_by_server(task["url"], minutes) | {"unfinished": len(late)}


async def come_and_go(task: dict[str, Any]) -> dict[str, Any]:
    """Keep ``n`` triggers alive for ``seconds``: when one is over, the next begins."""
    source = random.Random(task["seed"])
    jobs: list[tuple[float, float, int]] = []
    for lane in range(task["n"]):
        at = 0.0
        while at < task["seconds"]:
            jobs.append((at, end := at + source.uniform(task["shortest"], task["longest"]), lane))
            at = end
    jobs.sort()
    # All builds run from the beginning; what counts is when their triggers do.
    waiting = await planned(task, [end for _, end, _ in jobs])
    began = time.time()
    meter = Meter()

    async def run_lane(lane: int) -> None:
        for index, (start, _, of) in enumerate(jobs):
            if of == lane:
                await asyncio.sleep(max(0.0, began + start - time.time()))
                await waiting.one(index)

    await asyncio.gather(*map(run_lane, range(task["n"])))
    # What is put off until later gets its time.
    await asyncio.sleep(2)
    gc.collect()
    figures = meter.stop()
    minutes = sum(end - start for start, end, _ in jobs) / 60
    return figures | waiting.figures() | seen_by_server(task["url"], minutes) | {"samples": meter.samples}


async def planned(task: dict[str, Any], seconds: list[float]) -> Waiting:
    """Start a job for each of ``seconds``, which it takes, after one trigger has run."""

    def start(seconds: list[float]) -> Waiting:
        plan = {"seconds": seconds, "with_runs": task["who"] == MIXED}
        return Waiting(task["who"], task["url"], task["poll"], **ask(f"{task['url']}/bench/plan", plan))

    await start([0.0]).one(0)
    return start(seconds)


def seen_by_server(url: str, minutes: float) -> dict[str, Any]:
    stats: dict[str, Any] = ask(f"{url}/bench/stats")
    return stats | {"requests_per_minute": stats["requests"] / minutes}


def main() -> None:
    task = json.loads(sys.argv[1])
    allow_open_files()
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with contextlib.redirect_stdout(sys.stderr):
        result = asyncio.run(come_and_go(task) if "seconds" in task else measure(task))
    print(json.dumps(result), flush=True)
    # Hooks that blocked the loop may have left threads and sockets: their end is none of the measurement.
    os._exit(0)


if __name__ == "__main__":
    main()
