"""Wait for a build that something else has started."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_apify.api.builds import BUILD
from airflow_provider_apify.exceptions import ApifyBuildFailedFinal
from airflow_provider_apify.jobs.wait import Limits
from airflow_provider_apify.lifecycle.tag_seen import add_actor
from airflow_provider_apify.sensors.job import JobSensor

if TYPE_CHECKING:
    from airflow.sdk import XComArg

    from airflow_provider_apify.client.client import Client


class ApifyBuildSensor(JobSensor):
    """
    Wait until a build has ended, and fail if it did not succeed.

    It never aborts the build, which belongs to whoever started it. In ``poke`` mode it long-polls, so the end is
    noticed at once and ``poke_interval`` has no meaning; in ``reschedule`` mode it asks every ``poke_interval``;
    deferrable, it long-polls in the triggerer, whatever the ``mode``, and resumes 15 s after the deferral or later.

    ``soft_fail``, ``never_fail`` and ``silent_fail`` mean the same in all of these: ``soft_fail`` skips where the
    sensor would fail for good or time out, ``never_fail`` wherever it would fail, and with ``silent_fail`` an error
    that a retry may remove means "not yet".

    Returns the summary: ``build_id``, ``actor_id``, ``build_number``, ``status``, times, ``duration_seconds``,
    ``stats``, ``usage``, ``usage_total_usd``, ``console_url``. Also pushes the XComs ``build_id``, ``build_number``
    and ``actor_id``, and at the end ``summary`` and ``stats``; with ``do_xcom_push=False`` none of them.

    :param build_id: id of the build, such as the ``output`` of an ``ApifyBuildOperator``. (templated)
    :param deferrable: wait in the triggerer: a bool or ``"true"`` or ``"false"``. ``None``: ``[operators]
        default_deferrable``.
    :param stream_log: show the build's own log in the task's log: line by line while the sensor waits in a worker; its
        last 20 lines after a deferral, in ``reschedule`` mode, or if the build had ended before. Values as
        ``deferrable``.
    :param apify_conn_id: Airflow connection of type ``apify``. (templated)
    :raises ApifyBuildFailedFinal: the build did not succeed; with the end of its log. Not retried: it never changes.
    :raises ApifyJobSensorTimeout: it did not end within ``timeout``. Not retried.
    :raises ApifyConfigurationError: an argument or a field of the connection cannot be used. Not retried.
    :raises ApifyPollError: for 10 minutes Apify refused to say how the build is doing. Retried.
    :raises ApifyApiError: asking again cannot help: the build is not there, or the token is refused. Not retried.
    """

    job_kind = BUILD
    failure = ApifyBuildFailedFinal

    template_fields: Sequence[str] = ("build_id", *JobSensor.template_fields)
    ui_color = "#d6f5a3"

    def __init__(
        self,
        *,
        build_id: str | XComArg,
        deferrable: bool | str | None = None,
        stream_log: bool | str = False,
        apify_conn_id: str = "apify_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(deferrable=deferrable, stream_log=stream_log, apify_conn_id=apify_conn_id, **kwargs)
        # The output of another task is there when templates are rendered, before anything here reads it.
        self.build_id: str = build_id  # type: ignore[assignment]

    def _complete(self, client: Client, summary: dict[str, Any]) -> None:
        add_actor(self, client, summary, Limits(), None, await_tag=False)

    def _trigger(self) -> Any:
        from airflow_provider_apify.triggers.build import ApifyBuildTrigger

        return ApifyBuildTrigger
