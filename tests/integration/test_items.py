"""Datasets and records through the hook: each item once, whatever the size, the filters and the trouble."""

from __future__ import annotations

import gzip
import itertools
import json
import threading
import tracemalloc
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_apify.client import items
from airflow_provider_apify.client.items import count_items
from airflow_provider_apify.emulator import Emulator, Fault
from airflow_provider_apify.exceptions import (
    ApifyApiError,
    ApifyConfigurationError,
    ApifyInvalidRequestError,
    ApifyNetworkError,
    ApifyNotFoundError,
    ApifyServerError,
)
from airflow_provider_apify.hooks.apify import ApifyHook
from airflow_provider_apify.jobs.start import ATTEMPTS
from tests.integration.conftest import client
from tests.runner import Supervisor

ITEMS = "/v2/datasets/*/items"
#: Every fourth is empty when it is clean.
NUMBERS: list[dict[str, Any]] = [{"#n": n} if n % 4 == 0 else {"n": n, "text": "ä\u2028b"} for n in range(1000)]
CLEAN = [item for item in NUMBERS if "n" in item]


@pytest.fixture
def hook(apify: Emulator, supervisor: Supervisor) -> ApifyHook:
    return ApifyHook()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pages, and no long pauses between tries."""
    monkeypatch.setattr(items, "PAGE", 300)
    monkeypatch.setattr("airflow_provider_apify.client.client.backoff", lambda *_: 0.0)


def pages(apify: Emulator) -> list[str]:
    return [request.query for request in apify.requests if request.path.endswith("/items")]


def test_all_items_come_page_by_page(hook: ApifyHook, apify: Emulator) -> None:
    dataset = apify.add_dataset(NUMBERS)
    assert list(hook.iterate_dataset_items(dataset)) == NUMBERS
    assert pages(apify) == ["format=jsonl&limit=300"] + [
        f"format=jsonl&offset={offset}&limit=300" for offset in (300, 600, 900, 1000)
    ]


def test_nothing_is_read_before_it_is_asked_for(hook: ApifyHook, apify: Emulator) -> None:
    iterator = hook.iterate_dataset_items(apify.add_dataset(NUMBERS))
    assert apify.requests == []
    assert list(itertools.islice(iterator, 5)) == NUMBERS[:5]
    assert len(apify.requests) == 1


def test_offset_and_limit(hook: ApifyHook, apify: Emulator) -> None:
    dataset = apify.add_dataset(NUMBERS)
    assert list(hook.iterate_dataset_items(dataset, offset=250, limit=350)) == NUMBERS[250:600]
    assert pages(apify) == ["format=jsonl&offset=250&limit=300", "format=jsonl&offset=550&limit=50"]
    assert list(hook.iterate_dataset_items(dataset, offset=999, limit=5)) == NUMBERS[999:]
    assert list(hook.iterate_dataset_items(dataset, limit=0)) == []
    assert list(hook.iterate_dataset_items(dataset, clean=True, limit=5)) == CLEAN[:3]


def test_pages_that_filters_leave_empty_are_not_the_end(hook: ApifyHook, apify: Emulator) -> None:
    dataset = apify.add_dataset([{"#hidden": 1}] * 700 + [{"a": 1}] + [{"#hidden": 1}] * 700 + [{"a": 2}])
    assert list(hook.iterate_dataset_items(dataset, clean=True)) == [{"a": 1}, {"a": 2}]
    full, last, none, looks = pages(apify)[:4], pages(apify)[4], pages(apify)[6], (pages(apify)[5], pages(apify)[7])
    assert all("limit=300&clean" in query for query in (*full, last, none))
    assert looks == ("format=jsonl&offset=1402&limit=1",) * 2
    assert len(pages(apify)) == 8


def test_every_filter_reaches_apify(hook: ApifyHook, apify: Emulator) -> None:
    parts = [{"at": {"city": f"C{n}", "no": n}, "skip": n} for n in range(2)]
    dataset = apify.add_dataset([{"id": 1, "parts": parts, "url": "u"}])
    found = hook.iterate_dataset_items(
        dataset, fields=["parts"], unwind="parts", flatten=["at"], omit=["skip", "at.no"], clean=True
    )
    assert list(found) == [{"at.city": "C0"}, {"at.city": "C1"}]
    assert pages(apify)[0].endswith("fields=parts&omit=skip%2Cat.no&unwind=parts&flatten=at&clean=true")
    assert list(hook.iterate_dataset_items(dataset, view="overview", fields="")) == [{"url": "u"}]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("fields", ["a,b"]),
        ("omit", [""]),
        ("unwind", [1]),
        ("flatten", ["\ud800"]),
        ("clean", "yes"),
        ("view", 1),
        ("offset", -1),
        ("limit", 1.5),
        ("limit", True),
    ],
)
def test_what_cannot_be_a_filter_is_named_at_once(argument: str, value: Any, hook: ApifyHook, apify: Emulator) -> None:
    with pytest.raises(ApifyConfigurationError, match=f"^{argument} must be"):
        hook.iterate_dataset_items("x", **{argument: value})
    assert apify.requests == []


@pytest.mark.parametrize("dataset_id", ["", "None", None, "a/b", "https://api.apify.com/v2/datasets/x?token=t", ".."])
def test_what_cannot_be_a_datasets_id_is_named_at_once(dataset_id: Any, hook: ApifyHook, apify: Emulator) -> None:
    with pytest.raises(ApifyConfigurationError, match="dataset_id must be the id of a dataset; got") as raised:
        hook.iterate_dataset_items(dataset_id)
    assert "token" not in str(raised.value)
    assert apify.requests == []


def test_neither_the_counter_nor_the_total_is_the_end(hook: ApifyHook, apify: Emulator) -> None:
    apify.item_count_seconds = 1000
    dataset = apify.add_dataset()
    apify.push_items(dataset, NUMBERS)
    assert list(hook.iterate_dataset_items(dataset)) == NUMBERS
    assert list(hook.iterate_dataset_items(dataset, clean=True)) == CLEAN


def test_items_that_come_while_it_reads_are_read_too(hook: ApifyHook, apify: Emulator) -> None:
    dataset = apify.add_dataset(NUMBERS[:450])
    for filters in ({}, {"clean": True}):
        iterator = hook.iterate_dataset_items(dataset, **filters)  # type: ignore[arg-type]
        found = list(itertools.islice(iterator, 320))
        if not filters:
            apify.push_items(dataset, NUMBERS[450:])
        assert found + list(iterator) == (CLEAN if filters else NUMBERS)


@pytest.mark.parametrize("counted", [0, 1, 299, 300, 301, 650, 999])
def test_a_count_that_is_late_makes_no_item_come_twice_or_never(counted: int, hook: ApifyHook, apify: Emulator) -> None:
    """As Apify's client for Python has seen it: a page says that it has looked at fewer stored items than it has."""
    apify.item_count_seconds = 1000
    dataset = apify.add_dataset(NUMBERS[:counted])
    apify.push_items(dataset, NUMBERS[counted:])
    assert list(hook.iterate_dataset_items(dataset, clean=True)) == CLEAN
    assert list(hook.iterate_dataset_items(dataset)) == NUMBERS


