"""Wait for a run that something else has started."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_apify.api.runs import RUN
from airflow_provider_apify.exceptions import ApifyRunFailedFinal, ApifyTooFewItemsFinal
from airflow_provider_apify.lifecycle import arguments
from airflow_provider_apify.lifecycle.min_items import check_min_items
from airflow_provider_apify.lifecycle.tag_seen import add_actor_name
from airflow_provider_apify.sensors.job import JobSensor

if TYPE_CHECKING:
    from airflow.sdk import XComArg

    from airflow_provider_apify.client.client import Client


class ApifyRunSensor(JobSensor):
    """
    Wait until a run has ended, and fail if it did not succeed.

    It never aborts the run, which belongs to whoever started it, and tells of the run as it saw it: one that somebody
    resurrects later is a new story. Modes, ``soft_fail``, ``never_fail`` and ``silent_fail`` are as with
    :class:`~airflow_provider_apify.sensors.build.ApifyBuildSensor`.

    Returns the summary: ``run_id``, ``actor_id``, ``actor_task_id``, ``actor_name``, ``build_number``, ``status``,
    ``status_message``, ``exit_code``, times, ``duration_seconds``, ``dataset_id``, ``key_value_store_id``, ``stats``,
    ``usage``, ``usage_total_usd`` and ``charged_event_counts`` so far, ``console_url``. Also pushes the XComs
    ``run_id``, ``actor_id``, ``build_number``, ``dataset_id`` and ``key_value_store_id``, and at the end ``summary``
    and ``stats``; with ``do_xcom_push=False`` none of them.

    :param run_id: id of the run, such as the ``output`` of an ``ApifyRunActorOperator``. (templated)
    :param min_items: fail if the run succeeds with fewer items in its default dataset, at least 1. They are counted by
        reading, which stops there. ``None``: no check. (templated)
    :param deferrable: wait in the triggerer: a bool or ``"true"`` or ``"false"``. ``None``: ``[operators]
        default_deferrable``.
    :param stream_log: show the run's own log in the task's log: line by line while the sensor waits in a worker; its
        last 20 lines after a deferral, in ``reschedule`` mode, or if the run had ended before. Values as
        ``deferrable``.
    :param apify_conn_id: Airflow connection of type ``apify``. (templated)
    :raises ApifyRunFailedFinal: the run did not succeed; with its status message, exit code and the end of its log. Not
        retried.
    :raises ApifyTooFewItemsFinal: it succeeded with fewer than ``min_items`` items. Not retried.
    :raises ApifyJobSensorTimeout: it did not end within ``timeout``. Not retried.
    :raises ApifyConfigurationError: an argument or a field of the connection cannot be used. Not retried.
    :raises ApifyPollError: for 10 minutes Apify refused to say how the run is doing. Retried.
    :raises ApifyApiError: asking again cannot help: the run is not there, or the token is refused. Not retried.
    """

    job_kind = RUN
    failure = ApifyRunFailedFinal

    template_fields: Sequence[str] = ("run_id", "min_items", *JobSensor.template_fields)
    ui_color = "#dde9ff"

    def __init__(
        self,
        *,
        run_id: str | XComArg,
        min_items: int | str | XComArg | None = None,
        deferrable: bool | str | None = None,
        stream_log: bool | str = False,
        apify_conn_id: str = "apify_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(deferrable=deferrable, stream_log=stream_log, apify_conn_id=apify_conn_id, **kwargs)
        # The output of another task is there when templates are rendered, before anything here reads it.
        self.run_id: str = run_id  # type: ignore[assignment]
        self.min_items: Any = arguments.now_or_rendered(arguments.min_items, min_items)

    def _client(self) -> Client:
        self.min_items = arguments.min_items(self.min_items)
        return super()._client()

    def _complete(self, client: Client, summary: dict[str, Any]) -> None:
        add_actor_name(self, client, summary)

    def check_result(self, client: Client, summary: dict[str, Any]) -> None:
        check_min_items(self, client, summary, ApifyTooFewItemsFinal)

    def _trigger(self) -> Any:
        from airflow_provider_apify.triggers.run import ApifyRunTrigger

        return ApifyRunTrigger
