"""What users do with any operator: default_args, Params, mapping, groups, setup and teardown, several connections."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs

from airflow_provider_apify.emulator import Emulator
from rig.local_airflow import LocalAirflow


def started(apify: Emulator) -> list[tuple[str, dict[str, str]]]:
    """The Actors built, each with the parameters of the request."""
    return [
        (request.path.split("/")[3], {name: values[0] for name, values in parse_qs(request.query).items()})
        for request in apify.requests
        if request.method == "POST" and request.path.endswith("/builds")
    ]


def test_default_args_params_mapping_groups_and_two_connections(
    airflow: LocalAirflow, apify: Emulator, other_apify: Emulator
) -> None:
    run = airflow.trigger("habits", {"tag": "from-conf", "use_cache": True})
    assert airflow.wait_for_run("habits", run) == "success"
    expected = [
        ("~hello-world", {"version": "0.0", "tag": "from-conf", "useCache": "true"}),
        ("~hello-world", {"version": "0.0", "tag": "from-conf"}),
        ("~hello-world", {"version": "0.0", "tag": "own"}),
        ("~two-versions", {"version": "1.0", "tag": "from-conf"}),
        ("~two-versions", {"version": "0.0", "tag": "from-conf"}),
    ]
    assert sorted(started(other_apify), key=str) == sorted(expected, key=str)
    assert sorted(actor for actor, _ in started(apify)) == ["~hello-world", "~two-versions"]
    for index in range(2):
        build_id = airflow.xcom("habits", run, "start_and_wait.start", map_index=index)
        assert airflow.xcom("habits", run, "start_and_wait.wait", map_index=index)["build_id"] == build_id
        deferred = airflow.xcom("habits", run, "group.expand", "summary", map_index=index)
        assert deferred["status"] == "SUCCEEDED"


def test_a_teardown_builds_though_the_work_has_failed(
    airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]
) -> None:
    run = start("setup_and_teardown")
    assert airflow.wait_for_run("setup_and_teardown", run) == "failed"
    states = {name: task["state"] for name, task in airflow.tasks("setup_and_teardown", run).items()}
    assert states == {"candidate": "success", "try_out": "failed", "stable": "success"}
    assert [build["status"] for build in apify.builds] == ["SUCCEEDED", "SUCCEEDED"]
    assert [build["buildNumber"] for build in apify.builds] == ["1.0.1", "0.0.1"]
