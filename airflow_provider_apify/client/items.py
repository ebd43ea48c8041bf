"""
The items of a dataset, read page by page: each once, whatever the size of the dataset and the state of the network.

Neither ``itemCount`` nor the total in the answers is asked: both are late. The end is a page without any stored item.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_apify.api import storages
from airflow_provider_apify.api.endpoints import Request
from airflow_provider_apify.api.errors import ApiError, unreadable
from airflow_provider_apify.api.fields import is_json
from airflow_provider_apify.api.storages import Filters
from airflow_provider_apify.client import wire
from airflow_provider_apify.client.failures import as_airflow_error
from airflow_provider_apify.exceptions import ApifyApiError

if TYPE_CHECKING:
    from airflow_provider_apify.client.client import Client

#: Stored items that one request looks at. With fewer, more of the time would be spent on waiting for the next answer.
PAGE = 50_000

#: Seconds after which an item that was stored can be read.
LATE = 6.0
#: Seconds after which a dataset that does not change counts as complete. Its counter is late, so its time may be, too.
SETTLED = 60.0

_NO_FILTERS = Filters()
_COUNT = "X-Apify-Pagination-Count"


class Block(NamedTuple):
    """Some items: ``lines`` has each as JSON on a line of its own."""

    lines: bytes
    items: int


def read(
    client: Client,
    dataset_id: str,
    filters: Filters = _NO_FILTERS,
    *,
    offset: int = 0,
    limit: int | None = None,
    late: float = 0.0,
) -> Iterator[Block]:
    """
    Give a dataset's items.

    :param offset: how many stored items to pass over.
    :param limit: how many stored items to look at; ``None``: all.
    :param late: seconds from now for which the newest items may still come: then the end is looked at once more.
    :raises ValueError: an argument cannot be used. The iterator raises ``ApifyApiError``.
    """
    for name, value in (("offset", offset), ("limit", limit)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise ValueError(f"{name} must be a whole number from 0; got {value!r}")
    storages.get_items(dataset_id, filters, offset=offset, limit=1)
    return _read(client, dataset_id, filters, offset, limit, time.monotonic() + late if late else None)


def parsed(blocks: Iterable[Block]) -> Iterator[dict[str, Any]]:
    """Give the items themselves."""
    for block in blocks:
        yield from parsed_lines(block.lines)


def parsed_lines(lines: bytes) -> list[dict[str, Any]]:
    """
    Give the items of whole lines.

    :raises ApifyApiError: one cannot be read.
    """
    try:
        return [json.loads(line) for line in lines.decode().split("\n")[:-1]]
    except (ValueError, RecursionError):
        raise as_airflow_error(unreadable("GET items", 200, "it has an item that cannot be read as JSON")) from None


def seconds_late(client: Client, finished_at: datetime | None) -> float:
    """
    Give the seconds after which the last items of a run can be read for certain.

    :param finished_at: when the run ended; ``None``: not known.
    """
    if finished_at is None:
        return LATE
    return min(max(0.0, LATE - seconds_since(client, finished_at)), LATE)


def dataset_seconds_late(client: Client, dataset_id: str) -> float:
    """Give the same for a dataset of which no run is known: nothing if it has not changed for a minute."""
    try:
        changed = client.call(storages.get_dataset(dataset_id), storages.modified_at, attempts=1)
    except ApifyApiError:
        return LATE  # what is wrong, the request for items says
    return 0.0 if changed and seconds_since(client, changed) > SETTLED else LATE


def seconds_since(client: Client, moment: datetime) -> float:
    """Give how long ago something was, by Apify's clock."""
    return time.time() + (client.clock_offset or 0.0) - moment.timestamp()


def count_items(client: Client, dataset_id: str, most: int, *, late: float = 0.0) -> int:
    """Count a dataset's items by reading them, up to ``most``; ``late`` as with :func:`read`."""
    return sum(block.items for block in read(client, dataset_id, limit=most, late=late))


