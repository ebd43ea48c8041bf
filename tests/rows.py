"""
The table of rows: for each test how many builds there should be, how many there are, how it went and how long it took.

``pytest --rows`` prints it at the end. A test fills in its row by saying, with :func:`builds_end_as` or
:func:`builds_are`, what Apify's ledger must show.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_apify.emulator import Emulator

TERMINAL = ("SUCCEEDED", "FAILED", "ABORTED", "TIMED-OUT")

#: What the running test has said last.
_row: dict[str, Any] = {}


def builds_are(apify: Emulator, *expected: str, timeout: float = 30) -> None:
    """Wait until the ledger shows exactly these builds, oldest first, and say so in the test's row."""
    _row["expected"] = len(expected)
    try:
        apify.wait_for(lambda emulator: statuses(emulator) == list(expected), timeout=timeout)
    except TimeoutError:
        pass
    _row["seen"] = len(apify.builds)
    assert statuses(apify) == list(expected)


def count_builds(expected: int, seen: int) -> None:
    """Say the row's numbers where they are not those of a plain list of statuses."""
    _row.update(expected=expected, seen=seen)
    assert seen == expected


def statuses(apify: Emulator) -> list[str]:
    """The statuses of all builds, oldest first."""
    return [build["status"] for build in apify.builds]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rows", action="store_true", help="print the table of rows at the end")
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
    if not config.getoption("--rows"):
        return
    outcomes: dict[str, dict[str, Any]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            row = outcomes.setdefault(report.nodeid, {"outcome": outcome, "seconds": 0.0})
            row["outcome"] = max(row["outcome"], outcome, key=("skipped", "passed", "failed", "error").index)
            row["seconds"] += report.duration
            row.update({name: value for name, value in report.user_properties if value is not None})
    lines = [("case", "expected", "seen", "outcome", "seconds")]
    for case, row in sorted(outcomes.items()):
        case = case.removeprefix("tests/").replace(".py::", ": ").replace("test_", "").replace("_", " ")
        numbers = [str(row.get(name, "-")) for name in ("expected", "seen")]
        lines.append((case, numbers[0], numbers[1], row["outcome"], f"{row['seconds']:.1f}"))
    width = max(len(line[0]) for line in lines)
    terminalreporter.section(f"{len(outcomes)} rows, seed {config.getoption('--seed')}")
    for case, expected, seen, outcome, seconds in lines:
        terminalreporter.write_line(f"{case:{width}}  {expected:>8}  {seen:>4}  {outcome:>7}  {seconds:>7}")
    totals = [sum(row.get(name) or 0 for row in outcomes.values()) for name in ("expected", "seen")]
    bad = sum(row["outcome"] != "passed" for row in outcomes.values())
    held = "every row holds" if not bad else f"{bad} DO NOT HOLD"
    terminalreporter.write_line(f"{'in all':{width}}  {totals[0]:>8}  {totals[1]:>4}  {held}")
