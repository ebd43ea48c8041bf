"""
The items of a dataset, read page by page: each once, whatever the size of the dataset and the state of the network.

Neither ``itemCount`` nor the total in the answers is asked: both are late. The end is a page without any stored item.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_apify.api import storages
from airflow_provider_apify.api.endpoints import Request
from airflow_provider_apify.api.errors import ApiError, unreadable
from airflow_provider_apify.api.storages import Filters
from airflow_provider_apify.client import wire
from airflow_provider_apify.client.failures import as_airflow_error

if TYPE_CHECKING:
    from airflow_provider_apify.client.client import Client

#: Stored items that one request looks at.
PAGE = 10_000

#: Seconds after which an item that was stored can be read.
LATE = 6.0

_NO_FILTERS = Filters()
_COUNT = "X-Apify-Pagination-Count"


def read(
    client: Client,
    dataset_id: str,
    filters: Filters = _NO_FILTERS,
    *,
    offset: int = 0,
    limit: int | None = None,
    late: float = 0.0,
) -> Iterator[bytes]:
    """
    Give a dataset's items as blocks of whole lines, each line an item as JSON.

    :param offset: how many stored items to pass over.
    :param limit: how many stored items to look at; ``None``: all.
    :param late: seconds to wait at the end before looking once more: the newest items may come late.
    :raises ValueError: an argument cannot be used. The iterator raises ``ApifyApiError``.
    """
    for name, value in (("offset", offset), ("limit", limit)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise ValueError(f"{name} must be a whole number from 0; got {value!r}")
    storages.get_items(dataset_id, filters, offset=offset, limit=1)
    return _read(client, dataset_id, filters, offset, limit, late)


def parsed(blocks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Give the items themselves."""
    try:
        for block in blocks:
            for line in block.decode().split("\n")[:-1]:
                yield json.loads(line)
    except ValueError:
        raise as_airflow_error(unreadable("GET items", 200, "it has a line that is no JSON")) from None


def seconds_late(client: Client, finished_at: datetime | None) -> float:
    """
    Give the seconds after which the last items of a run can be read for certain.

    :param finished_at: when the run ended; ``None``: not known.
    """
    if finished_at is None:
        return LATE
    return min(max(0.0, finished_at.timestamp() + LATE - time.time() - (client.clock_offset or 0.0)), LATE)


def count_items(client: Client, dataset_id: str, most: int, *, late: float = 0.0) -> int:
    """Count a dataset's items by reading them, up to ``most``; ``late`` as with :func:`read`."""
    return sum(block.count(b"\n") for block in read(client, dataset_id, limit=most, late=late))


def _read(
    client: Client, dataset_id: str, filters: Filters, offset: int, limit: int | None, late: float
) -> Iterator[bytes]:
    end = None if limit is None else offset + limit
    while end is None or offset < end:
        page = _Page(client, dataset_id, filters, offset, PAGE if end is None else min(PAGE, end - offset))
        yield from page.blocks()
        stored = page.lines if filters == _NO_FILTERS else (yield from _rest(page))
        if not stored and not late:
            return
        if not stored:
            client.pause(late)
            late = 0.0
        offset += stored


def _rest(page: _Page) -> Generator[bytes, None, int]:
    """
    Find out how many stored items a page with filters has looked at, and give those lines that are still to come.

    Apify counts the stored items, but too few as long as its counter is late, as a plain look behind them shows. Then
    the page is read once more, up to the last stored item that is there for certain.
    """
    counted = min(page.count or 0, page.limit)
    if counted == page.limit or not _Page(page.client, page.dataset_id, _NO_FILTERS, page.offset + counted, 1).read():
        return counted
    stored = _Page(page.client, page.dataset_id, _NO_FILTERS, page.offset, page.limit).read()
    longer = _Page(page.client, page.dataset_id, page.filters, page.offset, stored)
    longer.lines = page.lines
    yield from longer.blocks()
    return stored


class _Page:
    """Some stored items in a row, what filters make of them, and how far they have been read."""

    def __init__(self, client: Client, dataset_id: str, filters: Filters, offset: int, limit: int) -> None:
        self.client, self.dataset_id, self.filters, self.offset, self.limit = client, dataset_id, filters, offset, limit
        #: Given so far: where the page is read again, they are passed over.
        self.lines = 0
        #: Stored items, by Apify's own count.
        self.count: int | None = None

    def read(self) -> int:
        """Give the number of lines."""
        for _ in self.blocks():
            pass
        return self.lines

    def blocks(self) -> Iterator[bytes]:
        """Give the lines that have not been given yet, reading again what is cut."""
        request = storages.get_items(self.dataset_id, self.filters, offset=self.offset, limit=self.limit)
        failures = 0
        while True:
            before = self.lines
            try:
                yield from self._blocks_of_one_answer(request)
                return
            except ApiError as error:
                failures = failures + 1 if self.lines == before else 1
                self.client.pause_after(error, failures, request)

    def _blocks_of_one_answer(self, request: Request) -> Iterator[bytes]:
        seen, given = 0, self.lines
        with self.client.stream(request) as answer:
            count = answer.headers.get(_COUNT, "")
            self.count = int(count) if count.isdecimal() else None
            wanted = self.count if self.filters == _NO_FILTERS else None
            for block in _whole_lines(answer.chunks):
                if not block.startswith(b"{"):
                    raise unreadable(str(request), 200, "it has a line that is no item")
                lines = block.count(b"\n")
                if not block.endswith(b"\n"):
                    # Whether this is the end, the last brace does not say.
                    if not (_is_json(block) and (seen + 1 == wanted or "Content-Encoding" in answer.headers)):
                        break
                    block, lines = block + b"\n", 1
                seen += lines
                if seen > given:
                    passed_over = max(given - (seen - lines), 0)
                    self.lines = seen
                    yield block.split(b"\n", passed_over)[-1] if passed_over else block
            else:
                if seen >= max(wanted or 0, given):
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


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