def _read(
    client: Client, dataset_id: str, filters: Filters, offset: int, limit: int | None, late_until: float | None
) -> Iterator[Block]:
    end = None if limit is None else offset + limit
    while end is None or offset < end:
        page = _Page(client, dataset_id, filters, offset, PAGE if end is None else min(PAGE, end - offset))
        yield from page.blocks()
        stored = page.items if filters == _NO_FILTERS else (yield from _rest(page))
        if not stored:
            if late_until is None:
                return
            client.pause(max(0.0, late_until - time.monotonic()))
            late_until = None
        offset += stored


def _rest(page: _Page) -> Generator[Block, None, int]:
    """
    Find out how many stored items a page with filters has looked at, and give what is still to come of it.

    Apify counts the stored items, but too few as long as its counter is late, as a plain look behind them shows. Then
    the page is read once more, up to the last stored item that is there for certain.
    """
    counted = min(page.count or 0, page.limit)
    if counted == page.limit or not _Page(page.client, page.dataset_id, _NO_FILTERS, page.offset + counted, 1).read():
        return counted
    stored = _Page(page.client, page.dataset_id, _NO_FILTERS, page.offset, page.limit).read()
    longer = _Page(page.client, page.dataset_id, page.filters, page.offset, stored)
    longer.items = page.items
    yield from longer.blocks()
    return stored


class _Page:
    """Some stored items in a row, what filters make of them, and how far they have been read."""

    def __init__(self, client: Client, dataset_id: str, filters: Filters, offset: int, limit: int) -> None:
        self.client, self.dataset_id, self.filters, self.offset, self.limit = client, dataset_id, filters, offset, limit
        #: Items given so far.
        self.items = 0
        #: Stored items, by Apify's own count.
        self.count: int | None = None

    def read(self) -> int:
        """Give the number of items."""
        return self.items + sum(block.items for block in self.blocks())

    def blocks(self) -> Iterator[Block]:
        """Give the items that have not been given yet, reading again what is cut."""
        failures = 0
        while True:
            # With filters, nobody knows where the next item begins: what was given is read again, and passed over.
            given = self.items
            known = given if self.filters == _NO_FILTERS else 0
            if known == self.limit:
                return
            request = storages.get_items(
                self.dataset_id, self.filters, offset=self.offset + known, limit=self.limit - known
            )
            try:
                yield from self._blocks_of_one_answer(request, passed_over=given - known)
                return
            except ApiError as error:
                failures = failures + 1 if self.items == given else 1
                self.client.pause_after(error, failures, request)

    def _blocks_of_one_answer(self, request: Request, passed_over: int) -> Iterator[Block]:
        seen = 0
        with self.client.stream(request) as answer:
            count = answer.headers.get(_COUNT, "")
            self.count = int(count) if count.isdecimal() else None
            wanted = self.count if self.filters.keep_number else None
            for lines in _whole_lines(answer.chunks):
                if not lines.startswith(b"{"):
                    raise unreadable(str(request), 200, "it has a line that is no item")
                items = _number_of(lines)
                if not lines.endswith(b"\n"):
                    # Whether this is the end, the last brace does not say.
                    if not (is_json(lines) and (seen + 1 == wanted or "Content-Encoding" in answer.headers)):
                        break
                    lines, items = lines + b"\n", 1
                before, seen = seen, seen + items
                if before < passed_over < seen:
                    lines = lines.split(b"\n", passed_over - before)[-1]
                if passed_over < seen:
                    block = Block(lines, seen - max(before, passed_over))
                    self.items += block.items
                    yield block
            else:
                if seen >= max(wanted or 0, passed_over):
                    return
            raise wire.no_answer(request, "cut", sent=True)


def _whole_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Put chunks together so that each ends with a line; only the last need not."""
    pieces: list[bytes] = []
    for chunk in chunks:
        end = chunk.rfind(b"\n") + 1
        if end:
            yield b"".join((*pieces, chunk[:end]))
            pieces = []
        pieces.append(chunk[end:])
    if rest := b"".join(pieces):
        yield rest


def _number_of(lines: bytes) -> int:
    """Count lines. If they are long, jumping from end to end is three times as fast as ``count``."""
    end = lines.find(b"\n")
    if end < 300:
        return lines.count(b"\n")
    number = 0
    while end >= 0:
        number += 1
        end = lines.find(b"\n", end + 1)
    return number
