"""The items of a dataset in files, on a disk and on an S3 server: complete, the same each time, or not there."""

from __future__ import annotations

import csv
import datetime as dt
import errno
import gzip
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from airflow.sdk import DAG, ObjectStoragePath

from airflow_provider_apify import compat
from airflow_provider_apify.client import items
from airflow_provider_apify.emulator import Emulator, Fault
from airflow_provider_apify.exceptions import ApifyConfigurationError, ApifyTargetError
from airflow_provider_apify.transfers import dataset_to_object_storage
from airflow_provider_apify.transfers.dataset_to_object_storage import ApifyDatasetToObjectStorageOperator
from tests.runner import Outcome, Runner, Supervisor

ITEMS: list[dict[str, Any]] = [
    {"n": n, "text": f'ü "{n}",\u2028\n', "at": {"lat": n / 4}, **({"odd": True, "#debug": n} if n % 2 else {})}
    for n in range(1000)
]
ITEMS_PATH = "/v2/datasets/*/items"
Run = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pages, and no long pauses between tries."""
    monkeypatch.setattr(items, "PAGE", 300)
    monkeypatch.setattr(items, "LATE", 0.0)  # seconds to wait for more items
    monkeypatch.setattr("airflow_provider_apify.client.client.backoff", lambda *_: 0.0)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """An S3 server."""
    moto = pytest.importorskip("moto.server", reason="moto is in the group dev")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def s3(server: str) -> str:
    """A directory on the S3 server, over an Airflow connection."""
    from airflow.sdk.io import attach

    s3fs = pytest.importorskip("s3fs", reason="s3fs is in the group dev")
    files = s3fs.S3FileSystem(key="k", secret="s", endpoint_url=server, skip_instance_cache=True)
    attach("s3", conn_id="store", fs=files)
    if files.exists("bucket"):
        files.rm("bucket", recursive=True)
    files.mkdir("bucket")
    return "s3://store@bucket/some/where"


@pytest.fixture(params=["disk", "s3"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.getfixturevalue("s3")) if request.param == "s3" else f"file://{tmp_path}/new/directory"


def task(**kwargs: Any) -> ApifyDatasetToObjectStorageOperator:
    with DAG("dag", start_date=dt.datetime(2026, 1, 1), render_template_as_native_obj=kwargs.pop("native", False)):
        return ApifyDatasetToObjectStorageOperator(task_id="write", **kwargs)


@pytest.fixture
def run(runner: Runner) -> Run:
    return lambda **kwargs: runner.run(task(**kwargs))


def written(**kwargs: Any) -> Any:
    """What a run that succeeds returns."""
    outcome = kwargs.pop("run")(**kwargs)
    assert outcome.state == "success", outcome.error
    return outcome.xcoms["return_value"]


def names(target: str) -> list[str]:
    path = ObjectStoragePath(target)
    path.fs.invalidate_cache()
    return sorted(file.name for file in path.iterdir()) if path.exists() else []


def contents(target: str) -> dict[str, bytes]:
    return {name: (ObjectStoragePath(target) / name).read_bytes() for name in names(target)}


def manifest(target: str) -> dict[str, Any]:
    return dict(json.loads((ObjectStoragePath(target) / "manifest.json").read_text()))


def read(target: str) -> list[Any]:
    """The items of all files in the manifest."""
    found: list[Any] = []
    for file in manifest(target)["files"]:
        body = (ObjectStoragePath(target) / file["name"]).read_bytes()
        assert len(body) == file["bytes"]
        body = gzip.decompress(body) if file["name"].endswith(".gz") else body
        if ".csv" in file["name"]:
            rows = list(csv.DictReader(io.StringIO(body.decode(), newline="")))
        else:
            rows = json.loads(body) if ".json." in f"{file['name']}." else list(map(json.loads, body.splitlines()))
        assert len(rows) == file["items"]
        found += rows
    return found


def test_items_are_in_files_that_the_manifest_lists(run: Run, apify: Emulator, target: str) -> None:
    dataset = apify.add_dataset(ITEMS)
    returned = written(run=run, dataset_id=dataset, target=target, items_per_file=400)
    assert set(names(target)) == {"manifest.json", *(f"{dataset}-00000{number}.jsonl" for number in (1, 2, 3))}
    assert read(target) == ITEMS
    found = manifest(target)
    assert [file["items"] for file in found["files"]] == [400, 400, 200]
    assert {name: found[name] for name in ("dataset_id", "run_id", "format", "compression", "filters", "items")} == {
        "dataset_id": dataset,
        "run_id": None,
        "format": "jsonl",
        "compression": None,
        "filters": {},
        "items": 1000,
    }
    assert returned == {
        "manifest": f"{target}/manifest.json",
        "dataset_id": dataset,
        "items": 1000,
        "files": 3,
        "bytes": sum(file["bytes"] for file in found["files"]),
    }


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("format", ["jsonl", "json", "csv"])
@pytest.mark.parametrize("items_per_file", [None, 1, 299, 300, 301, 1000])
def test_every_form(
    format: str, compression: str | None, items_per_file: int | None, run: Run, apify: Emulator, tmp_path: Path
) -> None:
    some = ITEMS[:20] if items_per_file == 1 else ITEMS
    items.PAGE = 7 if items_per_file == 1 else 300
    dataset = apify.add_dataset(some)
    arguments = {"format": format, "compression": compression, "items_per_file": items_per_file}
    written(run=run, dataset_id=dataset, target=f"{tmp_path}", fields="text,n,odd,at", **arguments)
    wanted: list[Any] = [{name: item[name] for name in ("text", "n", "odd", "at") if name in item} for item in some]
    if format == "csv":
        wanted = [
            {
                "text": item["text"],
                "n": str(item["n"]),
                "odd": "true" if "odd" in item else "",
                "at": json.dumps(item["at"]),
            }
            for item in some
        ]
    assert read(f"{tmp_path}") == wanted


def test_a_table_without_fields_has_the_columns_of_all_items(run: Run, apify: Emulator, tmp_path: Path) -> None:
    parts: list[dict[str, Any]] = [{"b": 1}, {"a": None, "b": "x\ud800"}, {"c": [1, "ü"], "at": {"y": 1}}]
    dataset = apify.add_dataset(
        count=1, lines=lambda start, stop: b"".join(json.dumps(part).encode() + b"\n" for part in parts)
    )
    written(run=run, dataset_id=dataset, target=f"{tmp_path}", format="csv", flatten=["at"], fields="a,b,c,at")
    (table,) = (body for name, body in contents(f"{tmp_path}").items() if name != "manifest.json")
    assert table.decode() == 'b,a,c,at.y\r\n1,,,\r\nx?,,,\r\n,,"[1, ""ü""]",1\r\n'


def test_a_cell_cannot_begin_a_row(run: Run, apify: Emulator, tmp_path: Path) -> None:
    dataset = apify.add_dataset([{"a": "x\ry", "b": "1\n2"}])
    written(run=run, dataset_id=dataset, target=f"{tmp_path}", format="csv", fields="a,b")
    (table,) = (body for name, body in contents(f"{tmp_path}").items() if name != "manifest.json")
    assert list(csv.reader(io.StringIO(table.decode(), newline=""))) == [["a", "b"], ["x\ry", "1\n2"]]


def test_items_that_come_late_are_waited_for(
    run: Run, apify: Emulator, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(items, "LATE", 2.0)
    apify.items_seconds = 1.0
    dataset = apify.add_dataset([])
    requests.post(
        f"{apify.url}/v2/datasets/{dataset}/items",
        json=[{"n": 1}],
        headers={"Authorization": f"Bearer {apify.token}"},
        timeout=5,
    ).raise_for_status()
    written(run=run, dataset_id=dataset, target=target)
    assert read(target) == [{"n": 1}]


def test_a_dataset_that_has_not_changed_for_long_is_complete(
    run: Run, apify: Emulator, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(items, "LATE", 600.0)
    monkeypatch.setattr(items, "SETTLED", 0.5)
    dataset = apify.add_dataset([{"n": 1}])
    time.sleep(2)  # the clock of answers has seconds only
    written(run=run, dataset_id=dataset, target=target)
    assert read(target) == [{"n": 1}]


def test_a_list_that_a_template_made_text_of_is_refused(run: Run, apify: Emulator, target: str) -> None:
    refused = run(dataset_id=apify.add_dataset(ITEMS), target=target, fields="{{ ['a', 'b'] }}")
    assert refused.state == "failed" and "join(',')" in str(refused.error)


def test_filters_are_as_apify_has_them(run: Run, apify: Emulator, tmp_path: Path) -> None:
    dataset = apify.add_dataset(ITEMS)
    written(run=run, dataset_id=dataset, target=f"{tmp_path}", fields=["#debug", "odd"], clean=True)
    assert read(f"{tmp_path}") == [{"odd": True}] * 500
    assert manifest(f"{tmp_path}")["filters"] == {"fields": ["#debug", "odd"], "clean": True}


def test_no_items_make_a_manifest_without_files(run: Run, apify: Emulator, target: str) -> None:
    for format in ("jsonl", "json", "csv"):
        returned = written(run=run, dataset_id=apify.add_dataset(), target=target, format=format, overwrite=True)
        assert (returned["items"], returned["files"], names(target)) == (0, 0, ["manifest.json"])


# -- again -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_retry_writes_the_same_bytes(
    compression: str | None, run: Run, apify: Emulator, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {"dataset_id": apify.add_dataset(ITEMS), "target": target, "items_per_file": 300}
    arguments["compression"] = compression
    apify.add_fault(Fault("status", path=ITEMS_PATH, status=403, skip=3, times=1))
    assert run(**arguments).state == "failed"
    half = contents(target)
    assert len(half) == 3
    assert "manifest.json" not in half
    written(run=run, **arguments)
    once = contents(target)
    assert once.items() > half.items()
    monkeypatch.setattr(items, "PAGE", 77)
    written(run=run, **arguments)
    assert contents(target) == once
    assert len(read(target)) == 1000


def test_fewer_files_than_before_leave_none_behind(run: Run, apify: Emulator, target: str) -> None:
    dataset = apify.add_dataset(ITEMS)
    written(run=run, dataset_id=dataset, target=target, items_per_file=100)
    refused = run(dataset_id=dataset, target=target, items_per_file=500)
    assert refused.state == "failed" and "or this one with other arguments" in str(refused.error)
    assert read(target) == ITEMS
    written(run=run, dataset_id=dataset, target=target, items_per_file=500, overwrite=True)
    assert len(names(target)) == 3
    assert read(target) == ITEMS


def test_no_manifest_lists_files_that_are_being_replaced(run: Run, apify: Emulator, target: str) -> None:
    dataset = apify.add_dataset(ITEMS)
    written(run=run, dataset_id=dataset, target=target, items_per_file=100)
    apify.add_fault(Fault("status", path=ITEMS_PATH, status=403, skip=0))
    assert run(dataset_id=dataset, target=target, items_per_file=500, overwrite=True).state == "failed"
    assert "manifest.json" not in names(target)


@pytest.mark.parametrize("other", [{}, {"format": "csv"}, {"compression": "gzip"}])
def test_files_of_others_are_replaced_only_on_demand(
    other: dict[str, str], run: Run, apify: Emulator, target: str
) -> None:
    first = apify.add_dataset(ITEMS[:500])
    second = first if other else apify.add_dataset(ITEMS[500:])
    written(run=run, dataset_id=first, target=target)
    (ObjectStoragePath(target) / "notes-000001.csv").write_text("mine")
    before = contents(target)
    apify.clear_ledger()
    refused = run(dataset_id=second, target=target, **other)
    assert (refused.state, apify.requests, contents(target)) == ("failed", [], before)
    assert f"{first}-000001.jsonl" in str(refused.error)
    assert "overwrite=True" in str(refused.error)
    written(run=run, dataset_id=second, target=target, overwrite=True, **other)
    assert len(names(target)) == 3, "the new part, the manifest and what is nobody's part"
    assert (ObjectStoragePath(target) / "notes-000001.csv").read_text() == "mine"


def test_a_manifest_of_another_is_replaced_only_on_demand(run: Run, apify: Emulator, target: str) -> None:
    dataset = apify.add_dataset(ITEMS)
    ObjectStoragePath(target).mkdir(parents=True, exist_ok=True)
    for text in ("{", '{"dataset_id": "other"}'):
        (ObjectStoragePath(target) / "manifest.json").write_text(text)
        assert "such as manifest.json" in str(run(dataset_id=dataset, target=target).error)
    written(run=run, dataset_id=dataset, target=target, overwrite=True)


def test_others_stay_until_the_manifest_is_written(run: Run, apify: Emulator, target: str) -> None:
    written(run=run, dataset_id=apify.add_dataset(ITEMS[:5]), target=target)
    apify.add_fault(Fault("status", path=ITEMS_PATH, status=403, skip=3))
    second = {"dataset_id": apify.add_dataset(ITEMS), "target": target, "items_per_file": 300, "overwrite": True}
    assert run(**second).state == "failed"
    assert read(target) == ITEMS[:5]
    written(run=run, **second)
    assert read(target) == ITEMS


# -- trouble ---------------------------------------------------------------------------------------------------------

TROUBLE = {
    "cut": Fault("cut-json", path=ITEMS_PATH, times=2, skip=1),
    "cut politely": Fault("polite-cut", path=ITEMS_PATH, times=2, skip=1),
    "cut politely after an item": Fault("polite-cut", path=ITEMS_PATH, times=2, skip=1, value="line"),
    "reset": Fault("reset", path=ITEMS_PATH, times=2, skip=2),
    "500": Fault("status", path=ITEMS_PATH, times=2, skip=3),
    "a page of a proxy": Fault("html", path=ITEMS_PATH, times=2, skip=1),
}


@pytest.mark.parametrize("trouble", TROUBLE)
def test_trouble_on_the_way_leaves_no_trace(trouble: str, run: Run, apify: Emulator, target: str) -> None:
    apify.add_fault(TROUBLE[trouble])
    written(run=run, dataset_id=apify.add_dataset(ITEMS), target=target, items_per_file=450, compression="gzip")
    assert read(target) == ITEMS


def test_what_is_not_complete_never_has_a_final_name(run: Run, apify: Emulator, target: str) -> None:
    apify.add_fault(Fault("cut-json", path=ITEMS_PATH, times=None, skip=3))
    outcome = run(dataset_id=apify.add_dataset(ITEMS), target=target, items_per_file=800)
    assert "cut before the whole answer" in str(outcome.error)
    assert [len(body.splitlines()) for body in contents(target).values()] == [800]


def test_a_dataset_that_is_gone_leaves_nothing(run: Run, apify: Emulator, target: str) -> None:
    outcome = run(dataset_id="x", target=target)
    assert (outcome.state, names(target)) == ("failed", [])
    assert "data retention of the account's plan is over" in str(outcome.error)


@pytest.mark.parametrize("where", ["first", "later", "manifest"])
def test_an_upload_that_breaks_off_leaves_no_half_file(
    where: str, run: Run, apify: Emulator, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fsspec makes a whole object of what was sent when its file is closed."""
    from s3fs.core import S3File

    monkeypatch.setattr(dataset_to_object_storage, "_BLOCK", 5 * 2**20)
    line = json.dumps({"text": "x" * 2000}).encode() + b"\n"
    dataset = apify.add_dataset(count=6000, lines=lambda start, stop: line * (stop - start))
    upload, calls = S3File._upload_chunk, []
    fails_at = {"first": 1, "later": 2, "manifest": 4}[where]

    def breaks(self: Any, final: bool = False) -> Any:
        calls.append(self.path)
        if len(calls) == fails_at:
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer?X-Amz-Signature=secret")
        return upload(self, final)

    monkeypatch.setattr(S3File, "_upload_chunk", breaks)
    outcome = run(dataset_id=dataset, target=s3)
    assert outcome.state == "failed"
    assert f"{s3} cannot be written: ConnectionResetError: Connection reset by peer.\nCheck" in str(outcome.error)
    assert names(s3) == ([f"{dataset}-000001.jsonl"] if where == "manifest" else [])
    if where != "manifest":
        assert not list(ObjectStoragePath(s3).fs.list_multipart_uploads("bucket")), "nobody pays for what nobody sees"


