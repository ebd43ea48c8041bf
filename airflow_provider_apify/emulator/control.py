"""The emulator's own endpoints, below ``/emulator``: no token, no faults, and they are not in the ledger."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from airflow_provider_apify.emulator.builds import build_object
from airflow_provider_apify.emulator.call import Call
from airflow_provider_apify.emulator.faults import Fault
from airflow_provider_apify.emulator.runs import run_object


class SettingsChange(BaseModel, extra="forbid"):
    """New values for some of the settings; what is left out stays."""

    build_seconds: float | None = Field(None, ge=0)
    run_seconds: float | None = Field(None, ge=0)
    memory_mbytes: int | None = Field(None, ge=0)
    max_concurrent_jobs: int | None = Field(None, ge=0)
    cost_seconds: float | None = Field(None, ge=0)
    full_lists: bool | None = None
    tag_seconds: float | None = Field(None, ge=0)
    items_seconds: float | None = Field(None, ge=0)
    item_count_seconds: float | None = Field(None, ge=0)
    token: str | None = Field(None, min_length=1)


async def _call(request: Request) -> Call:
    call: Call = request.state.call
    return call


Here = Annotated[Call, Depends(_call)]

router = APIRouter(prefix="/emulator")


@router.get("/ledger")
async def ledger(call: Here) -> Response:
    world = call.world
    return JSONResponse(
        {
            "requests": [asdict(record) for record in world.requests],
            "builds": [build_object(build) for build in world.builds.values()],
            "runs": [run_object(run) for run in world.runs.values()],
        }
    )


@router.post("/faults")
async def add_fault(call: Here, fault: Fault) -> Response:
    return JSONResponse(asdict(call.faults.add(fault)), 201)


@router.delete("/faults")
async def clear_faults(call: Here) -> Response:
    call.faults.clear()
    return Response(status_code=204)


@router.put("/settings")
async def change_settings(call: Here, change: SettingsChange) -> Response:
    for name, value in change.model_dump(exclude_none=True).items():
        setattr(call.world.settings, name, value)
    return Response(status_code=204)


@router.post("/reset")
async def reset(call: Here) -> Response:
    call.world.reset()
    call.faults.reset()
    return Response(status_code=204)
