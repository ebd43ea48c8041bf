"""Draw what ``waiting`` and ``growth`` have measured: latency and cost against the number of builds, as SVG."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter

from bench import report
from bench.report import Row

#: Who is drawn, by name and poll interval: colour and label.
LINES = {
    ("apify", None): ("#1f8a3b", "Apify build"),
    ("databricks", 30): ("#d9480f", "Databricks, 30 s"),
    ("databricks", 5): ("#f59f00", "Databricks, 5 s"),
    ("airbyte", 60): ("#364fc7", "Airbyte, 60 s"),
    ("airbyte", 5): ("#74a0f1", "Airbyte, 5 s"),
}
COSTS = {
    "requests_per_minute": "requests per build and minute",
    "cpu_s": "CPU seconds in all",
    "rss_mb": "memory, MB in all",
}
#: Below these, what is measured is noise.
LEAST = {"rss_mb": 1.0}


def load() -> dict[tuple[str, Any], list[Row]]:
    """Read the results: our own line has the points of all files, the newer measurement of each."""
    rows: dict[tuple[str, Any, int], Row] = {}
    for path in sorted((*report.RESULTS.glob("waiting*.json"), *report.RESULTS.glob("growth.json")), key=_measured_at):
        rows |= {(row["who"], row["poll"], row["n"]): row for row in json.loads(path.read_text())["rows"]}
    return {key: sorted((row for of, row in rows.items() if of[:2] == key), key=lambda row: row["n"]) for key in LINES}


def _measured_at(path: Path) -> str:
    return str(json.loads(path.read_text())["where"]["at"])


def axes(axis: Any, title: str, *, log: bool = True) -> None:
    axis.set_title(title, fontsize=10, loc="left")
    axis.set_xscale("log")
    if log:
        axis.set_yscale("log")
    axis.set_xlabel("builds waited for at once", fontsize=9)
    axis.tick_params(labelsize=8)
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.minorticks_off()
    axis.grid(color="#dddddd", linewidth=0.5)
    axis.spines[["top", "right"]].set_visible(False)


def line(axis: Any, key: tuple[str, Any], rows: list[Row], field: str, **style: Any) -> None:
    """Draw one line, without measurements that were cut off before their end."""
    colour, label = LINES[key]
    points = [(row["n"], row[field]) for row in rows if row[field] > LEAST.get(field, 0) and not row["unfinished"]]
    if points:
        axis.plot(*zip(*points, strict=True), color=colour, label=label, linewidth=1.5, **style)


def write(figure: Any, axis: Any, folder: Path, name: str) -> None:
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    path = folder / f"{name}.svg"
    # Without date and random ids, the same results make the same file.
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    print(f"Written: {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("docs/images"), help="where the drawings go")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    plt.rcParams.update({"svg.hashsalt": "bench", "svg.fonttype": "none", "font.family": "sans-serif"})
    lines = load()

    figure, both = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained", sharey=True)
    for axis, field, title in zip(both, ("p50_s", "p95_s"), ("median", "95th percentile"), strict=True):
        axes(axis, f"seconds until the end is noticed, {title}")
        for key, rows in lines.items():
            line(axis, key, rows, field, marker="o", markersize=3)
    write(figure, both[0], folder, "latency")

    figure, three = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
    for axis, (field, title) in zip(three, COSTS.items(), strict=True):
        axes(axis, title, log=field != "requests_per_minute")
        for key, rows in lines.items():
            line(axis, key, rows, field, marker="o", markersize=3)
    three[0].set_ylim(bottom=0)
    write(figure, three[0], folder, "cost")


if __name__ == "__main__":
    main()
