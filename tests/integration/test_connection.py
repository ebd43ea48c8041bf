"""What connection and environment say holds in worker and triggerer alike, over real sockets."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from airflow.providers.common.compat.sdk import Asset

from airflow_provider_apify.api import builds
from airflow_provider_apify.api.builds import BUILD
from airflow_provider_apify.api.errors import ApiError
from airflow_provider_apify.client.settings import Settings, Source
from airflow_provider_apify.client.triggerer import AsyncTransport
from airflow_provider_apify.client.worker import SyncTransport
from airflow_provider_apify.emulator import Emulator, Fault
from airflow_provider_apify.exceptions import ApifyConfigurationError
from airflow_provider_apify.hooks.apify import ApifyHook
from airflow_provider_apify.triggers.build import ApifyBuildTrigger
from demo.__main__ import apify as demo_apify
from rig.network import self_signed
from tests.integration.conftest import client, operator, sensor, start_build
from tests.runner import Runner, Supervisor, fire

CONSOLE = "https://console.apify.com/organization/0rgan1zat10n"
START = builds.start_build("~hello-world", version="0.0", tag=None).request


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "requests_ca_bundle", "curl_ca_bundle"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)


def send_in_worker(settings: Settings) -> Any:
    transport = SyncTransport(settings)
    try:
        return transport.send(START)
    finally:
        transport.close()


def send_in_triggerer(settings: Settings) -> Any:
    async def send() -> Any:
        transport = AsyncTransport(Source("apify_default", settings))
        try:
            return await transport.send(START)
        finally:
            await transport.close()

    return asyncio.run(send())


transports = pytest.mark.parametrize(
    "send", [send_in_worker, send_in_triggerer], ids=lambda send: send.__name__.removeprefix("send_in_")
)


@contextmanager
def https(path: Path, certificate: bytes) -> Iterator[Emulator]:
    path.write_bytes(certificate)
    with Emulator(ssl_certfile=str(path)) as emulator:
        yield emulator


def settings(emulator: Emulator, **extra: Any) -> Settings:
    return Settings.of("c", host=emulator.url, port=None, password=emulator.token, extra=extra)


# -- certificates -------------------------------------------------------------------------------------------------


@transports
@pytest.mark.parametrize(
    ("certificate", "is_trusted", "reason"),
    [
        (self_signed(), False, "self-signed certificate"),
        (self_signed(hours=-1), True, "certificate has expired"),
        (self_signed("127.0.0.2"), True, "IP address mismatch, certificate is not valid for '127.0.0.1'"),
    ],
    ids=["self-signed", "expired", "for another host"],
)
def test_a_certificate_error_gives_openssls_reason(
    send: Callable[[Settings], Any], certificate: bytes, is_trusted: bool, reason: str, tmp_path: Path
) -> None:
    with https(tmp_path / "server.pem", certificate) as emulator:
        trusting = {"ca_bundle": str(tmp_path / "server.pem")} if is_trusted else {}
        with pytest.raises(ApiError) as raised:
            send(settings(emulator, **trusting))
    said = str(raised.value).replace("self signed", "self-signed")  # as OpenSSL 1 spelt it
    assert f"the server's certificate is not trusted ({reason})" in said
    assert "). Nothing was sent.\nCheck" in said and not raised.value.outcome_unknown


@transports
@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl rehash")
def test_a_directory_of_certificates_is_trusted(
    send: Callable[[Settings], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with https(tmp_path / "server.pem", self_signed()) as emulator:
        subprocess.run(["openssl", "rehash", str(tmp_path)], check=True)
        monkeypatch.setenv("CURL_CA_BUNDLE", str(tmp_path))
        assert send(settings(emulator))["status"] == "READY"


@transports
def test_a_ca_bundle_that_has_gone_since_counts_as_nothing_sent(
    send: Callable[[Settings], Any], tmp_path: Path
) -> None:
    with https(tmp_path / "server.pem", self_signed()) as emulator:
        found = settings(emulator, ca_bundle=str(tmp_path / "server.pem"))
        tmp_path.joinpath("server.pem").unlink()
        with pytest.raises(ApiError, match=r"no request could be made\. Nothing was sent\.") as raised:
            send(found)
    assert not raised.value.outcome_unknown


# -- proxies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "ftp://127.0.0.1:9", "http://", "127.0.0.1:9:9"])
def test_what_requests_cannot_send_counts_as_nothing_sent(apify: Emulator, proxy: str) -> None:
    with pytest.raises(ApiError, match=r"no request could be made\. Nothing was sent\.") as raised:
        send_in_worker(Settings(base_url=apify.url, token=apify.token, proxy=proxy))
    assert not raised.value.outcome_unknown


@pytest.mark.parametrize("name", ["ALL_PROXY", "http_proxy"])
def test_a_socks_proxy_of_the_environment_fails_worker_and_trigger_at_once(
    name: str, apify: Emulator, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_id = start_build(apify)
    apify.clear_ledger()
    monkeypatch.setenv(name, "socks5h://jane:pr0xyS3cr3t@127.0.0.1:9")
    outcome = runner.run(operator(retries=3))
    trigger = ApifyBuildTrigger(build_id=build_id, apify_conn_id="apify_default", deadline=time.time() + 30)
    event = asyncio.run(fire(trigger))
    assert outcome.state == "failed", "no retry"
    assert isinstance(outcome.error, ApifyConfigurationError)
    for said in (str(outcome.error), event["message"]):
        assert said.startswith(f"Connection 'apify_default': {name} must be a URL such as")
        assert "pr0xyS3cr3t" not in said
    assert event["exception"] == "ApifyConfigurationError"
    assert apify.requests == []


# -- extra --------------------------------------------------------------------------------------------------------


def test_extra_that_is_no_json_fails_the_task_at_once(apify: Emulator, supervisor: Supervisor, runner: Runner) -> None:
    supervisor.connections["apify_default"]["extra"] = "{proxy: http://proxy:3128}"
    outcome = runner.run(operator(retries=3))
    assert (outcome.state, apify.requests) == ("failed", [])
    assert str(outcome.error).startswith("Connection 'apify_default': extra is not valid JSON")


# -- secrets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["the field", "the environment"])
def test_credentials_of_the_proxy_are_masked_in_logs(
    where: str, apify: Emulator, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow masks the field itself since 3.1.6, the variable never."""
    password = f"pr%40xy{time.time_ns()}"  # a new one, since what was masked once stays so
    proxy = f"http://jane:{password}@127.0.0.1:9"
    if where == "the field":
        supervisor.connections["apify_default"]["extra"] = json.dumps({"proxy": proxy})
    else:
        monkeypatch.setenv("HTTP_PROXY", proxy)
    assert ApifyHook()._client.settings.proxy == proxy
    said = f"{proxy} {password} {password.replace('%40', '@')}"
    assert set(redacted(said).split()) == {"***"}
    told = [message.value for message in supervisor.sent if type(message).__name__ == "MaskSecret"]
    assert any(isinstance(value, list) and proxy in value for value in told), "its process writes the log"


