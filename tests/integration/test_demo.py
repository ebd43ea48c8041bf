"""What the demo shows in a terminal and in a pipe, and what it refuses before it starts an Airflow."""

from __future__ import annotations

import os
import pty
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from airflow_provider_apify.emulator import Emulator

ROOT = Path(__file__).resolve().parents[2]
SHOW = """
from demo.screen import Screen
screen = Screen()
with screen.waiting("for this"):
    screen.say("a line " + "that is long " * 20, label="label ", style="green")
    screen.show("[brackets] and 12.5 s", style="dim")
"""


def environment(**env: str) -> dict[str, str]:
    names = ("NO_COLOR", "FORCE_COLOR", "APIFY_TOKEN", "ACTOR", "APIFY_API_BASE_URL", "AIRFLOW_PORT", "EMULATOR_PORT")
    return {name: value for name, value in os.environ.items() if name not in names} | {"TERM": "xterm"} | env


def in_terminal(env: Mapping[str, str]) -> str:
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", SHOW], cwd=ROOT, env=env, stdout=theirs) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux's end of file
                part = b""
            if not part:
                break
            shown += part
    os.close(ours)
    assert process.returncode == 0
    return shown.decode().replace("\r\n", "\n")


def control_characters(text: str) -> set[str]:
    return {character for character in text if ord(character) < 32} - {"\n"}


def test_a_terminal_gets_colours_and_a_spinner() -> None:
    shown = in_terminal(environment())
    assert "\x1b[1;32mlabel" in shown and "for this" in shown


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_a_terminal_without_colours_gets_plain_lines(env: dict[str, str]) -> None:
    assert_plain(in_terminal(environment(**env)))


@pytest.mark.parametrize("env", [{}, {"FORCE_COLOR": "1"}], ids=str)
def test_a_pipe_gets_plain_lines(env: dict[str, str]) -> None:
    command = [sys.executable, "-c", SHOW]
    assert_plain(
        subprocess.run(command, cwd=ROOT, env=environment(**env), capture_output=True, check=True).stdout.decode()
    )


def assert_plain(shown: str) -> None:
    assert control_characters(shown) == set()
    first, second = shown.splitlines()
    # Older releases of rich keep the blank at the end.
    # The machine may be busy.
    assert (
        re.sub(r"\d s", "0 s", first.rstrip(), count=1)
        == "    0 s  label a line " + "that is long " * 19 + "that is long"
    )
    assert second == "[brackets] and 12.5 s"


@pytest.mark.parametrize(
    ("env", "code", "says"),
    [
        ({"APIFY_TOKEN": "x"}, 2, "set both: APIFY_TOKEN=... ACTOR=..."),
        ({"APIFY_TOKEN": "wrong", "ACTOR": "~hello-world"}, 2, "Apify cannot be used with this APIFY_TOKEN and ACTOR."),
        ({"EMULATOR_PORT": "many"}, 2, "EMULATOR_PORT must be a port number, got 'many'."),
        ({"AIRFLOW_PORT": "{taken}"}, 3, "for Airflow is taken: stop what listens there, or set AIRFLOW_PORT=..."),
    ],
    ids=["no Actor", "wrong token", "no port number", "port taken"],
)
def test_what_cannot_work_is_refused_at_once(env: dict[str, str], code: int, says: str, apify: Emulator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        env = {name: value.format(taken=listener.getsockname()[1]) for name, value in env.items()}
        env = environment(APIFY_API_BASE_URL=apify.url, **env)
        done = subprocess.run([sys.executable, "-m", "demo"], cwd=ROOT, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
