"""The account: who it is, its limits, and the endpoints."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Response

from airflow_provider_apify.emulator.answers import iso, success
from airflow_provider_apify.emulator.parameters import WithToken

if TYPE_CHECKING:
    from airflow_provider_apify.emulator.world import World

USERNAME = "emulator"
USER_ID = "sJnQ2hZ6mWk8TfXpL"

_PLATFORM_FEATURES = [
    "ACTORS",
    "STORAGE",
    "SCHEDULER",
    "PROXY",
    "PROXY_EXTERNAL_ACCESS",
    "PROXY_RESIDENTIAL",
    "PROXY_SERPS",
    "WEBHOOKS",
    "ACTORS_PUBLIC_ALL",
    "ACTORS_PUBLIC_DEVELOPER",
]
_LIMITS: dict[str, int] = {
    "maxMonthlyUsageUsd": 500,
    "maxMonthlyActorComputeUnits": 1000,
    "maxMonthlyExternalDataTransferGbytes": 200,
    "maxMonthlyProxySerps": 50000,
    "maxMonthlyResidentialProxyGbytes": 10,
    "maxActorCount": 100,
    "maxActorTaskCount": 1000,
    "maxScheduleCount": 100,
    "dataRetentionDays": 14,
}

router = APIRouter(prefix="/v2/users/me")


@router.get("")
async def get_user(call: WithToken) -> Response:
    return success(_user_object(call.world))


@router.get("/limits")
async def get_limits(call: WithToken) -> Response:
    return success(_limits_object(call.world, time.time()))


def _user_object(world: World) -> dict[str, Any]:
    feature = {
        "isEnabled": True,
        "disabledReason": None,
        "disabledReasonType": None,
        "isTrial": False,
        "trialExpirationAt": None,
    }
    return {
        "id": USER_ID,
        "username": USERNAME,
        "profile": {"name": "Apify emulator", "bio": None, "pictureUrl": None, "websiteUrl": None},
        "email": "emulator@example.com",
        "proxy": {
            "password": "emulator-proxy-password-keep-me-secret",
            "groups": [{"name": "BUYPROXIES94952", "description": "Datacenter proxies", "availableCount": 30}],
        },
        "plan": {
            **_LIMITS,
            "id": "STARTER",
            "description": "Starter",
            "isEnabled": True,
            "monthlyBasePriceUsd": 39,
            "monthlyUsageCreditsUsd": 39,
            "enabledPlatformFeatures": _PLATFORM_FEATURES,
            "maxActorMemoryGbytes": world.settings.memory_mbytes / 1024,
            "availableProxyGroups": {"BUYPROXIES94952": 30},
            "supportLevel": "COMMUNITY",
            "tier": "BRONZE",
        },
        "effectivePlatformFeatures": dict.fromkeys(_PLATFORM_FEATURES, feature),
        "createdAt": iso(min(actor_state.created_at for actor_state in world.actors.values())),
        "isPaying": True,
    }


def _limits_object(world: World, now: float) -> dict[str, Any]:
    """The account's limits and what is used of them at ``now`` (seconds since the epoch)."""
    month = datetime.fromtimestamp(now, timezone.utc).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    next_month = month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
    costs = [job.cost for job in world.jobs]
    return {
        "monthlyUsageCycle": {"startAt": iso(month.timestamp()), "endAt": iso(next_month.timestamp() - 0.001)},
        "limits": {
            **_LIMITS,
            "maxActorMemoryGbytes": world.settings.memory_mbytes / 1024,
            "maxConcurrentActorJobs": world.settings.max_concurrent_jobs,
            "maxTeamAccountSeatCount": 1,
        },
        "current": {
            "monthlyUsageUsd": sum(usd for _, usd in costs),
            "monthlyActorComputeUnits": sum(units for units, _ in costs),
            "monthlyExternalDataTransferGbytes": 0,
            "monthlyProxySerps": 0,
            "monthlyResidentialProxyGbytes": 0,
            "actorMemoryGbytes": world.used_mbytes / 1024,
            "actorCount": len(world.actors),
            "actorTaskCount": len(world.tasks),
            "activeActorJobCount": len(world.unfinished),
            "teamAccountSeatCount": 1,
            "scheduleCount": 0,
        },
    }
