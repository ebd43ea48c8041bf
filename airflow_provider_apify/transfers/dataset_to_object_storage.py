"""Write the items of a dataset to files, in object storage or on a disk."""

from __future__ import annotations

import csv
import errno
import gzip
import io
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_apify import compat
from airflow_provider_apify.api import storages
from airflow_provider_apify.api.endpoints import check_id
from airflow_provider_apify.api.runs import RUN
from airflow_provider_apify.exceptions import (
    ApifyConfigurationError,
    ApifyException,
    ApifyRunUnfinished,
    ApifyTargetError,
)
from airflow_provider_apify.lifecycle import arguments
from airflow_provider_apify.lifecycle.lineage import TellsLineage

if TYPE_CHECKING:
    from airflow.sdk import Context, ObjectStoragePath, XComArg

    from airflow_provider_apify.api.storages import Filters, Names
    from airflow_provider_apify.client.client import Client
    from airflow_provider_apify.client.items import Block

    Entry = dict[str, Any]

FORMATS = ("jsonl", "csv", "json")
COMPRESSIONS = (None, "gzip")
MANIFEST = "manifest.json"

#: The names of parts that a task like this one writes.
_PART = r"(?P<dataset>[A-Za-z0-9]{17}|[\w.-]+~[\w.-]+)-\d{6,}\.(?P<suffix>(?:jsonl|csv|json)(?:\.gz)?)"
#: Bytes that are sent to object storage at a time, unless that would make too many blocks: S3 takes 10,000 of a file.
_BLOCK, _MOST_BLOCKS = 5 * 2**20, 5000
#: Seconds after which nobody writes to a directory for files that are not complete any more.
_ABANDONED = 86_400.0


