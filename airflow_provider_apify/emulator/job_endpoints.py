"""What the endpoints of every kind of job share: finding a job, answering with it, and listing jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import Response

from airflow_provider_apify.emulator import view_faults
from airflow_provider_apify.emulator.actors import found_actor
from airflow_provider_apify.emulator.answers import not_found, page, success
from airflow_provider_apify.emulator.call import Call
from airflow_provider_apify.emulator.jobs import Job, Jobs

J = TypeVar("J", bound=Job)


def found(call: Call, jobs: Jobs[J], job_id: str, actor_id: str | None = None) -> J:
    """Give a job; with ``actor_id`` only if it is that Actor's."""
    job = jobs.get(job_id)
    if job is None or (actor_id is not None and job.actor_state is not found_actor(call, actor_id)):
        raise not_found(f"Actor {jobs.noun}")
    return job


def visible(call: Call, jobs: Jobs[J], job_id: str, actor_id: str | None = None) -> J:
    """Give a job as ``found`` does, unless a fault hides it."""
    job = found(call, jobs, job_id, actor_id)
    if view_faults.is_missing(call, job):
        raise not_found(f"Actor {jobs.noun}")
    return job


def answered(call: Call, job: J, show: Callable[..., dict[str, Any]], *, status: int = 200) -> Response:
    """Answer with a job as ``show`` gives it, with a false status if a fault says so."""
    false_status = view_faults.false_status(call, [job])
    return success(show(job, authorized=call.record.authorized, status=false_status), status)


def listed(
    call: Call, jobs: list[J], show: Callable[..., dict[str, Any]], *, offset: int, limit: int, desc: bool
) -> Response:
    """Answer with a page of jobs, each as ``show`` gives it, with a false status if a fault says so."""
    jobs = view_faults.listed(call, jobs)
    full, false_status = call.world.settings.full_lists, view_faults.false_status(call, jobs)
    return success(
        page(
            jobs,
            lambda job: show(job, full=full, status=false_status if job.unfinished else None),
            offset=offset,
            limit=limit,
            desc=desc,
        )
    )