def redacted(text: str) -> str:
    try:
        from airflow.sdk.log import redact  # type: ignore[attr-defined]
    except ImportError:  # before Airflow 3.1
        from airflow.sdk.execution_time.secrets_masker import redact  # type: ignore[no-redef]
    return str(redact(text))


# -- copies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda hook: pickle.loads(pickle.dumps(hook))])
@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
def test_a_hook_can_be_copied_and_the_copy_used(
    duplicate: Callable[[ApifyHook], ApifyHook], used: bool, apify: Emulator, supervisor: Supervisor
) -> None:
    hook = ApifyHook("apify_default")
    build_id = start_build(apify)
    if used:
        hook.log.info("so that it has a logger")
        hook.get_build(build_id)
        hook._client.stopping.set()
    twin = duplicate(hook)
    assert apify.token.encode() not in pickle.dumps(hook)
    assert (twin.apify_conn_id, twin._client.stopping.is_set()) == ("apify_default", False)
    assert twin.get_build(build_id).id == build_id
    twin.close()
    assert hook.get_build(build_id).id == build_id


# -- links --------------------------------------------------------------------------------------------------------


def link(apify: Emulator, base: str) -> str:
    (build,) = apify.builds
    return f"{base}/actors/{build['actId']}#/builds/{build['buildNumber']}"


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
@pytest.mark.parametrize("base", [CONSOLE, "http://127.0.0.1:3333"])
def test_every_link_of_a_build_begins_with_the_field(
    base: str,
    deferrable: bool,
    apify: Emulator,
    supervisor: Supervisor,
    runner: Runner,
    capsys: pytest.CaptureFixture[str],
) -> None:
    supervisor.connections["apify_default"]["extra"] = json.dumps({"console_url": f"{base}/"})

    def task() -> Any:
        asset = Asset("apify://actors/hello-world")
        return operator(wait_for_completion=True, deferrable=deferrable, outlets=[asset])

    outcome = runner.run_to_end(task)
    assert outcome.state == "success"
    assert outcome.xcoms["summary"]["console_url"] == outcome.xcoms["_link_ApifyConsoleLink"] == link(apify, base)
    assert link(apify, base) in capsys.readouterr().out
    (ended,) = [message for message in supervisor.sent if type(message).__name__ == "SucceedTask"][-1:]
    assert [event["extra"]["console_url"] for event in ended.outlet_events] == [link(apify, base)]

    waiting = Runner(supervisor).run_to_end(
        lambda: sensor(apify.builds[0]["id"], deferrable=deferrable, poke_interval=0.1)
    )
    assert waiting.xcoms["summary"]["console_url"] == waiting.xcoms["_link_ApifyConsoleLink"] == link(apify, base)


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
def test_the_link_in_a_failures_message_begins_with_the_field(
    deferrable: bool, apify: Emulator, supervisor: Supervisor, runner: Runner
) -> None:
    supervisor.connections["apify_default"]["extra"] = json.dumps({"console_url": CONSOLE})
    outcome = runner.run_to_end(
        lambda: operator("~always-fails", wait_for_completion=True, deferrable=deferrable, retries=0)
    )
    assert f"\nSee {link(apify, CONSOLE)}\n" in str(outcome.error)


