"""
The server of ``waiting`` and ``growth``: the emulator in a process of its own, behind a network.

The network adds a trip of 50 ms to each request, half of it on the way back. Each build of the emulator is also a job
of Airbyte and a run of Databricks, so that all clients meet the same server.

A client first sends its plan, the seconds that each of its jobs takes from now on, and whether every second one is a
run (``POST /bench/plan``), and in the end asks what has been seen of it (``GET /bench/stats``).
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import MutableMapping
from typing import Any

from fastapi import Request

from airflow_provider_apify.emulator import Emulator
from airflow_provider_apify.emulator.answers import iso
from airflow_provider_apify.emulator.app import app
from airflow_provider_apify.emulator.connection import Connection
from airflow_provider_apify.emulator.inputs import RunInput
from airflow_provider_apify.emulator.jobs import Job
from airflow_provider_apify.emulator.runs import RunOptions
from airflow_provider_apify.emulator.wire_faults import App, Message, Receive, Send
from airflow_provider_apify.emulator.world import World
from bench.common import TOKEN
from rig.waiting import allow_open_files

TRIP = 0.05


class Seen:
    """What clients have sent since their plan."""

    def __init__(self, jobs: list[Job], still_open: set[Connection]) -> None:
        self.jobs = jobs
        self.requests = self.opened = 0
        self.open = still_open
        self.most_open = len(still_open)

    def request(self, connection: Connection) -> None:
        self.open = {each for each in self.open if not each.gone.fired}
        self.requests += 1
        self.opened += connection not in self.open
        self.open.add(connection)
        self.most_open = max(self.most_open, len(self.open))


seen = Seen([], set())


class Network:
    """The way to the emulator and back."""

    def __init__(self, server: App) -> None:
        self._server = server

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["path"].startswith("/bench/"):
            await self._server(scope, receive, send)
            return
        seen.request(scope["state"]["connection"])
        await asyncio.sleep(TRIP / 2)

        async def send_back(message: Message) -> None:
            if message["type"] == "http.response.start":
                await asyncio.sleep(TRIP / 2)
            await send(message)

        await self._server(scope, receive, send_back)


@app.post("/bench/plan")
async def plan(request: Request) -> dict[str, Any]:
    """Forget earlier jobs and start these; gives their ids, and when each ends."""
    global seen
    world: World = request.state.call.world
    world.reset()
    hello_world = world.actors["hello-world"]
    jobs: list[Job] = []
    wanted = await request.json()
    for number, seconds in enumerate(wanted["seconds"], 1):
        world.settings.build_seconds = world.settings.run_seconds = seconds
        if wanted["with_runs"] and number % 2 == 0:
            jobs.append(world.runs.start(hello_world, RunOptions(), RunInput(), client_ip="", user_agent=""))
        else:
            build = world.builds.start(
                hello_world, "0.0", tag=None, use_cache=False, beta_packages=False, client_ip="", user_agent=""
            )
            jobs.append(build)
    seen = Seen(jobs, seen.open)
    return {"ids": [job.id for job in jobs], "ends": [job.started_at + job.seconds for job in jobs]}


@app.get("/bench/stats")
async def stats() -> dict[str, int]:
    return {"requests": seen.requests, "connections": seen.opened, "most_open": seen.most_open}


@app.get("/airbyte/jobs/{number}")
async def airbyte_job(number: int) -> dict[str, Any]:
    job = seen.jobs[number - 1]
    return {
        "jobId": number,
        "status": "running" if job.unfinished else "succeeded",
        "jobType": "sync",
        "connectionId": "18dccc91-0ab1-4f72-9ed7-0b8fc27c5826",
        "startTime": iso(job.started_at),
        "lastUpdatedAt": iso(time.time()),
        "duration": "PT30S",
        "bytesSynced": 1234567,
        "rowsSynced": 1234,
    }


@app.get("/api/{version}/jobs/runs/get")
async def databricks_run(request: Request) -> dict[str, Any]:
    number = (await request.json())["run_id"]
    job = seen.jobs[number - 1]
    state = {"life_cycle_state": "RUNNING" if job.unfinished else "TERMINATED", "state_message": ""}
    return {
        "job_id": 11223344,
        "run_id": number,
        "run_page_url": f"https://my-workspace.cloud.databricks.com/#job/11223344/run/{number}",
        "run_type": "JOB_RUN",
        "start_time": int(job.started_at * 1000),
        "state": state | ({} if job.unfinished else {"result_state": "SUCCESS"}),
        "tasks": [{"run_id": number, "task_key": "main", "state": state, "attempt_number": 0}],
    }


def main() -> None:
    allow_open_files()
    ending = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    app.add_middleware(Network)
    with Emulator(ssl_certfile=sys.argv[1], token=TOKEN, memory_mbytes=10**9, max_concurrent_jobs=10**6) as emulator:
        print(emulator.url, flush=True)
        signal.sigwait(ending)


if __name__ == "__main__":
    main()
