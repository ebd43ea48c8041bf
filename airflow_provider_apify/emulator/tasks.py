"""Apify tasks, an Actor with an input and options that are saved: how the API shows them, and the endpoints."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from airflow_provider_apify.emulator.actors import ActorState
from airflow_provider_apify.emulator.answers import MAX_PAGE, iso, not_found, page, success
from airflow_provider_apify.emulator.call import Call
from airflow_provider_apify.emulator.inputs import Input, RunInput, json_fields, json_input
from airflow_provider_apify.emulator.parameters import Count, Flag, Wait, WithToken
from airflow_provider_apify.emulator.runs import (
    Elsewhere,
    Options,
    Run,
    RunOptions,
    answer,
    below,
    last,
    list_answer,
    starter,
)
from airflow_provider_apify.emulator.users import USER_ID, USERNAME

if TYPE_CHECKING:
    from airflow_provider_apify.emulator.world import World


@dataclass(eq=False)
class Task:
    """A task; ``input`` is the one that is saved, ``None`` if none is."""

    id: str
    name: str
    actor_state: ActorState
    input: dict[str, Any] | None
    options: RunOptions
    created_at: float = field(default_factory=time.time)

    def input_with(self, given: RunInput) -> RunInput:
        """
        Give the saved input, in which each field that is given takes the place of the saved one, nested ones included.

        :raises ApiError: what is given is no JSON object.
        """
        fields = json_fields(given)
        if self.input is None and not fields:
            return RunInput()
        return json_input((self.input or {}) | fields)


class Tasks(dict[str, Task]):
    """All tasks of the account by id, oldest first."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def add(self, name: str, actor: str, task_input: dict[str, Any] | None, options: RunOptions) -> Task:
        if any(task.name == name for task in self.values()):
            raise ValueError(f"there is a task {name!r} already")
        task = Task(self._world.new_id(), name, self._world.actors[actor], task_input, options)
        self[task.id] = task
        return task

    def find(self, key: str) -> Task | None:
        """Find by id, ``~name`` or ``username~name``."""
        user, tilde, name = key.rpartition("~")
        if not tilde:
            return self.get(key)
        return next((task for task in self.values() if task.name == name and user in ("", USERNAME)), None)


router = APIRouter(prefix="/v2/actor-tasks")


@router.get("")
async def list_tasks(call: WithToken, offset: Count = 0, limit: Count = MAX_PAGE, desc: Flag = False) -> Response:
    tasks = list(call.world.tasks.values())
    return success(page(tasks, lambda task: _item(call, task), offset=offset, limit=limit, desc=desc))


@router.get("/{task_id}")
async def get_task(call: WithToken, task_id: str) -> Response:
    task = _found(call, task_id)
    options = task.options
    given = {
        "build": options.build,
        "timeoutSecs": options.timeout_secs,
        "memoryMbytes": options.memory_mbytes,
        "maxItems": options.max_items,
        "maxTotalChargeUsd": options.max_total_charge_usd,
        "restartOnError": options.restart_on_error,
    }
    shown = {"options": {name: value for name, value in given.items() if value is not None}, "input": task.input}
    return success(_item(call, task) | shown)


@router.get("/{task_id}/input")
async def get_task_input(call: WithToken, task_id: str) -> Response:
    return JSONResponse(_found(call, task_id).input or {})


@router.post("/{task_id}/runs")
async def start_task_run(
    call: WithToken, request: Request, task_id: str, options: Options, run_input: Input, wait: Wait = 0
) -> Response:
    task = _found(call, task_id)
    run = call.world.runs.start(
        task.actor_state,
        options.over(task.options),
        task.input_with(run_input),
        task_id=task.id,
        **starter(call, request),
    )
    await call.wait_for(run, wait)
    return answer(call, run, status=201)


@router.get("/{task_id}/runs")
async def list_task_runs(
    call: WithToken,
    task_id: str,
    status: str | None = None,
    offset: Count = 0,
    limit: Count = MAX_PAGE,
    desc: Flag = False,
) -> Response:
    wanted = status.split(",") if status else None
    own = [run for run in _runs(call, task_id) if wanted is None or run.status in wanted]
    return list_answer(call, own, offset, limit, desc)


@router.get("/{task_id}/runs/last")
async def get_last_task_run(
    call: WithToken, task_id: str, status: str | None = None, origin: str | None = None, wait: Wait = 0
) -> Response:
    run = last(_runs(call, task_id), status, origin)
    await call.wait_for(run, wait)
    return answer(call, run)


@router.api_route("/{task_id}/runs/last/{rest:path}", methods=["GET", "POST", "PUT", "DELETE"])
async def below_last_task_run(
    call: WithToken,
    request: Request,
    task_id: str,
    rest: str,
    status: str | None = None,
    origin: str | None = None,
) -> Response:
    return Elsewhere(request, below(last(_runs(call, task_id), status, origin), rest))


def _found(call: Call, task_id: str) -> Task:
    task = call.world.tasks.find(task_id)
    if task is None:
        raise not_found("Actor task")
    return task


def _runs(call: Call, task_id: str) -> list[Run]:
    task = _found(call, task_id)
    return [run for run in call.world.runs.values() if run.task_id == task.id]


def _item(call: Call, task: Task) -> dict[str, Any]:
    """A task as an item of a list."""
    return {
        "id": task.id,
        "userId": USER_ID,
        "actId": task.actor_state.id,
        "name": task.name,
        "username": USERNAME,
        "createdAt": iso(task.created_at),
        "modifiedAt": iso(task.created_at),
        "stats": {"totalRuns": len(_runs(call, task.id))},
    }
