"""Storages: datasets and key-value stores, how the API shows them, and the endpoints."""

from __future__ import annotations

import csv
import io
import json
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from airflow_provider_apify.emulator.answers import MAX_PAGE, ApiError, iso, not_found, success
from airflow_provider_apify.emulator.bodies import read_body, unpacked
from airflow_provider_apify.emulator.call import Call
from airflow_provider_apify.emulator.parameters import Anyone, Count, Flag, WithToken
from airflow_provider_apify.emulator.users import USER_ID

if TYPE_CHECKING:
    from airflow_provider_apify.emulator.world import World

#: JSONL of the items from one index to another; see :meth:`Emulator.add_dataset`.
Lines = Callable[[int, int], bytes]

#: What the header of the limit says where there is none.
_NO_LIMIT = 999_999_999_999
#: Generated items that are in memory at a time.
_BLOCK = 250
_SIGNATURE = "X-Amz-Signature=emulator-signature-keep-me-secret"
_MEDIA_TYPES = {"json": "application/json; charset=utf-8", "jsonl": "application/jsonl", "csv": "text/csv"}


@dataclass(eq=False)
class Dataset:
    """
    Items, each as a line of JSON, with when it was pushed.

    ``count`` generated ones, that ``lines`` gives, are before those that were pushed.
    """

    world: World
    id: str
    count: int = 0
    lines: Lines = lambda start, stop: b""
    created_at: float = field(default_factory=time.time)
    pushed: list[tuple[float, bytes]] = field(default_factory=list)

    def push(self, items: Iterable[dict[str, Any]], at: float | None = None) -> None:
        """Append items. ``at``: when it is said to have happened, in seconds since the epoch; default: now."""
        pushed_at = time.time() if at is None else at
        self.pushed += [(pushed_at, _line(item)) for item in items]

    @property
    def readable(self) -> int:
        """How many items can be read by now."""
        return self._older_than(self.world.settings.items_seconds)

    @property
    def item_count(self) -> int:
        """How many there are by the counter, which is late."""
        return self._older_than(self.world.settings.item_count_seconds)

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Give blocks of whole lines."""
        for block in range(start, min(stop, self.count), _BLOCK):
            yield self.lines(block, min(block + _BLOCK, stop, self.count))
        first, last = max(start - self.count, 0), max(stop - self.count, 0)
        for block in range(first, last, _BLOCK):
            yield b"".join(line for _, line in self.pushed[block : min(block + _BLOCK, last)])

    def _older_than(self, seconds: float) -> int:
        until = time.time() - seconds
        late = 0
        for at, _ in reversed(self.pushed):
            if at <= until:
                break
            late += 1
        return self.count + len(self.pushed) - late


class Datasets(dict[str, Dataset]):
    """All datasets by id."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def create(self, count: int = 0, lines: Lines = lambda start, stop: b"") -> Dataset:
        dataset = Dataset(self._world, self._world.new_id(), count, lines)
        self[dataset.id] = dataset
        return dataset


@dataclass(frozen=True)
class Record:
    """A record. ``redirects``: over how many other addresses it is had."""

    body: bytes
    content_type: str
    encoding: str | None = None
    redirects: int = 0


@dataclass(eq=False)
class KeyValueStore:
    id: str
    name: str | None = None
    created_at: float = field(default_factory=time.time)
    records: dict[str, Record] = field(default_factory=dict)

    def put(self, key: str, body: bytes, content_type: str, *, encoding: str | None = None, redirects: int = 0) -> None:
        self.records[key] = Record(body, content_type, encoding, redirects)


