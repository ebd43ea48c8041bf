"""
What starting a build or a run through the operator adds to the bare request.

Against the emulator in a process of its own, without TLS, one after the other in turn: a bare ``requests.post`` that
starts a build, and ``ApifyBuildOperator.execute`` with the context of Airflow's task runner, with and without a version
given (without, the operator first asks the Actor for it); the same with ``ApifyRunActorOperator``. What the supervisor
would answer over a socket is answered in this process, so Airflow's own time is small here. Each ``execute`` is a
task's first try with a hook of its own. Time is wall time; requests are those in the emulator's ledger. The emulator
answers at once; on a real network each request adds a trip.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import logging
import os
import tempfile
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from bench import common, report

COLUMNS = {"who": "How", "requests": "Requests", "ms": "ms", "ratio": "Times the bare request"}
PATH = "/v2/acts/~hello-world/builds?version=0.0"
RUNS = "/v2/acts/~hello-world/runs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    print(__doc__)
    server = ["--port", "0", "--token", common.TOKEN, "--build-seconds", "3600", "--run-seconds", "3600"]
    server += ["--memory-mbytes", str(10**9), "--max-concurrent-jobs", str(10**6)]
    with (
        tempfile.TemporaryDirectory() as home,
        common.started("airflow_provider_apify.emulator", *server) as url,
    ):
        # Before Airflow is imported.
        os.environ |= common.clean_environment(home)
        rows = measure(url, options.rounds)
    merged = report.medians(rows, ("who",))
    for row in merged:
        row["ratio"] = row["ms"] / merged[0]["ms"]
    report.print_table(merged, COLUMNS)
    report.save("start", __doc__ or "", rows=merged)


def measure(url: str, rounds: int) -> list[report.Row]:
    import requests
    import structlog
    from airflow.sdk import DAG
    from airflow.sdk.execution_time import task_runner

    from airflow_provider_apify.operators.build import ApifyBuildOperator
    from airflow_provider_apify.operators.run import ApifyRunActorOperator
    from tests.runner import Runner, Supervisor

    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))

    def bare(path: str) -> Callable[[], Any]:
        return lambda: requests.post(url + path, headers={"Authorization": f"Bearer {common.TOKEN}"}, timeout=30).json()

    def operator(cls: type[Any], **kwargs: Any) -> Callable[[], Any]:
        supervisor = Supervisor()
        supervisor.connections["apify_default"] = {"host": url, "password": common.TOKEN}
        task_runner.SUPERVISOR_COMMS = supervisor  # type: ignore[assignment]
        with DAG("bench", start_date=dt.datetime(2026, 1, 1)):
            task = cls(task_id="task", actor_id="~hello-world", **kwargs)
        context = Runner(supervisor).task_instance(task).get_template_context()
        return lambda: task.execute(context)

    ways: dict[str, Callable[[], Callable[[], Any]]] = {
        "requests.post of a build": lambda: bare(PATH),
        "ApifyBuildOperator, version given": lambda: operator(ApifyBuildOperator, version="0.0"),
        "ApifyBuildOperator": lambda: operator(ApifyBuildOperator),
        "requests.post of a run": lambda: bare(RUNS),
        "ApifyRunActorOperator": lambda: operator(ApifyRunActorOperator),
    }
    rows = []
    # The first turn imports and warms up.
    for turn in range(rounds + 1):
        for who, prepare in ways.items():
            work, before = prepare(), len(ledger(url))
            at = time.perf_counter()
            work()
            ms = 1000 * (time.perf_counter() - at)
            if turn:
                rows.append({"who": who, "ms": ms, "requests": len(ledger(url)) - before})
    return rows


def ledger(url: str) -> list[Any]:
    with urllib.request.urlopen(f"{url}/emulator/ledger", timeout=30) as answer:
        requests: list[Any] = json.loads(answer.read())["requests"]
        return requests


if __name__ == "__main__":
    main()
