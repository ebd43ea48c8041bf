"""Runs of Actors and tasks: what one is besides a job, how the API shows it, and the endpoints."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AwareDatetime
from starlette.types import Receive, Scope, Send

from airflow_provider_apify.emulator import view_faults
from airflow_provider_apify.emulator.actors import DEFAULT_RUN_OPTIONS, Actor, ActorState, found_actor
from airflow_provider_apify.emulator.answers import MAX_PAGE, ApiError, iso, not_found
from airflow_provider_apify.emulator.builds import Build
from airflow_provider_apify.emulator.call import Call
from airflow_provider_apify.emulator.inputs import Input, RunInput, checked
from airflow_provider_apify.emulator.job_endpoints import answered, found, listed, visible
from airflow_provider_apify.emulator.jobs import ABORTING_SECONDS, Job, Jobs
from airflow_provider_apify.emulator.logs import log_now
from airflow_provider_apify.emulator.parameters import Anyone, Count, Flag, Wait, WithToken
from airflow_provider_apify.emulator.storages import Dataset, KeyValueStore
from airflow_provider_apify.emulator.users import USER_ID

if TYPE_CHECKING:
    from airflow_provider_apify.emulator.world import World

#: How long an Actor that is aborted gracefully goes on; at Apify it may have 30.
GRACEFUL_SECONDS = 2.0
#: The event that a run charges once; it charges any other for each item.
START_EVENT = "actor-start"
#: The least that the cost of a run of an Actor that charges events can be limited to.
MIN_CHARGE_USD = 0.5


@dataclass(frozen=True)
class RunOptions:
    """What a start asks for; ``None``: it does not say."""

    build: str | None = None
    timeout_secs: int | None = None
    memory_mbytes: int | None = None
    max_items: int | None = None
    max_total_charge_usd: float | None = None
    restart_on_error: bool | None = None

    def over(self, others: RunOptions) -> RunOptions:
        """These options, with ``others`` where these do not say."""
        return replace(others, **{name: value for name, value in vars(self).items() if value is not None})


@dataclass(eq=False, kw_only=True)
class Run(Job):
    """
    One run. ``to_push`` is how many items it is to push in all, ``pushed`` how many it has.

    ``task_id`` is the task's that it was started by, if any. The cost of what it charges is behind until
    ``cost_seconds`` after its end.
    """

    build: Build
    options: RunOptions
    input_bytes: int
    dataset: Dataset
    key_value_store: KeyValueStore
    request_queue_id: str
    to_push: int
    cost_seconds: float
    task_id: str | None = None
    pushed: int = 0
    resurrections: int = 0

    @property
    def log_steps(self) -> Sequence[tuple[float, str]]:
        return _STEPS

    @property
    def log_ending(self) -> Sequence[str]:
        return _ENDINGS[self.status]

    @property
    def charged(self) -> dict[str, int]:
        """How often it has charged each event."""
        prices = self.actor_state.actor.charges
        return {event: 1 if event == START_EVENT else self.pushed for event in prices}

    @property
    def accounted(self) -> dict[str, int]:
        """How many of the charged events are in its cost."""
        if self.finished_at is not None and time.time() - self.finished_at >= self.cost_seconds:
            return self.charged
        return {event: count if event == START_EVENT else 0 for event, count in self.charged.items()}

    @property
    def cost(self) -> tuple[float, float]:
        """Compute units and US dollars; who is charged for events does not pay for the units."""
        units, usd = super().cost
        prices = self.actor_state.actor.charges
        return units, sum(prices[event] * count for event, count in self.accounted.items()) if prices else usd

    @property
    def status_message(self) -> str | None:
        """What it says of itself: how far it is, or how it has ended."""
        if self.status == "READY":
            return None
        return _MESSAGES.get(self.status, _RUNNING).format(run=self)


class Runs(Jobs[Run]):
    """All runs of the account."""

    noun = "run"

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def start(
        self,
        actor_state: ActorState,
        options: RunOptions,
        run_input: RunInput,
        *,
        client_ip: str,
        user_agent: str,
        task_id: str | None = None,
    ) -> Run:
        """
        Start a run; it goes on by itself.

        :raises ApiError: its build cannot be run, its input or its cost limit is refused, or the account has no room.
        """
        world, actor = self._world, actor_state.actor
        options = options.over(replace(DEFAULT_OPTIONS, build=actor.default_build))
        build = world.builds.to_run(actor_state, str(options.build))
        _check_charge(actor, options.max_total_charge_usd)
        run_input = checked(run_input, actor.input_schema)
        memory_mbytes = options.memory_mbytes or 0
        world.check_slots()
        world.check_memory(memory_mbytes)
        run = Run(
            id=world.new_id(),
            actor_state=actor_state,
            client_ip=client_ip,
            user_agent=user_agent,
            memory_mbytes=memory_mbytes,
            clock_offset=world.settings.clock_offset,
            build=build,
            options=options,
            input_bytes=len(run_input.body),
            dataset=world.datasets.create(),
            key_value_store=world.key_value_stores.create(),
            request_queue_id=world.new_id(),
            to_push=_items_to_push(actor, options, run_input),
            cost_seconds=world.settings.cost_seconds,
            task_id=task_id,
            **self._course(actor, options),
        )
        if run_input.body:
            run.key_value_store.put("INPUT", run_input.body, run_input.content_type)
        self.begin(run)
        return run

    def resurrect(self, run: Run, options: RunOptions) -> None:
        """
        Let a run that has ended run again, with the same storages.

        :raises ApiError: it has not ended, its build cannot be run, or the account has no room for it.
        """
        world = self._world
        if run.unfinished:
            raise ApiError(400, "invalid-request", "Actor run that has not finished cannot be resurrected")
        if options.build is not None:
            run.build = world.builds.to_run(run.actor_state, options.build)
        options = options.over(run.options)
        world.check_slots()
        world.check_memory(options.memory_mbytes or 0)
        run.options, run.memory_mbytes = options, options.memory_mbytes or 0
        course = self._course(run.actor_state.actor, options)
        run.outcome, run.seconds = course["outcome"], course["seconds"]
        run.log_before = log_now(run)
        run.resurrections += 1
        self.begin_again(run)

    def running(self, run: Run) -> None:
        """Push the first half of the items."""
        self._push(run, run.to_push // 2)

    def ended(self, run: Run) -> None:
        """Push the rest of the items and write the output, if it has succeeded."""
        if run.status == "SUCCEEDED":
            self._push(run, run.to_push)
            output = run.actor_state.actor.output
            if output is not None:
                run.key_value_store.put("OUTPUT", json.dumps(output).encode(), "application/json; charset=utf-8")

    def _push(self, run: Run, until: int) -> None:
        run.dataset.push(_item(number) for number in range(run.pushed, until))
        run.pushed = max(run.pushed, until)

    def _course(self, actor: Actor, options: RunOptions) -> dict[str, Any]:
        """How a run ends and after how many seconds: Apify stops it when its time is over."""
        settings = self._world.settings
        seconds = settings.run_seconds * actor.run_slowness if actor.run_seconds is None else actor.run_seconds
        if options.timeout_secs and options.timeout_secs < seconds:
            return {"outcome": "TIMED-OUT", "seconds": float(options.timeout_secs)}
        return {"outcome": actor.run_outcome, "seconds": seconds}


DEFAULT_OPTIONS = RunOptions(
    build=DEFAULT_RUN_OPTIONS["build"],
    timeout_secs=DEFAULT_RUN_OPTIONS["timeoutSecs"],
    memory_mbytes=DEFAULT_RUN_OPTIONS["memoryMbytes"],
)


def _check_charge(actor: Actor, most_usd: float | None) -> None:
    least_usd = MIN_CHARGE_USD if actor.charges else 0.01
    if most_usd is not None and most_usd < least_usd:
        message = f"Maximum cost per run is less than the allowed minimum of ${least_usd:g}"
        raise ApiError(400, "max-total-charge-usd-below-minimum", message)


def _items_to_push(actor: Actor, options: RunOptions, run_input: RunInput) -> int:
    """How many items a run pushes: as many as its input or its Actor says, as far as the money goes."""
    wanted = run_input.fields.get("items")
    items = wanted if type(wanted) is int and actor.items else actor.items
    price = sum(usd for event, usd in actor.charges.items() if event != START_EVENT)
    if options.max_total_charge_usd is None or not price:
        return items
    left = options.max_total_charge_usd - actor.charges.get(START_EVENT, 0.0)
    return min(items, int(left / price))


async def _options(
    build: str | None = None,
    timeout: Count | None = None,
    memory: int | None = None,
    max_items: Annotated[int | None, Query(alias="maxItems")] = None,
    max_total_charge_usd: Annotated[float | None, Query(alias="maxTotalChargeUsd")] = None,
    restart_on_error: Annotated[Flag | None, Query(alias="restartOnError")] = None,
) -> RunOptions:
    if memory is not None and memory not in _MEMORY_MBYTES:
        raise ApiError(400, "invalid-value", f"Invalid memory {memory}: it must be a power of 2 from 128 to 32768")
    if max_items is not None and max_items <= 0:
        raise ApiError(400, "max-items-must-be-greater-than-zero", "Maximum charged results must be greater than zero")
    return RunOptions(build, timeout, memory, max_items, max_total_charge_usd, restart_on_error)


Options = Annotated[RunOptions, Depends(_options)]


@dataclass
class ListFilters:
    """What a list leaves out; times are Apify's, statuses are separated by commas."""

    status: str | None
    started_after: AwareDatetime | None
    started_before: AwareDatetime | None

    def allow(self, run: Run) -> bool:
        at = run.shown_start_at
        return (
            (not self.status or run.status in self.status.split(","))
            and (self.started_after is None or at >= self.started_after.timestamp())
            and (self.started_before is None or at <= self.started_before.timestamp())
        )


