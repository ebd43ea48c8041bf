"""The guides' DAGs do what their pages promise beyond a good run."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any, ClassVar
from unittest.mock import Mock

import pytest

from airflow_provider_apify.emulator import Emulator, Fault
from tests.docs.test_samples import Load, connect_http, sample_with
from tests.integration.conftest import ended, start_build, statuses
from tests.runner import Runner, Supervisor, install


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The texts posted to a chat's webhook."""
    texts = []

    class Chat(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            texts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Chat) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AIRFLOW_VAR_CHAT_WEBHOOK_SECRET", f"http://127.0.0.1:{server.server_port}/")
        yield texts
        server.shutdown()


def test_the_alert_tells_build_link_and_the_end_of_the_log(
    load: Load, apify_emulator: Emulator, chat: list[str]
) -> None:
    apify_emulator.set_actor("hello-world", outcome="FAILED")
    dags = load(sample_with('DAG("rebuild_with_alert"'))
    assert dags["rebuild_with_alert"].test().state == "failed"
    (text,) = chat
    assert "rebuild_with_alert.rebuild, try 2, failed: http" in text
    assert "Build 0.0.2 FAILED: https://console.apify.com/actors/" in text
    assert re.search(r"\nActor hello-world, [\d.e-]+ USD\n", text)
    assert "ACTOR: ERROR: Build failed." in text


class Mailbox(StreamRequestHandler):
    """Takes mail by SMTP."""

    mails: ClassVar[list[Message]] = []

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while (word := self.rfile.readline()[:4].upper()) not in (b"QUIT", b""):
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = list(iter(self.rfile.readline, b".\r\n"))
                self.mails.append(message_from_bytes(b"".join(lines)))
            self.wfile.write(b"250 yes\r\n")
        self.wfile.write(b"221 bye\r\n")


def test_the_mail_tells_actor_status_cost_link_and_the_end_of_the_log(
    load: Load, apify_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("airflow.providers.smtp")
    apify_emulator.set_actor("hello-world", outcome="FAILED", run_outcome="FAILED")
    with ThreadingTCPServer(("127.0.0.1", 0), Mailbox) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        extra = {"disable_ssl": True, "disable_tls": True, "from_email": "airflow@example.com"}
        host, port = server.server_address[:2]
        connection = {"conn_type": "smtp", "host": host, "port": port, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))
        assert load(sample_with('DAG("mail_on_failure"'))["mail_on_failure"].test().state == "failed"
        server.shutdown()
    assert [mail["Subject"] for mail in Mailbox.mails] == [
        f"mail_on_failure.{task}, try 1, failed" for task in ("build", "run")
    ]
    of_build, of_run = (
        "".join(str(part.get_payload(decode=True)) for part in mail.walk() if not part.is_multipart())
        for mail in Mailbox.mails
    )
    assert re.search(r"Build 0[.]0[.]1 of Actor hello-world .*FAILED after .* at .* USD", of_build)
    assert re.search(r"Run \w{17} of Actor .*FAILED after .* at .* USD", of_run)
    assert "ACTOR: ERROR: Build failed." in of_build
    assert "threw an exception" in of_run
    assert all("See https://console.apify.com/actors/" in text for text in (of_build, of_run))


@pytest.mark.parametrize("exception", [{}, {"exception": None}], ids=["not there", "None"])
def test_the_alert_of_a_try_that_airflow_ended_tells_what_became_of_the_build(
    exception: dict[str, None], load: Load, apify_emulator: Emulator, chat: list[str]
) -> None:
    """As the DAG processor calls it, after a worker was lost or the scheduler took it for lost."""
    apify_emulator.set_actor("hello-world", outcome="FAILED")
    build_id = start_build(apify_emulator)
    ended(apify_emulator)
    (alert,) = (
        load(sample_with('DAG("rebuild_with_alert"'))["rebuild_with_alert"].task_dict["rebuild"].on_failure_callback
    )
    for known in (build_id, None):
        ti = Mock(dag_id="rebuild_with_alert", task_id="rebuild", try_number=1, log_url="http://airflow/log")
        ti.configure_mock(**{"xcom_pull.return_value": known})
        alert({"ti": ti, **exception})
        ti.xcom_pull.assert_called_once_with(task_ids="rebuild", key="build_id")
    with_build, without = chat
    first = "rebuild_with_alert.rebuild, try 1, failed: http://airflow/log"
    second = "Airflow ended the try; the task itself has reported no error."
    assert with_build.splitlines()[:2] == without.splitlines() == [first, second]
    assert with_build.splitlines()[2].startswith("Build 0.0.1 is FAILED: https://console.apify.com/actors/")


def test_the_rules_wait_for_memory_and_build_nothing_twice_that_does_not_build(
    load: Load, apify_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    dags = load(sample_with('DAG("rebuild_by_rules"'))
    supervisor = Supervisor()
    supervisor.connections["apify_default"] = {"host": apify_emulator.url, "password": apify_emulator.token}
    install(supervisor, monkeypatch)
    runner = Runner(supervisor)

    def task() -> Any:
        return dags["rebuild_by_rules"].task_dict["rebuild"]

    apify_emulator.memory_mbytes = 0
    outcome = runner.run_to_end(task)
    assert (outcome.state, outcome.message.retry_delay_seconds) == ("up_for_retry", 600)
    apify_emulator.memory_mbytes = 4096
    apify_emulator.set_actor("hello-world", outcome="FAILED")
    runner.retry()
    assert runner.run_to_end(task).state == "failed"
    assert statuses(apify_emulator) == ["FAILED"]


@pytest.mark.parametrize(("dag_id", "builds"), [("rebuild_by_http", 2), ("rebuild_by_provider", 1)])
def test_a_lost_answer_builds_twice_by_http_and_once_by_the_provider(
    dag_id: str, builds: int, load: Load, apify_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    if dag_id == "rebuild_by_http":
        connect_http(apify_emulator, monkeypatch)
    apify_emulator.add_fault(Fault("lost-answer", "POST", "/v2/acts/*/builds"))
    assert load(sample_with(f'DAG("{dag_id}"'))[dag_id].test().state == "success"
    assert len(apify_emulator.builds) == builds
