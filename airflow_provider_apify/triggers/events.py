"""
Announce to Airflow's assets which runs or builds of the account have ended, whoever started them.

DAG files import this module, so it imports neither requests nor aiohttp: :mod:`.job_stream` does the work.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Hashable, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_provider_apify import compat
from airflow_provider_apify.api.builds import BUILD
from airflow_provider_apify.api.endpoints import check_actor_id
from airflow_provider_apify.api.job import TERMINAL, Job, JobKind
from airflow_provider_apify.api.runs import RUN
from airflow_provider_apify.client.failures import configuration
from airflow_provider_apify.exceptions import ApifyConfigurationError

if TYPE_CHECKING:
    from airflow.triggers.shared_stream import SharedStreamProducer

#: Seconds between two looks at the account's list.
POLL_INTERVAL = 30.0
#: How far back the list is read at a start, or after no triggerer has run for a time; and the least that can be set, in
#: seconds.
MAX_CATCH_UP, LEAST_CATCH_UP = timedelta(days=1), 600.0


class JobsEventTrigger(BaseEventTrigger):
    """What the triggers of all kinds of job share; its subclasses say which kind."""

    job_kind: ClassVar[JobKind[Job]]
    #: Least seconds between two looks: Airflow takes some to make DAG runs of an event.
    least_interval: ClassVar[float] = 10.0

    def __init__(
        self,
        *,
        asset_name: str,
        actor_id: str | None = None,
        statuses: Iterable[str] | None = None,
        apify_conn_id: str = "apify_default",
        since: datetime | str | None = None,
        max_catch_up: timedelta | float = MAX_CATCH_UP,
        poll_interval: timedelta | float = POLL_INTERVAL,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if not compat.has_acknowledged_events():
            raise ApifyConfigurationError(f"{type(self).__name__} needs Airflow 3.3 or newer.")
        if not isinstance(asset_name, str) or not asset_name.strip():
            raise ApifyConfigurationError(
                f"asset_name must be the name of the Asset that has this watcher; got {asset_name!r}"
            )
        self.asset_name = asset_name
        with configuration():
            self.actor_id = None if actor_id is None else check_actor_id(actor_id)
        self.statuses = None if statuses is None else _checked_statuses(statuses)
        self.apify_conn_id = apify_conn_id
        self.since = None if since is None else _checked_time(since)
        self.max_catch_up = _seconds("max_catch_up", max_catch_up, least=LEAST_CATCH_UP)
        self.poll_interval = _seconds("poll_interval", poll_interval, least=self.least_interval)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "asset_name": self.asset_name,
                "actor_id": self.actor_id,
                "statuses": self.statuses,
                "apify_conn_id": self.apify_conn_id,
                "since": self.since,
                "max_catch_up": self.max_catch_up,
                "poll_interval": self.poll_interval,
            },
        )

    def shared_stream_key(self) -> Hashable:
        # One stream each: what has been announced is kept for an asset. The requests to Apify are shared below.
        return json.dumps(self.serialize(), sort_keys=True)

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        from airflow_provider_apify.triggers.job_stream import EndedJobs

        return EndedJobs(cls.job_kind, **kwargs)

    async def filter_shared_stream(self, shared_stream: AsyncIterator[dict[str, Any]]) -> AsyncIterator[TriggerEvent]:
        async for event in shared_stream:
            # One without jobs is for the sake of what is saved with it.
            if event["jobs"]:
                yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    def run(self) -> AsyncIterator[TriggerEvent]:
        raise NotImplementedError  # Airflow reads the shared stream instead.


class ApifyRunsEventTrigger(JobsEventTrigger):
    """
    Announce the account's runs that have ended, whoever started them, for an ``AssetWatcher``. Needs Airflow 3.3.

    Each event has ``kind``, ``"run"``, and ``jobs``: a list of runs, each as in the XCom ``summary``, without what
    lists do not show. A run is announced at least once, so be idempotent by ``run_id`` and ``finished_at``: one that is
    resurrected ends again.

    :param asset_name: the name of the asset that has this watcher. What has been announced is kept in its state store.
    :param actor_id: announce only runs of this Actor: its id, ``user~name``, ``user/name``, ``~name``, or the address
        of its page. ``None``: of all.
    :param statuses: announce only those that end so, such as ``["SUCCEEDED"]``: of ``SUCCEEDED``, ``FAILED``,
        ``TIMED-OUT`` and ``ABORTED``. ``None``: all four.
    :param apify_conn_id: Airflow connection: whose runs these are.
    :param since: when the watcher has not announced anything yet, announce also what began since then: a time with a
        zone, or one in ISO form; no further back than ``max_catch_up``. ``None``: what ends from now on.
    :param max_catch_up: how far back the list of runs is read after a time without triggerer: a ``timedelta`` or
        seconds, at least 600. What began before, while nobody looked, may not be announced.
    :param poll_interval: from one look at the list to the next: a ``timedelta`` or seconds, at least 10. Watchers with
        the same connection and interval share one look in each triggerer.
    :raises ApifyConfigurationError: an argument cannot be used, or Airflow is older.
    """

    job_kind = RUN


class ApifyBuildsEventTrigger(JobsEventTrigger):
    """
    Announce the account's builds that have ended, whoever started them, for an ``AssetWatcher``. Needs Airflow 3.3.

    Each event has ``kind``, ``"build"``, and ``jobs``: a list of builds, each as in the XCom ``summary``, without what
    lists do not show. A build is announced at least once, so be idempotent by ``build_id``.

    :param asset_name: the name of the asset that has this watcher. What has been announced is kept in its state store.
    :param actor_id: announce only builds of this Actor, which must be one of the account's: its id, ``user~name``,
        ``user/name``, ``~name``, or the address of its page. ``None``: of all.
    :param statuses: announce only those that end so, such as ``["SUCCEEDED"]``: of ``SUCCEEDED``, ``FAILED``,
        ``TIMED-OUT`` and ``ABORTED``. ``None``: all four.
    :param apify_conn_id: Airflow connection: whose builds these are.
    :param since: when the watcher has not announced anything yet, announce also what began since then: a time with a
        zone, or one in ISO form; no further back than ``max_catch_up``. ``None``: what ends from now on.
    :param max_catch_up: how far back the list of builds is read after a time without triggerer: a ``timedelta`` or
        seconds, at least 600. What began before, while nobody looked, may not be announced.
    :param poll_interval: from one look at the list to the next: a ``timedelta`` or seconds, at least 10. Watchers with
        the same connection and interval share one look in each triggerer.
    :raises ApifyConfigurationError: an argument cannot be used, or Airflow is older.
    """

    job_kind = BUILD


def _checked_statuses(statuses: Iterable[str]) -> list[str]:
    known = sorted(TERMINAL)
    found = sorted({str(status) for status in ([statuses] if isinstance(statuses, str) else statuses)})
    if not found or not set(found) <= TERMINAL:
        raise ApifyConfigurationError(f"statuses must be some of {', '.join(known)}; got {statuses!r}")
    return found


def _checked_time(since: datetime | str) -> str:
    try:
        # Before Python 3.11 this reads no Z.
        time = since if isinstance(since, datetime) else datetime.fromisoformat(since.replace("Z", "+00:00"))
    except (AttributeError, ValueError):
        time = None
    if time is None or time.tzinfo is None:
        raise ApifyConfigurationError(f"since must be a time with a zone, such as 2026-11-26T03:00:00Z; got {since!r}")
    return time.isoformat()


def _seconds(name: str, value: timedelta | float, *, least: float) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not least <= seconds < math.inf:
        raise ApifyConfigurationError(
            f"{name} must be a timedelta or a number of seconds, at least {least:.0f}; got {value!r}"
        )
    return float(seconds)