def _filters(
    status: str | None = None,
    started_after: Annotated[AwareDatetime | None, Query(alias="startedAfter")] = None,
    started_before: Annotated[AwareDatetime | None, Query(alias="startedBefore")] = None,
) -> ListFilters:
    return ListFilters(status, started_after, started_before)


Filters = Annotated[ListFilters, Depends(_filters)]

#: Below ``/v2/acts`` and ``/v2/actors``.
actor_router = APIRouter()
router = APIRouter(prefix="/v2/actor-runs")


@actor_router.post("/{actor_id}/runs")
async def start_run(
    call: WithToken, request: Request, actor_id: str, options: Options, run_input: Input, wait: Wait = 0
) -> Response:
    run = call.world.runs.start(found_actor(call, actor_id), options, run_input, **starter(call, request))
    await call.wait_for(run, wait)
    return answer(call, run, status=201)


@actor_router.get("/{actor_id}/runs")
async def list_actor_runs(
    call: WithToken,
    actor_id: str,
    filters: Filters,
    offset: Count = 0,
    limit: Count = MAX_PAGE,
    desc: Flag = False,
) -> Response:
    actor_state = found_actor(call, actor_id)
    own = [run for run in call.world.runs.values() if run.actor_state is actor_state and filters.allow(run)]
    return list_answer(call, own, offset, limit, desc)


