"""
Who may abort a job that a task started, and when.

A SIGTERM, or a trigger that is told to go, proves nothing: an evicted worker, one that was given up for dead and a
trigger that moves to another triggerer get the same, while the next try may already wait for the job. Airflow's
state of the task instance tells them apart. (Only in a run inside one process, such as ``airflow dags test``, does a
signal count: there Ctrl-C ends everything, and nobody comes after.)
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Unknown(Enum):
    """Airflow could not be asked."""

    STATE = "unknown"


#: States in which Airflow goes on with the attempt, or will.
GOES_ON = frozenset(
    {"running", "deferred", "scheduled", "queued", "up_for_retry", "up_for_reschedule", "awaiting_input"}
)


def may_abort(state: str | Unknown | None, *, next_try: bool) -> bool:
    """
    Tell whether whoever runs a task that is being ended may abort its unfinished job.

    =================================================  ===============  ===============
    Airflow's state of the task instance               a try is left    none is left
    =================================================  ===============  ===============
    failed, success, skipped, removed, ...: ended      abort            abort
    restarting, none: cleared                          abort            abort
    running, deferred, scheduled, queued, up_for_...   leave            abort
    could not be asked                                 leave            abort
    =================================================  ===============  ===============

    :param next_try: whether another try or, for a trigger, another triggerer takes over if the attempt goes on.
    """
    if state is Unknown.STATE or state in GOES_ON:
        return not next_try
    return True


def state_of(task_states: Mapping[str, Mapping[str, str | None] | None], run_id: str) -> str | None:
    """
    Read Airflow's answer about a single task instance; ``None``: no state, which is cleared, or no such instance.

    Airflow names a mapped instance ``<task_id>_<map_index>`` there, so the only value is taken, by no name.
    """
    states = task_states.get(run_id) or {}
    state = next(iter(states.values()), None)
    return str(getattr(state, "value", state)) if state is not None else None
