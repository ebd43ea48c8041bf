"""
Run Actors every night, and load what they have found into a table.

Each Actor has a mapped task of its own that runs it, and one that brings its items to
files. When all files are there, one task loads them into a DuckDB database, and tells
Airflow that the table is new. Where the files are is in a manifest, which is written
last: the task reads that, and never a file of a transfer that has stopped half-way.

A run has a dataset of its own, and the rows have its id. So a retry, or a clear of the
task, replaces the rows of that run and doubles none.

To try it: `pip install duckdb`, and trigger this DAG. The directory must be one that
all workers see, such as `s3://my_connection@my-bucket/apify`; the database is a file
of the worker that runs `load`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, ObjectStoragePath, Param, task

from airflow_provider_apify.operators.run import ApifyRunActorOperator
from airflow_provider_apify.transfers.dataset_to_object_storage import (
    ApifyDatasetToObjectStorageOperator,
)

#: Actors of the emulator, for the form. Put your own in their place.
ACTORS = {
    "~scraper": "~scraper: finds items",
    "~hello-world": "~hello-world: finds items, too",
    "~finds-nothing": "~finds-nothing: succeeds, but its task fails",
    "~fails-half-way": "~fails-half-way: the run fails, and its log says why",
    "~slow-run": "~slow-run: takes six times as long",
}
CREATE = """
CREATE TABLE IF NOT EXISTS products
    (url VARCHAR, title VARCHAR, price DOUBLE, dataset_id VARCHAR)
"""
DELETE = "DELETE FROM products WHERE dataset_id = $dataset_id"
INSERT = """
INSERT INTO products SELECT url, title, price, $dataset_id FROM
    read_json($file, columns={url: 'VARCHAR', title: 'VARCHAR', price: 'DOUBLE'})
"""
SUMMARY = "SELECT count(*), arg_min(title, price) FROM products"

products = Asset(name="apify_products", uri="duckdb://apify/products")

with DAG(
    dag_id="apify_run_and_load",
    dag_display_name="6 Run Actors, and load what they found into a table",
    description="Actors to runs, runs to files, files to DuckDB; then an asset event.",
    doc_md=__doc__,
    schedule="0 4 * * *",
    catchup=False,
    params={
        "actors": Param(
            ["~scraper", "~hello-world"],
            title="Actors to run",
            type="array",
            items={"type": "string"},
            # What the form offers. Any id, user/name, or ~name is taken.
            examples=list(ACTORS),
            values_display=ACTORS,
            description="For others, change the JSON in Advanced Options",
        ),
        "directory": Param(
            "file:///tmp/airflow-apify",
            title="Where the files go",
            type="string",
            description="file://, s3://, gs://, abfs://",
        ),
        "database": Param(
            "/tmp/airflow-apify/products.duckdb",
            title="DuckDB's file",
            type="string",
        ),
    },
    tags=["apify", "example"],
):

    @task
    def choose(params: dict[str, Any] | None = None) -> list[str]:
        """Make the list when the DAG runs: here from the form."""
        return list((params or {})["actors"])

    run = ApifyRunActorOperator.partial(
        task_id="run",
        run_input={"items": 60},
        wait_for_completion=True,
        deferrable=True,
        min_items=10,
        retries=1,
        map_index_template="{{ task.actor_id }}",
    ).expand(actor_id=choose())

    # One directory for each run, so that no two tasks write to the same.
    files = ApifyDatasetToObjectStorageOperator.partial(
        task_id="to_files",
        target="{{ params.directory }}/{{ task.run_id }}",
        compression="gzip",
        retries=2,
    ).expand(run_id=run.output)

    @task(outlets=[products], retries=2, max_active_tis_per_dag=1)
    def load(
        written: list[dict[str, Any]],
        params: dict[str, Any] | None = None,
    ) -> str:
        """Load all files in one transaction. One task: DuckDB has one writer."""
        import duckdb

        directory = ObjectStoragePath((params or {})["directory"])
        database = Path((params or {})["database"])
        database.parent.mkdir(parents=True, exist_ok=True)
        with duckdb.connect(database) as db:
            # So DuckDB reads with the Airflow connection that the address names.
            db.register_filesystem(directory.fs)
            db.execute(CREATE)
            db.begin()
            for each in written:
                manifest = ObjectStoragePath(each["manifest"])
                content = json.loads(manifest.read_text())
                dataset_id = content["dataset_id"]
                db.execute(DELETE, {"dataset_id": dataset_id})
                for file in content["files"]:
                    path = (manifest.parent / file["name"]).path
                    address = f"{manifest.protocol}://{path}"
                    db.execute(INSERT, {"dataset_id": dataset_id, "file": address})
            db.commit()
            rows, cheapest = db.execute(SUMMARY).fetchall()[0]
        return f"{rows} rows are in the table, and the cheapest is {cheapest}"

    load(files.output)  # type: ignore[arg-type]
