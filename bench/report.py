"""What was measured, as tables and as JSON: rows of rounds, or the claims and facts of one run."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from statistics import median
from textwrap import indent
from typing import Any

from rig.tables import table

RESULTS = Path(__file__).parent / "results"

Row = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """One setting of Airflow (``SECTION__KEY``) that differs from its default, or from the demo's, and the reason."""

    name: str
    value: str
    why: str


@dataclass(frozen=True)
class Claim:
    text: str
    found: Any
    holds: bool


@dataclass
class Report:
    title: str
    settings: Sequence[Setting] = ()
    claims: list[Claim] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return bool(self.claims) and all(claim.holds for claim in self.claims)

    def claim(self, text: str, found: Any, holds: bool) -> None:
        self.claims.append(Claim(text, found, holds))

    def equal(self, text: str, found: Any, wanted: Any) -> None:
        """Claim that ``found`` is what was wanted."""
        self.claim(text, found if found == wanted else f"{found}, not {wanted}", found == wanted)

    def save(self, name: str) -> None:
        parts = asdict(self)
        save(name, parts.pop("title"), holds=self.holds, **parts)

    def __str__(self) -> str:
        settings = [(setting.name, setting.value, setting.why) for setting in self.settings]
        claims = [("ok" if claim.holds else "FAILED", claim.text, shown(claim.found)) for claim in self.claims]
        facts = [(key, shown(value)) for key, value in {**self.facts, "measured": where()}.items()]
        parts = ((self.title, claims), ("Measured", facts), ("Settings that it takes", settings))
        return "\n\n".join(f"{title}\n{indent(table(rows), '  ')}" for title, rows in parts if rows)


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


def print_table(rows: Iterable[Row], columns: dict[str, str]) -> None:
    """Print rows as a table. ``columns``: field to heading."""
    lines = [list(columns.values()), *([_cell(row, name) for name in columns] for row in rows)]
    print(table(lines), end="\n\n", flush=True)


def _cell(row: Row, name: str) -> str:
    """Show a value; a median with the lowest and highest of its rounds when they differ by more than a tenth."""
    value = row.get(name)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return shown(value)
    values = [each[name] for each in row.get("rounds", []) if name in each] or [value]
    low, high = min(values), max(values)
    noisy = high - low > 0.1 * abs(value) and shown(low) != shown(high)
    return f"{shown(value)} ({shown(low)}-{shown(high)})" if noisy else shown(value)


def shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {shown(part)}" for key, part in value.items())
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "-" if value is None else str(value)


def save(name: str, method: str, **results: Any) -> None:
    """Write ``bench/results/<name>.json``, a line a row: the documentation's figures are kept with it."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    lines = [
        f'"{key}": [\n' + ",\n".join(map(_json, value)) + "\n]"
        if isinstance(value, (list, tuple))
        else f'"{key}": {_json(value)}'
        for key, value in {"method": method, "where": where(), **results}.items()
    ]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"Written: {path}\n", flush=True)


def _json(value: Any) -> str:
    return json.dumps(value, default=str)


def where() -> dict[str, str]:
    """When and on what this is measured."""
    return {
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        **{name: version(name) for name in ("apache-airflow", "airflow-provider-apify", "aiohttp")},
    }
