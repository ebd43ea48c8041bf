"""The emulator as an object in the test's own process, and its controls over HTTP."""

from __future__ import annotations

import asyncio
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from airflow_provider_apify.emulator import Actor, Emulator, Fault
from rig.network import self_signed

from .conftest import Api, anyone, error


async def raw_get(emulator: Emulator, path: str) -> bytes:
    address = urlsplit(emulator.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    try:
        return await reader.read()
    finally:
        writer.close()


async def test_300_long_polls_wake_together(api: Api, emulator: Emulator) -> None:
    emulator.set_actor("hello-world", build_seconds=600)
    build = api.start()
    emulator.clear_ledger()
    path = f"/v2/actor-builds/{build['id']}?waitForFinish=60"
    polls = [asyncio.create_task(raw_get(emulator, path)) for _ in range(300)]
    await asyncio.to_thread(emulator.wait_for, lambda e: len(e.requests) == 300)
    assert not any(poll.done() for poll in polls)
    emulator.finish_build(build["id"])
    answers = await asyncio.wait_for(asyncio.gather(*polls), timeout=30)
    assert all(b'"status":"SUCCEEDED"' in answer for answer in answers)


def test_a_long_poll_whose_client_went_away_is_dropped(api: Api, emulator: Emulator) -> None:
    emulator.set_actor("hello-world", build_seconds=600)
    build = api.start()
    with pytest.raises(httpx.ReadTimeout):
        api("GET", f"/actor-builds/{build['id']}", params={"waitForFinish": 60}, timeout=0.1)
    over = emulator._world.builds[build["id"]].over
    emulator.wait_for(lambda _: not over.waiters)
    assert emulator.requests[-1].status is None


@pytest.mark.parametrize("path", ["/actor-builds/{}?waitForFinish=60", "/logs/{}?stream=1", "/users/me"])
def test_stop_is_quick_whatever_is_open(path: str, caplog: pytest.LogCaptureFixture) -> None:
    emulator = Emulator(build_seconds=600)
    emulator.start()
    with Api(emulator).http as http, ThreadPoolExecutor() as pool:
        build = http.post("/acts/~hello-world/builds?version=0.0").json()["data"]
        emulator.add_fault(Fault("delay", path="/v2/users/me", seconds=60))
        open_request = pool.submit(http.get, path.format(build["id"]), timeout=60)
        emulator.wait_for(lambda e: len(e.requests) == 2)
        began = time.monotonic()
        emulator.stop()
        assert time.monotonic() - began < 20
        with pytest.raises(httpx.TransportError):
            open_request.result(timeout=20)
    assert [record for record in caplog.records if record.name != "httpx"] == []
    assert [build["status"] for build in emulator.builds] == ["READY"]


def test_an_emulator_can_be_stopped_twice_and_started_again() -> None:
    emulator = Emulator()
    for _ in range(2):
        emulator.start()
        assert anyone.get(emulator.url).status_code == 200
        emulator.stop()
        emulator.stop()
    with pytest.raises(httpx.ConnectError):
        anyone.get(emulator.url)


def test_the_ledger_keeps_what_a_request_was_but_no_secret(emulator: Emulator) -> None:
    headers = {"Authorization": f"Bearer {emulator.token}", "Cookie": "secret=1", "X-Some": "Thing"}
    anyone.get(f"{emulator.url}/v2/acts/%7Ehello-world/builds?desc=1", headers=headers)
    (record,) = emulator.requests
    assert (record.method, record.path, record.query) == ("GET", "/v2/acts/%7Ehello-world/builds", "desc=1")
    assert (record.status, record.authorized, record.fault) == (200, True, None)
    assert record.headers["x-some"] == "Thing"
    assert {"authorization", "cookie"}.isdisjoint(record.headers)
    assert abs(record.at - time.time()) < 5


def test_clearing_the_ledger_keeps_the_builds(api: Api, emulator: Emulator) -> None:
    api.start()
    emulator.clear_ledger()
    assert (len(emulator.requests), len(emulator.builds)) == (0, 1)


def test_reset_returns_to_the_state_after_the_start(api: Api, emulator: Emulator) -> None:
    first = api.built()
    emulator.add_actor(Actor("mine"))
    emulator.set_actor("hello-world", outcome="FAILED")
    emulator.add_fault(Fault("status", times=None))
    emulator.build_seconds, emulator.memory_mbytes = 600, 0
    emulator.reset()
    assert (emulator.builds, emulator.requests, emulator.build_seconds) == ([], [], 0.1)
    again = api.built()
    assert (again["status"], again["buildNumber"], again["id"] == first["id"]) == ("SUCCEEDED", "0.0.1", False)
    assert api("GET", "/acts").json()["data"]["total"] == 11


def test_builds_are_as_their_owner_sees_them(api: Api, emulator: Emulator) -> None:
    first, second = api.built(), api.built()
    assert emulator.builds == [first, second]


def test_a_finished_build_stays_as_it_ended(api: Api, emulator: Emulator) -> None:
    build = api.built()
    emulator.finish_build(build["id"], "FAILED")
    assert emulator.builds[0]["status"] == "SUCCEEDED"


def test_mistakes_of_the_test_itself_are_told(emulator: Emulator) -> None:
    with pytest.raises(KeyError):
        emulator.finish_build("unknown")
    with pytest.raises(KeyError):
        emulator.set_actor("unknown", outcome="FAILED")
    with pytest.raises(ValueError, match="an Actor 'hello-world' already"):
        emulator.add_actor(Actor("hello-world"))
    with pytest.raises(ValueError, match="'DONE' is not a status that a job ends with"):
        Actor("x", outcome="DONE")


def test_waiting_in_vain_tells_what_was_seen(api: Api, emulator: Emulator) -> None:
    api.built()
    with pytest.raises(TimeoutError, match=r"within 0.05 s.*POST /v2/actors/~hello-world/builds -> 201.*SUCCEEDED"):
        emulator.wait_for(lambda e: len(e.builds) == 2, timeout=0.05)


def test_it_can_be_controlled_over_http(api: Api, emulator: Emulator) -> None:
    control = httpx.Client(base_url=emulator.url, verify=False)
    assert "emulator" in control.get("/").text
    assert control.put("/emulator/settings", json={"build_seconds": 0, "token": "new"}).status_code == 204
    assert (emulator.build_seconds, emulator.token, emulator.memory_mbytes) == (0, "new", 65536)
    emulator.token = "emulator-token"
    added = control.post("/emulator/faults", json={"kind": "html", "path": "/v2/users/*", "times": None})
    assert (added.status_code, added.json()["status"]) == (201, 200)
    assert "<html>" in api("GET", "/users/me").text
    assert control.delete("/emulator/faults").status_code == 204
    assert api.built()["status"] == "SUCCEEDED"
    ledger = control.get("/emulator/ledger").json()
    assert ledger["requests"][0].items() >= {"path": "/v2/users/me", "fault": "html"}.items()
    assert ledger["builds"] == emulator.builds
    assert control.post("/emulator/reset").status_code == 204
    assert (emulator.requests, emulator.builds) == ([], [])
    control.close()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "faults", {"kind": "explode"}),
        ("POST", "faults", {"kind": "html", "time": 1}),
        ("POST", "faults", {"kind": "html", "times": "often"}),
        ("PUT", "settings", {"build_second": 1}),
        ("PUT", "settings", {"build_seconds": -1}),
    ],
)
def test_wrong_controls_are_refused(emulator: Emulator, method: str, path: str, body: dict[str, object]) -> None:
    refused = anyone.request(method, f"{emulator.url}/emulator/{path}", json=body)
    assert error(refused) == (400, "invalid-parameter")


def test_it_speaks_https(tmp_path: Path) -> None:
    certificate = tmp_path / "certificate.pem"
    certificate.write_bytes(self_signed())
    context = ssl.create_default_context(cafile=str(certificate))
    with Emulator(ssl_certfile=str(certificate)) as emulator, httpx.Client(verify=context) as client:
        assert emulator.url.startswith("https://127.0.0.1:")
        assert client.get(f"{emulator.url}/v2/users/me?token={emulator.token}").status_code == 200
        for kind in ("reset", "lost-answer", "cut-json"):
            emulator.add_fault(Fault(kind))
            with pytest.raises(httpx.TransportError):
                client.get(f"{emulator.url}/v2/users/me?token={emulator.token}")
