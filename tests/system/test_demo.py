"""``python -m demo`` as a user runs it, in a pipe: all stories, and Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rig import local_airflow
from rig.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo, started from a copy: it removes the home of an earlier one, which may still be in use."""
    for part in ("demo", "example_dags", "rig"):
        shutil.copytree(ROOT / part, tmp_path / part)
    env = {name: value for name, value in os.environ.items() if name not in ("APIFY_TOKEN", "ACTOR")}
    command = [sys.executable, "-m", "demo"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        yield process
    # What was told to end may take a moment on a busy machine.
    wait_until(lambda: not left_of(tmp_path), lambda: f"left: {left_of(tmp_path)}", timeout=20)


def left_of(home: Path) -> list[int]:
    """Processes that have this home."""
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.environ().get("AIRFLOW_HOME", "").startswith(str(home)):
                left.append(process.pid)
    return left


def test_it_builds_and_runs_actors_and_ends_with_a_table(demo: subprocess.Popen[str]) -> None:
    shown, _ = demo.communicate(timeout=280)
    assert demo.returncode == 0, shown
    assert {character for character in shown if ord(character) < 32} == {"\n"}
    for line in (
        "and its task is deferred:",
        " of hello-world, 5.0 s, cost ",  # the number is another if a DAG of the examples was due just then
        "ACTOR: ERROR: Build failed.",
        "Now the worker is killed: kill -9 ",
        "SUCCEEDED: build 0.0.1 of slow-build, 30.0 s, cost ",
        "Starts at Apify: 1.",
        "SUCCEEDED: Finished! Scraped 60 items. ",
        "Its 60 items went to files, and from there into a table.",
        "The table products in products.duckdb has 60 rows. The cheapest:",
        "  Product 1      9.99  https://shop.example.com/products/1",
        "make demo-ui",
    ):
        assert line in shown, shown


def test_ctrl_c_says_at_once_that_it_stops_and_leaves_nothing(demo: subprocess.Popen[str]) -> None:
    assert demo.stdout
    while "database ready" not in (line := demo.stdout.readline()):
        assert line, "the demo has ended"
    began = time.monotonic()
    demo.send_signal(signal.SIGINT)
    while "Stopping Airflow" not in (line := demo.stdout.readline()):
        assert line, "the demo has ended"
    assert time.monotonic() - began < 2
    demo.send_signal(signal.SIGINT)  # one more changes nothing
    shown, _ = demo.communicate(timeout=30)
    assert shown.splitlines() == ["Stopped."]
    assert demo.returncode == 130


def test_a_process_that_was_only_just_started_when_ctrl_c_came_is_killed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    popen = subprocess.Popen

    def interrupted(*args: object, **kw: object) -> None:
        popen(*args, **kw)  # type: ignore[call-overload]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", interrupted)
        with pytest.raises(KeyboardInterrupt), local_airflow.LocalAirflow(tmp_path, tmp_path):
            pass
    assert left_of(tmp_path) == []