class ApifyDatasetToObjectStorageOperator(arguments.LiteralsStayText, TellsLineage, BaseOperator):
    """
    Write the items of a dataset to files, in object storage or on a disk, whatever its size, in constant memory.

    Each file is first written to the worker's disk, and gets its final name when it is complete; the last one is
    ``manifest.json``. It lists the files, with how many items and bytes each has: read what it lists, and nothing else.
    A retry writes all files again, under the same names; they are the same bytes if no items were added meanwhile.

    Returns ``{"manifest": ..., "dataset_id": ..., "items": ..., "files": ..., "bytes": ...}``: the address of the
    manifest, and counts. A dataset without items makes a manifest without files.

    :param dataset_id: id of the dataset, or ``username~dataset-name``. (templated)
    :param run_id: id of a run, in place of ``dataset_id``: its default dataset. The run must have ended. (templated)
    :param target: directory for the files, for this dataset alone: ``s3://conn_id@bucket/path``, a path on the worker,
        or an ``ObjectStoragePath``. A storage needs its Airflow provider with its file system, such as
        ``apache-airflow-providers-amazon[s3fs]``. (templated)
    :param format: ``"jsonl"`` (in each line an item as JSON), ``"json"`` (an array of items) or ``"csv"`` (in UTF-8,
        with a line of names first; what is neither text nor empty is JSON).
    :param compression: ``"gzip"`` or ``None``.
    :param items_per_file: items in each file but the last. ``None``: all in one file.
    :param fields: names of the fields to keep, in this order; as a list, or with commas between them. For csv they are
        the columns. Without them, one csv file has the columns of all its items; several files need them. (templated)
    :param omit: names of fields to leave out. (templated)
    :param unwind: names of fields whose elements become items of their own. (templated)
    :param flatten: names of fields whose objects become fields such as ``address.city``. (templated)
    :param clean: leave out fields that begin with ``#``, and items that are empty then.
    :param view: name of a view of the dataset. (templated)
    :param overwrite: where ``target`` has files of another dataset or format, or in other parts: replace them. They are
        removed after the manifest was written. Otherwise, such files are an error.
    :param apify_conn_id: Airflow connection of type ``apify``. (templated)
    :raises ApifyTargetError: the files cannot be written, or ``target`` has others.
    :raises ApifyRunUnfinished: the run of ``run_id`` has not ended.
    :raises ApifyConfigurationError: an argument or a field of the connection cannot be used. Not retried.
    :raises ApifyApiError: a request failed. If the dataset or run is not there, it is not retried.
    """

    template_fields: Sequence[str] = (
        "dataset_id",
        "run_id",
        "target",
        "fields",
        "omit",
        "unwind",
        "flatten",
        "view",
        "apify_conn_id",
    )
    ui_color = "#97d700"

    def __init__(
        self,
        *,
        dataset_id: str | XComArg | None = None,
        run_id: str | XComArg | None = None,
        target: str | ObjectStoragePath | XComArg,
        format: str = "jsonl",
        compression: str | None = None,
        items_per_file: int | None = None,
        fields: Names | XComArg = None,
        omit: Names | XComArg = None,
        unwind: Names | XComArg = None,
        flatten: Names | XComArg = None,
        clean: bool = False,
        view: str | None = None,
        overwrite: bool = False,
        apify_conn_id: str = "apify_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # What other tasks give is there when templates are rendered, before anything here reads it.
        self.dataset_id: str | None = dataset_id  # type: ignore[assignment]
        self.run_id: str | None = run_id  # type: ignore[assignment]
        self.target: str | ObjectStoragePath = target  # type: ignore[assignment]
        self.format = _one_of("format", FORMATS, format)
        self.compression = _one_of("compression", COMPRESSIONS, compression)
        if items_per_file is not None and (
            isinstance(items_per_file, bool) or not isinstance(items_per_file, int) or items_per_file < 1
        ):
            raise ApifyConfigurationError(f"items_per_file must be a whole number from 1; got {items_per_file!r}")
        self.items_per_file = items_per_file
        self.fields: Names = fields  # type: ignore[assignment]
        self.omit: Names = omit  # type: ignore[assignment]
        self.unwind: Names = unwind  # type: ignore[assignment]
        self.flatten: Names = flatten  # type: ignore[assignment]
        self.clean = arguments.switch("clean", clean)
        self.view = view
        self.overwrite = arguments.switch("overwrite", overwrite)
        self.apify_conn_id = apify_conn_id
        self._by_run = run_id is not None
        if (dataset_id is None) == (run_id is None):
            raise ApifyConfigurationError("give either dataset_id or run_id")

    def execute(self, context: Context) -> dict[str, Any]:
        client = self._client()
        try:
            return self._write(client, self._filters(), *self._dataset(client))
        finally:
            client.close()

    def _write(self, client: Client, filters: Filters, dataset_id: str, late: float | None) -> dict[str, Any]:
        from airflow_provider_apify.client import items

        self.known_job = {"dataset_id": dataset_id, "run_id": arguments.given(self.run_id)}
        suffix = self.format + (".gz" if self.compression else "")
        target = _Target(self.target, dataset_id, suffix)
        settings = {
            "dataset_id": dataset_id,
            "format": self.format,
            "compression": self.compression,
            "items_per_file": self.items_per_file,
            "filters": {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in filters._asdict().items()
                if value
            },
        }
        if other := target.other(settings):
            if not self.overwrite:
                raise ApifyTargetError(
                    f"{target.path} holds what another task or dataset has written, or this one with other arguments,"
                    f" such as {other}.\nGive another target, or set overwrite=True, which replaces it."
                )
            target.remove_own_manifest()
        if late is None:
            late = items.dataset_seconds_late(client, dataset_id)
        blocks = items.read(client, dataset_id, filters, late=late)
        files: list[Entry] = []
        with target.staging() as directory:
            for part in self._parts(blocks, directory, target, filters):
                target.put(part.path)
                files.append({"name": part.path.name, "items": part.items, "bytes": part.bytes})
                self.log.info("Wrote %s: %d items, %d bytes.", part.path.name, part.items, part.bytes)
            total = {"items": sum(file["items"] for file in files), "bytes": sum(file["bytes"] for file in files)}
            manifest = {
                **settings,
                "run_id": arguments.given(self.run_id),
                **total,
                "files": files,
            }
            with target.errors():
                staged = directory / MANIFEST
                staged.write_text(json.dumps(manifest, indent=1) + "\n")
            target.put(staged)
        target.remove_others({file["name"] for file in files}, foreign=self.overwrite)
        address = str(target.path / MANIFEST)
        self.log.info("Wrote %d items of dataset %s to %d files: %s", total["items"], dataset_id, len(files), address)
        return {"manifest": address, "dataset_id": dataset_id, "files": len(files), **total}

    def _parts(self, blocks: Iterator[Block], directory: Path, target: _Target, filters: Filters) -> Iterator[_Part]:
        """Give the files one by one, complete, in ``directory``."""
        columns: Sequence[str] = ()
        if self.format == "csv":
            columns = _columns(filters)
            if not columns:
                blocks, columns = _read_columns(blocks, directory / "items.jsonl", target)
        number, part = 0, None
        for block in blocks:
            rest: Block | None = block
            while rest:
                with target.errors():
                    if part is None:
                        number += 1
                        part = _Part(directory / target.name(number), _encoder(self.format, columns), self.compression)
                    rest = part.write(rest, self.items_per_file)
                    full = part.items == self.items_per_file
                    if full:
                        part.close()
                if full:
                    yield part
                    part = None
        if part is not None:
            with target.errors():
                part.close()
            yield part

    def _client(self) -> Client:
        from airflow_provider_apify.client.client import Client

        return Client.of(self)

    def _filters(self) -> Filters:
        given = {name: arguments.given(getattr(self, name)) for name in ("fields", "omit", "unwind", "flatten", "view")}
        filters = arguments.checked(lambda names: storages.filters(**names, clean=self.clean), given)
        if self.format == "csv" and self.items_per_file is not None and not _columns(filters):
            raise ApifyConfigurationError(
                "csv in several files needs fields, and excludes unwind, flatten and view: all files must have the same"
                " columns. Leave items_per_file out, or write jsonl."
            )
        return filters

    def _dataset(self, client: Client) -> tuple[str, float | None]:
        """Give the dataset's id, and for how many seconds its last items may still come; ``None``: not known."""
        from airflow_provider_apify.client.items import seconds_late

        if not self._by_run:
            dataset_id = arguments.given(arguments.digits(self.dataset_id))
            return arguments.checked(lambda value: check_id("dataset_id", value, "dataset"), dataset_id), None
        run = client.get(RUN, arguments.given(arguments.digits(self.run_id)))
        if not run.dataset_id:
            raise ApifyException(f"Apify does not show the dataset of run {run}.")
        if not run.is_terminal:
            raise ApifyRunUnfinished(
                f"Run {run} is {run.status}, so items may still be added to its dataset.\nWait for the run first; or"
                f" give dataset_id={run.dataset_id!r} to write what is there by now."
            )
        if not run.is_succeeded:
            self.log.warning("Run %s is %s: its dataset may lack items.", run, run.status)
        return run.dataset_id, seconds_late(client, run.finished_at)


class _Target:
    """The directory for the files of one dataset."""

    def __init__(self, target: Any, dataset_id: str, suffix: str) -> None:
        from airflow.sdk import ObjectStoragePath

        if not isinstance(target, ObjectStoragePath) and (
            not isinstance(target, str) or not ("://" in target or os.path.isabs(target))
        ):
            raise ApifyConfigurationError(
                "target must be an absolute directory such as s3://conn_id@bucket/path or /data/shop, or an"
                f" ObjectStoragePath; got {target!r}"
            )
        self._dataset_id, self._suffix = dataset_id, suffix
        self._shown = str(target)
        with self.errors():
            self.path = ObjectStoragePath(target)
            self._fs = self.path.fs
        #: Only for a directory of this machine.
        self._directory = Path(self.path.path) if self.path.protocol in ("", "file", "local") else None

    def name(self, number: int) -> str:
        return f"{self._dataset_id}-{number:06d}.{self._suffix}"

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Give a directory for files that are not complete, on the same disk if the target is on one."""
        with self.errors():
            if self._directory:
                self._directory.mkdir(parents=True, exist_ok=True)
                # What a worker that was killed has left.
                for left in self._directory.glob(".apify-*"):
                    if left.stat().st_mtime < time.time() - _ABANDONED:
                        shutil.rmtree(left, ignore_errors=True)
            directory = tempfile.TemporaryDirectory(prefix=".apify-", dir=self._directory, ignore_cleanup_errors=True)
        with directory as name:
            yield Path(name)

    def put(self, staged: Path) -> None:
        """Give a complete file its final name; ``staged`` is gone then."""
        path = self.path / staged.name
        with self.errors():
            if self._directory:
                os.replace(staged, self._directory / staged.name)
            else:
                self._upload(staged, path.path)
                staged.unlink()
        compat.announce_output(path)

    def other(self, settings: dict[str, Any]) -> str | None:
        """Give the name of a file that is not of a task with these settings, if there is one."""
        with self.errors():
            names = self._names()
            for name in names:
                found = re.fullmatch(_PART, name)
                if found and (found["dataset"], found["suffix"]) != (self._dataset_id, self._suffix):
                    return name
            return MANIFEST if MANIFEST in names and not self._manifest().items() >= settings.items() else None

    def remove_own_manifest(self) -> None:
        """Remove the manifest if it lists files that get replaced one by one; that of other files stays true."""
        with self.errors(), suppress(FileNotFoundError):
            found = self._manifest()
            names = [file.get("name") for file in found.get("files", ()) if isinstance(file, dict)]
            if self.name(1) in names:
                self._fs.rm_file((self.path / MANIFEST).path)

    def remove_others(self, kept: Iterable[str], *, foreign: bool) -> None:
        """
        Remove parts that are not in the manifest.

        :param foreign: also those of other datasets and formats.
        """
        with self.errors():
            for name in set(self._names()).difference(kept):
                found = re.fullmatch(_PART, name)
                if found and (foreign or (found["dataset"], found["suffix"]) == (self._dataset_id, self._suffix)):
                    with suppress(FileNotFoundError):
                        self._fs.rm_file((self.path / name).path)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Say what could not be done with the target, in the words of its storage but without signed addresses."""
        try:
            yield
        except ApifyException:
            raise
        except Exception as error:
            reason = getattr(error, "strerror", None) or str(error) or "no reason given"
            reason = f"{type(error).__name__}: {re.sub(r'[?][^ ]*', '', reason).rstrip('.')}"
            advice = (
                "Check that it exists, that the connection in its address, or the worker's user, may write there, and"
                " that the provider of its storage is installed, such as apache-airflow-providers-amazon[s3fs]."
            )
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                advice = (
                    "The disk is full: that of the target, or else that of TMPDIR, where each file is written first."
                    " Make room, or make the files smaller by items_per_file and compression."
                )
            raise ApifyTargetError(f"{self._shown} cannot be written: {reason}.\n{advice}") from None

    def _names(self) -> list[str]:
        self._fs.invalidate_cache(self.path.path)
        try:
            return [path.rstrip("/").rpartition("/")[2] for path in self._fs.ls(self.path.path, detail=False)]
        except FileNotFoundError:
            return []

    def _manifest(self) -> dict[str, Any]:
        """Give what the manifest says; nothing if it cannot be read."""
        try:
            found = json.loads(self._fs.cat_file((self.path / MANIFEST).path))
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def _upload(self, staged: Path, path: str) -> None:
        size = staged.stat().st_size
        block = max(_BLOCK, -(-size // _MOST_BLOCKS // 2**20) * 2**20)
        file = self._fs.open(path, "wb", block_size=block)
        try:
            with staged.open("rb") as source:
                shutil.copyfileobj(source, file, 2**20)
            file.close()
        except BaseException:
            # Closed or collected, it would make a file of what has been sent.
            with suppress(Exception):
                file.discard()
            with suppress(Exception):
                file.closed = True
            raise
        self._fs.invalidate_cache(path)
        if (stored := self._fs.info(path)["size"]) != size:
            raise OSError(f"{staged.name} has {stored} bytes there instead of {size}")


class _Part:
    """A file that is being written; ``bytes`` is known when it is closed."""

    def __init__(self, path: Path, encoder: _Encoder, compression: str | None) -> None:
        self.path = path
        self.items = 0
        self.bytes = 0
        self._encoder = encoder
        self._raw: IO[bytes] = path.open("wb")
        # The same bytes each time: no time, no name.
        self._file: IO[bytes] = (
            gzip.GzipFile("", "wb", fileobj=self._raw, mtime=0) if compression else self._raw  # type: ignore[assignment]
        )
        self._file.write(encoder.begin)

    def write(self, block: Block, most: int | None) -> Block | None:
        """Add items, until there are ``most``; give those that are left."""
        lines, items = block
        rest = None
        if most is not None and self.items + items > most:
            items = most - self.items
            left = lines.split(b"\n", items)[-1]
            lines, rest = lines[: -len(left)], type(block)(left, block.items - items)
        self._file.write(self._encoder.encode(lines))
        self.items += items
        return rest

    def close(self) -> None:
        self._file.write(self._encoder.end)
        self._file.close()
        self.bytes = self._raw.tell() if not self._raw.closed else self.path.stat().st_size
        self._raw.close()


class _Encoder:
    """Makes of lines of JSON what a file holds: the same."""

    begin = end = b""

    def encode(self, lines: bytes) -> bytes:
        return lines


class _Array(_Encoder):
    begin, end = b"[", b"\n]\n"

    def __init__(self) -> None:
        self._before = b"\n"

    def encode(self, lines: bytes) -> bytes:
        before, self._before = self._before, b",\n"
        return before + lines[:-1].replace(b"\n", b",\n")


class _Table(_Encoder):
    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self.begin = self._rows([columns])

    def encode(self, lines: bytes) -> bytes:
        from airflow_provider_apify.client.items import parsed_lines

        items = parsed_lines(lines)
        return self._rows([[_cell(item.get(column)) for column in self._columns] for item in items])

    def _rows(self, rows: Iterable[Sequence[str]]) -> bytes:
        text = io.StringIO()
        # With this end of a row, as RFC 4180 has it, a cell with a carriage return is quoted.
        csv.writer(text, lineterminator="\r\n").writerows(rows)
        return text.getvalue().encode(errors="replace")


def _encoder(format: str, columns: Sequence[str]) -> _Encoder:
    if format == "csv":
        return _Table(columns)
    return _Array() if format == "json" else _Encoder()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _columns(filters: Filters) -> Sequence[str]:
    """Give the columns of a table, if they are known before its items."""
    return () if filters.unwind or filters.flatten or filters.view else filters.fields


def _read_columns(blocks: Iterator[Block], path: Path, target: _Target) -> tuple[Iterator[Block], Sequence[str]]:
    """Keep the items in a file to find out what columns their table has; give them again."""
    from airflow_provider_apify.client.items import parsed_lines

    columns: dict[str, None] = {}
    with target.errors():
        file = path.open("wb")
    with file:
        for block in blocks:
            for item in parsed_lines(block.lines):
                columns |= dict.fromkeys(item)
            with target.errors():
                file.write(block.lines)

    def again() -> Iterator[Block]:
        from airflow_provider_apify.client.items import Block

        with path.open("rb") as file:
            while lines := file.readlines(2**18):
                yield Block(b"".join(lines), len(lines))

    return again(), list(columns)


def _one_of(name: str, values: Sequence[Any], value: Any) -> Any:
    if value not in values:
        raise ApifyConfigurationError(f"{name} must be one of {', '.join(map(repr, values))}; got {value!r}")
    return value
