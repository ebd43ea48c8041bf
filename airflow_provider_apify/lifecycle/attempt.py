"""
One attempt of a task to have one job, as one of its tries sees it.

An attempt is what a user asked for: the scheduled run of a task, or a clear of it. Automatic retries belong to the
attempt that they retry, so they look for its job before they start one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_apify import metrics
from airflow_provider_apify.api.job import Job, JobKind
from airflow_provider_apify.exceptions import ApifyStartUnclearError, ApifySupersededError
from airflow_provider_apify.jobs.start import (
    ATTEMPTS,
    Clock,
    Fingerprint,
    Moment,
    Remembered,
    Started,
    StartUnclear,
    Superseded,
    start_once,
)
from airflow_provider_apify.lifecycle import store

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_apify.api.endpoints import Start
    from airflow_provider_apify.client.client import Client
    from airflow_provider_apify.lifecycle.hold import Hold

#: Seconds after which a try looks before it starts: its worker may have been frozen, and given up for dead.
STALE_AFTER = 10.0


class Refused(NamedTuple):
    """
    How the last start of this same try was refused.

    :param looked: before which moment no other has started a job of this attempt, as this try has seen; ``None``: that
        is not known, nor that the start left no job.
    """

    looked: Moment | None


@dataclass(eq=False, repr=False)
class Attempt:
    """
    Starts the one job of an attempt. Its public methods are what :func:`start_once` needs of the outside.

    :param task: the operator; read are ``retries``, ``do_xcom_push``, ``abort_on_kill`` and ``abort_gracefully``.
    :param collection: path of the list in which the job is started and found.
    :param subject: whose job it is, for messages, such as ``Actor ~hello-world``.
    :param make_start: gives the start; called once, before the first is sent. May raise what the client raises.
    :param excludes: whether a listed job, by what it is of, cannot be one that ``make_start`` describes.
    :param begun: when the try began, in epoch seconds.
    """

    task: Any
    context: Context
    client: Client
    kind: JobKind[Job]
    collection: str
    subject: str
    make_start: Callable[[], Start[Job]]
    excludes: Callable[[Job], bool]
    begun: float
    #: Whether a job that has succeeded is what the task asked for, asked once for each; ``None``: each is.
    enough: Callable[[Job], bool] | None = None
    #: Gives a job that others have started and that will do, if there is one; called once, before ``make_start``.
    reusable: Callable[[], Job | None] = lambda: None
    fingerprint: Fingerprint = field(init=False)
    _since: Moment = field(init=False)
    _start: Start[Job] = field(init=False)
    _looked_at: float = field(init=False)
    _enough: dict[str, bool] = field(default_factory=dict, init=False)

    def start(self, hold: Hold, refused: Refused | None = None) -> Started:
        """
        Give the attempt's job, which ``hold`` holds from then on.

        :param refused: how this same try was refused before, for lack of room.
        :raises ApifySupersededError: the try was overtaken, or is being ended.
        :raises ApifyStartUnclearError: whether there is a job already is not known.
        :raises ApifyApiError: no job could be started.
        """
        ti, dag_run = self.context["ti"], self.context["dag_run"]
        run_started = dag_run.start_date or dag_run.run_after
        epoch = store.epoch(self.task, self.context)
        fingerprint = Fingerprint.of(ti.dag_id, ti.run_id, run_started, ti.task_id, ti.map_index, epoch=epoch)
        first_try = ti.try_number <= 1 and refused is None
        is_retry = ti.try_number > epoch
        earlier_tries = is_retry or refused is not None
        remembered, since = (None, None) if first_try else self._recall(epoch)
        if remembered:
            # A clear of a finished run gives it a new start date; this task has had jobs under the old one.
            fingerprint = Fingerprint(remembered.fingerprint.task, epoch)
        if not earlier_tries:
            since = Moment(self.begun, Clock.OURS)
        elif since is None or (remembered and remembered.fingerprint != fingerprint):
            since = Moment(run_started.timestamp(), Clock.OTHERS)
        self.fingerprint, self._since, self._looked_at = fingerprint, since, self.begun
        if refused and refused.looked:
            ours = remembered if remembered and remembered.fingerprint == fingerprint else None
            remembered = (ours or Remembered(fingerprint, None, is_retry))._replace(refused=True)
            # What was there before has been seen, unless an answer was lost.
            since = since if remembered.unsure else refused.looked
        start = partial(
            start_once,
            self,
            fingerprint,
            first_try=first_try,
            since=since,
            earlier_tries=earlier_tries,
            remembered=remembered,
            abort_earlier=self.task.abort_on_kill and refused is None,  # else it has done so
            warn=self.task.log.warning,
        )
        try:
            started = hold.start(self.collection, fingerprint, self._since, start)
        except Superseded as error:
            raise ApifySupersededError(str(error)) from None
        except StartUnclear as error:
            noun = self.kind.name
            raise ApifyStartUnclearError(
                f"No {noun} of {self.subject} was started, since this task may have started one already: {error}"
                f" (connection {self.task.apify_conn_id!r}).\nA retry asks again. To start one without knowing, clear"
                " the task."
            ) from None
        if not started.reused:
            self._remember(started.unsure, started.job.id)
        return started

    # -- what start_once needs ------------------------------------------------------------------------------------

    def prepare(self) -> Job | None:
        if job := self.reusable():
            return job
        self._start = self.make_start()
        return None

    def intend(self, unsure: bool) -> None:
        self._remember(unsure, None)

    def send(self) -> Job:
        return self.client.start(self._start, fingerprint=self.fingerprint, attempts=1)

    def recent(self, offset: int) -> list[Job]:
        self._looked_at = time.time()
        return self.client.list_jobs(self.kind, self.collection, offset=offset)

    def get(self, job_id: str, *, attempts: int = ATTEMPTS) -> Job:
        return self.client.get(self.kind, job_id, attempts=attempts)

    def is_enough(self, job: Job) -> bool:
        if job.id not in self._enough:
            self._enough[job.id] = self.enough is None or self.enough(job)
        return self._enough[job.id]

    def abort(self, job_id: str) -> None:
        job = self.client.abort(self.kind, job_id, gracefully=self.task.abort_gracefully)
        if job.abort_took:
            metrics.count(self.kind, "aborted", self.context["ti"], job.act_id)

    def pause(self, seconds: float) -> None:
        self.client.stopping.wait(seconds)

    def stopped(self) -> bool:
        return self.client.stopping.is_set()

    def now(self) -> float:
        return time.time()

    def clock_offset(self) -> float | None:
        return self.client.clock_offset

    def stale(self) -> bool:
        return time.time() - self._looked_at > STALE_AFTER

    # -- what tries write down for each other, on Airflow 3.3 -----------------------------------------------------

    def _recall(self, epoch: int) -> tuple[Remembered | None, Moment | None]:
        """Read what an earlier try wrote down, and since when its attempt starts; survives a clear."""
        record = store.read(self.task, self.context, _store_key(self.kind))
        if record is None:
            return None, None
        # The job of another list is none of this attempt's, though the task is the same.
        same = record.get("collection") == self.collection
        try:
            fingerprint = Fingerprint(record["task"], int(record["epoch"]) if same else epoch - 1)
            since = None
            if "since" in record:
                # What was that machine's own clock is another machine's here.
                clock = Clock.APIFY if record.get("clock") == Clock.APIFY.value else Clock.OTHERS
                since = Moment(float(record["since"]), clock)
            unsure = record.get("unsure") is not False
            return Remembered(fingerprint, record[f"{self.kind.name}_id"], unsure), since
        except (KeyError, TypeError, ValueError):
            return None, None

    def _remember(self, unsure: bool, job_id: str | None) -> None:
        since = self._since.by_apify(self.client.clock_offset)
        record = {
            "task": self.fingerprint.task,
            "epoch": self.fingerprint.epoch,
            "collection": self.collection,
            f"{self.kind.name}_id": job_id,
            "since": since.at,
            "clock": since.clock.value,
            "unsure": unsure,
        }
        is_there = store.write(self.task, self.context, _store_key(self.kind), record)
        if not is_there and job_id and not self.task.do_xcom_push:
            # For the resumption of a deferred task whose triggerer says nothing.
            self.context["ti"].xcom_push(_store_key(self.kind), job_id)


def job_before(task: Any, context: Context) -> str | None:
    """Give the id of the job that this try had before it deferred."""
    ti, name, key_in_store = context["ti"], f"{task.job_kind.name}_id", _store_key(task.job_kind)
    key = name if task.do_xcom_push else key_in_store
    job_id = ti.xcom_pull(task_ids=ti.task_id, key=key, map_indexes=ti.map_index)
    return job_id or (store.read(task, context, key_in_store) or {}).get(name) or None


def _store_key(kind: JobKind[Job]) -> str:
    """Key of what a try writes down: in Airflow's task state store, else as an XCom."""
    return f"apify_{kind.name}"
