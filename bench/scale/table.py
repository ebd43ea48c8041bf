"""The example that loads items into PostgreSQL, as it is: each row once, also when the load is done again."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

from airflow_provider_apify.emulator import Emulator
from bench.report import Report
from bench.scale import common, servers
from rig.local_airflow import LocalAirflow

#: Runs of the Actor, one after the other, and seconds that each takes.
TASKS = 2
BUILD_SECONDS = 2.0
LIMIT = 180.0
#: Items that the example asks for.
ITEMS = 60

EXAMPLES = Path(__file__).resolve().parents[2] / "example_dags"
DAG_ID = "apify_into_postgresql"
COUNT = "SELECT count(*), count(DISTINCT (dataset_id, item)), count(DISTINCT dataset_id) FROM products"


def run(tasks: int, run_seconds: float, limit: float, say: common.Say) -> Report:
    report = Report(f"{tasks} runs of {ITEMS} items each into PostgreSQL, each load done twice")
    with (
        common.workspace(report, say) as home,
        Emulator(run_seconds=run_seconds) as emulator,
        servers.postgresql(servers.find_postgresql()) as database,
        LocalAirflow(home, EXAMPLES, env=_warehouse(database), say=say) as local,
    ):
        local.add_connection(host=emulator.url, password=emulator.token)
        for number in range(1, tasks + 1):
            run_id = local.trigger(DAG_ID, {"directory": f"file://{home}/items"})
            for what in ("loaded", "loaded again"):
                state = local.wait_for_run(DAG_ID, run_id, limit)
                say(f"run {number}, {what}: {state}")
                report.equal(f"run {number}, {what}", state, "success")
                rows = _rows(database)
                report.equal(
                    f"run {number}, {what}: rows, different rows, datasets",
                    rows,
                    (number * ITEMS, number * ITEMS, number),
                )
                if what == "loaded":
                    local.clear(DAG_ID, run_id, "load")
        report.equal("runs on Apify", len(emulator.runs), tasks)
    return report


def _warehouse(database: str) -> dict[str, str]:
    """The connection that the example has."""
    parts = urlsplit(f"//{database}")
    connection = {
        "conn_type": "postgres",
        "host": parts.hostname,
        "port": parts.port,
        "login": parts.username,
        "password": parts.password,
        "schema": parts.path.removeprefix("/"),
    }
    return {"AIRFLOW_CONN_WAREHOUSE": json.dumps(connection)}


def _rows(database: str) -> tuple[int, ...]:
    import psycopg2

    with psycopg2.connect(f"postgresql://{database}") as connection, connection.cursor() as cursor:
        cursor.execute(COUNT)
        return tuple(cursor.fetchone() or ())
