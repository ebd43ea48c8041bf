"""What the bench share: child processes with a clean environment, and the server."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
#: The other providers live in an environment of their own (``make bench-peers`` makes it).
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
PEERS = ("airbyte", "databricks")
#: What the emulator takes.
TOKEN = "emulator-token"


def python_for(who: str) -> str:
    return str(PEERS_PYTHON) if who in PEERS else sys.executable


def peers_there() -> bool:
    if not PEERS_PYTHON.exists():
        print(f"No {PEERS_PYTHON.relative_to(ROOT)}: the other providers are left out. `make bench-peers` makes it.")
    return PEERS_PYTHON.exists()


def clean_environment(home: str, **more: str) -> dict[str, str]:
    """Give the environment for a child: nothing of the caller's Airflow, no proxies; it keeps what it compiles."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("AIRFLOW") and not name.lower().endswith("_proxy") and name != "PYTHONDONTWRITEBYTECODE"
    }
    return kept | {"AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "NO_PROXY": "127.0.0.1", **more}


def run_python(who: str, arguments: list[str], env: dict[str, str], timeout: float) -> Any:
    """Run a fresh interpreter of ``who``'s environment; give the JSON of the last line that it printed."""
    done = subprocess.run(
        [python_for(who), *arguments], cwd=ROOT, env=env, timeout=timeout, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{who}: exit code {done.returncode}\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def started(module: str, *arguments: str) -> Iterator[str]:
    """Run a server module in a process of its own; it prints its address when it is ready."""
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError(f"{module} did not start")
        yield url
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def server() -> Iterator[tuple[str, str, str]]:
    """Run ``bench.emulator``; give its URL, the file of its certificate and a directory for Airflow's home."""
    from rig.network import self_signed

    with tempfile.TemporaryDirectory() as home:
        certificate = Path(home) / "server.pem"
        # A new one for each measurement: it is valid for an hour only.
        certificate.write_bytes(self_signed())
        with started("bench.emulator", str(certificate)) as url:
            yield url, str(certificate), home