TROUBLE = {
    "cut": Fault("cut-json", path=ITEMS, times=2),
    "cut politely": Fault("polite-cut", path=ITEMS, times=2),
    "cut politely after an item": Fault("polite-cut", path=ITEMS, times=2, value="line"),
    "reset": Fault("reset", path=ITEMS, times=2),
    "lost": Fault("lost-answer", path=ITEMS, times=2),
    "429": Fault("status", path=ITEMS, status=429, times=2),
    "500": Fault("status", path=ITEMS, status=500, times=2),
    "a page of a proxy": Fault("html", path=ITEMS, times=2),
    "a page of a proxy, as text": Fault("status", path=ITEMS, status=200, body="Please log in.", times=2),
    "another object": Fault("status", path=ITEMS, status=200, body='{"data": []', times=2),
}


@pytest.mark.parametrize("packed", [True, False], ids=["gzip", "plain"])
@pytest.mark.parametrize("skip", [0, 2])
@pytest.mark.parametrize("trouble", TROUBLE)
def test_no_trouble_loses_or_repeats_an_item(
    trouble: str, skip: int, packed: bool, hook: ApifyHook, apify: Emulator
) -> None:
    apify.gzip = packed
    dataset = apify.add_dataset(NUMBERS)
    apify.add_fault(Fault(**_again(TROUBLE[trouble], skip)))
    assert list(hook.iterate_dataset_items(dataset)) == NUMBERS


