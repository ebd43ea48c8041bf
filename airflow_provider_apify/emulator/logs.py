"""Logs: the lines of a job that appear as its time passes, and the endpoints."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterable

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse, StreamingResponse

from airflow_provider_apify.emulator.answers import iso
from airflow_provider_apify.emulator.call import Call
from airflow_provider_apify.emulator.job_endpoints import visible
from airflow_provider_apify.emulator.jobs import Job
from airflow_provider_apify.emulator.parameters import Anyone, Flag
from airflow_provider_apify.emulator.signals import first_of

_ANSI = re.compile(r"\x1b\[[0-9;]*m")

router = APIRouter(prefix="/v2")


@router.get("/actor-builds/{build_id}/log")
async def get_build_log(call: Anyone, build_id: str, stream: Flag = False, raw: Flag = False) -> Response:
    return _answer(call, visible(call, call.world.builds, build_id), stream, raw)


@router.get("/actor-runs/{run_id}/log")
async def get_run_log(call: Anyone, run_id: str, stream: Flag = False, raw: Flag = False) -> Response:
    return _answer(call, visible(call, call.world.runs, run_id), stream, raw)


@router.get("/logs/{job_id}")
async def get_log(call: Anyone, job_id: str, stream: Flag = False, raw: Flag = False) -> Response:
    if job_id in call.world.runs:
        return await get_run_log(call, job_id, stream, raw)
    return await get_build_log(call, job_id, stream, raw)


def _answer(call: Call, job: Job, stream: bool, raw: bool) -> Response:
    if stream:
        return StreamingResponse(_follow(call, job, raw), media_type="text/plain")
    return PlainTextResponse(_text(log_now(job), raw))


def log_text(job: Job) -> str:
    """The log as it is now, without ANSI colours."""
    return _text(log_now(job), raw=False)


def log_now(job: Job) -> list[str]:
    """The lines written until now, each ended by a line feed, ANSI colours included."""
    return _lines(job, time.time())


async def _follow(call: Call, job: Job, raw: bool) -> AsyncIterator[str]:
    gone = call.connection.gone
    sent = 0
    while True:
        now = time.time()
        lines = _lines(job, now)
        if new := lines[sent:]:
            yield _text(new, raw)
            sent = len(lines)
        elif job.over.fired or gone.fired:
            return
        else:
            await first_of(job.over, gone, timeout=_next_line_in(job, now))


def _lines(job: Job, now: float) -> list[str]:
    """The lines written until ``now``, in seconds since the epoch."""
    until = now if job.finished_at is None else min(now, job.finished_at)
    lines = job.log_before + [_line(at, text) for at, text in _schedule(job) if at <= until]
    if job.finished_at is not None:
        lines += [_line(job.finished_at, text) for text in job.log_ending]
    return lines


def _next_line_in(job: Job, now: float) -> float | None:
    """Seconds until the next line of an unfinished job; ``None``: not before it ends."""
    return next((at - now for at, _ in _schedule(job) if at > now), None)


def _schedule(job: Job) -> list[tuple[float, str]]:
    return [(job.began_at + fraction * job.seconds, text) for fraction, text in job.log_steps]


def _line(at: float, text: str) -> str:
    return f"{iso(at)} {text}\n"


def _text(lines: Iterable[str], raw: bool) -> str:
    text = "".join(lines)
    return text if raw else _ANSI.sub("", text)
