"""What the documentation names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = {
    name
    for path in ROOT.joinpath("tests").rglob("test_*.py")
    for name in [path.stem, *re.findall(r"def (test_\w+)", path.read_text())]
}


@pytest.mark.parametrize("page", [path.name for path in ROOT.joinpath("docs").glob("*.md")])
def test_the_tests_that_a_page_names_exist(page: str) -> None:
    text = ROOT.joinpath("docs", page).read_text()
    assert set(re.findall(r"`(test_\w+)`", text)) <= TESTS
    assert not [path for path in re.findall(r"`(tests/[\w/.]+)`", text) if not ROOT.joinpath(path).exists()]
