"""Every kind of fault as a client on a raw socket sees it."""

from __future__ import annotations

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from airflow_provider_apify.emulator import Emulator, Fault

from .conftest import Api, error

BUILDS = "/v2/acts/*/builds"


def exchange(emulator: Emulator, method: str, path: str, *, timeout: float = 5) -> bytes:
    """Send one request and return all bytes until the server closes the connection."""
    address = urlsplit(emulator.url)
    assert address.port
    with socket.create_connection((address.hostname, address.port), timeout=timeout) as connection:
        headers = f"Host: x\r\nConnection: close\r\nAuthorization: Bearer {emulator.token}\r\nContent-Length: 0\r\n"
        connection.sendall(f"{method} {path} HTTP/1.1\r\n{headers}\r\n".encode())
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer


def start(emulator: Emulator, **options: Any) -> bytes:
    return exchange(emulator, "POST", "/v2/actors/~hello-world/builds?version=0.0", **options)


def test_lost_answer_does_the_work_and_closes_without_a_byte(emulator: Emulator) -> None:
    fault = emulator.add_fault(Fault("lost-answer", "POST", BUILDS))
    assert start(emulator) == b""
    assert (len(emulator.builds), fault.fired) == (1, 1)
    assert start(emulator).startswith(b"HTTP/1.1 201")
    assert [(record.status, record.fault) for record in emulator.requests] == [(None, "lost-answer"), (201, None)]


@pytest.mark.parametrize(("after_work", "builds"), [(False, 0), (True, 1)])
def test_reset_breaks_the_connection_before_or_after_the_work(
    emulator: Emulator, after_work: bool, builds: int
) -> None:
    emulator.add_fault(Fault("reset", path=BUILDS, after_work=after_work))
    with pytest.raises(ConnectionResetError):
        start(emulator)
    assert len(emulator.builds) == builds


@pytest.mark.parametrize(("after_work", "builds"), [(False, 0), (True, 1)])
def test_delay_waits_before_or_after_the_work(emulator: Emulator, after_work: bool, builds: int) -> None:
    emulator.add_fault(Fault("delay", path=BUILDS, seconds=3, after_work=after_work))
    began = time.monotonic()
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(start, emulator)
        emulator.wait_for(lambda e: len(e.requests) == 1 and len(e.builds) == builds)
        assert time.monotonic() - began < 3
        assert answer.result().startswith(b"HTTP/1.1 201")
    assert time.monotonic() - began >= 3


def test_delayed_work_is_done_though_the_client_gave_up(api: Api, emulator: Emulator) -> None:
    build = api.built()
    emulator.add_fault(Fault("delay", "PUT", seconds=0.3))
    change = {"taggedBuilds": {"stable": {"buildId": build["id"]}}}
    with pytest.raises(httpx.ReadTimeout):
        api("PUT", "/actors/~hello-world", json=change, timeout=0.1)
    emulator.wait_for(lambda _: "stable" in api.tags())


def test_status_answers_instead_of_working(api: Api, emulator: Emulator) -> None:
    emulator.add_fault(Fault("status", "POST", BUILDS, status=429, headers={"Retry-After": "7"}))
    refused = api("POST", "/acts/~hello-world/builds", params={"version": "0.0"})
    assert error(refused) == (429, "rate-limit-exceeded")
    assert refused.headers["Retry-After"] == "7"
    assert emulator.builds == []


def test_status_may_come_after_the_work_with_any_body(api: Api, emulator: Emulator) -> None:
    emulator.add_fault(Fault("status", "post", status=502, body="Bad gateway", after_work=True))
    emulator.add_fault(Fault("status", "POST", body={"odd": True}))
    first, second = (api("POST", "/acts/~hello-world/builds?version=0.0") for _ in range(2))
    assert (first.status_code, first.text, second.status_code, second.json()) == (
        502,
        "Bad gateway",
        500,
        {"odd": True},
    )
    assert len(emulator.builds) == 1


