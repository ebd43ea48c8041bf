"""The endpoints of Apify's API: an ``Owner`` has the token, ``Anyone`` may have none, but not a wrong one."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BeforeValidator
from starlette.exceptions import HTTPException

from airflow_provider_apify.emulator.call import ApiError, Call, not_found
from airflow_provider_apify.emulator.control import control
from airflow_provider_apify.emulator.log import log_lines, next_line_in
from airflow_provider_apify.emulator.objects import (
    DEFAULT_BUILD_TAG,
    MAX_PAGE,
    actor_item,
    actor_object,
    build_item,
    build_object,
    limits_object,
    page,
    user_object,
    version_object,
    version_objects,
)
from airflow_provider_apify.emulator.pages import pages
from airflow_provider_apify.emulator.signals import first_of
from airflow_provider_apify.emulator.world import BUILD_MEMORY_MBYTES, Build, NoMemory, Registered

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_VERSION = r"^([0-9]|[1-9][0-9])\.([0-9]|[1-9][0-9])$"


def _flag(value: Any) -> Any:
    """Apify's booleans; anything else is left for the validation to refuse."""
    return {"true": True, "1": True, "false": False, "0": False}.get(value, value if isinstance(value, bool) else None)


async def _anyone(request: Request) -> Call:
    call: Call = request.state.call
    if call.token is not None and not call.record.authorized:
        raise ApiError(401, "user-or-token-not-found", "User was not found or authentication token is not valid")
    return call


async def _owner(call: Annotated[Call, Depends(_anyone)]) -> Call:
    if call.token is None:
        raise ApiError(401, "token-not-provided", "Authentication token was not provided")
    return call


