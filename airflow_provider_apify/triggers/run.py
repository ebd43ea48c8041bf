"""Wait for a run in the triggerer."""

from __future__ import annotations

from typing import Any

from airflow_provider_apify.api.runs import RUN
from airflow_provider_apify.triggers.job import JobTrigger


class ApifyRunTrigger(JobTrigger):
    """
    Wait until a run ends, the deadline comes or asking again cannot help, then send one event.

    The event has ``run_id``, both deadlines and ``status``:

    - ``ended``: also ``run``, its summary, whether it succeeded or not
    - ``error``: also the exception as ``lifecycle.events.to_event`` gives it; the deadline is an ``ApifyJobTimeout``

    :param run_id: the run.
    :param apify_conn_id: Airflow connection. The token itself is never stored with a trigger.
    :param deadline: by the task's ``timeout``, in epoch seconds, so that a restart of the triggerer does not move it;
        ``None`` for none.
    :param execution_deadline: the same by its ``execution_timeout``.
    :param abort_on_kill: abort the run when Airflow says that the task was ended or cleared. For the task that started
        the run; who merely waits does not own it.
    :param abort_gracefully: let the Actor save what it has, for 30 s at most, when it is aborted.
    :param not_before: epoch seconds before which no event is sent, at most 15 s from now; ``None`` for at once. Ignored
        where no triggerer runs the trigger, as in ``dag.test()``.
    """

    job_kind = RUN

    def __init__(
        self,
        *,
        run_id: str,
        apify_conn_id: str,
        deadline: float | None = None,
        execution_deadline: float | None = None,
        abort_on_kill: bool = False,
        abort_gracefully: bool = False,
        not_before: float | None = None,
    ) -> None:
        super().__init__(
            run_id,
            apify_conn_id=apify_conn_id,
            deadline=deadline,
            execution_deadline=execution_deadline,
            abort_on_kill=abort_on_kill,
            not_before=not_before,
        )
        self.abort_gracefully = abort_gracefully

    def serialize(self) -> tuple[str, dict[str, Any]]:
        path, kwargs = super().serialize()
        return path, {**kwargs, "abort_gracefully": self.abort_gracefully}
