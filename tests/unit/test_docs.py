"""What the documentation names is there, and what the package says is in the documentation."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import write_versions_page
from tests.features import FEATURES

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "airflow_provider_apify"
TESTS = {
    name
    for path in ROOT.joinpath("tests").rglob("test_*.py")
    for name in [path.stem, *re.findall(r"def (test_\w+)", path.read_text())]
}
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.joinpath("docs").rglob("*.md"))

#: Texts in the package that look like messages and reach nobody.
NOT_SHOWN = {
    "module … has no attribute …",  # Python's own words
    "the supervisor cannot be asked safely",  # caught beside where it is raised
}


@pytest.mark.parametrize("page", PAGES)
def test_the_tests_that_a_page_names_exist(page: str) -> None:
    text = ROOT.joinpath(page).read_text()
    assert set(re.findall(r"`(test_\w+)`", text)) <= TESTS
    assert not [path for path in re.findall(r"`(tests/[\w/.]+)`", text) if not ROOT.joinpath(path).exists()]


def test_every_message_is_on_the_troubleshooting_page() -> None:
    page = " ".join(ROOT.joinpath("docs/troubleshooting.md").read_text().split())
    shown = {text for text in messages() if text not in NOT_SHOWN}
    assert len(shown) > 50
    assert [text for text in sorted(shown) if not re.search(pattern(text), page)] == []


def test_the_page_of_versions_has_every_feature() -> None:
    page = ROOT.joinpath("docs/versions.md").read_text()
    assert [feature.name for feature in FEATURES if feature.without not in page] == [], "make matrix writes it"


def test_the_page_of_versions_names_what_airflows_constraints_must_allow() -> None:
    floors = re.findall(r'"(apache-airflow[\w-]+)>=([\d.]+)"', ROOT.joinpath("pyproject.toml").read_text())
    page = ROOT.joinpath("docs/versions.md").read_text()
    assert [name for name, floor in floors if name not in page or floor not in page] == []
    assert page.endswith(write_versions_page.TAIL), "make matrix writes it"


def test_what_counts_as_not_shown_is_there() -> None:
    assert set(messages()) >= NOT_SHOWN


def messages() -> Iterator[str]:
    """
    Every text in the package with three or more words, but docstrings, the emulator's and the connection form's.

    What differs from case to case is an ellipsis. Shorter texts are not found: no message is that short but for
    "Build ... is RUNNING.".
    """
    for path in PACKAGE.rglob("*.py"):
        if path.is_relative_to(PACKAGE / "emulator") or path.name == "get_provider_info.py":
            continue
        for text in _texts(ast.parse(path.read_text())):
            text = " ".join(re.sub(r"%(\.\d)?[sdrf]", "…", text).split())
            if len(re.findall(r"(?<!\S)[A-Za-z']+[.,:;]?(?!\S)", text)) >= 3:
                yield text


def pattern(message: str) -> str:
    """Match a message with anything in place of its ellipses."""
    return ".{0,80}?".join(re.escape(part) for part in message.split("…"))


def _texts(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        parts: list[ast.AST] = [part for part in node.values if not isinstance(part, ast.Constant)]
    else:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        parts = list(ast.iter_child_nodes(node))
    for part in parts:
        yield from _texts(part)