Anyone = Annotated[Call, Depends(_anyone)]
Owner = Annotated[Call, Depends(_owner)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Count = Annotated[int, Query(ge=0)]
Wait = Annotated[float, Query(alias="waitForFinish", ge=0)]

actors = APIRouter()
builds = APIRouter(prefix="/v2")


@actors.get("")
async def list_actors(call: Owner, offset: Count = 0, limit: Count = MAX_PAGE, desc: Flag = False) -> Response:
    everyone = list(call.world.actors.values())
    return _data(page(everyone, actor_item, offset=offset, limit=limit, desc=desc))


@actors.get("/{actor_id}")
async def get_actor(call: Owner, actor_id: str) -> Response:
    return _data(actor_object(call.actor(actor_id)))


@actors.put("/{actor_id}")
async def update_actor(call: Owner, request: Request, actor_id: str) -> Response:
    owner = call.actor(actor_id)
    try:
        body = await request.json()
    except ValueError:
        body = None
    tags = (body.get("taggedBuilds") or {}) if isinstance(body, dict) else None
    if not isinstance(tags, dict):
        raise ApiError(400, "invalid-request", "The request body must be a JSON object, and so must taggedBuilds")
    tagged = {tag: _taggable(call, owner, wanted) for tag, wanted in tags.items() if wanted is not None}
    owner.tagged = {tag: build for tag, build in owner.tagged.items() if tag not in tags} | tagged
    owner.title = body.get("title", owner.title)
    owner.description = body.get("description", owner.description)
    owner.modified_at = time.time()
    return _data(actor_object(owner))


@actors.get("/{actor_id}/versions")
async def list_versions(call: Owner, actor_id: str) -> Response:
    versions = version_objects(call.actor(actor_id))
    return _data({"total": len(versions), "items": versions})


@actors.get("/{actor_id}/versions/{number}")
async def get_version(call: Owner, actor_id: str, number: str) -> Response:
    versions = call.actor(actor_id).actor.versions
    if number not in versions:
        raise not_found("Actor version")
    return _data(version_object(number, versions[number]))


@actors.post("/{actor_id}/builds")
async def start_build(
    call: Owner,
    request: Request,
    actor_id: str,
    version: Annotated[str, Query(pattern=_VERSION)],
    tag: str | None = None,
    use_cache: Annotated[Flag, Query(alias="useCache")] = False,
    beta_packages: Annotated[Flag, Query(alias="betaPackages")] = False,
    wait: Wait = 0,
) -> Response:
    owner = call.actor(actor_id)
    if version not in owner.actor.versions:
        raise not_found(f"Actor version {version}")
    rewritten = call.view_fault("user-agent")
    user_agent = rewritten.value if rewritten else call.record.headers.get("user-agent")
    try:
        build = call.world.start_build(
            owner,
            version,
            tag=tag,
            use_cache=use_cache,
            beta_packages=beta_packages,
            client_ip=request.client.host if request.client else "",
            user_agent=user_agent or "",
        )
    except NoMemory:
        raise _memory_error(call) from None
    await call.wait_for(build, wait)
    return _build_answer(call, build, status=201)


@actors.get("/{actor_id}/builds")
async def list_actor_builds(
    call: Owner, actor_id: str, offset: Count = 0, limit: Count = MAX_PAGE, desc: Flag = False
) -> Response:
    owner = call.actor(actor_id)
    own = [build for build in call.world.builds.values() if build.owner is owner]
    return _build_list(call, own, offset, limit, desc)


@actors.get("/{actor_id}/builds/default")
async def get_default_build(call: Anyone, actor_id: str) -> Response:
    build = call.actor(actor_id).tagged.get(DEFAULT_BUILD_TAG)
    if build is None:
        message = f'Build with tag "{DEFAULT_BUILD_TAG}" was not found. Has the Actor been built already?'
        raise ApiError(404, "unknown-build-tag", message)
    return _build_answer(call, build)


@builds.get("/actor-builds")
async def list_builds(call: Owner, offset: Count = 0, limit: Count = MAX_PAGE, desc: Flag = False) -> Response:
    return _build_list(call, list(call.world.builds.values()), offset, limit, desc)


@actors.get("/{actor_id}/builds/{build_id}")
@builds.get("/actor-builds/{build_id}")
async def get_build(call: Anyone, build_id: str, actor_id: str | None = None, wait: Wait = 0) -> Response:
    await call.wait_for(call.visible_build(build_id, actor_id), wait)
    return _build_answer(call, call.build(build_id))


@actors.post("/{actor_id}/builds/{build_id}/abort")
@builds.post("/actor-builds/{build_id}/abort")
async def abort_build(call: Owner, build_id: str, actor_id: str | None = None) -> Response:
    build = call.build(build_id, actor_id)
    call.world.abort(build)
    return _build_answer(call, build)


@builds.delete("/actor-builds/{build_id}")
async def delete_build(call: Owner, build_id: str) -> Response:
    build = call.build(build_id)
    if build.unfinished:
        raise ApiError(400, "deleting-unfinished-build", "Build that has not finished cannot be deleted")
    if build in build.owner.tagged.values():
        raise ApiError(400, "deleting-default-build", "Build that is tagged cannot be deleted")
    call.world.delete(build)
    return Response(status_code=204)


@builds.get("/actor-builds/{build_id}/log")
@builds.get("/logs/{build_id}")
async def get_log(call: Anyone, build_id: str, stream: Flag = False, raw: Flag = False) -> Response:
    build = call.visible_build(build_id)
    if stream:
        return StreamingResponse(_follow(call, build, raw), media_type="text/plain")
    return PlainTextResponse(_text(log_lines(build, time.time()), raw))


@builds.get("/users/me")
async def get_user(call: Owner) -> Response:
    return _data(user_object(call.world))


@builds.get("/users/me/limits")
async def get_limits(call: Owner) -> Response:
    return _data(limits_object(call.world, time.time()))


def _taggable(call: Call, owner: Registered, wanted: Any) -> Build:
    build = call.world.builds.get(str(wanted.get("buildId"))) if isinstance(wanted, dict) else None
    if build is None or build.owner is not owner or build.status != "SUCCEEDED":
        raise ApiError(400, "invalid-build", "Only a succeeded build of this Actor can be tagged")
    return build


def _build_answer(call: Call, build: Build, *, status: int = 200) -> Response:
    false_status = _false_status(call, [build])
    return _data(build_object(build, authorized=call.record.authorized, status=false_status), status)


def _build_list(call: Call, listed: list[Build], offset: int, limit: int, desc: bool) -> Response:
    stale = call.view_fault("stale-list", lambda fault: any(build.age < fault.seconds for build in listed))
    if stale:
        listed = [build for build in listed if build.age >= stale.seconds]
    false_status = _false_status(call, listed)

    def show(build: Build) -> dict[str, Any]:
        return build_item(build, full=call.world.full_lists, status=false_status if build.unfinished else None)

    return _data(page(listed, show, offset=offset, limit=limit, desc=desc))


def _false_status(call: Call, shown: Iterable[Build]) -> str | None:
    fault = call.view_fault("unknown-status", lambda _: any(build.unfinished for build in shown))
    return fault.value if fault else None


def _memory_error(call: Call) -> ApiError:
    used = len(call.world.unfinished) * BUILD_MEMORY_MBYTES
    return ApiError(
        402,
        "actor-memory-limit-exceeded",
        f"By launching this job you will exceed the memory limit of {call.world.memory_mbytes}MB for all your Actor "
        f"runs and builds (currently used: {used}MB, requested: {BUILD_MEMORY_MBYTES}MB).",
    )


async def _follow(call: Call, build: Build, raw: bool) -> AsyncIterator[str]:
    gone = call.connection.gone
    sent = 0
    while True:
        now = time.time()
        lines = log_lines(build, now)
        if new := lines[sent:]:
            yield _text(new, raw)
            sent = len(lines)
        elif build.over.fired or gone.fired:
            return
        else:
            await first_of(build.over, gone, timeout=next_line_in(build, now))


def _text(lines: Iterable[str], raw: bool) -> str:
    text = "".join(lines)
    return text if raw else _ANSI.sub("", text)


def _data(data: dict[str, Any], status: int = 200) -> Response:
    return JSONResponse({"data": data}, status)


async def _refuse(request: Request, error: Exception) -> Response:
    headers = None
    if isinstance(error, ApiError):
        status, kind, message = error.status, error.kind, error.message
    elif isinstance(error, RequestValidationError):
        first = error.errors()[0]
        status, kind, message = 400, "invalid-parameter", f"{first['loc'][-1]}: {first['msg']}"
    else:
        assert isinstance(error, HTTPException)
        status, message, headers = error.status_code, str(error.detail), error.headers
        kind = {404: "page-not-found", 405: "method-not-allowed"}.get(status, "invalid-request")
    return JSONResponse({"error": {"type": kind, "message": message}}, status, headers)


app = FastAPI(openapi_url=None, redirect_slashes=False)
app.include_router(actors, prefix="/v2/acts")
app.include_router(actors, prefix="/v2/actors")
app.include_router(builds)
app.include_router(control)
app.include_router(pages)
for _error in (ApiError, RequestValidationError, HTTPException):
    app.add_exception_handler(_error, _refuse)
