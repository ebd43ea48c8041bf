"""``python -m airflow_provider_apify.emulator``."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

COMMAND = [sys.executable, "-m", "airflow_provider_apify.emulator"]


@contextmanager
def started(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("ending", "path"),
    [(signal.SIGTERM, "actor-builds/{}?waitForFinish=60"), (signal.SIGINT, "logs/{}?stream=1")],
)
def test_it_prints_its_address_and_ends_when_told(ending: signal.Signals, path: str) -> None:
    with (
        started("--token", "mine", "--build-seconds", "600", "--memory-mbytes", "4096") as (process, url),
        ThreadPoolExecutor() as pool,
    ):
        build = httpx.post(f"{url}/v2/acts/~hello-world/builds?version=0.0&token=mine").json()["data"]
        assert httpx.post(f"{url}/v2/acts/~hello-world/builds?version=0.0&token=mine").status_code == 402
        open_request = pool.submit(httpx.get, f"{url}/v2/{path.format(build['id'])}", timeout=60)
        while len(httpx.get(f"{url}/emulator/ledger").json()["requests"]) < 3:
            time.sleep(0.01)
        process.send_signal(ending)
        assert process.wait(timeout=30) == 0, "not when the request is answered"
        assert process.communicate() == ("", "")
        with pytest.raises(httpx.TransportError):
            open_request.result(timeout=20)


def test_a_taken_port_is_told_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run([*COMMAND, "--port", str(port)], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"The emulator cannot listen on 127.0.0.1:{port}: address already in use.\n"
