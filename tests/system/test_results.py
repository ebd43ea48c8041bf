"""The example that runs Actors and fills a table, as it is, on a real Airflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb

from airflow_provider_apify.emulator import Emulator
from rig.local_airflow import LocalAirflow
from tests.rows import count_jobs

DAG_ID = "apify_run_and_load"
EACH_ROW_ONCE = "SELECT count(*), count(DISTINCT (dataset_id, url)), count(DISTINCT dataset_id) FROM products"


def test_actors_are_run_and_each_item_is_in_the_table_once(
    airflow: LocalAirflow, apify: Emulator, tmp_path: Path
) -> None:
    apify.run_seconds = 2
    run = airflow.trigger(DAG_ID, conf(tmp_path, "~scraper", "~hello-world"))
    assert airflow.wait_for_run(DAG_ID, run) == "success"
    datasets = {run["defaultDatasetId"] for run in apify.runs}
    assert rows(tmp_path) == (120, 120, 2)
    for index in range(2):
        written = airflow.xcom(DAG_ID, run, "to_files", map_index=index)
        manifest = json.loads(Path(written["manifest"].removeprefix("file://")).read_text())
        assert manifest["dataset_id"] in datasets and manifest["items"] == 60
    (event,) = airflow.asset_events(source_run_id=run)
    assert event["uri"] == "duckdb://apify/products"

    airflow.clear(DAG_ID, run, "to_files", "load")
    assert airflow.wait_for_run(DAG_ID, run) == "success"
    assert rows(tmp_path) == (120, 120, 2), "the same datasets are loaded again, and replace their rows"
    count_jobs(2, len(apify.runs))


def conf(directory: Path, *actors: str) -> dict[str, Any]:
    return {
        "actors": list(actors),
        "directory": f"file://{directory}/items",
        "database": f"{directory}/products.duckdb",
    }


def rows(directory: Path) -> tuple[int, ...]:
    with duckdb.connect(directory / "products.duckdb", read_only=True) as db:
        return tuple(db.sql(EACH_ROW_ONCE).fetchall()[0])