@pytest.mark.parametrize("clean", [None, True])
def test_a_page_that_lost_all_its_items_is_not_the_end(clean: bool | None, hook: ApifyHook, apify: Emulator) -> None:
    dataset = apify.add_dataset(NUMBERS)
    count = {"X-Apify-Pagination-Count": "300"} if not clean else {}
    apify.add_fault(Fault("status", path=ITEMS, status=200, body="", headers=count, skip=1))
    assert list(hook.iterate_dataset_items(dataset, clean=clean)) == (CLEAN if clean else NUMBERS)


@pytest.mark.parametrize("trouble", [name for name in TROUBLE if name != "cut politely after an item"])
def test_nor_does_it_with_filters(trouble: str, hook: ApifyHook, apify: Emulator) -> None:
    dataset = apify.add_dataset(NUMBERS)
    apify.add_fault(Fault(**_again(TROUBLE[trouble], 1)))
    assert list(hook.iterate_dataset_items(dataset, clean=True)) == CLEAN


def _again(fault: Fault, skip: int) -> dict[str, Any]:
    return {name: value for name, value in vars(fault).items() if name not in ("fired", "skipped")} | {"skip": skip}


def test_progress_is_not_a_failure_in_a_row(hook: ApifyHook, apify: Emulator) -> None:
    """Each answer brings half of the items that are left."""
    apify.gzip = False
    items.PAGE = 5000
    dataset = apify.add_dataset({"n": n} for n in range(5000))
    apify.add_fault(Fault("cut-json", path=ITEMS, times=ATTEMPTS + 2))
    assert [item["n"] for item in hook.iterate_dataset_items(dataset)] == [*range(5000)]


