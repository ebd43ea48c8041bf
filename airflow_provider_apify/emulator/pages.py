"""
Pages for a browser on this machine: all Actors, builds and runs, each Actor with its builds and runs, and each run.

An Actor's page and a run's are at the paths that they have in Apify Console. A button ends a job that has not ended.
"""

from __future__ import annotations

import time
from base64 import b64encode
from hashlib import sha256
from html import escape
from ipaddress import ip_address
from typing import Annotated, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse

from airflow_provider_apify.emulator.actors import ActorState, found_actor
from airflow_provider_apify.emulator.answers import ApiError, iso
from airflow_provider_apify.emulator.builds import Build
from airflow_provider_apify.emulator.call import Call
from airflow_provider_apify.emulator.job_endpoints import found
from airflow_provider_apify.emulator.logs import log_text
from airflow_provider_apify.emulator.runs import Run
from airflow_provider_apify.emulator.users import USERNAME
from airflow_provider_apify.emulator.world import World

#: Not <meta http-equiv="refresh">: with a # in the address, Chromium takes that for a jump within the page.
RELOAD = "setTimeout(() => location.reload(), 2000)"

_ABOUT = "An emulator of the Apify API, for tests: it builds and runs nothing and costs nothing."
#: Builds and runs on the start page.
_NEWEST = 20

