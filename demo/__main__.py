"""
Build Actors on a real Airflow, and show what happens: when all is well, when a build fails, when a worker dies. Then
run one of them, and bring what it has found into a table.

Against the emulator, or with ``APIFY_TOKEN`` and ``ACTOR`` set one build on Apify. Exit codes: 0 all went as it should,
or with --keep Ctrl-C has ended it; 1 it did not; 2 something is missing or refused; 3 a port is taken; 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_apify.api import endpoints
from airflow_provider_apify.api.errors import ApiError
from airflow_provider_apify.client.settings import Settings
from airflow_provider_apify.client.worker import SyncTransport
from airflow_provider_apify.emulator import Emulator
from demo import story
from demo.screen import Screen
from rig.local_airflow import LocalAirflow

ROOT = Path(__file__).resolve().parent.parent
#: Seconds that a build and a run take on the emulator here.
BUILD_SECONDS = RUN_SECONDS = 5.0
NEXT = """
Next:
  make demo-ui                                look around in Airflow's UI
  docs/quick-start.md                         the same beside your own Airflow
  APIFY_TOKEN=... ACTOR=user/name make demo   build an Actor of yours on Apify
"""


class Stop(Exception):
    """End the demo with a sentence and an exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Apify:
    """Where the demo builds: an emulator; or if there is none Apify itself, and what."""

    host: str
    token: str
    actor: str = "~hello-world"
    emulator: Emulator | None = None

    @property
    def connection(self) -> dict[str, str]:
        """The Airflow connection, as :meth:`LocalAirflow.add_connection` takes it."""
        extra = json.dumps({"console_url": self.host}) if self.emulator else ""
        return {
            "connection_id": "apify_default",
            "description": "The emulator of the demo" if self.emulator else "Apify",
            "host": self.host,
            "password": self.token,
            "extra": extra,
        }

    @property
    def page(self) -> str:
        """What to open in a browser."""
        return self.host if self.emulator else "https://console.apify.com"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="keep Airflow running to look around")
    keep = parser.parse_args().keep
    # make passes SIGTERM on; both end the demo in the same orderly way.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, stop_once)
    screen = Screen()
    try:
        with apify(keep) as where, airflow(keep, where, screen) as local:
            if keep:
                screen.show(f"\n  Airflow  {local.url}  (no login needed)\n  Apify    {where.page}")
            scenes(local, where, screen)
            if keep:
                look_around(local, where, screen)
        screen.show(NEXT)
        return 0
    except Stop as stop:
        print(f"\n{stop}", file=sys.stderr, flush=True)
        return stop.code
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr, flush=True)
        return 0 if keep else 130


def stop_once(*_: object) -> None:
    """Stop at the first Ctrl-C; a second one does not disturb that."""
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextlib.contextmanager
def apify(keep: bool) -> Iterator[Apify]:
    """Give the real Apify if told where to build what, else an emulator."""
    token, actor = os.environ.get("APIFY_TOKEN", ""), os.environ.get("ACTOR", "")
    if bool(token) != bool(actor):
        raise Stop("To build on Apify set both: APIFY_TOKEN=... ACTOR=... (an id, user/name, or ~name).", 2)
    if token:
        where = Apify(os.environ.get("APIFY_API_BASE_URL", ""), token, actor)
        check(where)
        yield where
        return
    port = free_port("EMULATOR_PORT", 3333 if keep else 0, "emulator")
    with Emulator(port=port, build_seconds=BUILD_SECONDS, run_seconds=RUN_SECONDS) as emulator:
        yield Apify(emulator.url, emulator.token, emulator=emulator)


def check(where: Apify) -> None:
    """Ask for the Actor before Airflow is started, so that a wrong token or name costs no time."""
    try:
        settings = Settings.of("apify_default", host=where.host, port=None, password=where.token, extra={})
        SyncTransport(settings).send(endpoints.get_actor(where.actor))
    except (ApiError, ValueError) as error:
        raise Stop(f"Apify cannot be used with this APIFY_TOKEN and ACTOR. {error}", 2) from None


@contextlib.contextmanager
def airflow(keep: bool, where: Apify, screen: Screen) -> Iterator[LocalAirflow]:
    """Give an Airflow with the example DAGs, all of them switched on, and with the connection."""
    port = free_port("AIRFLOW_PORT", 8080 if keep else 0, "Airflow")
    home = ROOT / ".demo"
    shutil.rmtree(home, ignore_errors=True)
    env = {
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        # How soon Airflow notices that a worker is dead. It is 300 s if not set, to be patient with a busy machine.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "10",
    }
    local = LocalAirflow(home, ROOT / "example_dags", env=env, port=port or None, say=screen.say)
    screen.say("Starting a real Airflow, which takes about half a minute.")
    with contextlib.ExitStack() as running:
        with screen.waiting("Airflow starts"):
            running.enter_context(local)
            local.add_connection(**where.connection)
        yield local


def scenes(local: LocalAirflow, where: Apify, screen: Screen) -> None:
    """On Apify a build costs, so there is one."""
    try:
        with screen.waiting("Airflow reads the DAGs"):
            if where.emulator:
                story.all_scenes(local, screen, where.emulator)
            else:
                story.one_scene(local, screen, where.actor)
    except story.Surprise as surprise:
        raise Stop(f"{surprise}\nAirflow's logs are in {local.home}.", 1) from None


def look_around(local: LocalAirflow, where: Apify, screen: Screen) -> None:
    screen.show(f"\nNow look around: {local.url} (Airflow, no login needed) and {where.page} (Apify).")
    screen.show("Trigger the DAGs as you like, and begin with '1 Start here'. Ctrl-C stops everything.")
    while True:
        signal.pause()


def free_port(variable: str, default: int, what: str) -> int:
    """Give the port to use, 0 for any; refuse one that is taken before anything is started."""
    text = os.environ.get(variable) or str(default)
    if not text.isdigit() or int(text) > 65535:
        raise Stop(f"{variable} must be a port number, got {text!r}.", 2)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(text)))
        except OSError:
            raise Stop(f"Port {text} for {what} is taken: stop what listens there, or set {variable}=...", 3) from None
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