@actor_router.get("/{actor_id}/runs/last")
async def get_last_run(
    call: WithToken, actor_id: str, status: str | None = None, origin: str | None = None, wait: Wait = 0
) -> Response:
    actor_state = found_actor(call, actor_id)
    own = [run for run in call.world.runs.values() if run.actor_state is actor_state]
    run = last(own, status, origin)
    await call.wait_for(run, wait)
    return answer(call, run)


@actor_router.api_route("/{actor_id}/runs/last/{rest:path}", methods=["GET", "POST", "PUT", "DELETE"])
async def below_last_run(
    call: WithToken,
    request: Request,
    actor_id: str,
    rest: str,
    status: str | None = None,
    origin: str | None = None,
) -> Response:
    actor_state = found_actor(call, actor_id)
    own = [run for run in call.world.runs.values() if run.actor_state is actor_state]
    return Elsewhere(request, below(last(own, status, origin), rest))


@router.get("")
async def list_runs(
    call: WithToken,
    filters: Filters,
    offset: Count = 0,
    limit: Count = MAX_PAGE,
    desc: Flag = False,
) -> Response:
    return list_answer(call, [run for run in call.world.runs.values() if filters.allow(run)], offset, limit, desc)


@actor_router.get("/{actor_id}/runs/{run_id}")
@router.get("/{run_id}")
async def get_run(call: Anyone, run_id: str, actor_id: str | None = None, wait: Wait = 0) -> Response:
    await call.wait_for(visible(call, call.world.runs, run_id, actor_id), wait)
    return answer(call, found(call, call.world.runs, run_id))


@actor_router.post("/{actor_id}/runs/{run_id}/abort")
@router.post("/{run_id}/abort")
async def abort_run(call: WithToken, run_id: str, actor_id: str | None = None, gracefully: Flag = False) -> Response:
    run = found(call, call.world.runs, run_id, actor_id)
    gracefully = gracefully and run.status == "RUNNING"
    call.world.runs.abort(run, seconds=GRACEFUL_SECONDS if gracefully else ABORTING_SECONDS)
    return answer(call, run)


@actor_router.post("/{actor_id}/runs/{run_id}/resurrect")
@router.post("/{run_id}/resurrect")
async def resurrect_run(call: WithToken, run_id: str, options: Options, actor_id: str | None = None) -> Response:
    run = found(call, call.world.runs, run_id, actor_id)
    call.world.runs.resurrect(run, options)
    return answer(call, run)


