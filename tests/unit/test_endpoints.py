"""api/endpoints.py: what goes on the wire, and that no argument can leave its place in it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
import requests
import yarl
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_apify.api import builds, endpoints
from airflow_provider_apify.api.builds import BUILD
from airflow_provider_apify.api.endpoints import Request
from airflow_provider_apify.api.errors import Repeat
from airflow_provider_apify.client.wire import address

BASE = "https://api.apify.com"
BY_ACTOR: dict[str, Callable[[str], Request]] = {
    "start_build": lambda actor_id: builds.start_build(actor_id, version="0.1").request,
    "list_builds": lambda actor_id: endpoints.list_jobs(builds.collection(actor_id)),
    "get_actor": endpoints.get_actor,
}
BY_BUILD: dict[str, Callable[[str], Request]] = {
    "get_build": partial(endpoints.get_job, BUILD),
    "abort_build": partial(endpoints.abort_job, BUILD),
    "get_build_log": partial(endpoints.get_job_log, BUILD),
}
BY_ID = {**BY_ACTOR, **BY_BUILD}
FULL_START = builds.start_build(
    "ACTOR", version="0.1", tag="beta", use_cache=True, beta_packages=False, wait_for_finish=5
).request


@pytest.mark.parametrize(
    ("request_", "sent"),
    [
        (builds.start_build("a1", version="0.1").request, "POST /v2/acts/a1/builds?version=0.1"),
        (endpoints.list_jobs(builds.collection("a1")), "GET /v2/acts/a1/builds?desc=true&limit=1000"),
        (
            endpoints.list_jobs(builds.collection("a1"), limit=5, desc=False),
            "GET /v2/acts/a1/builds?desc=false&limit=5",
        ),
        (endpoints.list_jobs(BUILD.path), "GET /v2/actor-builds?desc=true&limit=1000"),
        (endpoints.list_jobs(BUILD.path, limit=5, offset=10), "GET /v2/actor-builds?desc=true&limit=5&offset=10"),
        (endpoints.get_job(BUILD, "b1"), "GET /v2/actor-builds/b1"),
        (endpoints.get_job(BUILD, "b1", wait_for_finish=0), "GET /v2/actor-builds/b1"),
        (endpoints.get_job(BUILD, "b1", wait_for_finish=60), "GET /v2/actor-builds/b1?waitForFinish=60"),
        (endpoints.abort_job(BUILD, "b1"), "POST /v2/actor-builds/b1/abort"),
        (endpoints.get_job_log(BUILD, "b1"), "GET /v2/actor-builds/b1/log"),
        (endpoints.get_actor("a1"), "GET /v2/acts/a1"),
        (endpoints.get_user(), "GET /v2/users/me"),
    ],
)
def test_method_path_and_query(request_: Request, sent: str) -> None:
    assert f"{request_.method} {request_.target}" == sent


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        ({}, {}),
        ({"tag": "beta"}, {"tag": "beta"}),
        ({"use_cache": True}, {"useCache": "true"}),
        ({"use_cache": False}, {"useCache": "false"}),
        ({"beta_packages": True}, {"betaPackages": "true"}),
        ({"beta_packages": False}, {"betaPackages": "false"}),
        ({"wait_for_finish": 0}, {"waitForFinish": "0"}),
        ({"wait_for_finish": 60}, {"waitForFinish": "60"}),
    ],
)
def test_every_parameter_of_the_start_request(arguments: dict[str, Any], query: dict[str, str]) -> None:
    target = builds.start_build("a1", version="0.10", **arguments).request.target
    assert dict(parse_qsl(urlsplit(target).query)) == {"version": "0.10", **query}


def test_a_request_names_the_longest_wait_it_asks_for() -> None:
    waits = [
        endpoints.get_job(BUILD, "b1", wait_for_finish=60),
        FULL_START,
        endpoints.get_job(BUILD, "b1"),
        endpoints.abort_job(BUILD, "b1"),
    ]
    assert [request.wait for request in waits] == [60, 5, 0, 0]


def test_only_the_start_request_is_harmful_to_repeat() -> None:
    harmful = {name for name, make in BY_ID.items() if make("x").repeat is Repeat.STARTS_ANOTHER}
    assert harmful == {"start_build"}


def test_a_request_is_named_without_its_query() -> None:
    assert str(FULL_START) == "POST /v2/acts/ACTOR/builds"


@pytest.mark.parametrize(
    ("actor_id", "segment"),
    [
        ("zdc3Pyhyz3m8vjDeM", "zdc3Pyhyz3m8vjDeM"),
        ("jane~shop", "jane~shop"),
        ("jane/shop", "jane~shop"),
        ("~shop", "~shop"),
        ("..%2fx", "..%252fx"),
        ("a\x00b", "a%00b"),
        ("č", "%C4%8D"),
    ],
)
def test_forms_of_an_actor_id(actor_id: str, segment: str) -> None:
    assert endpoints.get_actor(actor_id).path == f"/v2/acts/{segment}"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (" zdc3Pyhyz3m8vjDeM\n", "zdc3Pyhyz3m8vjDeM"),
        ("\tjane/shop ", "jane/shop"),
        ("https://console.apify.com/actors/zdc3Pyhyz3m8vjDeM", "zdc3Pyhyz3m8vjDeM"),
        ("console.apify.com/actors/zdc3Pyhyz3m8vjDeM/source?x=1", "zdc3Pyhyz3m8vjDeM"),
        ("https://console.apify.com/actors/zdc3Pyhyz3m8vjDeM#/builds/0.0.1", "zdc3Pyhyz3m8vjDeM"),
        ("https://console.apify.com/organization/o1/actors/zdc3Pyhyz3m8vjDeM/builds/0.0.1", "zdc3Pyhyz3m8vjDeM"),
        ("https://apify.com/jane/my.shop-1", "jane/my.shop-1"),
        ("apify.com/jane/shop", "jane/shop"),
        ("http://www.apify.com/jane/shop/api/python?fpr=x#y", "jane/shop"),
    ],
)
def test_ids_with_blanks_and_addresses_of_pages_are_understood(written: str, read: str) -> None:
    assert endpoints.check_actor_id(written) == read
    assert endpoints.get_actor(written).path == f"/v2/acts/{read.replace('/', '~')}"


@pytest.mark.parametrize(
    "address",
    [
        "https://api.apify.com/v2/acts/zdc3Pyhyz3m8vjDeM/builds?token=apify_api_secret",
        "https://apify_api_secret@console.apify.com/store",
        "https://console.apify.com/actors/runs/abc",
        "https://apify.com/store/categories",
        "apify.com/jane",
        "https://example.com/jane/shop#apify_api_secret",
    ],
)
def test_any_other_address_is_refused_and_its_secrets_not_shown(address: str) -> None:
    for make in (endpoints.get_actor, BY_BUILD["get_build"]):
        with pytest.raises(ValueError, match=r"must be an? .* id.*; got '[a-z]") as caught:
            make(address)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "odd",
    [
        "jane/shop?token=apify_api_secret",
        "zdc3Pyhyz3m8vjDeM#apify_api_secret",
        "hello world",
        "a\r\nX-Evil: 1",
        "a/b/c",
        "jane~shop/x",
        "../users/me",
        "jane/",
        "/shop",
        "~",
    ],
)
def test_what_cannot_be_an_actors_id_is_refused_and_a_query_not_shown(odd: str) -> None:
    with pytest.raises(ValueError, match="actor_id must be an Actor's id") as caught:
        endpoints.get_actor(odd)
    assert "secret" not in str(caught.value)


def test_a_build_number_is_no_id() -> None:
    for number in ("0.0.1", " 12.34.567 ", "https://console.apify.com/actors/zdc3Pyhyz3m8vjDeM#/builds/0.0.1"):
        with pytest.raises(ValueError, match=r"^build_id must be a build's id.*by id, not by number"):
            endpoints.get_job(BUILD, number)


def test_a_slash_in_a_build_id_stays_in_its_segment() -> None:
    assert endpoints.get_job(BUILD, "jane/shop").path == "/v2/actor-builds/jane%2Fshop"


@pytest.mark.parametrize("bad", ["", " ", "\r\n", "None", " None ", ".", "..", " .. ", None, 5, b"b1"], ids=repr)
@pytest.mark.parametrize("name", BY_ID)
def test_what_is_no_id_is_refused_by_name(name: str, bad: Any) -> None:
    parameter = "actor_id" if name in BY_ACTOR else "build_id"
    with pytest.raises(ValueError, match=parameter):
        BY_ID[name](bad)


@pytest.mark.parametrize(
    ("parameter", "make"),
    [
        ("actor_id", lambda text: endpoints.get_actor(text)),
        ("build_id", lambda text: endpoints.get_job(BUILD, text)),
        ("tag", lambda text: builds.start_build("a1", version="0.1", tag=text)),
    ],
)
def test_text_that_no_url_can_hold_is_refused_by_name(parameter: str, make: Callable[[str], Request]) -> None:
    with pytest.raises(ValueError, match=parameter):
        make("half a pair \ud800")


def as_requests_sends_it(request: Request) -> str:
    url = requests.Request(request.method, BASE + request.target).prepare().url
    assert url is not None
    return url


def as_aiohttp_sends_it(request: Request) -> str:
    return str(yarl.URL(BASE + request.target, encoded=True))


ids = st.text() | st.text(alphabet="./\\%2eEfF?#;~ \r\n\tx", max_size=8)


@pytest.mark.parametrize("send", [as_requests_sends_it, as_aiohttp_sends_it])
@given(name=st.sampled_from(list(BY_ID)), id_=ids)
@example("start_build", "..")
@example("start_build", "../x")
@example("start_build", "x/../..")
@example("start_build", "%2e%2e")
@example("start_build", "%2F..")
@example("start_build", "~/..")
@example("start_build", "\\..\\")
@example("start_build", "x?y=1&waitForFinish=0#z")
@example("start_build", "x\r\nHost: evil")
@example("start_build", "//evil.com")
def test_no_id_can_leave_its_place(send: Callable[[Request], str], name: str, id_: str) -> None:
    plain = urlsplit(send(BY_ID[name]("x")))
    try:
        request = BY_ID[name](id_)
    except ValueError:
        return
    url = send(request)
    assert url.isascii() and url.isprintable() and " " not in url
    seen = urlsplit(url)
    assert (seen.scheme, seen.netloc, seen.query, seen.fragment) == ("https", "api.apify.com", plain.query, "")
    ours, theirs = seen.path.split("/"), plain.path.split("/")
    assert len(ours) == len(theirs)
    assert not {".", ".."} & set(ours)
    place = theirs.index("x")
    assert [*ours[:place], "x", *ours[place + 1 :]] == theirs
    assert unquote(ours[place]).replace("~", "/") == id_.strip().replace("~", "/")


@given(tag=st.text())
@example("a&useCache=true#x\r\n")
def test_no_tag_can_add_a_parameter(tag: str) -> None:
    try:
        request = builds.start_build("a1", version="0.1", tag=tag).request
    except ValueError:
        assert not tag.strip()
        return
    for send in (as_requests_sends_it, as_aiohttp_sends_it):
        seen = urlsplit(send(request))
        assert parse_qsl(seen.query, keep_blank_values=True) == [("version", "0.1"), ("tag", tag)]
        assert seen.fragment == ""


@pytest.mark.parametrize("version", ["0.0", "0.1", "0.10", "99.99"])
def test_versions_that_are_some(version: str) -> None:
    assert builds.check_version(version) == version


@pytest.mark.parametrize(
    "version", ["", "1", "0.1.2", "100.0", "0.100", "00.1", "0.01", "v0.1", "latest", "0.1\n", " 0.1", "\u0660.\u0661"]
)
def test_versions_that_are_none(version: str) -> None:
    with pytest.raises(ValueError, match=r"^version must be MAJOR\.MINOR"):
        builds.start_build("a1", version=version)


@pytest.mark.parametrize("version", [0.1, 1, None])
def test_a_version_that_is_a_number_is_told_to_be_quoted(version: Any) -> None:
    with pytest.raises(ValueError, match=r"^version must be a string.*Quote it"):
        builds.start_build("a1", version=version)


@pytest.mark.parametrize("tag", ["", " \n", 5, True], ids=repr)
def test_a_tag_that_is_none_is_refused_by_name(tag: Any) -> None:
    with pytest.raises(ValueError, match=r"^tag must be"):
        builds.start_build("a1", version="0.1", tag=tag)


@pytest.mark.parametrize("seconds", [-1, 61, 5.0, "5", True], ids=repr)
@pytest.mark.parametrize(
    "make",
    [
        lambda seconds: builds.start_build("a1", version="0.1", wait_for_finish=seconds),
        lambda seconds: endpoints.get_job(BUILD, "b1", wait_for_finish=seconds),
    ],
    ids=["start_build", "get_build"],
)
def test_a_wait_out_of_range_is_refused_by_name(make: Callable[[Any], Request], seconds: Any) -> None:
    with pytest.raises(ValueError, match=r"^wait_for_finish must be"):
        make(seconds)


@pytest.mark.parametrize(
    "request_",
    [
        FULL_START,
        endpoints.list_jobs(builds.collection("ACTOR"), limit=5),
        endpoints.list_jobs(BUILD.path, limit=5, offset=10),
        endpoints.get_job(BUILD, "BUILD", wait_for_finish=5),
        endpoints.abort_job(BUILD, "BUILD"),
        endpoints.get_job_log(BUILD, "BUILD"),
        endpoints.get_actor("ACTOR"),
        endpoints.get_user(),
    ],
    ids=str,
)
def test_the_reference_has_the_request_and_its_parameters(openapi: dict[str, Any], request_: Request) -> None:
    template = request_.path.replace("ACTOR", "{actorId}").replace("BUILD", "{buildId}")
    if template not in openapi["paths"]:
        template = template.replace("/v2/acts", "/v2/actors", 1)
    operation = openapi["paths"][template][request_.method.lower()]
    documented = {_resolved(openapi, item)["name"] for item in operation.get("parameters", ())}
    assert {name for name, _ in request_.query} <= documented


def _resolved(openapi: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in item:
        return item
    found: Any = openapi
    for part in item["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)


@pytest.mark.parametrize(
    "path", [".evil.example/v2/x", "@evil.example/v2/x", ":1@evil.example/v2/x", "/v3/x", "//evil/v2/"]
)
def test_the_token_goes_to_the_connections_host_alone(path: str) -> None:
    assert address(BASE, Request("GET", "/v2/users/me")) == f"{BASE}/v2/users/me"
    with pytest.raises(ValueError, match="does not lead to"):
        address(BASE, Request("GET", path))