_RELOAD_HASH = b64encode(sha256(RELOAD.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{_RELOAD_HASH}'",
    "Cache-Control": "no-store",
}


async def _call(request: Request) -> Call:
    """No token is asked for, so nobody but this machine may look."""
    address = ip_address(request.client.host) if request.client else None
    if not address or not (getattr(address, "ipv4_mapped", None) or address).is_loopback:
        raise ApiError(403, "insufficient-permissions", "Pages are shown to browsers on the emulator's machine only")
    call: Call = request.state.call
    return call


Here = Annotated[Call, Depends(_call)]

router = APIRouter()


@router.get("/")
async def start_page(request: Request) -> Response:
    if "text/html" not in request.headers.get("accept", ""):
        return PlainTextResponse(f"{_ABOUT}\nOpen this address in a browser to see its Actors, builds and runs.\n")
    return HTMLResponse(_start_page((await _call(request)).world), headers=_HEADERS)


@router.get("/actors/{actor_id}")
async def actor_page(call: Here, actor_id: str) -> HTMLResponse:
    return HTMLResponse(_actor_page(call.world, found_actor(call, actor_id)), headers=_HEADERS)


@router.get("/actors/{actor_id}/runs/{run_id}")
async def run_page(call: Here, actor_id: str, run_id: str) -> HTMLResponse:
    run = found(call, call.world.runs, run_id, actor_id)
    return HTMLResponse(_actor_page(call.world, run.actor_state, run), headers=_HEADERS)


@router.post("/actors/{actor_id}/{kind}/{job_id}/finish")
async def finish_job(
    call: Here,
    request: Request,
    actor_id: str,
    kind: Literal["builds", "runs"],
    job_id: str,
    status: Literal["SUCCEEDED", "FAILED"],
) -> Response:
    """End a job as a click on a page of the emulator asks; other pages may not."""
    if urlsplit(request.headers.get("origin", "")).netloc != request.headers.get("host"):
        raise ApiError(403, "insufficient-permissions", "Only pages of the emulator end jobs")
    world = call.world
    job: Build | Run
    if kind == "runs":
        world.runs.finish(job := found(call, world.runs, job_id, actor_id), status)
    else:
        world.builds.finish(job := found(call, world.builds, job_id, actor_id), status)
    return RedirectResponse(_address(job), 303)


def _start_page(world: World) -> str:
    actors = "".join(_actor(actor_state, world) for actor_state in world.actors.values())
    newest = "".join(_row(job, of_all=True) for job in _newest_first(world)[:_NEWEST])
    return _page(
        "Emulator of Apify",
        f"{_ABOUT} The account is called {USERNAME}.",
        f"<nav><h2>Newest builds and runs</h2>{newest or _NOTHING}</nav><section><h2>Actors</h2>{actors}</section>",
        reload=True,  # somebody may start a job
    )


def _actor_page(world: World, actor_state: ActorState, run: Run | None = None) -> str:
    # The part of the address after # says the build: the style sheet shows no other.
    jobs = [job for job in _newest_first(world) if job.actor_state is actor_state]
    shown: list[Build | Run] = [run] if run else [job for job in jobs if isinstance(job, Build)]
    return _page(
        escape(f"{USERNAME}/{actor_state.actor.name}"),
        f'Actor {escape(actor_state.id)} on the emulator of Apify, which builds and runs nothing. <a href="/">All'
        " Actors</a>",
        f"<nav>{''.join(_row(job, on_actor_page=run is None) for job in jobs) or _NOTHING}</nav>"
        f"<main>{''.join(_details(job) for job in shown)}</main>",
        reload=any(job.unfinished for job in jobs),
    )


def _newest_first(world: World) -> list[Build | Run]:
    jobs: list[Build | Run] = [*world.builds.values(), *world.runs.values()]
    return sorted(jobs, key=lambda job: job.started_at, reverse=True)


def _page(title: str, about: str, body: str, *, reload: bool) -> str:
    return f"""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
{f"<script>{RELOAD}</script>" if reload else ""}
<title>{title}</title>
<style>{_STYLE}</style>
<header><h1>{title}</h1><p>{about}</p></header>
{body}
</html>
"""


def _actor(actor_state: ActorState, world: World) -> str:
    """Say how one writes an Actor in a DAG, and what its builds and runs do."""
    actor, settings = actor_state.actor, world.settings
    building = settings.build_seconds * actor.slowness if actor.build_seconds is None else actor.build_seconds
    running = settings.run_seconds * actor.run_slowness if actor.run_seconds is None else actor.run_seconds
    versions = ", ".join(f"{version} ({tag or 'no tag'})" for version, tag in actor.versions.items())
    return (
        f'<a href="/actors/{actor_state.id}"><b>~{escape(actor.name)}</b>'
        f"<small>Its builds end as {actor.outcome} after {building:g} s, its runs as {actor.run_outcome} after"
        f" {running:g} s. Versions: {escape(versions)}</small></a>\n"
    )


def _row(job: Build | Run, *, of_all: bool = False, on_actor_page: bool = False) -> str:
    name, more = _name(job), _clock(job.started_at)
    if of_all:
        name, more = escape(job.actor_state.actor.name), f"{name}, {more}"
    address = _address(job)
    if on_actor_page and isinstance(job, Build):
        address = address[address.index("#") :]
    return f'<a href="{address}"><b>{name}</b>{_status(job)}<small>{more}</small></a>\n'


def _name(job: Build | Run) -> str:
    return f"Run of {job.build.number}" if isinstance(job, Run) else job.number


def _address(job: Build | Run) -> str:
    page = f"/actors/{job.actor_state.id}"
    return f"{page}#{_fragment(job)}" if isinstance(job, Build) else f"{page}/runs/{job.id}"


def _fragment(build: Build) -> str:
    return f"/builds/{build.number}"


def _details(job: Build | Run) -> str:
    facts = {
        "Started": _clock(job.started_at),
        "Finished": "not yet" if job.finished_at is None else _clock(job.finished_at),
        "Duration": f"{(job.finished_at or time.time()) - job.started_at:.1f} s",
    }
    if isinstance(job, Run):
        kind, title, attributes = "runs", "Run", 'class="shown"'
        facts |= _facts_of_run(job)
    else:
        kind, title, attributes = "builds", f"Build {job.number}", f'id="{_fragment(job)}"'
        facts |= _facts_of_build(job)
    facts["Started by"] = job.user_agent or "unknown"
    items = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    end = ""
    if job.unfinished:
        action = f"/actors/{job.actor_state.id}/{kind}/{job.id}/finish"
        end = (
            f'<form method="post"><button formaction="{action}?status=SUCCEEDED">Let it succeed</button> '
            f'<button formaction="{action}?status=FAILED">Let it fail</button></form>'
        )
    log = escape(log_text(job))
    return (
        f"<article {attributes}><h2>{title} {_status(job)}</h2>"
        f"<dl>{items}</dl>{end}<h3>Log</h3><pre>{log or 'Nothing yet.'}</pre></article>\n"
    )


def _facts_of_build(build: Build) -> dict[str, str]:
    carries = sorted(tag for tag, tagged in build.actor_state.tagged.items() if tagged is build)
    return {
        "Version": build.version,
        "Tag if it succeeds": build.tag or "none",
        "Tags now": ", ".join(carries) or "none",
        "Build id": build.id,
    }


def _facts_of_run(run: Run) -> dict[str, str]:
    return {
        "Build": f"{run.build.number} ({run.options.build})",
        "Memory": f"{run.memory_mbytes} MB",
        "Items pushed": f"{run.pushed} of {run.to_push}",
        "Says": run.status_message or "nothing yet",
        "Run id": run.id,
        "Dataset": run.dataset.id,
        "Key-value store": run.key_value_store.id,
    }


def _status(job: Build | Run) -> str:
    return f'<span class="{job.status}">{job.status}</span>'


def _clock(at: float) -> str:
    return iso(at)[:19].replace("T", " ") + " UTC"


_NOTHING = "<p>No builds or runs yet.</p>"
_STYLE = """
:root { color-scheme: light dark; --line: #8883; --soft: #8881; --dim: #777; font: 15px/1.45 system-ui, sans-serif }
body { display: grid; grid-template-columns: 17rem 1fr; gap: 1.5rem 2rem; max-width: 70rem; margin: 2rem auto;
  padding: 0 1.5rem }
header { grid-column: 1 / -1; border-bottom: 1px solid var(--line) }
h1 { margin: 0; font-size: 1.5rem }
h2 { margin: 0 0 1rem; font-size: 1.25rem }
h3 { margin: 1.5rem 0 .5rem; font-size: 1rem }
header p { margin: .2rem 0 1rem; color: var(--dim) }
a { color: inherit }
nav a, section a { display: grid; grid-template-columns: 1fr auto; align-items: center; gap: .1rem .5rem;
  padding: .5rem .7rem; border-radius: .5rem; text-decoration: none }
nav a:hover, section a:hover { background: var(--soft) }
nav small, section small { color: var(--dim); grid-column: 1 / -1 }
main, section { min-width: 0 }
main:not(:has(:target, .shown))::before { content: "Choose a build or a run."; color: var(--dim) }
article { display: none; scroll-margin-top: 10rem }
article:target, .shown { display: block }
form { margin-top: 1.5rem }
button { padding: .3rem .8rem; font: inherit }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: .8rem 1.5rem; margin: 0 }
dl div:last-child { grid-column: 1 / -1 }
dt { color: var(--dim); font-size: .85rem }
dd { margin: 0; overflow-wrap: anywhere }
pre { margin: 0; padding: 1rem; white-space: pre-wrap; overflow-wrap: anywhere; border-radius: .5rem;
  background: #1b1f24; color: #e6e6e6; font: 13px/1.5 ui-monospace, monospace }
span { padding: .1rem .5rem; border-radius: 1rem; background: #2563eb; color: #fff; vertical-align: middle;
  font: 600 .72rem system-ui, sans-serif }
.SUCCEEDED { background: #15803d }
.FAILED, .TIMED-OUT { background: #b91c1c }
.ABORTED, .ABORTING, .TIMING-OUT { background: #57606a }
@media (max-width: 45rem) { body { grid-template-columns: 1fr } }
"""