def test_a_build_found_in_a_list_has_the_same_link(apify: Emulator, supervisor: Supervisor) -> None:
    supervisor.connections["apify_default"]["extra"] = json.dumps({"console_url": CONSOLE})
    apify.full_lists = True
    hook = ApifyHook()
    started = hook.start_build("~hello-world", version="0.0")
    (listed,) = hook.list_builds("~hello-world")
    assert started.console_url == listed.console_url == link(apify, CONSOLE)


@pytest.mark.parametrize("field", [None, CONSOLE])
def test_without_the_field_the_link_is_what_apify_says(
    field: str | None, apify: Emulator, supervisor: Supervisor
) -> None:
    supervisor.connections["apify_default"]["extra"] = json.dumps({"console_url": field})
    build_id = start_build(apify)
    stated = f"{CONSOLE}/view/builds/{build_id}"
    apify.add_fault(
        Fault("status", status=200, body={"data": {**apify.builds[0], "consoleUrl": stated}}, method="GET", times=None)
    )
    expected = link(apify, CONSOLE) if field else stated
    hook = ApifyHook()
    assert hook.get_build(build_id).console_url == expected
    apify.clear_faults()
    apify.finish_build(build_id)
    apify.add_fault(
        Fault("status", status=200, body={"data": {**apify.builds[0], "consoleUrl": stated}}, method="GET", times=None)
    )
    assert asyncio.run(client().wait_async(BUILD, build_id, deadline=None)).console_url == expected


def test_the_demos_link_opens_the_page_of_its_build(
    supervisor: Supervisor, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("APIFY_TOKEN", "ACTOR", "EMULATOR_PORT"):
        monkeypatch.delenv(name, raising=False)
    with demo_apify(False) as where:
        supervisor.connections["apify_default"] = where.connection
        outcome = runner.run(operator(where.actor))
        page, _, fragment = outcome.xcoms["_link_ApifyConsoleLink"].partition("#")
        shown = httpx.get(page, timeout=10, trust_env=False)
    assert (shown.status_code, fragment) == (200, "/builds/0.0.1")
    assert f'<article id="{fragment}">' in shown.text
