"""Datasets and key-value stores of the emulator."""

from __future__ import annotations

import gzip
import json
from typing import Any

import httpx
import pytest

from airflow_provider_apify.emulator import Emulator, Fault

from .conftest import Api, anyone, error

ITEMS: list[dict[str, Any]] = [
    {"url": "https://example.com/1", "title": 'One, "1"', "#debug": {"depth": 0}, "tags": [{"tag": "a"}, {"tag": "b"}]},
    {},
    {"url": "https://example.com/3", "title": "Drei ü", "at": {"city": "Praha", "geo": {"lat": 50}}},
    {"#debug": 1},
]


def items(api: Api, dataset_id: str, **params: Any) -> Any:
    answer = api("GET", f"/datasets/{dataset_id}/items", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def headers(answer: httpx.Response) -> list[str]:
    return [answer.headers[f"X-Apify-Pagination-{name}"] for name in ("Offset", "Limit", "Count", "Total")]


def test_items_in_each_format(api: Api, emulator: Emulator) -> None:
    dataset = emulator.add_dataset(ITEMS)
    assert items(api, dataset) == ITEMS
    lines = api("GET", f"/datasets/{dataset}/items", params={"format": "jsonl"})
    assert [json.loads(line) for line in lines.text.splitlines()] == ITEMS
    assert lines.text.endswith("}\n")
    table = api("GET", f"/datasets/{dataset}/items", params={"format": "csv", "fields": "title,at", "clean": 1})
    assert table.content.decode() == '\ufefftitle,at\n"One, ""1""",\nDrei ü,\n'
    table = api("GET", f"/datasets/{dataset}/items", params={"format": "csv", "bom": 0, "skipHeaderRow": 1, "limit": 1})
    assert table.text == 'https://example.com/1,"One, ""1""",0,a,b\n'


def test_the_window_is_chosen_before_filters_drop_items(api: Api, emulator: Emulator) -> None:
    dataset = emulator.add_dataset(ITEMS)
    page = api("GET", f"/datasets/{dataset}/items", params={"offset": 1, "limit": 1, "clean": 1})
    assert (page.json(), headers(page)) == ([], ["1", "1", "1", "4"])
    page = api("GET", f"/datasets/{dataset}/items", params={"offset": 3})
    assert (page.json(), headers(page)) == (ITEMS[3:], ["3", "999999999999", "1", "4"])
    page = api("GET", f"/datasets/{dataset}/items", params={"offset": 9})
    assert (page.json(), headers(page)) == ([], ["9", "999999999999", "0", "4"])
    assert items(api, dataset, desc=1, limit=3) == ITEMS[:0:-1]


@pytest.mark.parametrize(
    ("params", "shown"),
    [
        ({"fields": "title,url", "limit": 1}, [{"title": 'One, "1"', "url": "https://example.com/1"}]),
        ({"omit": "tags,#debug,title", "limit": 1}, [{"url": "https://example.com/1"}]),
        ({"unwind": "tags", "fields": "tags", "limit": 1}, [{"tag": "a"}, {"tag": "b"}]),
        ({"flatten": "at", "fields": "at", "offset": 2, "limit": 1}, [{"at.city": "Praha", "at.geo.lat": 50}]),
        ({"skipHidden": 1, "offset": 3}, [{}]),
        ({"skipEmpty": 1, "offset": 1, "fields": "#debug"}, [{"#debug": 1}]),
        ({"clean": 1, "offset": 1, "fields": "url"}, [{"url": "https://example.com/3"}]),
        ({"view": "overview", "limit": 1}, [{"url": "https://example.com/1", "title": 'One, "1"'}]),
    ],
)
def test_filters(params: dict[str, Any], shown: list[dict[str, Any]], api: Api, emulator: Emulator) -> None:
    assert items(api, emulator.add_dataset(ITEMS), **params) == shown


def test_items_are_sent_with_gzip_to_whoever_accepts_it(api: Api, emulator: Emulator) -> None:
    dataset = emulator.add_dataset(ITEMS * 100)
    for asked, used in (("gzip", "gzip"), ("identity", None)):
        answer = api("GET", f"/datasets/{dataset}/items", headers={"Accept-Encoding": asked})
        assert (answer.headers.get("Content-Encoding"), len(answer.json())) == (used, 400)


def test_pushed_items_are_there_at_once_but_counted_late(api: Api, emulator: Emulator) -> None:
    dataset = emulator.add_dataset(ITEMS)
    packed = gzip.compress(json.dumps({"b": 2}).encode())
    assert api("POST", f"/datasets/{dataset}/items", json=[{"a": 1}]).status_code == 201
    posted = api("POST", f"/datasets/{dataset}/items", content=packed, headers={"Content-Encoding": "gzip"})
    assert (posted.status_code, posted.json()) == (201, {})
    page = api("GET", f"/datasets/{dataset}/items", params={"offset": 4})
    assert (page.json(), headers(page)[2:]) == ([{"a": 1}, {"b": 2}], ["0", "4"])
    assert api("GET", f"/datasets/{dataset}").json()["data"]["itemCount"] == 4
    emulator.item_count_seconds = 0
    assert api("GET", f"/datasets/{dataset}").json()["data"]["itemCount"] == 6
    emulator.items_seconds = 60
    assert items(api, dataset, offset=4) == []


def test_what_is_no_item_is_refused(api: Api, emulator: Emulator) -> None:
    dataset = emulator.add_dataset()
    for body in (b"[1]", b"{", b'"text"'):
        assert error(api("POST", f"/datasets/{dataset}/items", content=body)) == (400, "invalid-request")
    assert items(api, dataset) == []


def test_a_large_dataset_is_made_as_it_is_read(api: Api, emulator: Emulator) -> None:
    def lines(start: int, stop: int) -> bytes:
        return b"".join(b'{"n":%d}\n' % number for number in range(start, stop))

    dataset = emulator.add_dataset([{"n": -1}], count=10**9, lines=lines)
    page = api("GET", f"/datasets/{dataset}/items", params={"offset": 10**9 - 600})
    assert [item["n"] for item in page.json()] == [*range(10**9 - 600, 10**9), -1]
    assert headers(page)[2:] == ["601", "1000000001"]


def test_a_deleted_or_foreign_dataset_is_not_found(api: Api, emulator: Emulator) -> None:
    dataset = emulator.add_dataset(ITEMS)
    assert api("DELETE", f"/datasets/{dataset}").status_code == 204
    for path in (f"/datasets/{dataset}", f"/datasets/{dataset}/items", "/datasets/x"):
        assert error(api("GET", path)) == (404, "record-not-found")
    assert error(anyone.get(f"{emulator.url}/v2/datasets/{emulator.add_dataset()}/items"))[0] == 401


def test_records(api: Api, emulator: Emulator) -> None:
    store = emulator.add_key_value_store()
    path = f"/key-value-stores/{store}/records"
    assert api("PUT", f"{path}/OUTPUT", json={"a": 1}).status_code == 201
    packed = gzip.compress(b"text")
    sent = {"Content-Type": "text/plain", "Content-Encoding": "gzip"}
    assert api("PUT", f"{path}/a'b (c)", content=packed, headers=sent).status_code == 201
    assert api("GET", f"{path}/OUTPUT").json() == {"a": 1}
    for accepted in ("gzip", "identity"):
        answer = api("GET", f"{path}/a'b (c)", headers={"Accept-Encoding": accepted})
        assert (answer.text, answer.headers["Content-Type"]) == ("text", "text/plain")
    assert api("HEAD", f"{path}/OUTPUT").status_code == 200
    assert [item["key"] for item in api("GET", f"/key-value-stores/{store}/keys").json()["data"]["items"]] == [
        "OUTPUT",
        "a'b (c)",
    ]
    page = api("GET", f"/key-value-stores/{store}/keys", params={"limit": 1}).json()["data"]
    assert (page["isTruncated"], page["nextExclusiveStartKey"]) == (True, "OUTPUT")
    assert api("DELETE", f"{path}/OUTPUT").status_code == 204
    for missing in (f"{path}/OUTPUT", "/key-value-stores/x/records/OUTPUT", "/key-value-stores/x"):
        assert error(api("GET", missing)) == (404, "record-not-found")


def test_a_store_is_made_once_for_each_name(api: Api) -> None:
    made, again, other = (api("POST", "/key-value-stores", params={"name": name}) for name in ("urls", "urls", "more"))
    assert (made.status_code, again.status_code, other.status_code) == (201, 200, 201)
    made, again, other = (answer.json()["data"] for answer in (made, again, other))
    assert (made["id"], made["name"]) == (again["id"], "urls") != (other["id"], "more")
    unnamed = [api("POST", "/key-value-stores").json()["data"] for _ in range(2)]
    assert unnamed[0]["id"] != unnamed[1]["id"] and "name" not in unnamed[0]


def test_a_record_behind_redirects_wants_no_token(api: Api, emulator: Emulator) -> None:
    store = emulator.add_key_value_store()
    emulator.add_record(store, "big", b"[1]", redirects=2)
    address = api("GET", f"/key-value-stores/{store}/records/big").headers["Location"]
    assert "Signature=" in address
    second = anyone.get(address)
    assert (second.status_code, anyone.get(second.headers["Location"]).json()) == (302, [1])
    assert api.http.get(address).status_code == 400
    assert anyone.get(address.partition("?")[0]).status_code == 403


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_a_polite_cut_looks_like_the_whole_answer(encoding: str, api: Api, emulator: Emulator) -> None:
    dataset = emulator.add_dataset(ITEMS * 100)
    emulator.add_fault(Fault("polite-cut", value="line"))
    page = api("GET", f"/datasets/{dataset}/items", params={"format": "jsonl"}, headers={"Accept-Encoding": encoding})
    assert [json.loads(line) for line in page.text.splitlines()] == (ITEMS * 100)[: len(page.text.splitlines())]
    assert 100 < len(page.text.splitlines()) < int(headers(page)[2])
