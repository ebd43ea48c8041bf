"""Promise 5 on a real Airflow: the token is in no log, row, XCom, event or link of anything that happens here."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from airflow_provider_apify.emulator import Emulator, Fault
from demo.local_airflow import LocalAirflow
from tests.system.conftest import CANARY, finish, long_polls, wait_for_statuses


def places_of(secret: str, airflow: LocalAirflow, apify: Emulator) -> list[str]:
    """Name every log file, database column and URL that holds ``secret``."""
    found = [str(path) for path in airflow.home.rglob("*.log") if secret in path.read_text(errors="replace")]
    with sqlite3.connect(f"file:{airflow.database}?mode=ro", uri=True) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            cursor = database.execute(f'SELECT * FROM "{table}"')
            columns = [column[0] for column in cursor.description]
            for row in cursor:
                for column, value in zip(columns, row, strict=True):
                    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
                    if secret in text:
                        found.append(f"{table}.{column}")
    found += [request.path for request in apify.requests if secret in request.path + request.query]
    return found


def test_the_token_is_nowhere(airflow: LocalAirflow, apify: Emulator, start: Callable[..., str]) -> None:
    """After all the other tests, which come before this one, and after failures that could print it."""
    runs = [("in_worker", start("in_worker", "~always-fails")), ("deferred", start("deferred", "~always-fails"))]
    for dag_id, run in runs:
        assert airflow.wait_for_run(dag_id, run) == "failed"
    apify.add_fault(Fault("html", path="/v2/actor-builds/*", times=2))
    apify.add_fault(Fault("reset", path="/v2/actor-builds/*", times=2))
    run = start("deferred", "~endless")
    airflow.wait_for_task("deferred", run, "build", {"deferred"})
    wait_for_statuses(apify, "FAILED", "FAILED", "FAILED", "FAILED", "RUNNING")
    apify.wait_for(lambda emulator: long_polls(emulator) > 0)
    apify.token = "rotated"
    apify.add_fault(Fault("reset", path="/v2/actor-builds/*", times=1))
    finish(apify)
    assert airflow.wait_for_run("deferred", run, timeout=180) == "failed"
    assert "ApifyAuthenticationError" in airflow.task_log("deferred", run, "build", 1)

    assert places_of(CANARY, airflow, apify) == []


def test_the_search_finds_a_token_that_is_there(airflow: LocalAirflow, apify: Emulator) -> None:
    planted = "apify_api_PLANTED"
    (airflow.home / "planted.log").write_text(f"oops: {planted}")
    airflow.api("POST", "/variables", json={"key": "oops", "value": "x", "description": planted})
    assert set(places_of(planted, airflow, apify)) >= {str(Path(airflow.home / "planted.log")), "variable.description"}