def test_html_looks_like_a_success_but_is_a_page(api: Api, emulator: Emulator) -> None:
    emulator.add_fault(Fault("html"))
    answer = api("GET", "/users/me")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "<html>" in answer.text
    emulator.add_fault(Fault("html", status=503, after_work=True))
    assert api("POST", "/acts/~hello-world/builds?version=0.0").status_code == 503
    assert len(emulator.builds) == 1


def test_cut_json_announces_more_than_it_sends(emulator: Emulator) -> None:
    emulator.add_fault(Fault("cut-json", path=BUILDS))
    head, _, body = start(emulator).partition(b"\r\n\r\n")
    announced = int(dict(line.split(b": ") for line in head.splitlines()[1:])[b"content-length"])
    assert len(body) == announced // 2
    assert body.startswith(b'{"data":')
    assert len(emulator.builds) == 1


def test_drip_sends_a_whole_answer_slowly(emulator: Emulator) -> None:
    emulator.add_fault(Fault("drip", path="/v2/users/me/limits", seconds=0.3))
    began = time.monotonic()
    answer = exchange(emulator, "GET", "/v2/users/me/limits")
    assert time.monotonic() - began >= 0.3
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["data"]["current"]["activeActorJobCount"] == 0


@pytest.mark.parametrize(("after_work", "builds"), [(False, 0), (True, 1)])
def test_stall_never_answers(emulator: Emulator, after_work: bool, builds: int) -> None:
    emulator.add_fault(Fault("stall", path=BUILDS, after_work=after_work))
    with pytest.raises(TimeoutError):
        start(emulator, timeout=0.2)
    assert len(emulator.builds) == builds
    assert emulator.requests[0].status is None


def test_stall_with_a_time_closes_without_an_answer(emulator: Emulator) -> None:
    emulator.add_fault(Fault("stall", seconds=0.1))
    assert start(emulator) == b""


def test_missing_hides_a_young_build(api: Api, emulator: Emulator) -> None:
    emulator.add_fault(Fault("missing", seconds=0.3, times=None))
    build = api.start("slow-build")
    for path in ("actor-builds/{}", "actor-builds/{}/log", "logs/{}"):
        assert error(api("GET", "/" + path.format(build["id"]))) == (404, "record-not-found")
    emulator.wait_for(lambda _: api("GET", f"/actor-builds/{build['id']}").status_code == 200)
    assert time.time() - emulator.requests[0].at >= 0.3
    assert {(record.status, record.fault) for record in emulator.requests[1:]} == {(404, "missing"), (200, None)}


def test_stale_list_leaves_out_young_builds_and_counts_only_when_it_does(api: Api, emulator: Emulator) -> None:
    fault = emulator.add_fault(Fault("stale-list", seconds=60))
    assert api("GET", "/actor-builds").json()["data"]["total"] == 0
    assert fault.fired == 0
    build = api.start()
    assert api("GET", "/acts/~hello-world/builds").json()["data"] | {"desc": None} == {
        "total": 0, "offset": 0, "limit": 1000, "count": 0, "desc": None, "items": []
    }  # fmt: skip
    listed = api("GET", "/acts/~hello-world/builds").json()["data"]["items"]
    assert ([item["id"] for item in listed], fault.fired) == ([build["id"]], 1)


def test_unknown_status_is_shown_until_the_build_ends(api: Api, emulator: Emulator) -> None:
    emulator.add_fault(Fault("unknown-status", "GET", times=None))
    build = api.start("slow-build")
    assert build["status"] == "READY"
    assert api.build(build["id"])["status"] == "HIBERNATING"
    assert api("GET", "/actor-builds").json()["data"]["items"][0]["status"] == "HIBERNATING"
    assert api.build(build["id"], wait=5)["status"] == "SUCCEEDED"


