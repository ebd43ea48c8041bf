"""What the benchmarks share: child processes with a clean environment, the server, tables and result files."""

# ruff: noqa: T201

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

from rig.tables import table

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS = HERE / "results"
#: The other providers live in an environment of their own (``make bench`` makes it).
PEERS_PYTHON = HERE / ".venv" / "bin" / "python"
PEERS = ("airbyte", "databricks")

Row = dict[str, Any]


def build_id(index: int) -> str:
    """Give the id of the server's build with this number, as long as Apify's."""
    return f"bench{index:012d}"


def python_for(who: str) -> str:
    return str(PEERS_PYTHON) if who in PEERS else sys.executable


def peers_there() -> bool:
    if not PEERS_PYTHON.exists():
        print(f"No {PEERS_PYTHON.relative_to(ROOT)}: the other providers are left out. `make bench-peers` makes it.")
    return PEERS_PYTHON.exists()


def clean_environment(home: str, **more: str) -> dict[str, str]:
    """Give the environment for a child: nothing of the caller's Airflow, no proxies."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("AIRFLOW") and not name.lower().endswith("_proxy")
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
def bench_server(tls: bool) -> Iterator[tuple[str, str, str]]:
    """Run ``benchmarks.server``; give its URL, the file of its certificate and a directory for Airflow's home."""
    from rig.network import self_signed

    with tempfile.TemporaryDirectory() as home:
        certificate = Path(home) / "server.pem"
        # Made anew for each measurement: it is valid for an hour only.
        certificate.write_bytes(self_signed())
        with started("benchmarks.server", *([str(certificate)] if tls else [])) as url:
            yield url, str(certificate), home


def medians(rows: list[Row], by: tuple[str, ...]) -> list[Row]:
    """Make one row of the rounds that agree in ``by``: medians, with all values under ``rounds``."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in by), []).append(row)
    merged = []
    for group in groups.values():
        numbers = [name for name, value in group[0].items() if name not in by and isinstance(value, (int, float))]
        merged.append(
            {name: group[0][name] for name in by}
            | {name: median(row[name] for row in group) for name in numbers}
            | {"rounds": group}
        )
    return merged


def cell(row: Row, name: str) -> str:
    """Show a value; a median with the lowest and highest of its rounds when they differ by more than a tenth."""
    value = row.get(name)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return "-" if value is None else str(value)
    values = [each[name] for each in row.get("rounds", []) if name in each] or [value]
    low, high = min(values), max(values)
    noisy = high - low > 0.1 * abs(value) and number(low) != number(high)
    return f"{number(value)} ({number(low)}-{number(high)})" if noisy else number(value)


def number(value: float) -> str:
    return f"{value:.0f}" if isinstance(value, int) or abs(value) >= 100 else f"{value:.3g}"


def print_table(rows: Iterable[Row], columns: dict[str, str]) -> None:
    """Print rows as a table. ``columns``: field to heading."""
    lines = [list(columns.values()), *([cell(row, name) for name in columns] for row in rows)]
    print(table(lines), end="\n\n", flush=True)


def save(name: str, method: str, **results: Any) -> None:
    """Write ``benchmarks/results/<name>.json``, a line a row: the documentation's figures are kept with it."""
    RESULTS.mkdir(exist_ok=True)
    where = {
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "airflow": importlib.metadata.version("apache-airflow"),
        "aiohttp": importlib.metadata.version("aiohttp"),
    }
    path = RESULTS / f"{name}.json"
    lines = [
        f'"{key}": [\n' + ",\n".join(map(json.dumps, value)) + "\n]"
        if isinstance(value, list)
        else f'"{key}": {json.dumps(value)}'
        for key, value in {"method": method, "where": where, **results}.items()
    ]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"Written: {path.relative_to(ROOT)}\n", flush=True)
