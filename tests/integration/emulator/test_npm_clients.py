"""Apify's own command line and JavaScript client work against the emulator without knowing it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_apify.emulator import Emulator

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"

pytestmark = pytest.mark.timeout(600)  # npm has to install them once

Node = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def installed() -> Path:
    """Install the pinned clients, unless they are there, and give the directory where scripts find them."""
    pinned = json.loads((HERE / "package.json").read_text())["dependencies"]
    MODULES.mkdir(exist_ok=True)
    with (MODULES / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # there may be several test processes
        if pinned == {name: installed_version(name) for name in pinned}:
            return HERE
        if shutil.which("npm") is None:
            pytest.skip("needs npm, to install Apify's command line and JavaScript client")
        options = ("--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
        ended = subprocess.run(["npm", "install", "--prefix", str(HERE), *options], capture_output=True, text=True)
        if ended.returncode:
            pytest.skip(f"npm cannot install Apify's command line and JavaScript client: {ended.stderr[-500:]}")
    return HERE


def installed_version(name: str) -> str | None:
    package = MODULES / name / "package.json"
    return json.loads(package.read_text())["version"] if package.exists() else None


@pytest.fixture
def node(installed: Path, emulator: Emulator, tmp_path: Path) -> Node:
    """Run a script with Node.js, in an empty home."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "APIFY_TOKEN": emulator.token,
        "APIFY_CLIENT_BASE_URL": emulator.url,
        "APIFY_DISABLE_KEYRING": "1",
        "APIFY_CLI_DISABLE_TELEMETRY": "1",
        "APIFY_CLI_SKIP_UPDATE_CHECK": "1",
        "NO_COLOR": "1",
    }

    def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["node", str(installed / script), *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    return run


@pytest.fixture
def apify_cli(node: Node, emulator: Emulator) -> Node:
    """Run Apify's command line, logged in."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return node("node_modules/apify-cli/dist/apify.js", *arguments)

    assert run("login", "--token", emulator.token).returncode == 0
    return run


def test_the_command_line_calls_an_actor_and_prints_its_log(apify_cli: Node, emulator: Emulator) -> None:
    called = apify_cli("call", "emulator/scraper", "--input", '{"items": 3}', "--memory", "512", "--json")
    assert called.returncode == 0, called.stderr
    (run,) = emulator.runs
    shown: dict[str, Any] = json.loads(called.stdout)
    assert (shown["run"]["id"], shown["run"]["status"]) == (run["id"], "SUCCEEDED")
    assert shown["storage"]["defaultDatasetId"] == run["defaultDatasetId"]
    assert run["options"]["memoryMbytes"] == 512
    assert "Crawler: Finished!" in called.stderr


def test_the_command_line_prints_the_items_of_a_call(apify_cli: Node, emulator: Emulator) -> None:
    emulator.item_count_seconds = 0
    called = apify_cli("call", "emulator/scraper", "--input", '{"items": 2}', "--output-dataset", "--silent")
    assert [item["title"] for item in json.loads(called.stdout)] == ["Product 1", "Product 2"]


def test_the_command_line_says_why_a_call_has_failed(apify_cli: Node, emulator: Emulator) -> None:
    failed = apify_cli("call", "~fails-half-way")
    assert failed.returncode != 0
    assert "403 Forbidden" in failed.stdout and "Exit code: 1" in failed.stdout
    refused = apify_cli("call", "emulator/needs-input", "--input", "{}")
    assert refused.returncode != 0
    assert "Input is not valid: Field input.startUrls is required" in refused.stderr


def test_the_command_line_runs_a_task_and_lists_runs(apify_cli: Node, emulator: Emulator) -> None:
    ended = apify_cli("task", "run", "ten-products")
    assert ended.returncode == 0 and "SUCCEEDED" in ended.stdout, ended.stderr
    listed = json.loads(apify_cli("runs", "ls", "emulator/scraper", "--json").stdout)
    assert [item["id"] for item in listed["items"]] == [run["id"] for run in emulator.runs]


def test_the_javascript_client_does_all_that_a_dag_may_want(node: Node) -> None:
    pytest.importorskip("brotli")
    ended = node("javascript_client.mjs")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {
        "run": ["SUCCEEDED", 256, 60],
        "items": ["Product 1", "Product 2", "Product 3", "Product 4"],
        "input": ["items", "text"],
        "output": {"status": "done"},
        "nothing": None,
        "log": True,
        "last": [True, 2],
        "aborted": ["ABORTING", "ABORTED"],
        "resurrected": ["RUNNING", "SUCCEEDED"],
        "task": ["SUCCEEDED", 1],
        "listed": 3,
        "refused": ["invalid-input", "Input is not valid: Field input.startUrls is required"],
        "valid": True,
        "build": "SUCCEEDED",
    }
