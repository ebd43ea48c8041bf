"""
Run an Actor, and load what it has found into PostgreSQL, or another SQL database.

The rows go in by Airflow's own SQL provider (*common-sql*). The key of each row is the
id of its run's dataset and its number in it, so a retry replaces rows and doubles none.

It needs a connection `warehouse`, and the provider of that database, such as
`apache-airflow-providers-postgres`. The directory for the files must be one that all
workers see, such as `s3://my_connection@my-bucket/apify`.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from airflow.providers.common.compat.sdk import BaseHook
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.sdk import DAG, ObjectStoragePath, Param, task

from airflow_provider_apify.operators.run import ApifyRunActorOperator
from airflow_provider_apify.transfers.dataset_to_object_storage import (
    ApifyDatasetToObjectStorageOperator,
)

COLUMNS = ("dataset_id", "item", "url", "title", "price")

with DAG(
    dag_id="apify_into_postgresql",
    dag_display_name="7 Load what an Actor has found into PostgreSQL",
    description="Actor to run, run to files, files to a table. Needs a database.",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2026, 1, 1),
    params={
        "directory": Param(
            "file:///tmp/airflow-apify",
            title="Where the files go",
            type="string",
            description="file://, s3://, gs://, abfs://",
        ),
    },
    tags=["apify", "example"],
):
    create = SQLExecuteQueryOperator(
        task_id="create",
        conn_id="warehouse",
        sql="CREATE TABLE IF NOT EXISTS products (dataset_id text, item integer,"
        " url text, title text, price numeric, PRIMARY KEY (dataset_id, item))",
    )

    run = ApifyRunActorOperator(
        task_id="run",
        actor_id="~scraper",
        run_input={"items": 60},
        wait_for_completion=True,
        deferrable=True,
        min_items=10,
        retries=1,
    )

    files = ApifyDatasetToObjectStorageOperator(
        task_id="to_files",
        run_id=run.output,
        target="{{ params.directory }}/{{ task.run_id }}",
        compression="gzip",
        retries=2,
    )

    @task(retries=2)
    def load(written: dict[str, Any]) -> int:
        """Read the files line by line, and write 1000 rows at a time."""
        manifest = ObjectStoragePath(written["manifest"])
        content = json.loads(manifest.read_text())

        def items() -> Iterator[dict[str, Any]]:
            for file in content["files"]:
                path = manifest.parent / file["name"]
                with path.open("rb") as packed, gzip.open(packed, "rt") as lines:
                    yield from map(json.loads, lines)

        rows = (
            (content["dataset_id"], number, *(item.get(name) for name in COLUMNS[2:]))
            for number, item in enumerate(items())
        )

        BaseHook.get_hook("warehouse").insert_rows(
            "products",
            rows,
            target_fields=COLUMNS,
            replace=True,
            replace_index=["dataset_id", "item"],
        )
        return int(content["items"])

    [create, files] >> load(files.output)  # type: ignore[arg-type]