def test_nor_does_one_whose_file_cannot_be_discarded(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fsspec closes files that are collected; those of some storages have a discard that does nothing."""
    import gc

    from s3fs.core import S3File

    def write(self: Any, data: bytes) -> int:
        raise ConnectionResetError

    monkeypatch.setattr(S3File, "discard", lambda self: None)
    monkeypatch.setattr(S3File, "write", write)
    staged = tmp_path / "x.jsonl"
    staged.write_text("{}\n")
    with suppress(ApifyTargetError):
        dataset_to_object_storage._Target(s3, "x", "jsonl").put(staged)
    gc.collect()
    assert names(s3) == []


def test_a_file_that_arrives_shorter_is_no_success(
    run: Run, apify: Emulator, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs = ObjectStoragePath(s3).fs
    info = fs.info
    monkeypatch.setattr(fs, "info", lambda path, **kwargs: {**info(path, **kwargs), "size": 1})
    assert "has 1 bytes there instead of" in str(run(dataset_id=apify.add_dataset(ITEMS), target=s3).error)


def test_a_full_disk_says_so_and_leaves_no_half_file(
    run: Run, apify: Emulator, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    open_, left = Path.open, 100_000

    def small(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        file = open_(self, mode, *args, **kwargs)
        return Full(file) if self.suffix == ".jsonl" and mode == "wb" else file

    class Full:
        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, data: bytes) -> int:
            nonlocal left
            left -= len(data)
            if left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return int(self.file.write(data))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    monkeypatch.setattr(Path, "open", small)
    outcome = run(dataset_id=apify.add_dataset(ITEMS * 10), target=target, items_per_file=1000)
    assert outcome.state == "failed"
    assert "cannot be written: OSError: No space left on device.\nThe disk is full" in str(outcome.error)
    assert [len(body.splitlines()) for body in contents(target).values()] == [1000]
    assert [path for path in tmp_path.rglob("*") if "apify-" in path.name] == []


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("/proc/none/of/this", "No such file or directory"),
        ("/dev/null/x", "Not a directory"),
        ("gs://bucket/x", "No filesystem registered for scheme gs"),
        ("s3://store@no-such-bucket/x", "FileNotFoundError: The specified bucket does not exist"),
    ],
)
def test_a_target_that_cannot_be_written_says_why(target: str, reason: str, run: Run, apify: Emulator, s3: str) -> None:
    outcome = run(dataset_id=apify.add_dataset(ITEMS), target=target)
    assert outcome.state == "failed"
    assert str(outcome.error).startswith(f"{target} cannot be written: ")
    assert reason in str(outcome.error)
    assert "Check that it exists" in str(outcome.error)


def test_what_is_not_complete_is_on_the_disk_of_the_target(
    run: Run, apify: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """os.replace needs one file system."""
    replace, sources = os.replace, []

    def replaced(source: Path, target: Path) -> None:
        sources.append(source.parent.parent)
        replace(source, target)

    monkeypatch.setattr(os, "replace", replaced)
    written(run=run, dataset_id=apify.add_dataset(ITEMS), target=f"{tmp_path}")
    assert sources == [tmp_path] * 2
    assert len(os.listdir(tmp_path)) == 2, "no directory is left"


# -- runs ------------------------------------------------------------------------------------------------------------


def as_run(apify: Emulator, status: str, dataset: str) -> None:
    body = {"data": {"id": "RunRunRunRunRun12", "status": status, "defaultDatasetId": dataset}}
    apify.add_fault(Fault("status", path="/v2/actor-runs/*", status=200, body=body))


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_the_dataset_of_a_run(status: str, run: Run, apify: Emulator, target: str) -> None:
    dataset = apify.add_dataset(ITEMS)
    as_run(apify, status, dataset)
    assert written(run=run, run_id="RunRunRunRunRun12", target=target)["dataset_id"] == dataset
    assert manifest(target)["run_id"] == "RunRunRunRunRun12"


@pytest.mark.parametrize("status", ["RUNNING", "HIBERNATING"])
def test_a_run_that_has_not_ended_is_no_source(status: str, run: Run, apify: Emulator, tmp_path: Path) -> None:
    as_run(apify, status, "DatasetDatasetDat")
    outcome = run(run_id="RunRunRunRunRun12", target=f"{tmp_path}", retries=1)
    assert outcome.state == "up_for_retry"
    assert f"Run RunRunRunRunRun12 is {status}" in str(outcome.error)
    assert "dataset_id='DatasetDatasetDat'" in str(outcome.error)


# -- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either dataset_id or run_id"),
        ({"dataset_id": "x", "run_id": "y"}, "either dataset_id or run_id"),
        ({"dataset_id": "x", "format": "parquet"}, "format must be one of 'jsonl', 'csv', 'json'; got 'parquet'"),
        ({"dataset_id": "x", "compression": "zip"}, "compression must be one of None, 'gzip'; got 'zip'"),
        ({"dataset_id": "x", "items_per_file": 0}, "items_per_file must be a whole number from 1; got 0"),
        ({"dataset_id": "x", "clean": "maybe"}, "clean must be True or False"),
        ({"dataset_id": "x", "overwrite": "maybe"}, "overwrite must be True or False"),
    ],
)
def test_what_cannot_be_an_argument_is_named_when_the_dag_is_parsed(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ApifyConfigurationError, match=message):
        task(target="/x", **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset_id": "{{ None }}"}, "dataset_id must be the id of a dataset"),
        ({"dataset_id": "a/b"}, "dataset_id must be the id of a dataset"),
        ({"dataset_id": "x", "fields": [""]}, "fields must be a list"),
        ({"dataset_id": "x", "target": " "}, "target must be an absolute directory"),
        ({"dataset_id": "x", "format": "csv", "items_per_file": 5}, "csv in several files needs fields"),
        (
            {"dataset_id": "x", "format": "csv", "items_per_file": 5, "fields": "a", "unwind": "a"},
            "excludes unwind, flatten and view",
        ),
    ],
)
def test_what_templates_give_is_checked_before_anything_is_sent(
    arguments: dict[str, Any], message: str, run: Run, apify: Emulator, tmp_path: Path
) -> None:
    outcome = run(retries=1, **{"target": f"{tmp_path}", **arguments})
    assert (outcome.state, apify.requests) == ("failed", [])
    assert message in str(outcome.error)


@pytest.mark.parametrize("native", [False, True])
def test_arguments_are_templates(native: bool, run: Run, apify: Emulator, tmp_path: Path) -> None:
    dataset = apify.add_dataset(ITEMS)
    target = ObjectStoragePath(f"file://{tmp_path}/" + "{{ dag.dag_id }}")
    written(
        run=run,
        native=native,
        dataset_id="{{ '" + dataset + "' }}",
        target=target,
        fields=["{{ 'n' }}"],
        view="{{ '' }}",
    )
    assert read(f"{tmp_path}/dag") == [{"n": n} for n in range(1000)]


def test_lineage_has_every_file(run: Run, apify: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []
    monkeypatch.setattr(compat, "announce_output", lambda path: found.append(str(path)))
    dataset = apify.add_dataset(ITEMS)
    written(run=run, dataset_id=dataset, target=f"{tmp_path}", items_per_file=600)
    assert found == [
        f"{tmp_path}/{dataset}-000001.jsonl",
        f"{tmp_path}/{dataset}-000002.jsonl",
        f"{tmp_path}/manifest.json",
    ]


def test_lineage_is_what_airflow_collects(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        from airflow.sdk import lineage
    except ImportError:
        pytest.skip("before Airflow 3.2 the collector is elsewhere")
    collector = lineage.HookLineageCollector()  # type: ignore[no-untyped-call]
    monkeypatch.setattr(lineage, "get_hook_lineage_collector", lambda: collector)
    compat.announce_output(ObjectStoragePath(f"file://{tmp_path}/x"))
    (output,) = collector.collected_assets.outputs
    assert output.asset.uri == f"file://{tmp_path}/x"
