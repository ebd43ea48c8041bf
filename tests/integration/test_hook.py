"""The hook against a local Apify: every method, what it sends, and what it refuses before anything is sent."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_apify.api.builds import BUILD
from airflow_provider_apify.api.endpoints import Answer, Request
from airflow_provider_apify.api.errors import ApiError
from airflow_provider_apify.client.polls import shared_polls
from airflow_provider_apify.emulator import Actor, Emulator, Fault
from airflow_provider_apify.exceptions import (
    ApifyApiError,
    ApifyCapacityError,
    ApifyConfigurationError,
    ApifyConnectionNotFoundError,
    ApifyJobTimeout,
)
from airflow_provider_apify.hooks.apify import ApifyHook
from tests.integration.conftest import client, start_build, starts
from tests.runner import Supervisor

OPENAPI = Path(__file__).resolve().parents[3] / "shared" / "apify-openapi.json"


@pytest.fixture
def hook(apify: Emulator, supervisor: Supervisor) -> ApifyHook:
    return ApifyHook()


def test_a_build_from_start_to_log(hook: ApifyHook, apify: Emulator) -> None:
    started = hook.start_build("~hello-world", version="0.0")
    assert started.status == "READY"
    ended = hook.wait_for_build(started.id)
    assert (ended.id, ended.status, ended.build_number) == (started.id, "SUCCEEDED", "0.0.1")
    assert ended.finished_at is not None
    assert hook.get_build(started.id) == ended
    assert [build.id for build in hook.list_builds("~hello-world")] == [started.id]
    assert hook.get_actor("emulator/hello-world").tagged_builds["latest"].build_id == started.id
    assert hook.abort_build(started.id).status == "SUCCEEDED"
    log = hook.get_build_log(started.id, tail_lines=3)
    assert len(log.splitlines()) == 3


def test_every_parameter_of_a_start_reaches_apify(hook: ApifyHook, apify: Emulator) -> None:
    build = hook.start_build(
        "emulator~hello-world", version="0.0", tag="beta", use_cache=True, beta_packages=False, wait_for_finish=5
    )
    (request,) = apify.requests
    assert request.query == "version=0.0&tag=beta&useCache=true&betaPackages=false&waitForFinish=5"
    assert build.status == "SUCCEEDED"
    options = build.raw["options"]
    assert (options["useCache"], options["betaPackages"]) == (True, False)


@pytest.mark.parametrize(
    ("actor_id", "arguments", "query"),
    [
        ("~hello-world", {}, "version=0.0"),
        ("~two-versions", {}, "version=0.0"),
        ("~two-versions", {"version": "", "tag": ""}, "version=0.0"),
        ("~two-versions", {"tag": "candidate"}, "version=0.0&tag=candidate"),
    ],
)
def test_without_a_version_one_is_chosen(
    actor_id: str, arguments: dict[str, Any], query: str, hook: ApifyHook, apify: Emulator
) -> None:
    hook.start_build(actor_id, **arguments)
    asked, start = apify.requests
    assert (asked.method, asked.path, start.query) == ("GET", f"/v2/acts/{actor_id}", query)


def test_no_build_of_one_version_takes_the_tag_of_another(hook: ApifyHook, apify: Emulator) -> None:
    with pytest.raises(ApifyConfigurationError, match=r"two-versions.*'beta'.*'1\.0'.*Name one with version="):
        hook.start_build("~two-versions", tag="beta")
    assert starts(apify) == 0
    hook.start_build("~two-versions", version="0.0", tag="beta")
    assert len(apify.requests) == 2, "a version that is named costs no request more"


@pytest.mark.parametrize("actor_id", ["~hello-world", "emulator~hello-world", "emulator/hello-world"])
def test_actor_ids(actor_id: str, hook: ApifyHook, apify: Emulator) -> None:
    actor = hook.get_actor(actor_id)
    assert hook.get_actor(actor.id) == actor


@pytest.mark.parametrize("actor_id", ["../users/me", "x?method=DELETE", "x#y", "a\r\nX-Evil: 1", "a/b/c"])
def test_what_cannot_be_an_actors_id_is_not_sent(actor_id: str, hook: ApifyHook, apify: Emulator) -> None:
    with pytest.raises(ApifyConfigurationError, match="actor_id must be an Actor's id"):
        hook.get_actor(actor_id)
    assert apify.requests == []


@pytest.mark.parametrize("actor_id", ["%2e%2e", "%2F..", "é", "a\x00b"])
def test_no_actor_id_leaves_its_place(actor_id: str, hook: ApifyHook, apify: Emulator) -> None:
    with pytest.raises(ApifyApiError) as raised:
        hook.get_actor(actor_id)
    assert raised.value.status == 404
    (request,) = apify.requests
    assert re.fullmatch(r"/v2/acts/[^/?#]+", request.path)
    assert (request.method, request.query) == ("GET", "")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"actor_id": "", "version": "0.0"}, "actor_id"),
        ({"actor_id": "..", "version": "0.0"}, "actor_id"),
        ({"actor_id": "x", "version": 0.1}, "version"),
        ({"actor_id": "x", "version": "latest"}, "version"),
        ({"actor_id": "x", "version": "0.0", "tag": " "}, "tag"),
        ({"actor_id": "x", "version": "0.0", "wait_for_finish": 61}, "wait_for_finish"),
        ({"actor_id": "x", "version": "0.0", "wait_for_finish": -1}, "wait_for_finish"),
        ({"actor_id": "x", "version": "0.0", "wait_for_finish": 1.5}, "wait_for_finish"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_sent(
    arguments: dict[str, Any], named: str, hook: ApifyHook, apify: Emulator
) -> None:
    with pytest.raises(ValueError, match=named) as raised:
        hook.start_build(**arguments)
    assert isinstance(raised.value, ApifyConfigurationError)
    assert apify.requests == []


def test_a_negative_timeout_is_named(hook: ApifyHook, apify: Emulator) -> None:
    with pytest.raises(ApifyConfigurationError, match="timeout"):
        hook.wait_for_build("x", timeout=-1)
    assert apify.requests == []


def test_an_unknown_actor_or_version_says_what_to_check(hook: ApifyHook, apify: Emulator) -> None:
    with pytest.raises(ApifyApiError, match="Check the ids"):
        hook.start_build("~no-such-actor", version="0.0")
    with pytest.raises(ApifyApiError, match=r"7\.7"):
        hook.start_build("~hello-world", version="7.7")
    assert apify.builds == []


def test_a_full_account_says_what_to_do(hook: ApifyHook, apify: Emulator) -> None:
    apify.memory_mbytes = 4096
    hook.start_build("~slow-build", version="0.0")
    with pytest.raises(ApifyCapacityError, match=r"4096\s*MB[^\n]*\n.*pool.*include_deferred"):
        hook.start_build("~hello-world", version="0.0")
    assert starts(apify) == 2, "sent once: waiting for memory is up to the task's retries"


@pytest.mark.parametrize(
    ("status", "type_", "says"),
    [
        (403, "insufficient-permissions", "token whose owner may do this"),
        (402, "not-enough-usage-to-run-paid-actor", "add credits"),
        (403, "platform-feature-disabled", "Billing"),
    ],
)
def test_refusals_are_final_and_say_what_to_do(
    status: int, type_: str, says: str, hook: ApifyHook, apify: Emulator
) -> None:
    from airflow.providers.common.compat.sdk import AirflowFailException

    body = {"error": {"type": type_, "message": "No."}}
    apify.add_fault(Fault("status", method="POST", status=status, body=body, times=None))
    with pytest.raises(ApifyApiError, match=says) as raised:
        hook.start_build("~hello-world", version="0.0")
    assert isinstance(raised.value, AirflowFailException)
    assert (raised.value.status, raised.value.type, starts(apify)) == (status, type_, 1)


def test_a_missing_connection_says_how_to_add_one(supervisor: Supervisor) -> None:
    with pytest.raises(ApifyConnectionNotFoundError, match="airflow connections add nowhere --conn-type apify"):
        ApifyHook("nowhere").get_build("x")


@pytest.mark.parametrize(
    ("fields", "named"),
    [({"password": ""}, "password"), ({"host": "ftp://x"}, "host"), ({"extra": '{"timeout": -1}'}, "timeout")],
)
def test_a_field_of_the_connection_that_cannot_be_used_is_named(
    fields: dict[str, str], named: str, apify: Emulator, supervisor: Supervisor
) -> None:
    supervisor.connections["apify_default"].update(fields)
    with pytest.raises(ApifyConfigurationError, match=f"apify_default.*{named}"):
        ApifyHook().get_build("x")
    assert apify.requests == []


def test_the_connection_test_names_the_account_and_nothing_more(hook: ApifyHook, apify: Emulator) -> None:
    assert hook.test_connection() == (True, f"Connected to {apify.url} as Apify account emulator.")


def test_the_connection_test_says_why_not(hook: ApifyHook, apify: Emulator, supervisor: Supervisor) -> None:
    apify.token = "other"
    ok, why = hook.test_connection()
    assert not ok and "password" in why
    supervisor.connections["apify_default"]["host"] = "http://127.0.0.1:9"
    ok, why = ApifyHook().test_connection()
    assert not ok and "refused" in why
    supervisor.connections["apify_default"]["host"] = "ftp://127.0.0.1"
    ok, why = ApifyHook().test_connection()
    assert not ok and why.startswith("host has the scheme 'ftp'")
    assert len(apify.requests) == 1, "a test is one request"


def test_a_netrc_entry_changes_nothing(
    hook: ApifyHook, apify: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    build = hook.start_build("~hello-world", version="0.0")
    asyncio.run(client().wait_async(BUILD, build.id, deadline=None))
    assert all(request.authorized and request.status in (200, 201) for request in apify.requests)


def test_every_request_says_who_asks(hook: ApifyHook, apify: Emulator) -> None:
    import asyncio

    build = hook.start_build("~hello-world", version="0.0", fingerprint="airflow/x.1")
    asyncio.run(client().wait_async(BUILD, build.id, deadline=None))
    for request in apify.requests:
        assert request.headers["x-apify-integration-platform"] == "airflow"
        assert request.headers["user-agent"].startswith("airflow-provider-apify/")
    assert build.user_agent.endswith(" airflow/x.1")


def test_the_tail_of_a_huge_log_takes_little_memory(hook: ApifyHook, apify: Emulator) -> None:
    import tracemalloc

    build = hook.start_build("~hello-world", version="0.0")
    lines = "\n".join(f"2026-11-23T00:00:00.000Z line {number}" for number in range(250_000))
    apify.add_fault(Fault("status", path="*/log", status=200, body=lines))
    hook.get_actor("~hello-world")
    tracemalloc.start()
    tail = hook.get_build_log(build.id, tail_lines=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [line.split()[-1] for line in tail.splitlines()] == ["249998", "249999"]
    # The emulator sends it from this very process, so its copy of about 10 MB counts; ours would come on top.
    assert peak < 2.5 * len(lines), peak


@pytest.mark.parametrize("how", ["worker", "triggerer"])
def test_an_answer_that_trickles_is_given_up(
    how: str, hook: ApifyHook, apify: Emulator, supervisor: Supervisor
) -> None:
    """Each piece comes within the time-out of a read, and so the whole would take as long as it likes."""
    supervisor.connections["apify_default"]["extra"] = '{"timeout": 1}'
    build_id = start_build(apify)
    apify.add_fault(Fault("drip", method="GET", path="/v2/actor-builds/*", seconds=30))
    with pytest.raises(ApiError, match=r"trickles in too slowly|no answer came in time"):
        if how == "worker":
            client().get(BUILD, build_id, attempts=1)
        else:
            asyncio.run(look(build_id))


async def look(build_id: str) -> None:
    async with shared_polls("apify_default") as polls:
        await polls.ask(BUILD, build_id, 0)


def test_a_redirect_is_not_followed(hook: ApifyHook, apify: Emulator) -> None:
    apify.add_fault(Fault("status", status=302, headers={"Location": "http://127.0.0.1:9/"}, times=None))
    with pytest.raises(ApifyApiError, match="redirects elsewhere"):
        client().get(BUILD, "x", attempts=1)


def test_versions_are_chosen_by_tag(hook: ApifyHook, apify: Emulator) -> None:
    apify.add_actor(Actor(name="several", versions={"0.1": "latest", "0.10": "latest"}))
    assert [item.version_number for item in hook.get_actor("~several").versions] == ["0.1", "0.10"]


def test_a_timeout_of_zero_looks_once(hook: ApifyHook, apify: Emulator) -> None:
    build = hook.start_build("~slow-build", version="0.0")
    apify.clear_ledger()
    with pytest.raises(ApifyJobTimeout):
        hook.wait_for_build(build.id, timeout=0)
    assert len(apify.requests) == 1


@pytest.mark.skipif(not OPENAPI.exists(), reason="Apify's OpenAPI definition is not at ../shared/apify-openapi.json")
def test_what_is_sent_is_in_apifys_definition(hook: ApifyHook, apify: Emulator) -> None:
    build = hook.start_build(
        "~hello-world", version="0.0", tag="t", use_cache=True, beta_packages=True, wait_for_finish=1
    )
    hook.get_build(build.id, wait_for_finish=1)
    hook.list_builds("~hello-world", limit=5)
    hook.abort_build(build.id)
    hook.get_build_log(build.id)
    hook.get_actor("~hello-world")
    hook.test_connection()

    definition = json.loads(OPENAPI.read_text())
    patterns = {
        re.compile(re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(path))): operations
        for path, operations in definition["paths"].items()
    }
    for request in apify.requests:
        path = re.sub("^/v2/acts/", "/v2/actors/", request.path)
        candidates = [
            operations
            for pattern, operations in patterns.items()
            if any(pattern.fullmatch(form) for form in (path, path.replace("/v2/actors/", "/v2/acts/"), path[3:]))
        ]
        operations = [found[request.method.lower()] for found in candidates if request.method.lower() in found]
        assert operations, f"{request.method} {request.path} is not in the definition"
        documented = {
            parameter.get("name") or parameter["$ref"].rsplit("/", 1)[1]
            for operation, found in zip(operations, candidates, strict=False)
            for parameter in [*operation.get("parameters", []), *found.get("parameters", [])]
        }
        sent = {part.split("=")[0] for part in request.query.split("&") if part}
        assert all(any(name.lower() in known.lower() for known in documented) for name in sent), (sent, documented)


# -- any request --------------------------------------------------------------------------------------------------


def test_any_request_of_the_api_can_be_sent(hook: ApifyHook, apify: Emulator) -> None:
    assert "maxConcurrentActorJobs" in hook.request("GET", "/v2/users/me/limits")["limits"]
    changed = hook.request("PUT", "/v2/acts/~hello-world", json={"title": "č"})
    assert changed["title"] == "č"
    assert hook.request("put", "/v2/acts/~hello-world", data='{"title": "ř"}')["title"] == "ř"
    started = hook.request(
        "POST", "/v2/acts/~hello-world/builds", query={"version": "0.0", "useCache": True, "tag": None}
    )
    assert apify.requests[-1].query == "version=0.0&useCache=true"
    hook.wait_for_build(started["id"])
    assert hook.request("GET", f"/v2/actor-builds/{started['id']}/log").startswith("2")
    hook.request("PUT", "/v2/acts/~hello-world", json={"taggedBuilds": {"latest": None}})
    assert hook.request("DELETE", f"/v2/actor-builds/{started['id']}") is None
    assert all(request.authorized for request in apify.requests)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "v2/users/me",
        "/v3/users/me",
        ".evil.example/v2/users/me",
        "@evil.example/v2/users/me",
        ":80@evil.example/v2/x",
        "//evil.example/v2/x",
        "https://evil.example/v2/x",
        "/v2/../../x",
        "/v2/%2e%2e/x",
        "/v2/x?token=y",
        "/v2/x#y",
        "/v2/x\r\nX-Evil: 1",
        "/v2/x y",
        "/v2/\\evil.example",
        "/v2/č",
    ],
)
def test_a_request_that_would_lead_elsewhere_is_not_sent(path: str, hook: ApifyHook, apify: Emulator) -> None:
    with pytest.raises(ApifyConfigurationError, match=r"path must begin with /v2/.*give the query as query="):
        hook.request("GET", path)
    assert apify.requests == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"json": {}, "data": b""}, "json and data"),
        ({"json": {1, 2}}, "JSON"),
        ({"method": "CONNECT"}, "method must be"),
    ],
)
def test_a_request_with_odd_arguments_is_not_sent(
    arguments: dict[str, Any], named: str, hook: ApifyHook, apify: Emulator
) -> None:
    with pytest.raises(ApifyConfigurationError, match=named):
        hook.request(**{"method": "POST", "path": "/v2/acts", **arguments})
    assert apify.requests == []


def test_of_any_requests_only_a_post_is_not_repeated(hook: ApifyHook, apify: Emulator) -> None:
    apify.add_fault(Fault("status", status=500, method="GET"))
    hook.request("GET", "/v2/users/me/limits")
    assert len(apify.requests) == 2
    apify.add_fault(Fault("status", status=500, method="POST"))
    with pytest.raises(ApifyApiError) as raised:
        hook.request("POST", "/v2/acts/~hello-world/builds", query={"version": "0.0"})
    assert raised.value.outcome_unknown
    assert len(apify.requests) == 3


@pytest.mark.parametrize(
    ("body", "answer"),
    [('[{"a": 1}]', [{"a": 1}]), ('{"a": 1}', {"a": 1}), ("plain", "plain"), ("7", 7), ("", None)],
)
def test_an_answer_to_any_request_without_data_is_given_as_it_is(
    body: str, answer: Any, hook: ApifyHook, apify: Emulator
) -> None:
    apify.add_fault(Fault("status", status=200, body=body))
    assert hook.request("GET", "/v2/datasets/x/items") == answer


RECORD = "/v2/key-value-stores/s/records/OUTPUT"


def test_a_record_is_got_from_where_apify_has_put_it(hook: ApifyHook, apify: Emulator) -> None:
    apify.add_fault(Fault("status", status=302, headers={"Location": f"{apify.url}/v2/users/me?token={apify.token}"}))
    assert hook.request("GET", RECORD)["username"] == "emulator"
    apify.add_fault(Fault("status", status=200, body="as it is"))
    assert hook.request("GET", RECORD) == "as it is"


def test_the_store_of_a_record_does_not_get_the_token(hook: ApifyHook, apify: Emulator) -> None:
    elsewhere = f"{apify.url}/v2/acts/~hello-world?signature=secret"
    apify.add_fault(Fault("status", status=302, headers={"Location": elsewhere}))
    with pytest.raises(ApifyApiError) as raised:
        hook.request("GET", RECORD)
    assert [request.authorized for request in apify.requests] == [True, False]
    assert "secret" not in str(raised.value) and "signature" not in repr(raised.value)


@pytest.mark.parametrize("address", ["ftp://127.0.0.1/x", "file:///etc/passwd", "/relative", "//127.0.0.1/x"])
def test_a_record_behind_an_odd_address_is_not_got(address: str, apify: Emulator, supervisor: Supervisor) -> None:
    apify.add_fault(Fault("status", status=302, headers={"Location": address}, times=None))
    with pytest.raises(ApifyApiError, match="not https"):
        client().call(Request("GET", RECORD, answer=Answer.ANY), str, attempts=1)


def test_only_a_get_is_redirected(apify: Emulator, supervisor: Supervisor) -> None:
    apify.add_fault(Fault("status", status=302, headers={"Location": f"{apify.url}/x"}, times=None))
    with pytest.raises(ApifyApiError, match="redirects elsewhere"):
        client().call(Request("PUT", RECORD, answer=Answer.ANY), str, attempts=1)


@pytest.mark.parametrize("seconds", [1.5, True, 61, "60"])
def test_a_long_poll_by_any_request_has_its_limits(seconds: object, hook: ApifyHook, apify: Emulator) -> None:
    with pytest.raises(ApifyConfigurationError, match="whole number of seconds from 0 to 60"):
        hook.request("GET", "/v2/actor-builds/x", query={"waitForFinish": seconds})
    assert apify.requests == []


def test_a_value_error_of_the_callers_own_stays_one(hook: ApifyHook, apify: Emulator) -> None:
    def refuse(build: object) -> None:
        raise ValueError("my own")

    apify.build_seconds = 60
    with pytest.raises(ValueError, match="my own") as raised:
        hook.wait_for_build(start_build(apify), timeout=0.5, on_status=refuse)
    assert type(raised.value) is ValueError


def test_closed_it_reads_the_connection_again(hook: ApifyHook, apify: Emulator, supervisor: Supervisor) -> None:
    hook.get_actor("~hello-world")
    supervisor.connections["apify_default"]["password"] = apify.token = "rotated"
    hook.close()
    hook.get_actor("~hello-world")
    assert all(request.authorized for request in apify.requests)


def test_a_subclass_may_read_the_connection_its_own_way(apify: Emulator, supervisor: Supervisor) -> None:
    class Other(ApifyHook):
        @classmethod
        def get_connection(cls, conn_id: str) -> Any:
            return super().get_connection("apify_default")

    assert Other("no-such-connection").get_actor("~hello-world").name == "hello-world"
