"""
The table of rows: for each test how many jobs there should be, how many there are, how it went and how long it took.

``pytest --rows FILE`` gathers it, ``python -m tests.rows FILE`` prints it. A test fills in its row by saying, with
:func:`jobs_are` or :func:`count_jobs`, what Apify's ledger must show.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rig.tables import table

if TYPE_CHECKING:
    from tests.kinds import Kind

#: What the running test has said last.
_row: dict[str, Any] = {}


def jobs_are(kind: Kind, *expected: str, timeout: float = 60) -> None:
    """Wait until the ledger shows exactly these jobs of a kind, oldest first, and say so in the test's row."""
    _row["expected"] = len(expected)
    try:
        kind.apify.wait_for(lambda _: kind.statuses == list(expected), timeout=timeout)
    except TimeoutError:
        pass
    _row["seen"] = len(kind.jobs)
    assert kind.statuses == list(expected)


def count_jobs(expected: int, seen: int) -> None:
    """Say the row's numbers where they are not those of a plain list of statuses."""
    _row.update(expected=expected, seen=seen)
    assert seen == expected


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rows", metavar="FILE", help="add a row for each test to FILE; python -m tests.rows FILE prints")
    parser.addoption("--seed", type=int, default=0, help="seed of all that is left to chance (default: 0)")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    _row.clear()
    try:
        return (yield)
    finally:
        # Before the report of the call is made: what a fixture records at its end reaches the teardown's report only.
        item.user_properties.extend(_row.items())


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--seed"))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    path = config.getoption("--rows")
    if not path:
        return
    rows: dict[str, dict[str, Any]] = json.loads(Path(path).read_text()) if Path(path).exists() else {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            row = rows.setdefault(report.nodeid, {"outcome": outcome, "seconds": 0.0})
            row["outcome"] = max(row["outcome"], outcome, key=("skipped", "passed", "failed", "error").index)
            row["seconds"] += report.duration
            row.update(report.user_properties)
    Path(path).write_text(json.dumps(rows))


def main(path: str) -> int:
    """Print the table of the rows in ``path``; 0 if all of them hold."""
    rows: dict[str, dict[str, Any]] = json.loads(Path(path).read_text())
    lines = [("case", "expected", "seen", "outcome", "seconds")]
    for node, row in rows.items():
        case = (
            node.removeprefix("tests/")
            .removesuffix("@airflow")
            .replace(".py::", ": ")
            .replace("test_", "")
            .replace("_", " ")
        )
        expected, seen = (str(row.get(name, "-")) for name in ("expected", "seen"))
        lines.append((case, expected, seen, row["outcome"], f"{row['seconds']:.1f}"))
    expected, seen = (str(sum(row.get(name) or 0 for row in rows.values())) for name in ("expected", "seen"))
    outcomes = Counter(row["outcome"] for row in rows.values())
    # A skipped row says why in pytest's summary; it neither holds nor fails to.
    bad = outcomes["failed"] + outcomes["error"]
    seconds = sum(row["seconds"] for row in rows.values())
    count = f"{outcomes.total()} rows" + (f", {outcomes['skipped']} skipped" if outcomes["skipped"] else "")
    lines.append((count, expected, seen, f"{bad} bad" if bad else "all hold", f"{seconds:.1f}"))
    print(table(lines, "<>"))
    return 1 if bad or not outcomes["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
