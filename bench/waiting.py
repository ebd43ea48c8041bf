"""
What deferred builds cost, and how soon their end is noticed, beside two other providers.

Each measurement is one client process, freshly started, that runs N triggers in one event loop, all started at once,
and one server process on the same machine, freshly started too. The jobs end after 5 to 60 s, uniformly; each round
has a seed of its own, the same for all. The server adds a trip of 50 ms to each request, half of it on the way back:
25 ms of each latency are the network's. All goes over TLS. Up to 100 the measurements of a round run side by side,
since they leave the machine idle most of the time. Measured in the client only, after one
trigger has run:

- requests that the server saw, per job and started minute of it; TCP connections opened, and most at the same time;
- CPU seconds (user and system) from before the triggers are made until the last event; growth of resident memory;
- latency from the end of a job, by the server's clock, to the event in the client;
- how late the event loop is at most, by a tick every 20 ms (Airflow warns from 0.2 s on).

"apify, builds and runs" is ours with every second job a run of an Actor instead of a build.
"floor" are triggers that know the end and sleep until then: what the measurement itself costs. "aiohttp" is the least
that waits with long-polls: a loop of requests over one session, and ``json.loads``. The other providers run
in an environment of their own against the same server, at the interval that their operators have by default and at
5 s. Airbyte's trigger blocks the event loop, so beyond 100 it is measured at its default only,
and it is cut off after a limit of time: what is unfinished then counts with the latency it has so far. Logging is off
for all.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench import common, report
from bench.client import MIXED
from bench.report import Row

DEFAULT_POLL = {"airbyte": 60, "databricks": 30}
NUMBERS = [1, 100, 1000]
#: Most triggers of measurements that run side by side.
FEW = 100
NAMES = ("who", "n", "poll")
COLUMNS = {
    "who": "Who",
    "n": "N",
    "poll": "Poll s",
    "requests_per_minute": "Requests per job and started minute",
    "connections": "Connections",
    "most_open": "Most open",
    "cpu_s": "CPU s",
    "rss_mb": "RSS +MB",
    "p50_s": "Latency p50 s",
    "p95_s": "p95",
    "max_s": "max",
    "lag_max_s": "Loop lag max s",
    "ticks_late": "Late ticks",
    "unfinished": "Unfinished",
    "errors": "Errors",
}
RATIOS = {"requests_per_minute": "Requests", "connections": "Connections", "cpu_s": "CPU", "p50_s": "Latency p50"}


def measure(who: str, n: int, *, poll: float | None = None, extra: Row | None = None, **task: Any) -> Row:
    """Run one measurement; ``extra``: further fields of our connection; the rest is for ``bench.client``."""
    with common.server() as (url, certificate, home):
        port = int(url.rpartition(":")[2])
        fields = {"ca_bundle": certificate, **(extra or {})}
        ours = {"conn_type": "apify", "host": url, "password": common.TOKEN, "extra": fields}
        databricks = {
            "conn_type": "databricks",
            "host": "127.0.0.1",
            "schema": "https",
            "port": port,
            "password": common.TOKEN,
        }
        env = common.clean_environment(
            home,
            AIRFLOW_CONN_APIFY_DEFAULT=json.dumps(ours),
            AIRFLOW_CONN_AIRBYTE_DEFAULT=json.dumps({"conn_type": "airbyte", "host": f"{url}/airbyte"}),
            AIRFLOW_CONN_DATABRICKS_DEFAULT=json.dumps(databricks),
            SSL_CERT_FILE=certificate,
        )
        task |= {"who": who, "n": n, "poll": poll, "url": url}
        # Generous: who blocks the loop notices the limit late.
        patience = 300 + 3 * (task.get("limit") or task["seconds"])
        result: Row = common.run_python(who, ["-m", "bench.client", json.dumps(task)], env, patience)
    label = f"{who} {json.dumps(extra)}" if extra else who
    return {"who": label, "n": n, "poll": poll, "seed": task["seed"], **result}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, nargs="+", default=NUMBERS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only", nargs="+", choices=["apify", MIXED, "floor", "aiohttp", *common.PEERS], help="leave the others out"
    )
    parser.add_argument("--limit", type=float, default=120, help="seconds after which a measurement is cut off")
    parser.add_argument("--shortest", type=float, default=5)
    parser.add_argument("--longest", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--extra",
        type=json.loads,
        action="append",
        default=[],
        metavar="JSON",
        help="measure ours also with these fields in the connection's extra",
    )
    options = parser.parse_args()
    print(__doc__)

    chosen = options.only or ["floor", "aiohttp", "apify", MIXED, *(common.PEERS if common.peers_there() else [])]

    def one(turn: int, n: int, who: str, poll: float | None, extra: Row | None) -> Row:
        row = measure(
            who,
            n,
            poll=poll,
            extra=extra,
            seed=options.seed + turn,
            limit=options.limit,
            shortest=options.shortest,
            longest=options.longest,
        )
        print(f"round {turn + 1}: {row['who']}, N={n}, poll={poll}: {row['seconds']:.0f} s", flush=True)
        return row

    rows: list[Row] = []
    for turn in range(options.rounds):
        for n in options.n:
            cases = [case for case in variants(chosen, options.extra) if affordable(*case[:2], n)]
            with ThreadPoolExecutor(len(cases) if n <= FEW else 1) as pool:
                rows += pool.map(lambda case, turn=turn, n=n: one(turn, n, *case), cases)
    merged = sorted(report.medians(rows, NAMES), key=lambda row: row["n"])
    print(f"\nMedians of {options.rounds} rounds; in brackets lowest and highest where they are apart:\n")
    report.print_table(merged, COLUMNS)
    print("Times ours:\n")
    report.print_table(ratios(merged), {name: COLUMNS[name] for name in ("who", "n", "poll")} | RATIOS)
    part = "" if options.n == NUMBERS else "-" + "-".join(map(str, options.n))
    report.save(f"waiting{part}", __doc__ or "", rows=merged)


def variants(chosen: list[str], extras: list[Row]) -> list[tuple[str, float | None, Row | None]]:
    """List whom to measure: who, poll interval, fields of the connection."""
    listed: list[tuple[str, float | None, Row | None]] = []
    for who in chosen:
        if who in DEFAULT_POLL:
            listed += [(who, DEFAULT_POLL[who], None), (who, 5, None)]
        else:
            listed += [(who, None, None), *((who, None, extra) for extra in extras if who == "apify")]
    return listed


def affordable(who: str, poll: float | None, n: int) -> bool:
    """Whether to measure at all: a loop that is blocked takes minutes to show it."""
    return who != "airbyte" or n <= FEW or poll == DEFAULT_POLL["airbyte"]


def ratios(rows: list[Row]) -> list[Row]:
    ours = {row["n"]: row for row in rows if row["who"] == "apify"}
    return [
        {name: row[name] for name in NAMES}
        | {name: row[name] / base[name] if base[name] > 0 else None for name in RATIOS}
        for row in rows
        if (base := ours.get(row["n"])) and row["who"] not in ("apify", "floor")
    ]


if __name__ == "__main__":
    main()
