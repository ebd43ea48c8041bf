"""
The build that a worker holds: started in a thread of its own, let go or aborted when the task ends early.

``on_kill`` runs in a signal handler on the main thread, which ``execute`` may have left anywhere: holding a lock of the
logging system, half-way through a message to Airflow's supervisor, in the request that starts the build. It has five
seconds before SIGKILL. So whatever may block is left to threads, with a limit on each wait, and only the main thread
logs.
"""

from __future__ import annotations

import contextvars
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout, TaskDeferred

from airflow_provider_apify import metrics
from airflow_provider_apify.exceptions import ApifyBuildTimeout
from airflow_provider_apify.jobs.ownership import Unknown, may_abort, state_of
from airflow_provider_apify.jobs.start import Clock, Fingerprint, Moment, may_be

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_apify.api.model import Build
    from airflow_provider_apify.hooks.apify import ApifyHook
    from airflow_provider_apify.jobs.start import Started

T = TypeVar("T")

#: Seconds that a task being killed waits for Airflow's word on it, with that for the id of a build being started, and
#: in all. The word takes 0.03 s, on a machine that is overloaded more than one: without it the build may be left.
STATE_LIMIT, ID_LIMIT, KILL_LIMIT = 2.2, 2.2, 4.7
#: Seconds that the end of a try waits for the same id: no SIGKILL is coming then.
PATIENCE = 60.0
#: Builds that a task being killed asks for at a time, to find its own.
_ASKED_AT_ONCE = 5
#: Ways to end a try after which Airflow, or the user's deadline, lets no other try go on with the build.
_FINAL = (AirflowFailException, AirflowTaskTimeout, ApifyBuildTimeout)


