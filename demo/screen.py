"""What the demo shows: lines with the time, and in a terminal a last line that says what is being waited for."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text


class Screen:
    """Plain lines, without colours and control characters, where NO_COLOR is set or the output is no terminal."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        lively = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._console = Console(force_terminal=lively, highlight=False, markup=False, soft_wrap=True)
        self._status = self._console.status("")

    @property
    def seconds(self) -> float:
        """Since the demo began."""
        return time.monotonic() - self._began

    def say(self, line: str, *, label: str = "", style: str = "") -> None:
        """Print a line with the time; ``label`` says who it is about."""
        self.show(Text.assemble((f"{self.seconds:5.0f} s  ", "dim"), (label, f"bold {style}"), line))

    def show(self, text: str | Text = "", *, style: str = "") -> None:
        """Print text as it is."""
        self._console.print(text, style=style)
        self._console.file.flush()

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Keep a last line with a spinner, in a terminal, inside the ``with`` block."""
        self.wait_for(what)
        with self._status:
            yield

    def wait_for(self, what: str) -> None:
        """Say on the last line what is being waited for."""
        self._status.update(Text(what, style="dim"))
