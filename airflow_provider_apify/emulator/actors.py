"""Actors with their versions and tags: what an Actor is, how the API shows it, and the endpoints."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from airflow_provider_apify.emulator.answers import MAX_PAGE, ApiError, iso, not_found, page, success
from airflow_provider_apify.emulator.call import Call
from airflow_provider_apify.emulator.inputs import Input, checked
from airflow_provider_apify.emulator.jobs import check_terminal
from airflow_provider_apify.emulator.parameters import Count, Flag, WithToken
from airflow_provider_apify.emulator.users import USER_ID, USERNAME

if TYPE_CHECKING:
    from airflow_provider_apify.emulator.builds import Build

DEFAULT_BUILD_TAG = "latest"
DEFAULT_RUN_OPTIONS: dict[str, Any] = {
    "build": DEFAULT_BUILD_TAG,
    "timeoutSecs": 3600,
    "memoryMbytes": 1024,
    "restartOnError": False,
}


@dataclass(frozen=True)
class Actor:
    """
    An Actor to build and to run.

    :param name: its name, without the user name.
    :param versions: version number to that version's build tag (``None``: no tag).
    :param outcome: the status its builds end with, one of ``TERMINAL_STATUSES``.
    :param build_seconds: how long its builds take, READY included; ``None``: ``slowness`` times the emulator's.
    :param slowness: see ``build_seconds``.
    :param default_build: tag or number of the build that its runs take when they name none.
    :param built_before: whether each version was built before the emulator started, so that it can be run at once.
    :param run_outcome: the status its runs end with.
    :param run_seconds: how long its runs take, READY included; ``None``: ``run_slowness`` times the emulator's.
    :param run_slowness: see ``run_seconds``.
    :param items: how many items a run pushes, unless its input says ``{"items": n}``; half of them while it runs, the
        rest when it succeeds. 0: none, whatever the input says.
    :param input_schema: what input its runs take, as Apify describes it: a JSON schema with ``properties``; ``None``:
        any.
    :param charges: price in US dollars of each event that its runs charge: ``actor-start`` once, any other once for
        each item. Empty: its runs cost what the platform costs.
    :param output: what a run that succeeds writes as record ``OUTPUT``, as JSON; ``None``: nothing.
    """

    name: str
    versions: dict[str, str | None] = field(default_factory=lambda: {"0.0": "latest"})
    outcome: str = "SUCCEEDED"
    build_seconds: float | None = None
    slowness: float = 1.0
    default_build: str = DEFAULT_BUILD_TAG
    built_before: bool = True
    run_outcome: str = "SUCCEEDED"
    run_seconds: float | None = None
    run_slowness: float = 1.0
    items: int = 10
    input_schema: dict[str, Any] | None = None
    charges: dict[str, float] = field(default_factory=dict)
    output: Any = None

    def __post_init__(self) -> None:
        check_terminal(self.outcome)
        check_terminal(self.run_outcome)


@dataclass(eq=False)
class ActorState:
    """
    An Actor with what happened to it. ``tagged`` maps a tag to the build that carries it.

    ``tags_before`` are the tags that builds from before the emulator started still carry, ``built_before`` those of
    them that were asked for, by version. Nothing shows these builds, but they can be run.
    """

    actor: Actor
    id: str
    created_at: float
    modified_at: float
    title: str | None = None
    description: str | None = None
    tagged: dict[str, Build] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    tags_before: dict[str, str] = field(default_factory=dict)
    built_before: dict[str, Build] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.actor.built_before:
            self.tags_before = {tag: version for version, tag in self.actor.versions.items() if tag is not None}

    def tag(self, tag: str, build: Build | None) -> None:
        """Give a tag to a build, or to none."""
        self.tags_before.pop(tag, None)
        self.tagged.pop(tag, None)
        if build is not None:
            self.tagged[tag] = build


_NEEDED_INPUT = {
    "title": "What to scrape",
    "type": "object",
    "schemaVersion": 1,
    "properties": {
        "startUrls": {
            "title": "Start URLs",
            "type": "array",
            "description": "Where to start.",
            "editor": "requestListSources",
            "minItems": 1,
        },
        "items": {"title": "Items", "type": "integer", "description": "How many.", "default": 10, "minimum": 0},
    },
    "required": ["startUrls"],
}

#: Those that there are from the start.
ACTORS = (
    Actor("hello-world"),
    Actor("always-fails", outcome="FAILED"),
    Actor("slow-build", slowness=6.0),
    Actor("times-out", outcome="TIMED-OUT"),
    Actor("two-versions", versions={"0.0": "latest", "1.0": "beta"}),
    Actor("scraper", items=100, output={"status": "done"}),
    Actor("fails-half-way", run_outcome="FAILED"),
    Actor("finds-nothing", items=0),
    Actor("needs-input", input_schema=_NEEDED_INPUT),
    Actor("charges-events", charges={"actor-start": 0.001, "product": 0.01}),
    Actor("slow-run", run_slowness=6.0),
)

#: Below ``/v2/acts`` and ``/v2/actors``.
router = APIRouter()


@router.get("")
async def list_actors(call: WithToken, offset: Count = 0, limit: Count = MAX_PAGE, desc: Flag = False) -> Response:
    everyone = list(call.world.actors.values())
    return success(page(everyone, actor_item, offset=offset, limit=limit, desc=desc))


@router.get("/{actor_id}")
async def get_actor(call: WithToken, actor_id: str) -> Response:
    return success(actor_object(found_actor(call, actor_id)))


@router.put("/{actor_id}")
async def update_actor(call: WithToken, request: Request, actor_id: str) -> Response:
    actor_state = found_actor(call, actor_id)
    try:
        body = await request.json()
    except ValueError:
        body = None
    tags = (body.get("taggedBuilds") or {}) if isinstance(body, dict) else None
    if not isinstance(tags, dict):
        raise ApiError(400, "invalid-request", "The request body must be a JSON object, and so must taggedBuilds")
    tagged = {tag: None if wanted is None else _taggable(call, actor_state, wanted) for tag, wanted in tags.items()}
    call.world.builds.set_tags(actor_state, tagged)
    actor_state.title = body.get("title", actor_state.title)
    actor_state.description = body.get("description", actor_state.description)
    actor_state.modified_at = time.time()
    return success(actor_object(actor_state))


@router.post("/{actor_id}/validate-input")
async def validate_input(call: WithToken, actor_id: str, run_input: Input, build: str = DEFAULT_BUILD_TAG) -> Response:
    actor_state = found_actor(call, actor_id)
    call.world.builds.to_run(actor_state, build)
    checked(run_input, actor_state.actor.input_schema)
    return JSONResponse({"valid": True})


@router.get("/{actor_id}/versions")
async def list_versions(call: WithToken, actor_id: str) -> Response:
    versions = _version_objects(found_actor(call, actor_id))
    return success({"total": len(versions), "items": versions})


@router.get("/{actor_id}/versions/{number}")
async def get_version(call: WithToken, actor_id: str, number: str) -> Response:
    versions = found_actor(call, actor_id).actor.versions
    if number not in versions:
        raise not_found("Actor version")
    return success(version_object(number, versions[number]))


def found_actor(call: Call, actor_id: str) -> ActorState:
    """Give the Actor with this id, ``~name`` or ``username~name``."""
    actor_state = call.world.find_actor(actor_id)
    if actor_state is None:
        raise not_found("Actor")
    return actor_state


def actor_object(actor_state: ActorState) -> dict[str, Any]:
    name = actor_state.actor.name
    return actor_item(actor_state) | {
        "userId": USER_ID,
        "title": actor_state.title or name.replace("-", " ").capitalize(),
        "description": actor_state.description,
        "isPublic": False,
        "isDeprecated": False,
        "deploymentKey": f"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ{actor_state.id} apify@emulator",
        "versions": _version_objects(actor_state),
        "defaultRunOptions": {**DEFAULT_RUN_OPTIONS, "build": actor_state.actor.default_build},
        "exampleRunInput": {"body": '{ "helloWorld": 123 }', "contentType": "application/json; charset=utf-8"},
        "taggedBuilds": {
            tag: {
                "buildId": build.id,
                "buildNumber": build.number,
                "buildNumberInt": build.number_int,
                "finishedAt": build.shown_end,
            }
            for tag, build in actor_state.tagged.items()
        },
    }


def actor_item(actor_state: ActorState) -> dict[str, Any]:
    """An Actor as an item of a list."""
    return {
        "id": actor_state.id,
        "name": actor_state.actor.name,
        "username": USERNAME,
        "createdAt": iso(actor_state.created_at),
        "modifiedAt": iso(actor_state.modified_at),
        "stats": {
            "totalBuilds": sum(actor_state.counters.values()),
            "totalRuns": 0,
            "totalUsers": 1,
            "totalMetamorphs": 0,
        },
    }


def version_object(number: str, tag: str | None) -> dict[str, Any]:
    return {
        "versionNumber": number,
        "sourceType": "GIT_REPO",
        "gitRepoUrl": "https://github.com/apify/actor-quick-start",
        "buildTag": tag,
        "envVars": [],
        "applyEnvVarsToBuild": False,
    }


def _version_objects(actor_state: ActorState) -> list[dict[str, Any]]:
    return [version_object(number, tag) for number, tag in actor_state.actor.versions.items()]


def _taggable(call: Call, actor_state: ActorState, wanted: Any) -> Build:
    build = call.world.builds.get(str(wanted.get("buildId"))) if isinstance(wanted, dict) else None
    if build is None or build.actor_state is not actor_state or build.status != "SUCCEEDED":
        raise ApiError(400, "invalid-build", "Only a succeeded build of this Actor can be tagged")
    return build
