"""
Rebuild an Actor on a real Airflow, and show what each task passes on.

Against the emulator, or with ``APIFY_TOKEN`` and ``ACTOR`` set against Apify. Exit codes: 0 the run succeeded, 1 it
did not, 2 something is missing or refused, 3 a port is taken, 130 Ctrl-C.
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
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_apify.api import requests as api
from airflow_provider_apify.api.errors import ApiError
from airflow_provider_apify.emulator import Emulator
from airflow_provider_apify.hooks.connection import Settings
from airflow_provider_apify.hooks.sync_transport import SyncTransport
from demo.local_airflow import LocalAirflow

ROOT = Path(__file__).resolve().parent.parent
DAG_ID = "apify_nightly_rebuild"
#: Seconds that a build takes on the emulator here.
BUILD_SECONDS = 8.0
#: Seconds that a run may take: a real build may run for 1800 s, and has to wait for its turn.
RUN_LIMIT = 3600.0


Say = Callable[[str], None]


class Stop(Exception):
    """End the demo with a sentence and an exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Apify:
    """Where the demo builds, and what."""

    host: str
    token: str
    actor: str
    console_url: str | None = None

    @property
    def connection(self) -> str:
        extra = {"console_url": self.console_url}
        return json.dumps({"conn_type": "apify", "host": self.host, "password": self.token, "extra": extra})


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="keep Airflow running to look around")
    keep = parser.parse_args().keep
    # make passes SIGTERM on; both end the demo in the same orderly way.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {line}", flush=True)

    try:
        with apify(keep, say) as where, airflow(keep, where, say) as local:
            state = run(local, where, say)
            if keep:
                look_around(local, where)
            return 0 if state == "success" else 1
    except Stop as stop:
        print(f"\n{stop}", file=sys.stderr, flush=True)
        return stop.code
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr, flush=True)
        return 130


@contextlib.contextmanager
def apify(keep: bool, say: Say) -> Iterator[Apify]:
    """Give the real Apify if told where to build what, else an emulator."""
    token, actor = os.environ.get("APIFY_TOKEN", ""), os.environ.get("ACTOR", "")
    if bool(token) != bool(actor):
        raise Stop("To build on Apify set both: APIFY_TOKEN=... ACTOR=... (an id, user/name, or ~name).", 2)
    if token:
        where = Apify(os.environ.get("APIFY_API_BASE_URL", ""), token, actor)
        check(where)
        say(f"building {actor} on Apify")
        yield where
        return
    port = free_port("EMULATOR_PORT", 3333 if keep else 0, "emulator")
    with Emulator(port=port, build_seconds=BUILD_SECONDS) as emulator:
        say(f"the emulator of Apify listens on {emulator.url}")
        yield Apify(emulator.url, emulator.token, "~hello-world", console_url=emulator.url)


def check(where: Apify) -> None:
    """Ask for the Actor before Airflow is started, so that a wrong token or name costs no time."""
    try:
        settings = Settings.of("apify_default", host=where.host, port=None, password=where.token, extra={})
        SyncTransport(settings).send(api.get_actor(where.actor))
    except (ApiError, ValueError) as error:
        raise Stop(f"Apify cannot be used with this APIFY_TOKEN and ACTOR. {error}", 2) from None


@contextlib.contextmanager
def airflow(keep: bool, where: Apify, say: Say) -> Iterator[LocalAirflow]:
    port = free_port("AIRFLOW_PORT", 8080 if keep else 0, "Airflow")
    home = ROOT / ".demo"
    shutil.rmtree(home, ignore_errors=True)
    say("starting Airflow, which takes about half a minute")
    env = {"AIRFLOW_CONN_APIFY_DEFAULT": where.connection, "AIRFLOW__CORE__TEST_CONNECTION": "Enabled"}
    local = LocalAirflow(home, ROOT / "example_dags", env=env, port=port or None, say=say)
    with local:
        yield local


def run(local: LocalAirflow, where: Apify, say: Say) -> str:
    """Run the nightly rebuild once and tell how it goes."""
    run_id = local.trigger(DAG_ID, {"actor": where.actor})
    say(f"started {DAG_ID} for {where.actor}")
    seen: dict[str, str | None] = {}
    deadline = time.monotonic() + RUN_LIMIT
    while (state := local.run_state(DAG_ID, run_id)) not in ("success", "failed"):
        for name, task in local.tasks(DAG_ID, run_id).items():
            if task["state"] != seen.get(name):
                seen[name] = task["state"]
                say(f"task {name}: {task['state'] or 'waiting'}")
        if time.monotonic() > deadline:
            raise Stop(f"The run has not ended after {RUN_LIMIT:.0f} s; Airflow's logs are in {local.home}.", 1)
        time.sleep(0.5)
    say(f"the run ended: {state}")
    show(local, run_id)
    return state


def show(local: LocalAirflow, run_id: str) -> None:
    """Print what each task has passed on, or the end of its log if it failed."""
    for name, task in local.tasks(DAG_ID, run_id).items():
        print(f"\nTask {name}: {task['state']}")
        if task["state"] == "failed":
            log = local.task_log(DAG_ID, run_id, name, task["try_number"])
            print("\n".join("    " + line for line in log.splitlines()[-40:]))
        for key in ("build_id", "build_number", "summary", "return_value"):
            with contextlib.suppress(KeyError):
                value = local.xcom(DAG_ID, run_id, name, key)
                text = value if isinstance(value, str) else json.dumps(value, indent=2)
                print("\n    ".join(f"    {key} = {text}".splitlines()))
        for label, url in local.links(DAG_ID, run_id, name).items():
            print(f"    {label}: {url}")
    print(flush=True)


def look_around(local: LocalAirflow, where: Apify) -> None:
    print(f"Airflow:  {local.url}/dags/{DAG_ID}  (no login needed)")
    print(f"Apify:    {where.host or 'https://api.apify.com'}")
    print("Trigger the DAGs tagged 'apify' as you like. Ctrl-C stops everything.", flush=True)
    while True:
        time.sleep(1)


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