def test_gzip_without_its_end_is_a_cut_even_after_an_item(hook: ApifyHook, supervisor: Supervisor) -> None:
    """A server that flushes what it packs can be cut there; then the items so far are complete lines."""
    packer = zlib.compressobj(wbits=31)
    half = packer.compress(b'{"n": 1}\n') + packer.flush(zlib.Z_SYNC_FLUSH)
    answers = [half, half + packer.compress(b'{"n": 2}\n') + packer.flush(), gzip.compress(b""), b"[]"]

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers.pop(0)
            self.send_response(200)
            if body != b"[]":
                self.send_header("Content-Encoding", "gzip")
            self.send_header("X-Apify-Pagination-Count", "2" if len(answers) > 1 else "0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        supervisor.connections["apify_default"]["host"] = f"http://127.0.0.1:{server.server_port}"
        assert list(hook.iterate_dataset_items("x", clean=True, limit=2)) == [{"n": 1}, {"n": 2}]
        server.shutdown()
    assert len(answers) == 2


def test_trouble_that_lasts_ends_with_what_it_is(hook: ApifyHook, apify: Emulator) -> None:
    dataset = apify.add_dataset(NUMBERS)
    apify.add_fault(Fault("polite-cut", path=ITEMS, times=None))
    with pytest.raises(ApifyNetworkError, match=r"datasets/\w+/items: the connection was cut before the whole answer"):
        list(hook.iterate_dataset_items(dataset))
    apify.clear_faults()
    apify.add_fault(Fault("html", path=ITEMS, times=None))
    with pytest.raises(ApifyServerError, match="no item"):
        list(hook.iterate_dataset_items(dataset))


def test_a_dataset_that_is_gone_says_why_it_may_be(hook: ApifyHook, apify: Emulator) -> None:
    dataset = apify.add_dataset(NUMBERS)
    iterator = hook.iterate_dataset_items(dataset)
    assert next(iterator) == NUMBERS[0]
    apify.delete_dataset(dataset)
    with pytest.raises(ApifyNotFoundError, match=r"Dataset was not found.\nCheck the id of the dataset, .*retention"):
        list(iterator)


def test_a_token_that_is_renewed_meanwhile_is_read_again(
    hook: ApifyHook, apify: Emulator, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_apify.client.settings.RENEW_AFTER", 0)
    iterator = hook.iterate_dataset_items(apify.add_dataset(NUMBERS))
    next(iterator)
    supervisor.connections["apify_default"]["password"] = apify.token = "rotated"
    assert len(list(iterator)) == 999


def test_an_answer_that_trickles_is_given_up(hook: ApifyHook, apify: Emulator, supervisor: Supervisor) -> None:
    supervisor.connections["apify_default"]["extra"] = json.dumps({"timeout": 1})
    dataset = apify.add_dataset(NUMBERS[:2])
    apify.add_fault(Fault("drip", path=ITEMS, seconds=30))
    assert list(hook.iterate_dataset_items(dataset)) == NUMBERS[:2]
    assert len(apify.requests) == 3


def test_a_slow_reader_is_no_slow_answer(hook: ApifyHook, apify: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is the time spent on reading, not what is done with the items."""
    from airflow_provider_apify.client import worker

    now = 0.0
    clock = SimpleNamespace(monotonic=lambda: now)
    dataset = apify.add_dataset({"n": n, "text": "x" * 3000} for n in range(300))
    monkeypatch.setattr(worker, "time", clock)
    for _ in hook.iterate_dataset_items(dataset):
        now += 10
    assert len(apify.requests) == 2


def test_memory_does_not_grow_with_the_dataset(
    hook: ApifyHook, apify: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(items, "PAGE", 10_000)
    line = json.dumps({"text": "x" * 1000}).encode() + b"\n"
    dataset = apify.add_dataset(count=20_000, lines=lambda start, stop: line * (stop - start))
    iterator = hook.iterate_dataset_items(dataset)
    next(iterator)
    tracemalloc.start()
    assert sum(1 for _ in iterator) == 19_999
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6, "the emulator's share included"


def test_large_items(hook: ApifyHook, apify: Emulator) -> None:
    large: list[dict[str, Any]] = [{"text": "ü" * 4_000_000}, {"n": 1}, {"text": "x" * 8_000_000}]
    assert list(hook.iterate_dataset_items(apify.add_dataset(large))) == large


def test_a_line_without_its_end_counts_only_where_it_is_known_to_be_the_last(hook: ApifyHook, apify: Emulator) -> None:
    apify.gzip = False
    count = {"X-Apify-Pagination-Count": "2"}
    apify.add_fault(Fault("status", path=ITEMS, status=200, body='{"n": 1}\n{"n": 2}', headers=count))
    assert list(hook.iterate_dataset_items("x", limit=2)) == [{"n": 1}, {"n": 2}]
    for headers in ({}, count):
        apify.clear_faults()
        apify.add_fault(Fault("status", path=ITEMS, status=200, body='{"n": 1}', headers=headers, times=None))
        with pytest.raises(ApifyNetworkError, match="cut"):
            list(hook.iterate_dataset_items("x", limit=2))


def test_counting_stops_where_it_is_enough(apify: Emulator, supervisor: Supervisor) -> None:
    dataset = apify.add_dataset(NUMBERS)
    assert [count_items(client(), dataset, most) for most in (0, 1, 400, 5000)] == [0, 1, 400, 1000]
    assert [query.partition("&limit=")[2] for query in pages(apify)[:3]] == ["1", "300", "100"]


# -- records ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "body", "value"),
    [
        ("application/json; charset=utf-8", b'{"data": {"a": 1}}', {"data": {"a": 1}}),
        ("application/ld+json", b"[1]", [1]),
        ("application/json", b"null", None),
        ("text/plain; charset=utf-8", "ü".encode(), "ü"),
        ("text/csv; charset=latin-1", "ü".encode("latin-1"), "ü"),
        ("text/html", b"<p>", "<p>"),
        ("text/plain", b"\xff", b"\xff"),
        ("text/plain; charset=none-such", b"a", b"a"),
        ("application/xml; charset=utf-8", b"<a/>", "<a/>"),
        ("image/png", b"\x89PNG", b"\x89PNG"),
        ("application/octet-stream", b"{}", b"{}"),
        ("text/plain", b"", ""),
    ],
)
def test_a_record_is_what_its_content_type_says(
    content_type: str, body: bytes, value: Any, hook: ApifyHook, apify: Emulator
) -> None:
    store = apify.add_key_value_store()
    apify.add_record(store, "a'(b)!", body, content_type)
    assert hook.get_record(store, "a'(b)!") == value


def test_a_missing_record_is_none_but_a_missing_store_an_error(hook: ApifyHook, apify: Emulator) -> None:
    assert hook.get_record(apify.add_key_value_store(), "OUTPUT") is None
    with pytest.raises(
        ApifyNotFoundError, match=r"Key-value Store was not found.\nCheck the id of the key-value-store"
    ):
        hook.get_record("none", "OUTPUT")


@pytest.mark.parametrize("key", ["", "a/b", "..", "ä", "x" * 257, None])
def test_what_cannot_be_a_key_is_named_at_once(key: Any, hook: ApifyHook, apify: Emulator) -> None:
    with pytest.raises(ApifyConfigurationError, match=r"^key must be"):
        hook.get_record("store", key)
    assert apify.requests == []


def test_a_record_comes_over_three_redirects_at_most(hook: ApifyHook, apify: Emulator) -> None:
    store = apify.add_key_value_store()
    for redirects in (1, 3):
        apify.add_record(store, "OUTPUT", b"[1]", redirects=redirects)
        assert hook.get_record(store, "OUTPUT") == [1]
        assert hook.request("GET", f"/v2/key-value-stores/{store}/records/OUTPUT") == [1]
    apify.add_record(store, "OUTPUT", b"[1]", redirects=4)
    with pytest.raises(ApifyApiError, match="redirects more than 3 times") as raised:
        hook.get_record(store, "OUTPUT")
    assert "ignature" not in str(raised.value)


@pytest.mark.parametrize(
    "address", ["http://storage.example/x", "http://10.0.0.1/x", "ftp://127.0.0.1/", "http://[", "/x"]
)
def test_a_record_is_not_got_over_what_others_can_read(address: str, hook: ApifyHook, apify: Emulator) -> None:
    apify.add_fault(Fault("status", status=302, headers={"Location": f"{address}?signature=secret"}, times=None))
    with pytest.raises(
        ApifyApiError, match=r"redirects to (an address that is not https|something that is no address)"
    ) as raised:
        hook.get_record("store", "OUTPUT")
    assert "secret" not in str(raised.value)


# -- inputs -----------------------------------------------------------------------------------------------------------


def test_an_input_is_checked_by_apify(hook: ApifyHook, apify: Emulator) -> None:
    path = "/v2/acts/*/validate-input"
    apify.add_fault(Fault("status", "POST", path, status=200, body={"valid": True}))
    assert hook.validate_input("~hello-world", {"a": 1}, build="0.0.1") is None  # type: ignore[func-returns-value]
    (request,) = apify.requests
    assert (request.query, request.headers["content-type"]) == ("build=0.0.1", "application/json")
    refused = {"error": {"type": "invalid-input", "message": "Field input.startUrls is required"}}
    apify.add_fault(Fault("status", "POST", path, status=400, body=refused))
    with pytest.raises(ApifyInvalidRequestError, match=r"Field input\.startUrls is required"):
        hook.validate_input("~hello-world", {})
    with pytest.raises(ApifyConfigurationError, match="JSON"):
        hook.validate_input("~hello-world", {"a": object()})