@router.api_route("/{run_id}/dataset{rest:path}", methods=["GET", "POST", "PUT", "DELETE"])
async def below_dataset(call: Anyone, request: Request, run_id: str, rest: str) -> Response:
    return Elsewhere(request, below(visible(call, call.world.runs, run_id), f"dataset{rest}"))


@router.api_route("/{run_id}/key-value-store{rest:path}", methods=["GET", "POST", "PUT", "DELETE"])
async def below_key_value_store(call: Anyone, request: Request, run_id: str, rest: str) -> Response:
    return Elsewhere(request, below(visible(call, call.world.runs, run_id), f"key-value-store{rest}"))


@router.delete("/{run_id}")
async def delete_run(call: WithToken, run_id: str) -> Response:
    run = found(call, call.world.runs, run_id)
    if run.unfinished:
        raise ApiError(400, "cannot-remove-running-run", "Actor run that has not finished cannot be removed")
    call.world.runs.delete(run)
    return Response(status_code=204)


class Elsewhere(Response):
    """The answer that the same request to another path gets."""

    def __init__(self, request: Request, path: str) -> None:
        super().__init__()
        self._request, self._path = request, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = self._request.scope
        names = ("type", "http_version", "method", "scheme", "query_string", "headers", "client", "server", "state")
        plain = {name: asked[name] for name in names if name in asked}
        path = {"path": self._path, "raw_path": quote(self._path).encode(), "root_path": ""}
        await self._request.app({**plain, **path}, receive, send)


def below(run: Run, rest: str) -> str:
    """Give the path at which the API has by itself what is at ``rest`` below a run."""
    name, slash, further = rest.partition("/")
    if name == "dataset":
        return f"/v2/datasets/{run.dataset.id}{slash}{further}"
    if name == "key-value-store":
        return f"/v2/key-value-stores/{run.key_value_store.id}{slash}{further}"
    return f"/v2/actor-runs/{run.id}/{rest}"


def starter(call: Call, request: Request) -> dict[str, str]:
    """Who starts a run."""
    client_ip = request.client.host if request.client else ""
    return {"client_ip": client_ip, "user_agent": view_faults.user_agent(call)}


def last(runs: Sequence[Run], status: str | None, origin: str | None) -> Run:
    """Give the newest run with this status and origin."""
    for run in reversed(runs):
        if status in (None, run.status) and origin in (None, _ORIGIN):
            return run
    raise not_found("Actor run")


def answer(call: Call, run: Run, *, status: int = 200) -> Response:
    return answered(call, run, run_object, status=status)


def list_answer(call: Call, runs: list[Run], offset: int, limit: int, desc: bool) -> Response:
    return listed(call, runs, _run_item, offset=offset, limit=limit, desc=desc)


def run_object(run: Run, *, authorized: bool = True, status: str | None = None) -> dict[str, Any]:
    """A run; without a token its cost is left out. ``status`` is shown instead of the real one."""
    units, usd = run.cost
    options = run.options
    shown: dict[str, Any] = {
        "id": run.id,
        "actId": run.actor_state.id,
        "userId": USER_ID,
        "startedAt": run.shown_start,
        "finishedAt": run.shown_end,
        "status": status or run.status,
        "statusMessage": run.status_message,
        "isStatusMessageTerminal": None if run.unfinished else True,
        "meta": {"origin": _ORIGIN, "clientIp": run.client_ip, "userAgent": run.user_agent},
        "stats": {
            "inputBodyLen": run.input_bytes,
            "migrationCount": 0,
            "rebootCount": 0,
            "restartCount": 0,
            "resurrectCount": run.resurrections,
            "computeUnits": units,
        },
        "options": {
            "build": options.build,
            "timeoutSecs": options.timeout_secs,
            "memoryMbytes": run.memory_mbytes,
            "diskMbytes": 2 * run.memory_mbytes,
        },
        "buildId": run.build.id,
        "buildNumber": run.build.number,
        "generalAccess": "FOLLOW_USER_SETTING",
        "defaultKeyValueStoreId": run.key_value_store.id,
        "defaultDatasetId": run.dataset.id,
        "defaultRequestQueueId": run.request_queue_id,
        "usageTotalUsd": usd,
    }
    if options.max_items is not None:
        shown["options"]["maxItems"] = options.max_items
    if options.max_total_charge_usd is not None:
        shown["options"]["maxTotalChargeUsd"] = options.max_total_charge_usd
    if run.task_id is not None:
        shown["actorTaskId"] = run.task_id
    if run.finished_at is not None:
        seconds = run.finished_at - run.started_at
        shown["stats"] |= {"durationMillis": round(seconds * 1000), "runTimeSecs": round(seconds, 3)}
        shown |= {"usage": {"ACTOR_COMPUTE_UNITS": units}, "usageUsd": {"ACTOR_COMPUTE_UNITS": usd}}
        if run.status in _EXIT_CODES:
            shown["exitCode"] = _EXIT_CODES[run.status]
    if prices := run.actor_state.actor.charges:
        shown["pricingInfo"] = _pricing(run, prices)
        shown |= {"chargedEventCounts": run.charged, "accountedChargedEventCounts": run.accounted}
        shown.pop("usageUsd", None)
    if not authorized:
        for name in ("usageUsd", "usageTotalUsd"):
            shown.pop(name, None)
    return shown


