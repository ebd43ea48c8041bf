"""Builds: what one is besides a job, how the API shows it, and the endpoints."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from airflow_provider_apify.emulator import view_faults
from airflow_provider_apify.emulator.actors import DEFAULT_BUILD_TAG, ActorState, found_actor, version_object
from airflow_provider_apify.emulator.answers import MAX_PAGE, ApiError, not_found
from airflow_provider_apify.emulator.call import Call
from airflow_provider_apify.emulator.job_endpoints import answered, found, listed, visible
from airflow_provider_apify.emulator.jobs import Job, Jobs
from airflow_provider_apify.emulator.parameters import Anyone, Count, Flag, Wait, WithToken
from airflow_provider_apify.emulator.users import USER_ID

if TYPE_CHECKING:
    from airflow_provider_apify.emulator.world import World

_NUMBER = re.compile(r"\d+\.\d+\.\d+")
_VERSION = r"^([0-9]|[1-9][0-9])\.([0-9]|[1-9][0-9])$"


@dataclass(eq=False, kw_only=True)
class Build(Job):
    """One build; ``tag`` is what it gets if it succeeds, ``version_tag`` what its version says."""

    memory_mbytes: int = 4096
    version: str
    counter: int
    tag: str | None
    version_tag: str | None
    use_cache: bool
    beta_packages: bool

    @property
    def number(self) -> str:
        return f"{self.version}.{self.counter}"

    @property
    def number_int(self) -> int:
        major, minor = self.version.split(".")
        return int(major) * 10_000_000 + int(minor) * 100_000 + self.counter

    @property
    def log_steps(self) -> Sequence[tuple[float, str]]:
        return _STEPS if self.outcome == "FAILED" else _STEPS + _LAST_STEPS

    @property
    def log_ending(self) -> Sequence[str]:
        return _ENDINGS[self.status]


class Builds(Jobs[Build]):
    """All builds of the account."""

    noun = "build"

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def start(
        self,
        actor_state: ActorState,
        version: str,
        *,
        tag: str | None,
        use_cache: bool,
        beta_packages: bool,
        client_ip: str,
        user_agent: str,
    ) -> Build:
        """
        Start a build; it goes on by itself.

        :raises KeyError: the Actor has no such version.
        :raises ApiError: the account has no memory left for it.
        """
        actor, settings = actor_state.actor, self._world.settings
        version_tag = actor.versions[version]
        self._world.check_memory(Build.memory_mbytes)
        counter = actor_state.counters[version] = actor_state.counters.get(version, 0) + 1
        build = Build(
            id=self._world.new_id(),
            actor_state=actor_state,
            version=version,
            counter=counter,
            tag=tag or version_tag,
            version_tag=version_tag,
            use_cache=use_cache,
            beta_packages=beta_packages,
            client_ip=client_ip,
            user_agent=user_agent,
            outcome=actor.outcome,
            seconds=settings.build_seconds * actor.slowness if actor.build_seconds is None else actor.build_seconds,
            clock_offset=settings.clock_offset,
        )
        self.begin(build)
        return build

    def to_run(self, actor_state: ActorState, wanted: str) -> Build:
        """
        Give the build of an Actor with this tag or number.

        :raises ApiError: there is none, or it cannot be run.
        """
        if wanted in actor_state.tagged:
            return actor_state.tagged[wanted]
        if wanted in actor_state.tags_before:
            return self._built_before(actor_state, actor_state.tags_before[wanted])
        if not _NUMBER.fullmatch(wanted):
            message = f'Build with tag "{wanted}" was not found. Has the Actor been built already?'
            raise ApiError(403, "unknown-build-tag", message)
        own = [build for build in self.values() if build.actor_state is actor_state]
        for build in (*own, *actor_state.built_before.values()):
            if build.number == wanted and build.status != "SUCCEEDED":
                raise ApiError(403, "invalid-build", f"Build {wanted} has not finished or was not successful")
            if build.number == wanted:
                return build
        raise ApiError(403, "build-not-found", f"Build {wanted} was not found")

    def ended(self, build: Build) -> None:
        """Move the tag of a build that has succeeded."""
        if build.status == "SUCCEEDED" and build.tag:
            if seconds := self._world.settings.tag_seconds:
                asyncio.get_running_loop().call_later(seconds, self._move_tag, build, build.tag)
            else:
                self._move_tag(build, build.tag)

    def set_tags(self, actor_state: ActorState, tagged: dict[str, Build | None]) -> None:
        """Give tags to builds, or to none, all at once, as soon as tags move."""

        def set_them() -> None:
            for tag, build in tagged.items():
                actor_state.tag(tag, build)

        if seconds := self._world.settings.tag_seconds:
            asyncio.get_running_loop().call_later(seconds, set_them)
        else:
            set_them()

    def delete(self, build: Build) -> None:
        """Forget a build in whatever state, with the tags that point to it."""
        tagged = build.actor_state.tagged
        build.actor_state.tagged = {tag: holder for tag, holder in tagged.items() if holder is not build}
        super().delete(build)

    def _move_tag(self, build: Build, tag: str) -> None:
        """Give the tag to a build that has succeeded, unless it is gone or one that ended later has it."""
        holder = build.actor_state.tagged.get(tag)
        if build.id in self and (holder is None or (holder.finished_at or 0) <= (build.finished_at or 0)):
            build.actor_state.tag(tag, build)

    def _built_before(self, actor_state: ActorState, version: str) -> Build:
        """Give the build of a version that was there before the emulator started; made when it is first needed."""
        if version not in actor_state.built_before:
            counter = actor_state.counters[version] = actor_state.counters.get(version, 0) + 1
            tag, at = actor_state.actor.versions[version], actor_state.created_at
            actor_state.built_before[version] = Build(
                id=self._world.new_id(),
                actor_state=actor_state,
                version=version,
                counter=counter,
                tag=tag,
                version_tag=tag,
                use_cache=False,
                beta_packages=False,
                client_ip="",
                user_agent="",
                outcome="SUCCEEDED",
                seconds=0.0,
                clock_offset=0.0,
                started_at=at,
                began_at=at,
                finished_at=at,
                status="SUCCEEDED",
            )
        return actor_state.built_before[version]


#: Below ``/v2/acts`` and ``/v2/actors``.
actor_router = APIRouter()
router = APIRouter(prefix="/v2/actor-builds")


@actor_router.post("/{actor_id}/builds")
async def start_build(
    call: WithToken,
    request: Request,
    actor_id: str,
    version: Annotated[str, Query(pattern=_VERSION)],
    tag: str | None = None,
    use_cache: Annotated[Flag, Query(alias="useCache")] = False,
    beta_packages: Annotated[Flag, Query(alias="betaPackages")] = False,
    wait: Wait = 0,
) -> Response:
    actor_state = found_actor(call, actor_id)
    if version not in actor_state.actor.versions:
        raise not_found(f"Actor version {version}")
    build = call.world.builds.start(
        actor_state,
        version,
        tag=tag,
        use_cache=use_cache,
        beta_packages=beta_packages,
        client_ip=request.client.host if request.client else "",
        user_agent=view_faults.user_agent(call),
    )
    await call.wait_for(build, wait)
    return _answer(call, build, status=201)


@actor_router.get("/{actor_id}/builds")
async def list_actor_builds(
    call: WithToken, actor_id: str, offset: Count = 0, limit: Count = MAX_PAGE, desc: Flag = False
) -> Response:
    actor_state = found_actor(call, actor_id)
    own = [build for build in call.world.builds.values() if build.actor_state is actor_state]
    return _list(call, own, offset, limit, desc)


@actor_router.get("/{actor_id}/builds/default")
async def get_default_build(call: Anyone, actor_id: str) -> Response:
    build = found_actor(call, actor_id).tagged.get(DEFAULT_BUILD_TAG)
    if build is None:
        message = f'Build with tag "{DEFAULT_BUILD_TAG}" was not found. Has the Actor been built already?'
        raise ApiError(404, "unknown-build-tag", message)
    return _answer(call, build)


@router.get("")
async def list_builds(call: WithToken, offset: Count = 0, limit: Count = MAX_PAGE, desc: Flag = False) -> Response:
    return _list(call, list(call.world.builds.values()), offset, limit, desc)


@actor_router.get("/{actor_id}/builds/{build_id}")
@router.get("/{build_id}")
async def get_build(call: Anyone, build_id: str, actor_id: str | None = None, wait: Wait = 0) -> Response:
    await call.wait_for(visible(call, call.world.builds, build_id, actor_id), wait)
    return _answer(call, found(call, call.world.builds, build_id))


@actor_router.post("/{actor_id}/builds/{build_id}/abort")
@router.post("/{build_id}/abort")
async def abort_build(call: WithToken, build_id: str, actor_id: str | None = None) -> Response:
    build = found(call, call.world.builds, build_id, actor_id)
    call.world.builds.abort(build)
    return _answer(call, build)


@router.delete("/{build_id}")
async def delete_build(call: WithToken, build_id: str) -> Response:
    build = found(call, call.world.builds, build_id)
    if build.unfinished:
        raise ApiError(400, "deleting-unfinished-build", "Build that has not finished cannot be deleted")
    if build in build.actor_state.tagged.values():
        raise ApiError(400, "deleting-default-build", "Build that is tagged cannot be deleted")
    call.world.builds.delete(build)
    return Response(status_code=204)


def _answer(call: Call, build: Build, *, status: int = 200) -> Response:
    return answered(call, build, build_object, status=status)


def _list(call: Call, builds: list[Build], offset: int, limit: int, desc: bool) -> Response:
    return listed(call, builds, _build_item, offset=offset, limit=limit, desc=desc)


def build_object(build: Build, *, authorized: bool = True, status: str | None = None) -> dict[str, Any]:
    """A build; without a token its cost is left out. ``status`` is shown instead of the real one."""
    units, usd = build.cost
    seconds = None if build.finished_at is None else build.finished_at - build.started_at
    version = version_object(build.version, build.version_tag)
    shown: dict[str, Any] = {
        "id": build.id,
        "actId": build.actor_state.id,
        "userId": USER_ID,
        "startedAt": build.shown_start,
        "finishedAt": build.shown_end,
        "status": status or build.status,
        "meta": {"origin": "API", "clientIp": build.client_ip, "userAgent": build.user_agent},
        "stats": None
        if seconds is None
        else {
            "durationMillis": round(seconds * 1000),
            "runTimeSecs": round(seconds, 3),
            "computeUnits": units,
            "imageSizeBytes": 287_965_321 if build.status == "SUCCEEDED" else None,
        },
        "options": {
            "useCache": build.use_cache,
            "betaPackages": build.beta_packages,
            "memoryMbytes": build.memory_mbytes,
            "diskMbytes": 2 * build.memory_mbytes,
        },
        "usage": None if seconds is None else {"ACTOR_COMPUTE_UNITS": units},
        "usageUsd": None if seconds is None else {"ACTOR_COMPUTE_UNITS": usd},
        "usageTotalUsd": None if seconds is None else usd,
        "inputSchema": None,
        "readme": None,
        "buildNumber": build.number,
        "actVersion": {name: version[name] for name in ("sourceType", "versionNumber", "gitRepoUrl")},
        "actorDefinition": None,
    }
    if build.version_tag is not None:
        shown["actVersion"]["buildTag"] = build.version_tag
    if build.status == "SUCCEEDED":
        shown |= _definition(build)
    if not authorized:
        del shown["usageUsd"], shown["usageTotalUsd"]
    return shown


def _build_item(build: Build, *, full: bool, status: str | None) -> dict[str, Any]:
    """A build as an item of a list: what recorded lists show, or in ``full`` all that the definition allows."""
    shown = build_object(build, status=status)
    item = {name: shown[name] for name in ("id", "status", "startedAt", "buildNumber")}
    item |= {"usageTotalUsd": build.cost[1], "meta": {"origin": "API"}}
    if full:
        item |= {name: shown[name] for name in ("actId", "userId", "finishedAt", "meta")}
        item["buildNumberInt"] = build.number_int
    return item


def _definition(build: Build) -> dict[str, Any]:
    name = build.actor_state.actor.name
    readme = f"# {name}\n\nAn Actor of the emulator.\n"
    schema = build.actor_state.actor.input_schema
    definition = {"actorSpecification": 1, "name": name, "version": build.version, "readme": readme}
    text = None if schema is None else json.dumps(schema)
    return {"readme": readme, "inputSchema": text, "actorDefinition": definition}


_STEPS = (
    (0.10, "ACTOR: Pulling Docker image of the builder."),
    (0.15, "ACTOR: Extracting Actor documentation from README.md"),
    (0.20, "ACTOR: Building Docker image."),
    (0.25, "Step 1/6 : FROM apify/actor-node:20"),
    (0.30, "Step 2/6 : COPY package*.json ./"),
    (0.40, "Step 3/6 : RUN npm install --omit=dev --omit=optional"),
    (0.50, "\x1b[91mnpm warn deprecated inflight@1.0.6: This module is not supported, and leaks memory.\x1b[0m"),
)
_LAST_STEPS = (
    (0.70, "added 187 packages in 9s"),
    (0.75, "Step 4/6 : COPY . ./"),
    (0.80, "Step 5/6 : ENV APIFY_LOG_LEVEL=INFO"),
    (0.85, "Step 6/6 : CMD npm start --silent"),
    (0.90, "ACTOR: Pushing Docker image to repository."),
)
_ENDINGS = {
    "SUCCEEDED": ("ACTOR: Build finished.",),
    "FAILED": (
        "npm ERR! code E404",
        "npm ERR! 404 Not Found - left-padd",
        "npm ERR! 404  'left-padd@^1.3.0' is not in this registry.",
        "The command '/bin/sh -c npm install --omit=dev --omit=optional' returned a non-zero code: 1",
        "ACTOR: ERROR: Build failed.",
    ),
    "TIMED-OUT": ("ACTOR: ERROR: Build timed out and was stopped.",),
    "ABORTED": ("ACTOR: Build was aborted.",),
}