class Hold:
    """
    One try's hold on the build of its attempt.

    :param hook: with its settings resolved, so that ending the build needs no word with Airflow.
    :param ti: the running task instance.
    :param abort: whether to abort the build at all when the task ends early.
    """

    def __init__(self, hook: ApifyHook, ti: Any, log: Logger, *, abort: bool) -> None:
        self._hook = hook
        self._ti = ti
        self._log = log
        self._abort = abort
        #: Whether another try goes on with the build if this one ends without Airflow ending the task.
        self._next_try = ti.try_number <= ti.max_tries and not _is_tasks_test(ti)
        self._actor_id = ""
        self._fingerprint: Fingerprint | None = None
        #: When the first start of the attempt may have been sent.
        self._since = Moment(0.0, Clock.APIFY)
        self._build_id: str | None = None
        #: Set when nothing more can become known of a build.
        self._known = threading.Event()
        self._maybe_started = False
        self._given_up = False
        self._aborted = False

    def start(self, actor_id: str, fingerprint: Fingerprint, since: Moment, start: Callable[[], Started]) -> Started:
        """Run ``start`` in a thread of its own, so that its answer can still come while ``on_kill`` waits for it."""
        self._actor_id, self._fingerprint = actor_id, fingerprint
        self._since = since
        self._maybe_started = True
        future: Future[Started] = Future()

        def run() -> None:
            try:
                started = start()
                self.take(started.build.id)
                future.set_result(started)
            except BaseException as error:
                self._maybe_started = getattr(error, "outcome_unknown", False)
                self._known.set()
                future.set_exception(error)

        threading.Thread(target=contextvars.copy_context().run, args=(run,), name="apify-start", daemon=True).start()
        return future.result()

    def take(self, build_id: str | None) -> None:
        """Hold a build that is there; ``None``: none can be named. One that comes too late is aborted at once."""
        self._build_id = build_id
        self._known.set()
        if self._given_up and build_id:
            self._abort_now(self._log.warning, attempts=3, seconds=0)

    def release(self) -> None:
        """The build has ended, or is somebody else's business from here on."""
        self._abort = False

    @contextmanager
    def during(self) -> Iterator[None]:
        """Around all that a try does with its build: if the try ends by an exception, decide on the build."""
        try:
            yield
        except TaskDeferred:
            self.release()
            raise
        except BaseException as error:
            self._end_of_try(error)
            raise

    def on_kill(self) -> None:
        """Abort the build if Airflow says that the task has ended or was cleared, within ``KILL_LIMIT`` seconds."""
        if not self._abort and self._known.is_set():
            return
        report: list[str] = []
        thread = threading.Thread(target=self._kill, args=(report,), name="apify-kill", daemon=True)
        thread.start()
        thread.join(KILL_LIMIT)
        for line in report or [self._search_advice("The build could not be aborted in time.")]:
            self._log.warning("%s", line)

    def _end_of_try(self, error: BaseException) -> None:
        if not self._abort:
            return
        if self._next_try and not isinstance(error, _FINAL):
            if self._build_id:
                self._log.info("Build %s is left to the next try of this task.", self._build_id)
            return
        self._hook.stopping.set()
        if self._maybe_started:
            self._known.wait(PATIENCE)
        if self._build_id is None and not self._maybe_started:
            return  # the error says why
        self._abort_now(self._log.warning, attempts=3, seconds=PATIENCE)

    def _kill(self, report: list[str]) -> None:
        begun = time.monotonic()
        if not self.is_over():
            report.append("Airflow does not say that the task is over: its build is left running.")
            return
        self._hook.stopping.set()
        if not self._abort:
            report.append("The task is over. A start that is being sent continues, no other one is sent.")
            return
        if self._maybe_started:
            self._known.wait(max(0.0, begun + ID_LIMIT - time.monotonic()))
        self._abort_now(report.append, attempts=2, seconds=(begun + KILL_LIMIT - time.monotonic()) / 2)

    def _abort_now(self, say: Callable[[str], object], *, attempts: int, seconds: float) -> None:
        """Abort the build, after at most ``seconds`` to find it if need be, and say how that went."""
        self._abort = False
        self._given_up = True
        if self._build_id is None and not self._maybe_started:
            say("No build was started.")
            return
        try:
            build_id = self._build_id or self._found(seconds)
            if build_id is None:
                say(self._search_advice("A build may have been started."))
                return
            build = self._hook.quick().abort_build(build_id, attempts=attempts)
        except Exception as error:
            say(self._search_advice(f"The build {self._build_id or ''} could not be aborted: {error}"))
            return
        if not build.abort_took:
            say(f"Build {build} is {build.status}.")
            return
        say(f"Build {build} is being aborted, since its task no longer waits for it.")
        if not self._aborted:
            metrics.count("aborted", self._ti, build.act_id)
        self._aborted = True

    def _found(self, seconds: float) -> str | None:
        """Look among the Actor's builds for one of this attempt whose id is not known, for ``seconds`` at most."""
        hook = self._hook.quick()
        listed = hook.list_builds(self._actor_id, attempts=1)
        offset = hook.clock_offset
        found = [build.id for build in listed if self._is_ours(build)]
        left = deque(build.id for build in may_be(listed, self._since, offset) if self._since.is_before(build, offset))

        def ask() -> None:
            asking = self._hook.quick()  # a session is for one thread
            with suppress(IndexError):
                while not found:
                    build_id = left.popleft()
                    with suppress(Exception):
                        if self._is_ours(asking.get_build(build_id, attempts=1)):
                            found.append(build_id)

        threads = [threading.Thread(target=ask, name="apify-find", daemon=True) for _ in range(_ASKED_AT_ONCE)]
        ends = time.monotonic() + seconds
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, ends - time.monotonic()))
        return found[0] if found else None

    def _is_ours(self, build: Build) -> bool:
        return build.is_live and Fingerprint.found_in(build.user_agent) == self._fingerprint

    def _search_advice(self, what: str) -> str:
        return (
            f"{what} If this task runs again, it takes care of that build. Otherwise look in Apify Console for an"
            f" unfinished build whose user agent holds {self._fingerprint}."
        )

    def is_over(self) -> bool:
        """Whether Airflow says that the task has ended or was cleared, and no other try goes on with it."""
        return may_abort(_within(STATE_LIMIT, self._state), next_try=self._next_try)

    def _state(self) -> str | None:
        from airflow.sdk.execution_time import task_runner

        # Before Airflow 3.2 the channel has no lock: a word on it now could garble what the main thread is sending.
        if not hasattr(task_runner.SUPERVISOR_COMMS, "_thread_lock"):
            raise RuntimeError("the supervisor cannot be asked safely")
        ti = self._ti
        states = ti.get_task_states(
            dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
        )
        return state_of(states, ti.run_id)


def _is_tasks_test(ti: Any) -> bool:
    """Whether this is ``airflow tasks test``, which runs a single try, whatever the task's retries."""
    from airflow.sdk.execution_time import task_runner

    comms = getattr(task_runner, "SUPERVISOR_COMMS", None)
    in_one_process = type(comms).__name__ == "InProcessSupervisorComms"
    # Airflow 3.0 sets no variable, but no scheduler has counted the try.
    return in_one_process and ("AIRFLOW_TEST_MODE" in os.environ or ti.try_number < 1)


def _within(seconds: float, ask: Callable[[], T]) -> T | Unknown:
    """Call ``ask`` in a thread, which may never end, and take its answer if it comes in time."""
    answers: list[T] = []

    def run() -> None:
        try:
            answers.append(ask())
        except Exception:
            pass

    thread = threading.Thread(target=run, name="apify-ask", daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else Unknown.STATE
