"""
The server of ``waiting`` and ``growth``: builds as Apify shows them, jobs as Airbyte and Databricks do.

One small server for all, so that all meet the same one; the emulator is made for faithfulness, not for 5000
connections. A trip of 50 ms is added to each request: 25 ms before the server looks and 25 ms after.

A client first sends its plan, the seconds from now at which each job starts and ends (``POST /bench/plan``), and in
the end asks what the server has seen (``GET /bench/stats``). Lists also hold 2000 builds of earlier days, since an
account's list is never short.
"""

# ruff: noqa: T201

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
import sys
import time
from bisect import bisect_right
from collections import Counter
from datetime import datetime, timezone
from functools import cache
from typing import Any

from aiohttp import web

from benchmarks.common import build_id
from rig.waiting import allow_open_files

TRIP = 0.05
LONGEST_WAIT = 60.0
_BACKLOG = 8192
_KEEP_ALIVE = 75.0
_HISTORY = 2000
_DAY = 86400.0
#: A readme and an input schema of a usual size: 4 kB each. Only builds that succeeded have them.
_TEXT = "An Actor of a usual size says in some lines what it does. " * 70


class Server(web.Server):
    """
    What the clients talk to, with what it has seen of them.

    Jobs are numbered from 1 in the order of their start; whether one has ended is a matter of the clock alone.
    """

    def __init__(self) -> None:
        super().__init__(self.handle, access_log=None, keepalive_timeout=_KEEP_ALIVE)
        self.seen: Counter[str] = Counter()
        self.opened = self.open = self.most_open = 0
        self.starts: list[float] = []
        self.ends: list[float] = []
        long_ago = time.time() - _DAY
        self.history = [_item(-i, long_ago - 60 * i, long_ago - 60 * i + 30, True) for i in range(1, _HISTORY + 1)]

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self.opened += 1
        self.open += 1
        self.most_open = max(self.open, self.most_open)

    def connection_lost(self, handler: Any, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self.open -= 1

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/bench/plan":
            return web.json_response({"t0": self.plan(await request.json())})
        if request.path == "/bench/stats":
            return web.json_response({"seen": self.seen, "opened": self.opened, "most_open": self.most_open})
        await asyncio.sleep(TRIP / 2)
        body = await self.answer(request)
        await asyncio.sleep(TRIP / 2)
        return web.Response(text=body, status=200 if body else 404, content_type="application/json")

    def plan(self, jobs: list[tuple[float, float]]) -> float:
        now = time.time()
        self.starts, self.ends = [now + start for start, _ in jobs], [now + end for _, end in jobs]
        self.seen.clear()
        self.opened, self.most_open = 0, self.open
        _item.cache_clear()
        return now

    async def answer(self, request: web.BaseRequest) -> str:
        match request.path.strip("/").split("/"):
            case ["v2", "actor-builds"]:
                self.seen["list"] += 1
                return self.page(request)
            case ["v2", "actor-builds", wanted]:
                self.seen["build"] += 1
                index = int(wanted.removeprefix("bench"))
                wait = min(float(request.query.get("waitForFinish", 0)), LONGEST_WAIT)
                await asyncio.sleep(max(0.0, min(wait, self.ends[index - 1] - time.time())))
                return _build(index, self.starts[index - 1], self.ends[index - 1])
            case ["airbyte", "jobs", wanted]:
                self.seen["airbyte job"] += 1
                return self.airbyte_job(int(wanted))
            case ["api", _, "jobs", "runs", "get"]:
                self.seen["databricks run"] += 1
                return self.databricks_run((await request.json())["run_id"])
        return ""

    def page(self, request: web.BaseRequest) -> str:
        now = time.time()
        offset, limit = int(request.query.get("offset", 0)), min(int(request.query.get("limit", 1000)), 1000)
        desc = request.query.get("desc") in ("1", "true")
        started = bisect_right(self.starts, now)
        total = started + _HISTORY
        newest_first = range(offset, min(offset + limit, total))
        places = newest_first if desc else [total - 1 - place for place in newest_first]
        items = [self.item(started - place, now) for place in places]
        head = f'"total":{total},"offset":{offset},"limit":{limit},"desc":{str(desc).lower()},"count":{len(items)}'
        return f'{{"data":{{{head},"items":[{",".join(items)}]}}}}'

    def item(self, index: int, now: float) -> str:
        """Give one of the jobs as an item; those before the first are history."""
        if index < 1:
            return self.history[-index]
        start, end = self.starts[index - 1], self.ends[index - 1]
        return _item(index, start, end, end <= now)

    def airbyte_job(self, index: int) -> str:
        ended = time.time() >= self.ends[index - 1]
        job = {
            "jobId": index,
            "status": "succeeded" if ended else "running",
            "jobType": "sync",
            "connectionId": "18dccc91-0ab1-4f72-9ed7-0b8fc27c5826",
            "startTime": _iso(self.starts[index - 1]),
            "lastUpdatedAt": _iso(time.time()),
            "duration": "PT30S",
            "bytesSynced": 1234567,
            "rowsSynced": 1234,
        }
        return json.dumps(job)

    def databricks_run(self, index: int) -> str:
        ended = time.time() >= self.ends[index - 1]
        state = {"life_cycle_state": "TERMINATED" if ended else "RUNNING", "state_message": ""}
        run = {
            "job_id": 11223344,
            "run_id": index,
            "run_page_url": f"https://my-workspace.cloud.databricks.com/#job/11223344/run/{index}",
            "run_type": "JOB_RUN",
            "start_time": int(self.starts[index - 1] * 1000),
            "state": state | ({"result_state": "SUCCESS"} if ended else {}),
            "tasks": [{"run_id": index, "task_key": "main", "state": state, "attempt_number": 0}],
        }
        return json.dumps(run)


@cache
def _item(index: int, start: float, end: float, ended: bool) -> str:
    return json.dumps(_short(index, start, end, ended))


def _short(index: int, start: float, end: float, ended: bool) -> dict[str, Any]:
    """Give a build as Apify's lists show it (schema ``BuildShort``)."""
    return {
        "id": build_id(index),
        "actId": "janedoeActor00001",
        "userId": "klmdEpoiojmdEMlk3",
        "status": "SUCCEEDED" if ended else "RUNNING",
        "startedAt": _iso(start),
        "finishedAt": _iso(end) if ended else None,
        "usageTotalUsd": 0.02 if ended else 0,
        "buildNumber": f"0.1.{abs(index)}",
        "buildNumberInt": 100_000 + abs(index),
        "meta": {
            "origin": "API",
            "clientIp": "172.234.12.34",
            "userAgent": "airflow-provider-apify/1.0 (linux; python 3.11) airflow/0123456789abcdef.1",
        },
    }


def _build(index: int, start: float, end: float) -> str:
    """Give a build as Apify shows it alone (schema ``Build``)."""
    ended = time.time() >= end
    build = _short(index, start, end, ended) | {
        "options": {"useCache": False, "betaPackages": False, "memoryMbytes": 4096, "diskMbytes": 8192},
        "actVersion": {"sourceType": "SOURCE_FILES", "versionNumber": "0.1", "buildTag": "latest"},
    }
    if ended:
        build |= {
            "stats": {"durationMillis": int((end - start) * 1000), "runTimeSecs": end - start, "computeUnits": 0.0127},
            "usage": {"ACTOR_COMPUTE_UNITS": 0.0127},
            "usageUsd": {"ACTOR_COMPUTE_UNITS": 0.02},
            "readme": _TEXT,
            "inputSchema": _TEXT,
            "actorDefinition": {"actorSpecification": 1, "name": "my-actor", "version": "0.1", "buildTag": "latest"},
        }
    return json.dumps({"data": build})


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def serve(certificate: str | None) -> None:
    allow_open_files()
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
    await loop.create_server(Server(), sock=listener, ssl=context, backlog=_BACKLOG)
    print(f"{'https' if context else 'http'}://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    await over.wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1] if len(sys.argv) > 1 else None))
