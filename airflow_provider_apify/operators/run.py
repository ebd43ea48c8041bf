"""Run an Actor, or a task in Apify, and wait for the run if asked to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_apify.api import runs
from airflow_provider_apify.api.endpoints import check_actor_id, check_actor_task_id
from airflow_provider_apify.api.runs import RUN
from airflow_provider_apify.client.failures import configuration
from airflow_provider_apify.exceptions import ApifyRunFailed, ApifyTooFewItems
from airflow_provider_apify.lifecycle import arguments
from airflow_provider_apify.lifecycle.min_items import check_min_items, items_found
from airflow_provider_apify.lifecycle.tag_seen import add_actor_name
from airflow_provider_apify.operators.job import JobOperator

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

    from airflow_provider_apify.client.client import Client
    from airflow_provider_apify.jobs.wait import Limits
    from airflow_provider_apify.lifecycle.attempt import Attempt


class RunOperator(JobOperator):
    """What the operators that start a run share; a subclass says of what, and with which input."""

    job_kind = RUN
    failure = ApifyRunFailed

    template_fields: Sequence[str] = (
        "build",
        "memory_mbytes",
        "run_timeout",
        "max_items",
        "max_total_charge_usd",
        "restart_on_error",
        "min_items",
        *JobOperator.template_fields,
    )
    ui_color = "#b8d4ff"

    def __init__(
        self,
        *,
        build: str | XComArg | None,
        memory_mbytes: int | str | XComArg | None,
        run_timeout: timedelta | int | str | XComArg | None,
        max_items: int | str | XComArg | None,
        max_total_charge_usd: float | str | XComArg | None,
        restart_on_error: bool | str | None,
        min_items: int | str | XComArg | None,
        abort_gracefully: bool | str,
        **kwargs: Any,
    ) -> None:
        super().__init__(needs_the_end={"min_items": min_items is not None}, **kwargs)
        self.build: Any = build
        self.memory_mbytes: Any = memory_mbytes
        self.run_timeout: Any = run_timeout
        self.max_items: Any = max_items
        self.max_total_charge_usd: Any = max_total_charge_usd
        self.restart_on_error = restart_on_error
        self.min_items: Any = arguments.now_or_rendered(arguments.min_items, min_items)
        self.abort_gracefully = arguments.switch("abort_gracefully", abort_gracefully)

    def _read_rendered(self) -> None:
        super()._read_rendered()
        self.min_items = arguments.min_items(self.min_items)

    def needed_mbytes(self) -> float | None:
        memory = arguments.number(self.memory_mbytes)
        return None if memory is None else float(memory)

    def _of(self) -> tuple[str, str]:
        """Give the path of the runs of what is run, and its name for messages."""
        raise NotImplementedError

    def _encoded_input(self) -> tuple[bytes | None, str | None]:
        """Give the body and the Content-Type of the input."""
        raise NotImplementedError

    def _attempt(self, context: Context, client: Client, begun: float) -> Attempt:
        from airflow_provider_apify.lifecycle.attempt import Attempt

        build = arguments.digits(arguments.given(self.build))
        with configuration():
            collection, subject = self._of()
            body, content_type = self._encoded_input()
            start = runs.start_run(
                collection,
                body=body,
                content_type=content_type,
                build=build,
                memory_mbytes=arguments.number(self.memory_mbytes),
                run_timeout=arguments.number(self.run_timeout),
                max_items=arguments.number(self.max_items),
                max_total_charge_usd=arguments.number(self.max_total_charge_usd),
                restart_on_error=arguments.rendered_switch("restart_on_error", self.restart_on_error),
            )

        def excludes(run: Any) -> bool:
            return runs.is_build_number(build) and run.build_number not in (None, build)

        enough = partial(self._has_enough, client) if self.min_items else None
        return Attempt(self, context, client, RUN, collection, subject, lambda: start, excludes, begun, enough)

    def _has_enough(self, client: Client, run: Any) -> bool:
        """Whether a run of a try before has found enough; if not, this try replaces it."""
        if run.finished_at is None:
            run = client.get(RUN, run.id)  # items of lists need not have it
        found = items_found(client, run.summary(), self.min_items)
        if found < self.min_items:
            self.log.warning(
                "Run %s of the try before has %d items, fewer than min_items=%d: it is replaced.",
                run,
                found,
                self.min_items,
            )
        return bool(found >= self.min_items)

    def _complete(self, client: Client, summary: dict[str, Any], limits: Limits) -> None:
        add_actor_name(self, client, summary)

    def check_result(self, client: Client, summary: dict[str, Any]) -> None:
        check_min_items(self, client, summary, ApifyTooFewItems)

    def _trigger(self) -> Any:
        from airflow_provider_apify.triggers.run import ApifyRunTrigger

        return partial(ApifyRunTrigger, abort_gracefully=self.abort_gracefully)


class ApifyRunActorOperator(RunOperator):
    """
    Run an Actor on Apify.

    One attempt starts one run: a retry adopts the run of the try before, and replaces it only if it failed or found
    too little; a clear starts another one. If the task is cleared, times out, or is marked failed or success, its run
    is aborted.

    Returns the run's id. Pushes the XComs ``run_id``, ``actor_id``, ``build_number``, ``dataset_id`` and
    ``key_value_store_id`` as soon as the run exists, ``summary`` and ``stats`` when it has ended; with
    ``do_xcom_push=False`` none of them. With ``outlets``, an asset event carries the summary as ``extra``. Items and
    records stay at Apify: read them with ``ApifyHook``, or bring them to files with
    ``ApifyDatasetToObjectStorageOperator``.

    :param actor_id: Actor to run: id, ``user~name``, ``user/name``, ``~name`` for an own one, or the address of its
        page in Apify Console or Apify Store. (templated)
    :param run_input: the Actor's input: what JSON can say, such as a dict; text or bytes are sent as they are.
        ``None``: no body, so the defaults of the Actor's input schema; ``{}``: an empty object. At most 9,437,184
        bytes. (templated inside; text without ``{{`` or ``{%`` stays as it is, and so does
        ``literal(...)`` of ``airflow.providers.common.compat.sdk``)
    :param content_type: of a ``run_input`` that is text or bytes, such as ``"text/plain"``. ``None``: it must be JSON.
        (templated)
    :param build: tag or number of the build to run. ``None``: the Actor's default, usually ``latest``. (templated)
    :param memory_mbytes: memory in MB, a power of 2 from 128 to 32768. ``None``: the Actor's default. (templated)
    :param run_timeout: seconds or ``timedelta`` after which Apify stops the run as TIMED-OUT, 0 for never. ``None``:
        the Actor's default. (templated)
    :param max_items: most items to be charged for, at least 1; it has an effect on Actors that are paid per result
        only, and does not limit the items. ``None``: no limit. (templated)
    :param max_total_charge_usd: most US dollars to be charged, above 0; on Actors that are paid per event. ``None``:
        what Apify chooses. (templated)
    :param restart_on_error: restart the run when the Actor fails: a bool or ``"true"`` or ``"false"``. ``None``: the
        Actor's default. (templated)
    :param min_items: fail if the run succeeds with fewer items in its default dataset, at least 1. They are counted by
        reading, which stops there. A retry counts again before it starts another run, which is paid for. It needs
        ``wait_for_completion``. ``None``: no check. (templated)
    :param wait_for_finish: seconds, 0 to 60, to wait in the worker first, so that a short run is over in this task.
        (templated)
    :param wait_for_completion: wait until the run has ended, and fail if it did not succeed: a bool or ``"true"`` or
        ``"false"``.
    :param deferrable: wait in the triggerer instead of the worker, for 15 s or longer; values as
        ``wait_for_completion``, without which it has no effect but on ``wait_for_capacity``. ``None``: ``[operators]
        default_deferrable``.
    :param timeout: seconds or ``timedelta`` that each try waits at most, from when its run is known; then the run is
        aborted. ``None``: as long as it takes. It has no effect without ``wait_for_completion``. ``execution_timeout``
        counts from the begin of the try, also while deferred. Apify's own limit is ``run_timeout``. (templated)
    :param wait_for_capacity: seconds or ``timedelta`` that each try waits at most for room, where Apify does not start
        the run since the account's memory or number of jobs is used up: in the triggerer with ``deferrable``, else
        in the worker. ``timeout`` does not count meanwhile, ``execution_timeout`` does. Nothing is started twice, and
        nothing runs while it waits. ``None``: not at all. (templated)
    :param abort_on_kill: abort the unfinished run when the task is cleared, times out, or is marked; values as
        ``wait_for_completion``.
    :param abort_gracefully: when it is aborted, let the Actor save what it has, for 30 s at most, which are paid for;
        values as ``wait_for_completion``.
    :param stream_log: show the run's own log in the task's log: line by line while the task waits in a worker; its
        last 20 lines after a deferral or if the run had ended before. Values as
        ``wait_for_completion``.
    :param apify_conn_id: Airflow connection of type ``apify``. (templated)
    :raises ApifyRunFailed: the run did not succeed; with its status message, exit code and the end of its log. A retry
        starts a fresh run.
    :raises ApifyTooFewItems: it succeeded with fewer than ``min_items`` items. A retry starts a fresh run.
    :raises ApifyJobTimeout: it did not end within ``timeout``.
    :raises ApifyPollError: for 10 minutes Apify refused to say how the run is doing. A retry waits for it.
    :raises ApifyCapacityError: the account's memory is taken, also when ``wait_for_capacity`` was over.
    :raises ApifyInvalidRequestError: the input does not fit the Actor's input schema, or the build cannot be run. Not
        retried.
    :raises ApifyQuotaError: the account may not spend more, or the Actor must be rented. Not retried.
    :raises ApifyPermissionError: the token may not run it, or its permissions must be approved. Not retried.
    :raises ApifyConfigurationError: an argument or a field of the connection cannot be used. Not retried.
    :raises ApifyApiError: a request failed; see ``airflow_provider_apify.exceptions`` for which are retried.
    """

    template_fields: Sequence[str] = ("actor_id", "run_input", "content_type", *RunOperator.template_fields)
    template_fields_renderers = {"run_input": "json"}

    def __init__(
        self,
        *,
        actor_id: str | XComArg,
        run_input: Any = None,
        content_type: str | None = None,
        build: str | XComArg | None = None,
        memory_mbytes: int | str | XComArg | None = None,
        run_timeout: timedelta | int | str | XComArg | None = None,
        max_items: int | str | XComArg | None = None,
        max_total_charge_usd: float | str | XComArg | None = None,
        restart_on_error: bool | str | None = None,
        min_items: int | str | XComArg | None = None,
        wait_for_finish: int | str | XComArg | None = None,
        wait_for_completion: bool | str = False,
        deferrable: bool | str | None = None,
        timeout: timedelta | float | str | XComArg | None = None,
        wait_for_capacity: timedelta | float | str | XComArg | None = None,
        abort_on_kill: bool | str = True,
        abort_gracefully: bool | str = False,
        stream_log: bool | str = False,
        apify_conn_id: str = "apify_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            build=build,
            memory_mbytes=memory_mbytes,
            run_timeout=run_timeout,
            max_items=max_items,
            max_total_charge_usd=max_total_charge_usd,
            restart_on_error=restart_on_error,
            min_items=min_items,
            wait_for_finish=wait_for_finish,
            wait_for_completion=wait_for_completion,
            deferrable=deferrable,
            timeout=timeout,
            wait_for_capacity=wait_for_capacity,
            abort_on_kill=abort_on_kill,
            abort_gracefully=abort_gracefully,
            stream_log=stream_log,
            apify_conn_id=apify_conn_id,
            **kwargs,
        )
        # What other tasks give is there when templates are rendered, before anything here reads it.
        self.actor_id: str = actor_id  # type: ignore[assignment]
        self.run_input = run_input
        self.content_type = content_type

    def _read_rendered(self) -> None:
        super()._read_rendered()
        self.actor_id = arguments.checked(check_actor_id, arguments.digits(self.actor_id))

    def _of(self) -> tuple[str, str]:
        return runs.actor_runs(self.actor_id), f"Actor {self.actor_id}"

    def _encoded_input(self) -> tuple[bytes | None, str | None]:
        return runs.encoded_input(
            "run_input", self.run_input, arguments.given(self.content_type and self.content_type.strip())
        )


class ApifyRunTaskOperator(RunOperator):
    """
    Run a task that is saved in Apify: an Actor with an input and options of its own. Not a task of Airflow's.

    The rest is as with :class:`ApifyRunActorOperator`, whose parameters it has but for these.

    :param actor_task_id: task to run: id, ``user~name``, ``user/name``, ``~name`` for an own one, or the address of its
        page in Apify Console. (templated)
    :param task_input: a dict that replaces fields of the saved input, key by key, a field that is an object as a whole.
        ``None`` or ``{}``: the saved input as it is. (templated inside, as ``run_input``)
    """

    template_fields: Sequence[str] = ("actor_task_id", "task_input", *RunOperator.template_fields)
    template_fields_renderers = {"task_input": "json"}

    def __init__(
        self,
        *,
        actor_task_id: str | XComArg,
        task_input: Mapping[str, Any] | str | XComArg | None = None,
        build: str | XComArg | None = None,
        memory_mbytes: int | str | XComArg | None = None,
        run_timeout: timedelta | int | str | XComArg | None = None,
        max_items: int | str | XComArg | None = None,
        max_total_charge_usd: float | str | XComArg | None = None,
        restart_on_error: bool | str | None = None,
        min_items: int | str | XComArg | None = None,
        wait_for_finish: int | str | XComArg | None = None,
        wait_for_completion: bool | str = False,
        deferrable: bool | str | None = None,
        timeout: timedelta | float | str | XComArg | None = None,
        wait_for_capacity: timedelta | float | str | XComArg | None = None,
        abort_on_kill: bool | str = True,
        abort_gracefully: bool | str = False,
        stream_log: bool | str = False,
        apify_conn_id: str = "apify_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            build=build,
            memory_mbytes=memory_mbytes,
            run_timeout=run_timeout,
            max_items=max_items,
            max_total_charge_usd=max_total_charge_usd,
            restart_on_error=restart_on_error,
            min_items=min_items,
            wait_for_finish=wait_for_finish,
            wait_for_completion=wait_for_completion,
            deferrable=deferrable,
            timeout=timeout,
            wait_for_capacity=wait_for_capacity,
            abort_on_kill=abort_on_kill,
            abort_gracefully=abort_gracefully,
            stream_log=stream_log,
            apify_conn_id=apify_conn_id,
            **kwargs,
        )
        self.actor_task_id: str = actor_task_id  # type: ignore[assignment]
        self.task_input = task_input

    def _read_rendered(self) -> None:
        super()._read_rendered()
        self.actor_task_id = arguments.checked(check_actor_task_id, arguments.digits(self.actor_task_id))

    def _of(self) -> tuple[str, str]:
        return runs.task_runs(self.actor_task_id), f"Apify task {self.actor_task_id}"

    def _encoded_input(self) -> tuple[bytes | None, str | None]:
        return runs.encoded_task_input(self.task_input)
