"""What the API says in place of what is so: each kind of ``VIEW_KINDS`` is a function that endpoints ask."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from airflow_provider_apify.emulator.call import Call
from airflow_provider_apify.emulator.faults import Fault
from airflow_provider_apify.emulator.jobs import Job

J = TypeVar("J", bound=Job)


def is_missing(call: Call, job: Job) -> bool:
    """Whether the job is not found, though it is there (``missing``)."""
    return _taken(call, "missing", lambda fault: job.age < fault.seconds) is not None


def listed(call: Call, jobs: list[J]) -> list[J]:
    """Give the jobs that a list shows: not those that have just begun (``stale-list``)."""
    fault = _taken(call, "stale-list", lambda fault: any(job.age < fault.seconds for job in jobs))
    return [job for job in jobs if job.age >= fault.seconds] if fault else jobs


def false_status(call: Call, shown: Iterable[Job]) -> str | None:
    """Give the status that unfinished jobs show; ``None`` for their own (``unknown-status``)."""
    fault = _taken(call, "unknown-status", lambda _: any(job.unfinished for job in shown))
    return fault.value if fault else None


def user_agent(call: Call) -> str:
    """Give the user agent that a job records as the one that started it (``user-agent``)."""
    fault = _taken(call, "user-agent")
    return (fault.value if fault else call.record.headers.get("user-agent")) or ""


def _taken(call: Call, kind: str, applies: Callable[[Fault], bool] = lambda _: True) -> Fault | None:
    fault = call.faults.take((kind,), call.record.method, call.path, applies)
    if fault:
        call.record.fault = kind
    return fault
