"""A job's own log in the task's log, line by line while a worker waits for the job."""

from __future__ import annotations

import codecs
import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_apify.api.errors import first_line

if TYPE_CHECKING:
    from airflow_provider_apify.api.job import Job, JobKind
    from airflow_provider_apify.client.client import Client

#: How many of the last lines are shown of a job that failed, or that was waited for elsewhere.
LOG_TAIL_LINES = 20
#: Most lines that are shown, the longest, in characters, and most bytes that are read for them.
MOST_LINES, LONGEST_LINE, MOST_BYTES = 20_000, 2000, 100_000_000
#: Seconds to wait for the last lines when the job has ended.
LAST_LINES = 5.0
#: First and longest pause in seconds before a stream that broke off is opened again; doubled while it brings nothing.
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0


@contextmanager
def streamed_log(task: Any, client: Client, job_id: str, *, off: bool = False) -> Iterator[None]:
    """
    Show the job's log while the body waits for the job, if the task has ``stream_log``. No trouble with it is the
    task's: it waits without the log.

    :param off: show nothing.
    """
    if off or not task.stream_log:
        yield
        return
    task.log_streamed = True
    shown = _Shown(task, client.another(), job_id)
    thread = threading.Thread(target=contextvars.copy_context().run, args=(shown.run,), name="apify-log", daemon=True)
    thread.start()
    try:
        yield
        shown.over.set()
        thread.join(LAST_LINES)
    finally:
        shown.stop.set()
        shown.over.set()


def show_tail(task: Any, client: Client, summary: dict[str, Any]) -> None:
    """Show the last lines of a job's log, if the task has ``stream_log`` and could not show it as it was written."""
    if not task.stream_log or task.log_streamed:
        return
    kind: JobKind[Job] = task.job_kind
    job_id = summary[f"{kind.name}_id"]
    try:
        for line in client.log_tail(kind, job_id, lines=LOG_TAIL_LINES, attempts=3).splitlines():
            task.log.info("%s | %s", kind.name, line[:LONGEST_LINE])
    except Exception as error:
        task.log.warning("The log of %s %s could not be read: %s", kind.name, job_id, first_line(error))


class _Shown:
    """What has been shown of a job's log. Apify gives no part of one, so what was shown is passed over."""

    def __init__(self, task: Any, client: Client, job_id: str) -> None:
        self._task, self._client, self._job_id = task, client, job_id
        self._kind: JobKind[Job] = task.job_kind
        #: Set when the job has ended, and when nothing more may be logged.
        self.over, self.stop = threading.Event(), threading.Event()
        self._bytes = self._lines = self._read_in_all = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        #: The begin of a line whose end has not come.
        self._begun = ""

    def run(self) -> None:
        warned, pause = False, FIRST_PAUSE
        while not self.stop.is_set():
            last, before = self.over.is_set(), self._bytes
            try:
                self._read()
            except Exception as error:
                if not warned:
                    self._task.log.warning(
                        "The log of %s %s cannot be read now: %s", self._kind.name, self._job_id, first_line(error)
                    )
                warned = True
            if last or self._is_full():
                break
            # Whether it was cut off, however politely, shows only in another look.
            pause = FIRST_PAUSE if self._bytes > before else min(2 * pause, LONGEST_PAUSE)
            self.over.wait(pause)
        self._client.close()
        if self._begun and not self.stop.is_set():
            self._show(self._begun)

    def _read(self) -> None:
        passed = 0
        for chunk in self._client.log_stream(self._kind, self._job_id):
            new = chunk[max(0, self._bytes - passed) :]
            passed += len(chunk)
            self._read_in_all += len(chunk)
            self._bytes = max(self._bytes, passed)
            *lines, self._begun = (self._begun + self._decoder.decode(new)).split("\n")
            # Twice: a token that is cut could not be found.
            self._begun = self._begun[: 2 * LONGEST_LINE]
            for line in lines:
                if self.stop.is_set():
                    return
                if self._lines < MOST_LINES:
                    self._show(line)
            if self._is_full():
                self._begun = ""
                self._task.log.warning("The rest of the log of %s %s is not shown.", self._kind.name, self._job_id)
                return

    def _is_full(self) -> bool:
        return self._lines >= MOST_LINES or self._read_in_all >= MOST_BYTES

    def _show(self, line: str) -> None:
        self._lines += 1
        if line.strip():
            self._task.log.info("%s | %s", self._kind.name, self._client.shown(line)[:LONGEST_LINE])
