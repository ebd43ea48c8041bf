"""
The job that a worker holds: started in a thread of its own, let go or aborted when the task ends early.

``on_kill`` runs in a signal handler on the main thread, which ``execute`` may have left anywhere: holding a lock of the
logging system, half-way through a message to Airflow's supervisor, in the request that starts the job. It has five
seconds before SIGKILL. So whatever may block is left to threads, with a limit on each wait, and only the main thread
logs. They are bare threads: an executor's would be joined when the process ends, however long that takes.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout, TaskDeferred

from airflow_provider_apify import compat, metrics
from airflow_provider_apify.exceptions import ApifyJobTimeout
from airflow_provider_apify.jobs.ownership import Unknown, may_abort
from airflow_provider_apify.jobs.start import Clock, Fingerprint, Moment, may_be

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_apify.api.job import Job, JobKind
    from airflow_provider_apify.client.client import Client
    from airflow_provider_apify.jobs.start import Started

T = TypeVar("T")

#: Seconds that a task being killed waits for Airflow's word on it, with that for the id of a job being started, and in
#: all. The word takes 0.03 s, on a machine that is overloaded more than one: without it the job may be left.
STATE_LIMIT, ID_LIMIT, KILL_LIMIT = 2.2, 2.2, 4.7
#: Seconds that the end of a try waits for the same id: no SIGKILL is coming then.
PATIENCE = 60.0
#: Jobs that a task being killed asks for at a time, to find its own.
_ASKED_AT_ONCE = 5
#: Ways to end a try after which Airflow, or the user's deadline, lets no other try continue with the job.
_FINAL = (AirflowFailException, AirflowTaskTimeout, ApifyJobTimeout)


class State(Enum):
    """What a hold has."""

    #: No job, and none that may be there.
    EMPTY = "empty"
    #: A start may have been sent; its outcome will become known.
    STARTING = "starting"
    #: A job may be there, and its id will not become known.
    UNCLEAR = "unclear"
    #: A job whose id is known.
    HELD = "held"
    #: The job has ended, or is somebody else's business: it is not ours to abort.
    LET_GO = "let go"


#: What may happen to a hold, and the state after it. What is not here leaves the state as it is.
TRANSITIONS: dict[str, dict[State, State]] = {
    "start": {State.EMPTY: State.STARTING, State.UNCLEAR: State.STARTING},
    "take": {State.EMPTY: State.HELD, State.STARTING: State.HELD},
    "refused": {State.STARTING: State.EMPTY},
    "unclear": {State.STARTING: State.UNCLEAR},
    "release": dict.fromkeys(State, State.LET_GO),
}


class Hold:
    """
    One try's hold on the job of its attempt.

    :param client: connected, so that ending the job needs no word with Airflow.
    :param ti: the running task instance.
    :param abort: whether to abort the job at all when the task ends early.
    :param gracefully: whether the job is given time to save what it has.
    """

    def __init__(
        self, client: Client, kind: JobKind[Job], ti: Any, log: Logger, *, abort: bool, gracefully: bool = False
    ) -> None:
        self._client = client
        self._kind = kind
        self._ti = ti
        self._log = log
        self._abort = abort
        self._gracefully = gracefully
        #: Whether another try continues with the job if this one ends without Airflow ending the task.
        self._next_try = ti.try_number <= ti.max_tries and not compat.is_tasks_test(ti)
        self.state = State.EMPTY
        #: Whether the task is over: whatever job turns up is aborted. Apart from the state, which another thread may
        #: change at the same moment.
        self._given_up = False
        self._job_id: str | None = None
        #: Set when nothing more will become known of a job.
        self._settled = threading.Event()
        self._collection = ""
        self._fingerprint: Fingerprint | None = None
        #: When the first start of the attempt may have been sent.
        self._since = Moment(0.0, Clock.APIFY)
        self._counted = False

    def start(self, collection: str, fingerprint: Fingerprint, since: Moment, start: Callable[[], Started]) -> Started:
        """
        Run ``start`` in a thread of its own, so that its answer can still come while ``on_kill`` waits for it.

        It may be called again after it has failed; ``start`` then looks first.
        """
        self._collection, self._fingerprint, self._since = collection, fingerprint, since
        self._settled.clear()  # one that waited for room starts again
        self._move("start")
        future: Future[Started] = Future()

        def run() -> None:
            try:
                started = start()
                self.take(started.job.id)
                future.set_result(started)
            except BaseException as error:
                self._move("unclear" if getattr(error, "outcome_unknown", False) else "refused")
                self._settled.set()
                future.set_exception(error)

        threading.Thread(target=contextvars.copy_context().run, args=(run,), name="apify-start", daemon=True).start()
        return future.result()

    def take(self, job_id: str | None) -> None:
        """Hold a job that is there; ``None``: none can be named. One that comes too late is aborted at once."""
        # The id first: whoever gives up meanwhile finds it, or that is seen here.
        self._job_id = job_id
        if job_id:
            self._move("take")
        self._settled.set()
        if self._given_up and job_id:
            self._end(self._log.warning, attempts=3, seconds=0)

    def release(self) -> None:
        """The job has ended, or is somebody else's business from here on."""
        self._move("release")

    @contextmanager
    def during(self) -> Iterator[None]:
        """Around all that a try does with its job: if the try ends by an exception, decide on the job."""
        try:
            yield
        except TaskDeferred:
            self.release()
            raise
        except BaseException as error:
            self._end_of_try(error)
            raise

    def on_kill(self) -> None:
        """Abort the job if Airflow says that the task has ended or was cleared, within ``KILL_LIMIT`` seconds."""
        if self._settled.is_set() and not self._may_end:
            return
        report: list[str] = []
        thread = threading.Thread(target=self._kill, args=(report,), name="apify-kill", daemon=True)
        thread.start()
        thread.join(KILL_LIMIT)
        for line in report or [self._search_advice(f"The {self._kind.name} could not be aborted in time.")]:
            self._log.warning("%s", line)

    def is_over(self) -> bool:
        """Whether Airflow says that the task has ended or was cleared, and no other try continues with it."""
        return may_abort(_within(STATE_LIMIT, lambda: compat.ask_state(self._ti)), next_try=self._next_try)

    @property
    def _may_end(self) -> bool:
        """Whether the job, if there is one, is still to be aborted should the task be over."""
        return self._abort and not self._given_up and self.state is not State.LET_GO

    def _move(self, what: str) -> None:
        self.state = TRANSITIONS[what].get(self.state, self.state)

    def _end_of_try(self, error: BaseException) -> None:
        if not self._may_end:
            return
        if self._next_try and not isinstance(error, _FINAL):
            if self._job_id:
                self._log.info("%s %s is left to the next try of this task.", self._kind.title, self._job_id)
            return
        self._client.stopping.set()
        if self.state is State.STARTING:
            self._settled.wait(PATIENCE)
        if self.state is not State.EMPTY:  # else the error says why
            self._end(self._log.warning, attempts=3, seconds=PATIENCE)

    def _kill(self, report: list[str]) -> None:
        begun = time.monotonic()
        if not self.is_over():
            report.append(f"Airflow does not say that the task is over: its {self._kind.name} is left running.")
            return
        self._client.stopping.set()
        if not self._may_end:
            report.append("The task is over. A start that is being sent continues, no other one is sent.")
            return
        if self.state is State.STARTING:
            self._settled.wait(max(0.0, begun + ID_LIMIT - time.monotonic()))
        self._end(report.append, attempts=2, seconds=(begun + KILL_LIMIT - time.monotonic()) / 2)

    def _end(self, say: Callable[[str], object], *, attempts: int, seconds: float) -> None:
        """Abort the job, after at most ``seconds`` to find it if need be, and say how that went."""
        self._given_up = True
        if self._job_id is None and self.state is State.EMPTY:
            say(f"No {self._kind.name} was started.")
            return
        try:
            job_id = self._job_id or self._found(seconds)
            if job_id is None:
                say(self._search_advice(f"A {self._kind.name} may have been started."))
                return
            job = self._client.impatient().abort(self._kind, job_id, gracefully=self._gracefully, attempts=attempts)
        except Exception as error:
            say(self._search_advice(f"The {self._kind.name} {self._job_id or ''} could not be aborted: {error}"))
            return
        say(job.words_of_abort("its task no longer waits for it"))
        if job.abort_took and not self._counted:
            metrics.count(self._kind, "aborted", self._ti, job.act_id)
            self._counted = True

    def _found(self, seconds: float) -> str | None:
        """Look in the list for a job of this attempt whose id is not known, for ``seconds`` at most."""
        client = self._client.impatient()
        listed = client.list_jobs(self._kind, self._collection, attempts=1)
        offset = client.clock_offset
        found = [job.id for job in listed if self._is_ours(job)]
        left = deque(job.id for job in may_be(listed, self._since, offset) if self._since.is_before(job, offset))

        def ask() -> None:
            asking = self._client.impatient()  # a session is for one thread
            with suppress(IndexError):
                while not found:
                    job_id = left.popleft()
                    with suppress(Exception):
                        if self._is_ours(asking.get(self._kind, job_id, attempts=1)):
                            found.append(job_id)

        threads = [threading.Thread(target=ask, name="apify-find", daemon=True) for _ in range(_ASKED_AT_ONCE)]
        ends = time.monotonic() + seconds
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, ends - time.monotonic()))
        return found[0] if found else None

    def _is_ours(self, job: Job) -> bool:
        return job.is_live and Fingerprint.found_in(job.user_agent) == self._fingerprint

    def _search_advice(self, what: str) -> str:
        return (
            f"{what} If this task runs again, it takes care of that {self._kind.name}. Otherwise look in Apify Console"
            f" for an unfinished {self._kind.name} whose user agent holds {self._fingerprint}."
        )


def _within(seconds: float, ask: Callable[[], T]) -> T | Unknown:
    """Call ``ask`` in a thread, which may never end, and take its answer if it comes in time."""
    answers: list[T] = []

    def run() -> None:
        with suppress(Exception):
            answers.append(ask())

    thread = threading.Thread(target=run, name="apify-ask", daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else Unknown.STATE