class KeyValueStores(dict[str, KeyValueStore]):
    """All key-value stores by id."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def create(self, name: str | None = None) -> KeyValueStore:
        store = KeyValueStore(self._world.new_id(), name)
        self[store.id] = store
        return store


router = APIRouter()


@router.get("/v2/datasets/{dataset_id}")
async def get_dataset(call: WithToken, dataset_id: str) -> Response:
    dataset = _dataset(call, dataset_id)
    return success(
        {
            "id": dataset.id,
            "userId": USER_ID,
            "createdAt": iso(dataset.created_at),
            "modifiedAt": iso(max([at for at, _ in dataset.pushed[-1:]] + [dataset.created_at])),
            "accessedAt": iso(time.time()),
            "itemCount": dataset.item_count,
            "cleanItemCount": dataset.item_count,
            "consoleUrl": f"https://console.apify.com/storage/datasets/{dataset.id}",
        }
    )


@router.delete("/v2/datasets/{dataset_id}")
async def delete_dataset(call: WithToken, dataset_id: str) -> Response:
    del call.world.datasets[_dataset(call, dataset_id).id]
    return Response(status_code=204)


@router.post("/v2/datasets/{dataset_id}/items")
async def push_items(call: WithToken, request: Request, dataset_id: str) -> Response:
    dataset = _dataset(call, dataset_id)
    body, encoding = await read_body(request)
    try:
        given = json.loads(unpacked(body, encoding))
    except ValueError:
        given = None
    items = [given] if isinstance(given, dict) else given
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ApiError(400, "invalid-request", "The request body must be a JSON object or an array of objects")
    dataset.push(items)
    return Response("{}", 201, {"Location": str(request.url)}, "application/json")


@router.get("/v2/datasets/{dataset_id}/items")
async def get_items(
    call: WithToken,
    request: Request,
    dataset_id: str,
    format: Annotated[str, Query(pattern="^(json|jsonl|csv)$")] = "json",
    offset: Count = 0,
    limit: Count = 0,
    desc: Flag = False,
    fields: str | None = None,
    omit: str | None = None,
    unwind: str | None = None,
    flatten: str | None = None,
    view: str | None = None,
    clean: Flag = False,
    skip_empty: Annotated[Flag, Query(alias="skipEmpty")] = False,
    skip_hidden: Annotated[Flag, Query(alias="skipHidden")] = False,
    bom: Flag | None = None,
    delimiter: str = ",",
    skip_header_row: Annotated[Flag, Query(alias="skipHeaderRow")] = False,
) -> Response:
    dataset = _dataset(call, dataset_id)
    there = dataset.readable
    start = min(offset, there)
    stop = min(start + (limit or there), there)
    view_fields = _VIEWS.get(view) if view else None
    if view and view_fields is None:
        raise ApiError(400, "invalid-parameter", f"Dataset view {view} is not defined in the dataset schema")
    filters = _Filters(
        fields=_names(fields) or view_fields or [],
        omit=_names(omit),
        unwind=_names(unwind),
        flatten=_names(flatten),
        skip_hidden=clean or skip_hidden,
        skip_empty=clean or skip_empty,
    )
    lines: Iterable[bytes]
    if desc:
        forward = b"".join(dataset.read(there - stop, there - start)).splitlines(keepends=True)
        lines = iter([b"".join(reversed(forward))])
    else:
        lines = dataset.read(start, stop)
    if filters != _Filters():
        lines = (b"".join(_line(item) for item in filters.apply(_items(block))) for block in lines)
    if format == "json":
        lines = _array(lines)
    elif format == "csv":
        lines = _table(list(lines), filters.fields, delimiter, bom=bom is not False, header=not skip_header_row)
    headers = {
        "X-Apify-Pagination-Offset": str(offset),
        "X-Apify-Pagination-Limit": str(limit or _NO_LIMIT),
        # Stored items, whatever filters make of them. It goes by the counter, so it may be too low.
        "X-Apify-Pagination-Count": str(max(min(stop, dataset.item_count) - start, 0)),
        "X-Apify-Pagination-Total": str(dataset.item_count),
        "X-Apify-Pagination-Desc": str(desc).lower(),
    }
    if call.world.settings.gzip and "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        lines = _gzipped(lines)
    return StreamingResponse(_sent(lines), headers=headers, media_type=_MEDIA_TYPES[format])


@router.post("/v2/key-value-stores")
async def create_store(call: WithToken, name: str | None = None) -> Response:
    stores = call.world.key_value_stores
    for store in stores.values():
        if name and store.name == name:
            return success(_store_object(store))
    return success(_store_object(stores.create(name)), 201)


@router.get("/v2/key-value-stores/{store_id}")
async def get_store(call: WithToken, store_id: str) -> Response:
    return success(_store_object(_store(call, store_id)))


@router.get("/v2/key-value-stores/{store_id}/keys")
async def list_keys(
    call: WithToken,
    request: Request,
    store_id: str,
    limit: Annotated[int, Query(ge=1)] = MAX_PAGE,
    exclusive_start_key: Annotated[str | None, Query(alias="exclusiveStartKey")] = None,
    prefix: str = "",
) -> Response:
    store, limit = _store(call, store_id), min(limit, MAX_PAGE)
    keys = [key for key in sorted(store.records) if key.startswith(prefix) and key > (exclusive_start_key or "")]
    shown = keys[:limit]
    items = [
        {
            "key": key,
            "size": len(store.records[key].body),
            "recordPublicUrl": f"{_stored_address(request, store_id, key, 0)}",
        }
        for key in shown
    ]
    return success(
        {
            "items": items,
            "count": len(items),
            "limit": limit,
            "exclusiveStartKey": exclusive_start_key,
            "isTruncated": len(keys) > limit,
            "nextExclusiveStartKey": shown[-1] if len(keys) > limit else None,
        }
    )


@router.api_route("/v2/key-value-stores/{store_id}/records/{key}", methods=["GET", "HEAD"])
async def get_record(call: Anyone, request: Request, store_id: str, key: str) -> Response:
    record = _record(call, store_id, key)
    if record.redirects:
        return RedirectResponse(_stored_address(request, store_id, key, record.redirects - 1), 302)
    return _record_answer(request, record)


@router.put("/v2/key-value-stores/{store_id}/records/{key}")
async def put_record(call: WithToken, request: Request, store_id: str, key: str) -> Response:
    store = _store(call, store_id)
    body, encoding = await read_body(request)
    store.put(key, body, request.headers.get("content-type") or "application/octet-stream", encoding=encoding)
    return Response("{}", 201, {"Location": str(request.url)}, "application/json")


@router.delete("/v2/key-value-stores/{store_id}/records/{key}")
async def delete_record(call: WithToken, store_id: str, key: str) -> Response:
    _store(call, store_id).records.pop(key, None)
    return Response(status_code=204)


@router.get("/emulator/records/{store_id}/{key}/{redirects}")
async def get_stored_record(request: Request, store_id: str, key: str, redirects: int) -> Response:
    """Answer as the storage does that Apify redirects to: by the address's signature alone."""
    if "authorization" in request.headers:
        return Response("Only one auth mechanism allowed", 400, media_type="text/plain")
    if request.url.query != _SIGNATURE:
        return Response("The request signature does not match", 403, media_type="text/plain")
    if redirects:
        return RedirectResponse(_stored_address(request, store_id, key, redirects - 1), 302)
    return _record_answer(request, _record(request.state.call, store_id, key))