@pytest.mark.parametrize("path", ["/acts/~scraper/runs", "/actor-tasks/~ten-products/runs"])
def test_what_the_api_says_of_runs_can_be_false_too(api: Api, emulator: Emulator, path: str) -> None:
    emulator.run_seconds = 60
    emulator.add_fault(Fault("user-agent", "POST", value="corporate-proxy/2"))
    run = api("POST", path).json()["data"]
    assert run["meta"]["userAgent"] == "corporate-proxy/2"
    emulator.add_fault(Fault("missing", seconds=60, times=2))
    for hidden in (f"/actor-runs/{run['id']}", f"/logs/{run['id']}"):
        assert error(api("GET", hidden)) == (404, "record-not-found")
    assert api.run(run["id"])["id"] == run["id"]
    emulator.add_fault(Fault("stale-list", seconds=60))
    assert [api("GET", path).json()["data"]["total"] for _ in range(2)] == [0, 1]
    emulator.add_fault(Fault("unknown-status", "GET", times=3))
    shown = [api.run(run["id"]), api("GET", path).json()["data"]["items"][0], api("GET", f"{path}/last").json()["data"]]
    assert {each["status"] for each in shown} == {"HIBERNATING"}
    emulator.finish_run(run["id"])
    assert api.run(run["id"])["status"] == "SUCCEEDED"


@pytest.mark.parametrize("kind", ["lost-answer", "cut-json", "reset"])
def test_a_run_whose_start_goes_unanswered_exists_all_the_same(emulator: Emulator, kind: str) -> None:
    emulator.add_fault(Fault(kind, "POST", "/v2/acts/*/runs", after_work=True))
    try:
        exchange(emulator, "POST", "/v2/actors/~hello-world/runs")
    except ConnectionResetError:
        pass
    assert len(emulator.runs) == 1
    assert exchange(emulator, "POST", "/v2/actors/~hello-world/runs").startswith(b"HTTP/1.1 201")


def test_refusals_for_permission_and_money_are_faults_with_a_body(api: Api, emulator: Emulator) -> None:
    url = "https://console.apify.com/actors/x?approvePermissions=true"
    body = {"error": {"type": "full-permission-actor-not-approved", "message": "Approve", "data": {"approvalUrl": url}}}
    emulator.add_fault(Fault("status", "POST", "/v2/acts/~hello-world/runs", status=403, body=body))
    refused = api("POST", "/acts/~hello-world/runs")
    assert (error(refused), refused.json()) == ((403, "full-permission-actor-not-approved"), body)
    assert emulator.runs == []


def test_user_agent_is_rewritten_on_the_way(api: Api, emulator: Emulator) -> None:
    emulator.add_fault(Fault("user-agent", value="corporate-proxy/2"))
    assert api.start()["meta"]["userAgent"] == "corporate-proxy/2"
    assert api.start()["meta"]["userAgent"] == "tests/1"


def test_a_fault_can_skip_requests_and_happen_several_times(api: Api, emulator: Emulator) -> None:
    emulator.add_fault(Fault("status", path="/v2/users/*", skip=1, times=2))
    assert [api("GET", "/users/me").status_code for _ in range(5)] == [200, 500, 500, 200, 200]
    assert api("GET", "/acts").status_code == 200


def test_a_fault_without_times_happens_until_cleared(api: Api, emulator: Emulator) -> None:
    emulator.add_fault(Fault("status", times=None, status=503))
    assert {api("GET", "/acts").status_code for _ in range(5)} == {503}
    emulator.clear_faults()
    assert api("GET", "/acts").status_code == 200


def test_faults_by_chance_are_repeatable(api: Api, emulator: Emulator) -> None:
    series = []
    for _ in range(2):
        emulator.reset()
        emulator.add_fault(Fault("status", times=None, probability=0.5))
        series.append([api("GET", "/acts").status_code for _ in range(20)])
    assert series[0] == series[1]
    assert set(series[0]) == {200, 500}


@pytest.mark.parametrize("path", ["/v2/acts/~hello-world", "/v2/actors/~hello-world", "/v2/actors/%7Ehello-world"])
def test_one_glob_serves_both_prefixes_and_escapes(emulator: Emulator, path: str) -> None:
    emulator.add_fault(Fault("status", path="/v2/acts/~hello-world", status=418))
    assert exchange(emulator, "GET", path).startswith(b"HTTP/1.1 418")
    assert emulator.requests[0].path == path


def test_an_unknown_kind_of_fault_is_refused() -> None:
    with pytest.raises(ValueError, match="'explode' is not a kind of fault: cut-json, delay"):
        Fault("explode")
