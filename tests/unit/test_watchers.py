"""The arguments of watchers, and what Airflow keeps of them."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from airflow_provider_apify import compat
from airflow_provider_apify.exceptions import ApifyConfigurationError
from airflow_provider_apify.triggers.events import ApifyBuildsEventTrigger, ApifyRunsEventTrigger
from tests.features import WATCHERS


def test_before_airflow_3_3_a_watcher_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "has_acknowledged_events", lambda: False)
    with pytest.raises(ApifyConfigurationError, match=r"^ApifyRunsEventTrigger needs Airflow 3[.]3 or newer[.]$"):
        ApifyRunsEventTrigger(asset_name="runs")


@WATCHERS.needed
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"asset_name": " "}, "asset_name must be the name of the Asset that has this watcher; got ' '"),
        ({"actor_id": "a/b/c"}, "actor_id must be an Actor's id"),
        ({"statuses": ["DONE"]}, "statuses must be some of ABORTED, FAILED, SUCCEEDED, TIMED-OUT; got ['DONE']"),
        ({"statuses": []}, "statuses must be some of"),
        ({"since": "2026-11-26"}, "since must be a time with a zone, such as 2026-11-26T03:00:00Z; got '2026-11-26'"),
        ({"since": 3}, "since must be a time with a zone"),
        ({"max_catch_up": 60}, "max_catch_up must be a timedelta or a number of seconds, at least 600; got 60"),
        ({"poll_interval": "30"}, "poll_interval must be a timedelta or a number of seconds, at least 10; got '30'"),
        ({"poll_interval": 9}, "at least 10; got 9"),
    ],
)
def test_arguments_that_cannot_be_used(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ApifyConfigurationError) as refused:
        ApifyRunsEventTrigger(**{"asset_name": "runs", **arguments})
    assert words in str(refused.value)


@WATCHERS.needed
def test_what_airflow_keeps_of_a_watcher_is_plain_json() -> None:
    trigger = ApifyBuildsEventTrigger(
        asset_name="builds",
        actor_id="https://console.apify.com/actors/ggMg7h2mh3bBzBQKK#/builds",
        statuses=("SUCCEEDED", "FAILED"),
        since=dt.datetime(2026, 11, 26, 3, tzinfo=dt.timezone.utc),
        max_catch_up=dt.timedelta(hours=2),
    )
    path, kwargs = trigger.serialize()
    assert path == "airflow_provider_apify.triggers.events.ApifyBuildsEventTrigger"
    assert json.loads(json.dumps(kwargs)) == {
        "asset_name": "builds",
        "actor_id": "ggMg7h2mh3bBzBQKK",
        "statuses": ["FAILED", "SUCCEEDED"],
        "apify_conn_id": "apify_default",
        "since": "2026-11-26T03:00:00+00:00",
        "max_catch_up": 7200.0,
        "poll_interval": 30.0,
    }
    assert ApifyBuildsEventTrigger(**kwargs).serialize() == (path, kwargs)