def _dataset(call: Call, dataset_id: str) -> Dataset:
    if dataset_id not in call.world.datasets:
        raise not_found("Dataset")
    return call.world.datasets[dataset_id]


def _store(call: Call, store_id: str) -> KeyValueStore:
    if store_id not in call.world.key_value_stores:
        raise not_found("Key-value Store")
    return call.world.key_value_stores[store_id]


def _store_object(store: KeyValueStore) -> dict[str, Any]:
    created = iso(store.created_at)
    shown = {"id": store.id, "createdAt": created, "modifiedAt": created, "accessedAt": iso(time.time())}
    return shown | ({"name": store.name} if store.name else {})


def _record(call: Call, store_id: str, key: str) -> Record:
    records = _store(call, store_id).records
    if key not in records:
        raise not_found("Record")
    return records[key]


def _stored_address(request: Request, store_id: str, key: str, redirects: int) -> str:
    return f"{request.base_url}emulator/records/{store_id}/{quote(key, safe='')}/{redirects}?{_SIGNATURE}"


def _record_answer(request: Request, record: Record) -> Response:
    """Answer with a record, encoded as it was stored if the client can read that."""
    if record.encoding and record.encoding in request.headers.get("accept-encoding", ""):
        return Response(record.body, headers={"Content-Encoding": record.encoding, "Content-Type": record.content_type})
    return Response(unpacked(record.body, record.encoding), headers={"Content-Type": record.content_type})


