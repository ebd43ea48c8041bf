"""
What it takes to bring a dataset into a file, on a disk and on an S3 server.

Datasets of 200,000 items (180 MB) and of 2,000,000 come from the emulator, as JSONL and not packed, in a process of its
own that makes the items as they are read. They have not changed for a minute: at the end of younger ones, the operator
waits for late items for up to six seconds after its start. Files are written to the disk of this machine, and to an S3
server (moto) in another process. Each measurement is a process of its own: time is wall time; memory is the most that
the process holds, above what it holds after its imports. In turn:

- ``bare``: one request, whose answer ``requests`` streams into ``ObjectStoragePath.open("wb")``, a megabyte at a time.
  It notices neither a cut answer nor half a file.
- ``operator``: ``ApifyDatasetToObjectStorageOperator``, all items in one file.
- ``in parts``: the same, with 50,000 items in each file.
- ``apify-client``: ``iterate_items`` of Apify's own client for Python, each item as a line of JSON; 200,000 items only.
- ``HttpToS3Operator``: Airflow's operator, to S3; 200,000 items only, since it holds the whole answer.

All share the cores of this machine, also with whatever else runs there: of each, the fastest turn counts. CPU time is
that of the measured process alone.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from bench import common, report

SIZES = (200_000, 2_000_000)
WAYS = ("bare", "operator", "in parts", "apify-client", "HttpToS3Operator")
MB = 1_000_000
MOST_RATIO, MOST_MB = 1.3, 40
COLUMNS = {
    "items": "Items",
    "target": "To",
    "who": "How",
    "seconds": "Seconds",
    "ratio": "Times the bare stream",
    "cpu": "CPU seconds",
    "peak_mb": "MB above imports",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of items")
    parser.add_argument("--targets", nargs="+", default=("disk", "S3"))
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--serve", choices=("items", "s3"), help=argparse.SUPPRESS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.sizes)
    elif options.measure:
        print(json.dumps(measure(**json.loads(options.measure))))
    else:
        print(__doc__)
        compare(options.rounds, options.sizes, options.targets, options.ways)


def compare(rounds: int, sizes: list[int], targets: list[str], ways: list[str]) -> None:
    rows: list[report.Row] = []
    sizes_too = ["--sizes", *map(str, sizes)]
    with (
        common.started("bench.results", "--serve", "items", *sizes_too) as served,
        common.started("bench.results", "--serve", "s3") as s3,
    ):
        url, *datasets = served.split()
        for turn in range(rounds):
            for size, dataset in zip(sizes, datasets, strict=True):
                for target in targets:
                    for who in ways:
                        if (who in WAYS[3:] and size > SIZES[0]) or (who == WAYS[4] and target == "disk"):
                            continue
                        found = measured(who, url, dataset, size, target, s3)
                        rows.append({"items": size, "target": target, "who": who, **found})
                        print(turn + 1, *map(report.shown, rows[-1].values()), flush=True)
    merged = report.medians(rows, ("items", "target", "who"))
    for row in merged:
        row["seconds"] = min(each["seconds"] for each in row["rounds"])
        bare = next(each for each in merged if each["items"] == row["items"] and each["target"] == row["target"])
        row["ratio"] = row["seconds"] / bare["seconds"]
    report.print_table(merged, COLUMNS)
    ours = [row for row in merged if row["who"] in ("operator", "in parts")]
    holds = all(row["ratio"] <= MOST_RATIO and row["peak_mb"] <= MOST_MB for row in ours)
    print(f"At most {MOST_RATIO} times the bare stream, and {MOST_MB} MB: {'yes' if holds else 'NO'}")
    report.save("results", __doc__ or "", rows=merged, holds=holds)
    sys.exit(not holds)


def measured(who: str, url: str, dataset: str, size: int, target: str, s3: str) -> dict[str, float]:
    """Measure in a process of its own, with a target that is empty."""
    with tempfile.TemporaryDirectory() as home:
        # moto takes its time to put the parts of a large file together.
        options = {"endpoint_url": s3, "region_name": "us-east-1", "config_kwargs": {"read_timeout": 600}}
        connections = {
            "APIFY_DEFAULT": {"conn_type": "apify", "host": url, "password": common.TOKEN},
            "HTTP": {"conn_type": "http", "host": url},
            "S3": {"conn_type": "aws", "login": "key", "password": "secret", "extra": options},
        }
        env = common.clean_environment(
            home, **{f"AIRFLOW_CONN_{name}": json.dumps(value) for name, value in connections.items()}
        )
        where = f"file://{home}/results" if target == "disk" else "s3://s3@bucket/results"
        if target == "S3":
            for method, path in (("POST", "/moto-api/reset"), ("PUT", "/bucket")):
                urllib.request.urlopen(urllib.request.Request(s3 + path, method=method), timeout=60).close()
        arguments = json.dumps({"who": who, "url": url, "dataset": dataset, "size": size, "target": where})
        found: dict[str, float] = common.run_python(who, ["-m", "bench.results", "--measure", arguments], env, 3600)
        return found


def measure(who: str, url: str, dataset: str, size: int, target: str) -> dict[str, float]:
    """Write a dataset to ``target``, in this process."""
    import logging

    import requests
    from airflow.sdk import ObjectStoragePath
    from apify_client import ApifyClient

    from airflow_provider_apify.transfers.dataset_to_object_storage import ApifyDatasetToObjectStorageOperator

    logging.disable(logging.CRITICAL)
    path: Any = ObjectStoragePath(target)
    if target.startswith("s3"):
        from airflow.providers.amazon.aws.transfers.http_to_s3 import HttpToS3Operator

        # Loads what clients of S3 need, too.
        (path / "warm").write_bytes(b"up")
        (path / "warm").unlink()
    else:
        path.mkdir()
    address = f"{url}/v2/datasets/{dataset}/items?format=jsonl"
    header = {"Authorization": f"Bearer {common.TOKEN}"}

    def bare() -> None:
        with requests.get(address, headers=header, timeout=60, stream=True) as answer, (path / "x").open("wb") as file:
            for chunk in answer.iter_content(2**20):
                file.write(chunk)

    def operator(items_per_file: int | None = None) -> None:
        task = ApifyDatasetToObjectStorageOperator(
            task_id="write", dataset_id=dataset, target=target, items_per_file=items_per_file
        )
        assert execute(task)["items"] == size

    def official() -> None:
        client = ApifyClient(common.TOKEN, api_url=url)
        with (path / "x").open("w") as file:
            for item in client.dataset(dataset).iterate_items():
                file.write(json.dumps(item) + "\n")

    def http() -> None:
        task = HttpToS3Operator(
            task_id="write",
            http_conn_id="http",
            endpoint=address.removeprefix(url),
            headers=header,
            s3_bucket="bucket",
            s3_key="results/x",
            aws_conn_id="s3",
        )
        execute(task)

    calls: list[Callable[[], None]] = [bare, operator, lambda: operator(50_000), official, http]
    way = calls[WAYS.index(who)]
    Path("/proc/self/clear_refs").write_text("5")  # the peak from now on
    before, began, used = memory("VmRSS"), time.perf_counter(), time.process_time()
    way()
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    peak = memory("VmHWM") - before
    files = [file.stat().st_size for file in path.iterdir()]
    assert sum(files) >= size * len(lines(0, 1)), files
    return {"seconds": seconds, "cpu": cpu, "peak_mb": peak / MB}


def execute(task: Any) -> Any:
    return task.execute({})


def memory(name: str) -> int:
    """Bytes that this process holds (``VmRSS``), or has held at most (``VmHWM``)."""
    status = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in status if line.startswith(f"{name}:"))


def serve(what: str, sizes: list[int]) -> None:
    ending = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    if what == "s3":
        import logging

        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        moto.start()
        print("http://{}:{}".format(*moto.get_host_and_port()), flush=True)
        signal.sigwait(ending)
        # It would wait for connections that are kept alive.
        os._exit(0)
    from airflow_provider_apify.client import items
    from airflow_provider_apify.emulator import Emulator

    with Emulator(token=common.TOKEN, gzip=False) as emulator:
        datasets = [emulator.add_dataset(count=size, lines=lines) for size in sizes]
        time.sleep(items.SETTLED + 1)
        print(emulator.url, *datasets, flush=True)
        signal.sigwait(ending)


_ITEM = {
    "id": "#####",
    "url": "https://example.com/products/#####",
    "title": "A thing that is neither large nor small",
    "price": {"amount": 12.5, "currency": "EUR"},
    "text": "Lorem ipsum dolor sit amet, consectetur adipisici elit. " * 12,
    "tags": ["one", "two", "three"],
}


def lines(start: int, stop: int) -> bytes:
    """Items of about 900 bytes, all of the same length."""
    first = start // 1000
    thousands = b"".join(_thousand(number) for number in range(first, -(-stop // 1000)))
    length = len(thousands) // (1000 * (-(-stop // 1000) - first))
    return thousands[(start - 1000 * first) * length : (stop - 1000 * first) * length]


@lru_cache(2)
def _thousand(number: int) -> bytes:
    return _thousand_of_any_number().replace(b"#####", b"%05d" % number)


@lru_cache
def _thousand_of_any_number() -> bytes:
    return b"".join(
        json.dumps({**_ITEM, "id": f"#####{number:03d}"}, separators=(",", ":")).encode() + b"\n"
        for number in range(1000)
    )


if __name__ == "__main__":
    main()
