"""What a run claims, what it measured and what it was set to, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from textwrap import indent
from typing import Any

from rig.tables import table

RESULTS = Path(__file__).parent / "results"


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

    def save(self, name: str) -> Path:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{name}.json"
        path.write_text(json.dumps({**asdict(self), "holds": self.holds}, indent=2, default=str) + "\n")
        return path

    def __str__(self) -> str:
        settings = [(setting.name, setting.value, setting.why) for setting in self.settings]
        claims = [("ok" if claim.holds else "FAILED", claim.text, _short(claim.found)) for claim in self.claims]
        facts = [(key, _short(value)) for key, value in self.facts.items()]
        parts = ((self.title, claims), ("Measured", facts), ("Settings that it takes", settings))
        return "\n\n".join(f"{title}\n{indent(table(rows), '  ')}" for title, rows in parts if rows)


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_short(part)}" for key, part in value.items())
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