# -- items as they are asked for ----------------------------------------------------------------------------------

#: Views that every dataset has, with their fields.
_VIEWS = {"overview": ["url", "title"]}


@dataclass(frozen=True)
class _Filters:
    fields: list[str] = field(default_factory=list)
    omit: list[str] = field(default_factory=list)
    unwind: list[str] = field(default_factory=list)
    flatten: list[str] = field(default_factory=list)
    skip_hidden: bool = False
    skip_empty: bool = False

    def apply(self, items: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for item in items:
            picked = {name: item[name] for name in self.fields if name in item} if self.fields else item
            for unwound in _unwound(picked, self.unwind):
                flat = _flattened(unwound, self.flatten)
                shown = {
                    name: value
                    for name, value in flat.items()
                    if name not in self.omit and not (self.skip_hidden and name.startswith("#"))
                }
                if shown or not self.skip_empty:
                    yield shown


def _unwound(item: dict[str, Any], names: list[str]) -> Iterator[dict[str, Any]]:
    if not names:
        yield item
        return
    value = item.get(names[0])
    rest = {name: other for name, other in item.items() if name != names[0]}
    if isinstance(value, list):
        merged = [rest | part if isinstance(part, dict) else {**rest, names[0]: part} for part in value]
    else:
        merged = [rest | value] if isinstance(value, dict) else [item]
    for part in merged:
        yield from _unwound(part, names[1:])


def _flattened(item: dict[str, Any], names: list[str]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in item.items():
        if name in names and isinstance(value, dict):
            flat |= _flat(name, value)
        else:
            flat[name] = value
    return flat


def _flat(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        value = {str(index): part for index, part in enumerate(value)}
    if not isinstance(value, dict):
        return {name: value}
    flat: dict[str, Any] = {}
    for key, part in value.items():
        flat |= _flat(f"{name}.{key}" if name else key, part)
    return flat


def _names(text: str | None) -> list[str]:
    return [name for name in (text or "").split(",") if name]


def _line(item: dict[str, Any]) -> bytes:
    return json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode(errors="backslashreplace") + b"\n"


def _items(block: bytes) -> Iterator[dict[str, Any]]:
    for line in block.splitlines():
        yield json.loads(line)


def _array(blocks: Iterable[bytes]) -> Iterator[bytes]:
    before = b"["
    for block in blocks:
        if block:
            yield before + block[:-1].replace(b"\n", b",")
            before = b","
    yield b"[]" if before == b"[" else b"]"


def _table(blocks: list[bytes], fields: list[str], delimiter: str, *, bom: bool, header: bool) -> Iterator[bytes]:
    """Make a table, whose columns are ``fields``, or else all that the items have."""
    columns = fields or list(
        dict.fromkeys(name for block in blocks for item in _items(block) for name in _flat("", item))
    )
    if bom:
        yield "\ufeff".encode()
    for number, block in enumerate([b"", *blocks]):
        text = io.StringIO()
        writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
        if number == 0 and header and columns:
            writer.writerow(columns)
        for item in _items(block):
            flat = _flat("", item)
            writer.writerow([_cell(flat.get(column)) for column in columns])
        yield text.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _gzipped(blocks: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(1, wbits=31)
    for block in blocks:
        yield packer.compress(block)
    yield packer.flush()


async def _sent(blocks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for block in blocks:
        if block:
            yield block
