"""
Pages for a browser on this machine: all Actors and builds, and each Actor with its builds.

An Actor's page is at the path that it has in Apify Console.
"""

from __future__ import annotations

import time
from base64 import b64encode
from hashlib import sha256
from html import escape
from ipaddress import ip_address
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse

from airflow_provider_apify.emulator.actors import ActorState, found_actor
from airflow_provider_apify.emulator.answers import ApiError, iso
from airflow_provider_apify.emulator.builds import Build
from airflow_provider_apify.emulator.call import Call
from airflow_provider_apify.emulator.logs import log_text
from airflow_provider_apify.emulator.users import USERNAME
from airflow_provider_apify.emulator.world import World

#: Not <meta http-equiv="refresh">: with a # in the address, Chromium takes that for a jump within the page.
RELOAD = "setTimeout(() => location.reload(), 2000)"

_ABOUT = "An emulator of the Apify API, for tests: it builds nothing and costs nothing."
#: Builds on the start page.
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


router = APIRouter()


@router.get("/")
async def start_page(request: Request) -> Response:
    if "text/html" not in request.headers.get("accept", ""):
        return PlainTextResponse(f"{_ABOUT}\nOpen this address in a browser to see its Actors and builds.\n")
    world = (await _call(request)).world
    newest = list(reversed(world.builds.values()))[:_NEWEST]
    return HTMLResponse(_start_page(world, newest), headers=_HEADERS)


@router.get("/actors/{actor_id}")
async def actor_page(call: Annotated[Call, Depends(_call)], actor_id: str) -> HTMLResponse:
    actor_state = found_actor(call, actor_id)
    builds = [build for build in reversed(call.world.builds.values()) if build.actor_state is actor_state]
    return HTMLResponse(_actor_page(actor_state, builds), headers=_HEADERS)


def _start_page(world: World, newest: list[Build]) -> str:
    actors = "".join(_actor(actor_state, world) for actor_state in world.actors.values())
    builds = "".join(_row(build, on_start_page=True) for build in newest)
    return _page(
        "Emulator of Apify",
        f"{_ABOUT} The account is called {USERNAME}.",
        f"<nav><h2>Newest builds</h2>{builds or '<p>No builds yet.</p>'}</nav>"
        f"<section><h2>Actors</h2>{actors}</section>",
        reload=True,  # somebody may start a build
    )


def _actor_page(actor_state: ActorState, builds: list[Build]) -> str:
    # The part of the address after # says the build: the style sheet shows no other.
    return _page(
        escape(f"{USERNAME}/{actor_state.actor.name}"),
        f'Actor {escape(actor_state.id)} on the emulator of Apify, which builds nothing. <a href="/">All Actors</a>',
        f"<nav>{''.join(_row(build) for build in builds) or '<p>No builds yet.</p>'}</nav>"
        f"<main>{''.join(_details(build) for build in builds)}</main>",
        reload=any(build.unfinished for build in builds),
    )


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
    """Say how one writes an Actor in a DAG, and what its builds do."""
    actor = actor_state.actor
    seconds = world.settings.build_seconds * actor.slowness if actor.build_seconds is None else actor.build_seconds
    versions = ", ".join(f"{version} ({tag or 'no tag'})" for version, tag in actor.versions.items())
    return (
        f'<a href="/actors/{actor_state.id}"><b>~{escape(actor.name)}</b>'
        f"<small>Its builds end as {actor.outcome} after {seconds:g} s. Versions: {escape(versions)}</small></a>\n"
    )


def _row(build: Build, *, on_start_page: bool = False) -> str:
    page, name, number = "", build.number, ""
    if on_start_page:
        actor_state = build.actor_state
        page, name, number = f"/actors/{actor_state.id}", escape(actor_state.actor.name), f"{build.number}, "
    return (
        f'<a href="{page}#/builds/{build.number}"><b>{name}</b>{_status(build)}'
        f"<small>{number}{_clock(build.started_at)}</small></a>\n"
    )


def _details(build: Build) -> str:
    carries = sorted(tag for tag, tagged in build.actor_state.tagged.items() if tagged is build)
    facts = {
        "Started": _clock(build.started_at),
        "Finished": "not yet" if build.finished_at is None else _clock(build.finished_at),
        "Duration": f"{(build.finished_at or time.time()) - build.started_at:.1f} s",
        "Version": build.version,
        "Tag if it succeeds": build.tag or "none",
        "Tags now": ", ".join(carries) or "none",
        "Build id": build.id,
        "Started by": build.user_agent or "unknown",
    }
    items = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    log = escape(log_text(build))
    return (
        f'<article id="/builds/{build.number}"><h2>Build {build.number} {_status(build)}</h2>'
        f"<dl>{items}</dl><h3>Log</h3><pre>{log or 'Nothing yet.'}</pre></article>\n"
    )


def _status(build: Build) -> str:
    return f'<span class="{build.status}">{build.status}</span>'


def _clock(at: float) -> str:
    return iso(at)[:19].replace("T", " ") + " UTC"


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
main:not(:has(:target))::before { content: "Choose a build."; color: var(--dim) }
article { display: none; scroll-margin-top: 10rem }
article:target { display: block }
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
