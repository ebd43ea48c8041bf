"""Waiting until Apify may have room for a job whose start it has refused: in the worker, or deferred."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_apify.api.account import Account, get_limits
from airflow_provider_apify.api.errors import first_line
from airflow_provider_apify.api.runs import LEAST_MEMORY
from airflow_provider_apify.exceptions import (
    ApifyApiError,
    ApifyCapacityError,
    ApifyConfigurationError,
    ApifySupersededError,
)
from airflow_provider_apify.jobs import room
from airflow_provider_apify.jobs.start import Clock, Moment
from airflow_provider_apify.jobs.wait import Limits
from airflow_provider_apify.lifecycle.attempt import Refused
from airflow_provider_apify.lifecycle.deferral import DEADLINE_MARGIN, EARLIEST_EVENT

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_apify.client.client import Client
    from airflow_provider_apify.lifecycle.attempt import Attempt


class Waiting(NamedTuple):
    """
    A try that waits for room, or has; plain JSON, since it is stored with the deferral. Times are in epoch seconds.

    :param begun: when the try began.
    :param since: when Apify refused it first; 0: it has not yet.
    :param deadline: when the task's ``wait_for_capacity`` is over.
    :param refusals: how often Apify has refused it.
    :param looked: when it last began to look for a job of its attempt; 0: not known, nor that none was started.
    :param clock: whose clock ``looked`` is by.
    """

    begun: float
    since: float = 0.0
    deadline: float = 0.0
    refusals: int = 0
    looked: float = 0.0
    clock: str = Clock.OURS.value

    @classmethod
    def stored(cls, task: Any, context: Context, value: object) -> Waiting:
        """Read what was stored. Airflow gives it back with an event only, else it is made of what is known."""
        if isinstance(value, Mapping) and value.keys() >= set(cls._fields):
            waiting = cls(**{name: value[name] for name in cls._fields})
            # What was that machine's own clock is another machine's here.
            return waiting._replace(clock=Clock.OTHERS.value) if waiting.clock == Clock.OURS.value else waiting
        begun = context["ti"].start_date.timestamp()
        return cls(begun, begun, begun + (task.wait_for_capacity or 0.0), 1)

    @property
    def refused(self) -> Refused | None:
        """What starting again has to know."""
        if not self.refusals:
            return None
        return Refused(Moment(self.looked, Clock(self.clock)) if self.looked else None)

    def again(self, task: Any, client: Client, error: ApifyCapacityError, *, looked: float) -> Waiting:
        """Give the same after one more refusal, ``error``, of a start that was preceded by a look at ``looked``."""
        now = time.time()
        moment = Moment(looked, Clock.OURS).by_apify(client.clock_offset)
        return self._replace(
            since=self.since or now,
            deadline=self.deadline or now + task.wait_for_capacity,
            refusals=self.refusals + 1,
            looked=0.0 if error.outcome_unknown else moment.at,
            clock=moment.clock.value,
        )


def wait_for_room(
    task: Any, client: Client, attempt: Attempt, waiting: Waiting, error: ApifyCapacityError, *, trigger: Any
) -> None:
    """
    Wait until there may be room: returns then, or defers.

    :param waiting: with the refusal that ``error`` is.
    :param trigger: class of the trigger; ``None``: wait in the worker.
    :raises ApifyCapacityError, AirflowTaskTimeout: the time is over.
    :raises ApifyConfigurationError: there never will be.
    """
    execution = task.execution_timeout
    limits = Limits(waiting.deadline, None if execution is None else waiting.begun + execution.total_seconds())
    subject = f"{task.job_kind.name} of {attempt.subject}"
    mbytes = task.needed_mbytes()
    if mbytes is None:
        mbytes = _asked_for(error)
    if waiting.refusals == 1 and mbytes is not None:
        _check_that_it_can_fit(task, client, subject, mbytes)
    left = limits.left(time.time())
    if not left:
        raise _out_of_time(subject, waiting, error, limits)
    task.log.info("%s Waiting for room for a %s, for %.0f s at most.", first_line(error), subject, left)
    # A start that may be on its way needs somebody who would abort its job.
    if trigger is None or error.outcome_unknown:
        _wait_here(task, client, mbytes, limits, room.patience(waiting.refusals))
        return
    task.defer(
        trigger=trigger(
            apify_conn_id=task.apify_conn_id,
            memory_mbytes=mbytes,
            since=waiting.since,
            refusals=waiting.refusals,
            **limits._asdict(),
            not_before=time.time() + EARLIEST_EVENT,
        ),
        method_name="resume_start",
        kwargs={"waiting": waiting._asdict()},
        timeout=timedelta(seconds=left + DEADLINE_MARGIN),
    )


def _check_that_it_can_fit(task: Any, client: Client, subject: str, mbytes: float) -> None:
    account = _account(client)
    if account and mbytes > account.most_mbytes:
        raise ApifyConfigurationError(
            f"No {subject} was started, and none can be: it takes {mbytes:.0f} MB of memory, and the account has"
            f" {account.most_mbytes:.0f} MB in all (connection {task.apify_conn_id!r}).\nGive the task less"
            " memory_mbytes, or the account a larger plan."
        )


def _out_of_time(subject: str, waiting: Waiting, error: ApifyCapacityError, limits: Limits) -> BaseException:
    waited = f"No {subject} was started: Apify has had no room for it for {time.time() - waiting.since:.0f} s"
    if limits.is_execution:
        return AirflowTaskTimeout(f"execution_timeout: {waited}.\n{error}")
    return ApifyCapacityError(
        f"{waited}, and wait_for_capacity is over.\n{error}",
        error.kind,
        status=error.status,
        type=error.type,
        outcome_unknown=error.outcome_unknown,
    )


def _asked_for(error: ApifyCapacityError) -> float | None:
    """Give the memory that a refused start would have taken, in MB, as far as Apify says it."""
    found = re.search(r"requested: (\d{1,9}) ?MB", str(error))
    if found:
        return float(found[1])
    # The number of jobs was the limit, so the memory was not.
    return LEAST_MEMORY if error.type == "concurrent-runs-limit-exceeded" else None


def _wait_here(task: Any, client: Client, mbytes: float | None, limits: Limits, patience: float) -> None:
    begun = time.time()
    while True:
        left = limits.left(time.time()) or 0.0
        if client.stopping.wait(min(room.jittered(room.INTERVAL), left)):
            raise ApifySupersededError(f"The task is being ended: no {task.job_kind.name} is started.")
        if limits.left(time.time()) == 0:
            return  # for a last try
        account = _account(client) if mbytes is not None else None
        if account and mbytes is not None and account.has_room(mbytes):
            return
        if time.time() - begun >= (room.TRY_ANYWAY if account else patience):
            return


def _account(client: Client) -> Account | None:
    """Give the account's limits; ``None`` if they cannot be read, as with a token that may not."""
    try:
        return client.call(get_limits(), Account.from_api, attempts=1)
    except ApifyApiError:
        return None