def _pricing(run: Run, prices: dict[str, float]) -> dict[str, Any]:
    since = iso(run.actor_state.created_at)
    return {
        "pricingModel": "PAY_PER_EVENT",
        "apifyMarginPercentage": 0.2,
        "createdAt": since,
        "startedAt": since,
        "pricingPerEvent": {
            "actorChargeEvents": {
                event: {"eventTitle": event, "eventDescription": f"Charged for each {event}", "eventPriceUsd": usd}
                for event, usd in prices.items()
            }
        },
        "minimalMaxTotalChargeUsd": MIN_CHARGE_USD,
    }


def _run_item(run: Run, *, full: bool, status: str | None) -> dict[str, Any]:
    """A run as an item of a list: what recorded lists show, or in ``full`` all that the definition allows."""
    shown = run_object(run, status=status)
    item = {name: shown[name] for name in _ITEM_FIELDS} | {"meta": {"origin": _ORIGIN}}
    if full:
        item |= {name: shown[name] for name in ("userId", "finishedAt", "buildNumber", "meta")}
        item |= {"actorTaskId": run.task_id, "buildNumberInt": run.build.number_int}
    return item


def _item(number: int) -> dict[str, Any]:
    """An item that a run pushes; ``number`` counts from 0."""
    return {
        "url": f"https://shop.example.com/products/{number + 1}",
        "title": f"Product {number + 1}",
        "price": round(9.99 + number % 90, 2),
        "inStock": number % 7 != 0,
    }


_ORIGIN = "API"
_MEMORY_MBYTES = [2**power for power in range(7, 16)]
_ITEM_FIELDS = (
    "id",
    "actId",
    "status",
    "startedAt",
    "buildId",
    "usageTotalUsd",
    "defaultKeyValueStoreId",
    "defaultDatasetId",
    "defaultRequestQueueId",
)
_EXIT_CODES = {"SUCCEEDED": 0, "FAILED": 1}
_RUNNING = "Scraped {run.pushed} of {run.to_push} items"
_MESSAGES = {
    "SUCCEEDED": "Finished! Scraped {run.pushed} items.",
    "FAILED": "The shop refused request {run.pushed}: 403 Forbidden",
    "TIMED-OUT": "The Actor run has reached the timeout of {run.options.timeout_secs} seconds.",
    "ABORTED": "The Actor run was aborted.",
}
_STEPS = (
    (0.02, "ACTOR: Pulling Docker image of build from registry."),
    (0.05, "ACTOR: Creating Docker container."),
    (0.08, "ACTOR: Starting Docker container."),
    (0.12, "\x1b[32mINFO\x1b[39m  Reading the input."),
    (0.20, "\x1b[32mINFO\x1b[39m  Crawler: Starting the crawler."),
    (0.40, "\x1b[33mWARN\x1b[39m  Crawler: Reclaiming failed request back to the queue. Request timed out."),
    (0.60, "\x1b[32mINFO\x1b[39m  Crawler: Half of the pages are done."),
)
_ENDINGS = {
    "SUCCEEDED": ("\x1b[32mINFO\x1b[39m  Crawler: Finished! All requests from the queue have been processed.",),
    "FAILED": (
        "\x1b[31mERROR\x1b[39m Crawler: Request failed and reached maximum retries. Error: 403 Forbidden",
        "    at Crawler.handleBlockedRequest (/usr/src/app/src/main.js:41:15)",
        "\x1b[31mERROR\x1b[39m The function passed to Actor.main() threw an exception.",
    ),
    "TIMED-OUT": ("ACTOR: ERROR: The Actor run timed out and was stopped.",),
    "ABORTED": ("ACTOR: The Actor run was aborted.",),
}
