"""The emulated state as the objects that Apify's API returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any, TypeVar

from airflow_provider_apify.emulator.world import BUILD_MEMORY_MBYTES, USERNAME, Build, Registered, World

MAX_PAGE = 1000
USER_ID = "sJnQ2hZ6mWk8TfXpL"
DEFAULT_BUILD_TAG = "latest"

_USD_PER_COMPUTE_UNIT = 0.3
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

T = TypeVar("T")


def iso(at: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC with milliseconds and ``Z``."""
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def build_object(build: Build, *, authorized: bool = True, status: str | None = None) -> dict[str, Any]:
    """A build; without a token its cost is left out. ``status`` is shown instead of the real one."""
    units, usd = _cost(build)
    finished_at = build.finished_at
    seconds = None if finished_at is None else finished_at - build.started_at
    version = version_object(build.version, build.version_tag)
    shown: dict[str, Any] = {
        "id": build.id,
        "actId": build.owner.id,
        "userId": USER_ID,
        "startedAt": iso(build.started_at + build.clock_offset),
        "finishedAt": None if finished_at is None else iso(finished_at + build.clock_offset),
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
            "memoryMbytes": BUILD_MEMORY_MBYTES,
            "diskMbytes": 2 * BUILD_MEMORY_MBYTES,
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


def build_item(build: Build, *, full: bool, status: str | None = None) -> dict[str, Any]:
    """A build as an item of a list: what recorded lists show, or in ``full`` all that the definition allows."""
    shown = build_object(build, status=status)
    item = {name: shown[name] for name in ("id", "status", "startedAt", "buildNumber")}
    item |= {"usageTotalUsd": _cost(build)[1], "meta": {"origin": "API"}}
    if full:
        item |= {name: shown[name] for name in ("actId", "userId", "finishedAt", "meta")}
        item["buildNumberInt"] = _number_int(build)
    return item


def actor_object(owner: Registered) -> dict[str, Any]:
    name = owner.actor.name
    return actor_item(owner) | {
        "userId": USER_ID,
        "title": owner.title or name.replace("-", " ").capitalize(),
        "description": owner.description,
        "isPublic": False,
        "isDeprecated": False,
        "deploymentKey": f"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ{owner.id} apify@emulator",
        "versions": version_objects(owner),
        "defaultRunOptions": {
            "build": DEFAULT_BUILD_TAG,
            "timeoutSecs": 3600,
            "memoryMbytes": 1024,
            "restartOnError": False,
        },
        "exampleRunInput": {"body": '{ "helloWorld": 123 }', "contentType": "application/json; charset=utf-8"},
        "taggedBuilds": {
            tag: {
                "buildId": build.id,
                "buildNumber": build.number,
                "buildNumberInt": _number_int(build),
                "finishedAt": build_object(build)["finishedAt"],
            }
            for tag, build in owner.tagged.items()
        },
    }


def actor_item(owner: Registered) -> dict[str, Any]:
    """An Actor as an item of a list."""
    return {
        "id": owner.id,
        "name": owner.actor.name,
        "username": USERNAME,
        "createdAt": iso(owner.created_at),
        "modifiedAt": iso(owner.modified_at),
        "stats": {
            "totalBuilds": sum(owner.counters.values()),
            "totalRuns": 0,
            "totalUsers": 1,
            "totalMetamorphs": 0,
        },
    }


def version_objects(owner: Registered) -> list[dict[str, Any]]:
    return [version_object(number, tag) for number, tag in owner.actor.versions.items()]


def version_object(number: str, tag: str | None) -> dict[str, Any]:
    return {
        "versionNumber": number,
        "sourceType": "GIT_REPO",
        "gitRepoUrl": "https://github.com/apify/actor-quick-start",
        "buildTag": tag,
        "envVars": [],
        "applyEnvVarsToBuild": False,
    }


def page(
    items: Sequence[T], show: Callable[[T], dict[str, Any]], *, offset: int, limit: int, desc: bool
) -> dict[str, Any]:
    """A page of ``items``, which are in ascending order; ``limit`` 0 means the most that there may be."""
    limit = min(limit or MAX_PAGE, MAX_PAGE)
    ordered = list(reversed(items)) if desc else items
    shown = [show(item) for item in ordered[offset : offset + limit]]
    return {"total": len(items), "offset": offset, "limit": limit, "count": len(shown), "desc": desc, "items": shown}


def user_object(world: World) -> dict[str, Any]:
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
            "maxActorMemoryGbytes": world.memory_mbytes / 1024,
            "availableProxyGroups": {"BUYPROXIES94952": 30},
            "supportLevel": "COMMUNITY",
            "tier": "BRONZE",
        },
        "effectivePlatformFeatures": dict.fromkeys(_PLATFORM_FEATURES, feature),
        "createdAt": iso(min(owner.created_at for owner in world.actors.values())),
        "isPaying": True,
    }


def limits_object(world: World, now: float) -> dict[str, Any]:
    """The account's limits and what is used of them at ``now`` (seconds since the epoch)."""
    month = datetime.fromtimestamp(now, timezone.utc).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    next_month = month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
    costs = [_cost(build) for build in world.builds.values()]
    return {
        "monthlyUsageCycle": {"startAt": iso(month.timestamp()), "endAt": iso(next_month.timestamp() - 0.001)},
        "limits": {
            **_LIMITS,
            "maxActorMemoryGbytes": world.memory_mbytes / 1024,
            "maxConcurrentActorJobs": 32,
            "maxTeamAccountSeatCount": 1,
        },
        "current": {
            "monthlyUsageUsd": sum(usd for _, usd in costs),
            "monthlyActorComputeUnits": sum(units for units, _ in costs),
            "monthlyExternalDataTransferGbytes": 0,
            "monthlyProxySerps": 0,
            "monthlyResidentialProxyGbytes": 0,
            "actorMemoryGbytes": len(world.unfinished) * BUILD_MEMORY_MBYTES / 1024,
            "actorCount": len(world.actors),
            "actorTaskCount": 0,
            "activeActorJobCount": len(world.unfinished),
            "teamAccountSeatCount": 1,
            "scheduleCount": 0,
        },
    }


def _definition(build: Build) -> dict[str, Any]:
    readme = f"# {build.owner.actor.name}\n\nAn Actor of the emulator.\n"
    schema = '{"title": "Input", "type": "object", "schemaVersion": 1, "properties": {}}'
    definition = {"actorSpecification": 1, "name": build.owner.actor.name, "version": build.version, "readme": readme}
    return {"readme": readme, "inputSchema": schema, "actorDefinition": definition}


def _number_int(build: Build) -> int:
    major, minor = build.version.split(".")
    return int(major) * 10_000_000 + int(minor) * 100_000 + build.counter


def _cost(build: Build) -> tuple[float, float]:
    """Compute units and US dollars; nothing while the build is unfinished."""
    seconds = 0.0 if build.finished_at is None else build.finished_at - build.started_at
    units = seconds / 3600 * BUILD_MEMORY_MBYTES / 1024
    return units, units * _USD_PER_COMPUTE_UNIT
