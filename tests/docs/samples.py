"""The code samples of README and documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.joinpath("docs").rglob("*.md"))]


@dataclass(frozen=True)
class Sample:
    """
    A fenced block.

    :param page: path from the repository's root.
    :param title: name of the file that it is the content of, or an empty string.
    :param not_run: why it is not run, from a comment before it: ``<!-- not run: ... -->``.
    """

    page: str
    line: int
    language: str
    title: str
    text: str
    not_run: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_dag(self) -> bool:
        return self.language == "python" and "with DAG(" in self.text

    @property
    def commands(self) -> str:
        """The commands of a shell sample, without prompts and output."""
        if self.language == "sh":
            return self.text
        return "\n".join(re.findall(r"^\$ ((?:.*\\\n)*.*)$", self.text, flags=re.MULTILINE))


def samples() -> list[Sample]:
    return [sample for page in PAGES for sample in _of(page)]


def _of(page: Path) -> Iterator[Sample]:
    comment = ""
    for token in MarkdownIt().parse(page.read_text()):
        if token.type == "fence":
            yield Sample(
                page=page.relative_to(ROOT).as_posix(),
                line=token.map[0] + 1 if token.map else 0,
                # Besides ```python title="..." there is ```{ .python title="..." }, which ruff does not format.
                language=_found(r"(\w+)", token.info),
                title=_found(r'title="(.+)"', token.info),
                text=re.sub(r'^--8<-- "(.+)"\n', lambda match: (ROOT / match[1]).read_text(), token.content),
                not_run=_found(r"<!-- not run: (.+) -->", comment),
            )
        comment = token.content if token.type == "html_block" else ""


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else ""
