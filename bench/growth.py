"""
Cost against the number of builds, and memory and descriptors over time.

First, by the method of ``bench.waiting``, our trigger alone with numbers of builds between those of that
benchmark: the drawings have both. Beside them, in a process of its own, ten minutes of coming and going: 50
triggers alive at any time, each for 5 to 20 s; resident memory and open descriptors about once a second. Shown are
medians of each minute; "after" is two seconds after the last trigger. Memory is flat when the last minutes are like the
second.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from bench import report, waiting
from bench.report import Row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, nargs="+", default=[10, 30, 300])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--longest", type=float, default=60)
    parser.add_argument("--seconds", type=float, default=600, help="of coming and going")
    parser.add_argument("--alive", type=int, default=50, help="triggers that come and go")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(__doc__)

    with ThreadPoolExecutor(1) as pool:
        flowing = pool.submit(come_and_go, options)
        rows = []
        for turn in range(options.rounds):
            for n in options.n:
                seed = options.seed + turn
                row = waiting.measure("apify", n, seed=seed, limit=120, shortest=5, longest=options.longest)
                rows.append(row)
                print(f"round {turn + 1}: N={n}: {row['seconds']:.0f} s", flush=True)
        merged = report.medians(rows, waiting.NAMES)
        report.print_table(merged, waiting.COLUMNS)
        flow = flowing.result()
    minutes = by_minute(flow.pop("samples"))
    report.print_table(minutes, {"minute": "Minute", "rss_mb": "RSS MB", "descriptors": "Descriptors"})
    flow_columns = {name: waiting.COLUMNS[name] for name in ("n", "cpu_s", "p50_s", "p95_s", "lag_max_s", "errors")}
    report.print_table([flow], {"requests": "Requests", "connections": "Connections"} | flow_columns)
    report.save("growth", __doc__ or "", rows=merged, minutes=minutes, coming_and_going=flow)


def come_and_go(options: argparse.Namespace) -> Row:
    task = {"seconds": options.seconds, "shortest": 5, "longest": 20, "seed": options.seed}
    return waiting.measure("apify", options.alive, **task)


def by_minute(samples: list[tuple[float, float, int]]) -> list[Row]:
    """Give the medians of each minute, between what was before the first trigger and what is after the last."""
    groups: dict[str, list[tuple[float, float, int]]] = {"before": samples[:1]}
    for sample in samples[1:-1]:
        groups.setdefault(str(int(sample[0] // 60) + 1), []).append(sample)
    groups["after"] = samples[-1:]
    return [
        {"minute": name, "rss_mb": median(rss for _, rss, _ in group), "descriptors": median(fds for *_, fds in group)}
        for name, group in groups.items()
    ]


if __name__ == "__main__":
    main()
