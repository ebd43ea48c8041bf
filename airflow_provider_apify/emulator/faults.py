"""
Faults: what goes wrong, for which requests, and how often.

A new kind is one of two. A *wire fault* acts on the connection or on the finished answer, whatever was asked: name it
in ``WIRE_KINDS``, and play it in ``wire_faults.py``. A *view fault* makes the API say something that is not so: name it
in ``VIEW_KINDS``, write it in ``view_faults.py``, and let the endpoints that say it ask there.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, ClassVar

WIRE_KINDS = frozenset({"lost-answer", "reset", "delay", "status", "html", "cut-json", "polite-cut", "drip", "stall"})
VIEW_KINDS = frozenset({"missing", "stale-list", "unknown-status", "user-agent"})


@dataclass
class Fault:
    """
    Something that goes wrong.

    :param kind: one of ``WIRE_KINDS`` (at most one of these meets a request) or ``VIEW_KINDS``.
    :param method: HTTP method, ``*`` for any.
    :param path: glob; matched against the unescaped path, where ``/v2/actors`` reads ``/v2/acts``.
    :param times: how often it happens; ``None``: until cleared.
    :param skip: how many requests that it would meet go well before.
    :param probability: of each further request that it would meet.
    :param seconds: what time means to the kind.
    :param status: of the answer of ``status`` (default 500) and ``html`` (default 200).
    :param body: of the answer of ``status`` and ``html``; default: an error as Apify words it, or a page.
    :param headers: further headers of that answer.
    :param after_work: the request is carried out first.
    :param value: of ``unknown-status`` and ``user-agent``; ``"line"`` lets ``polite-cut`` cut after a whole line, and
        pack what is left of an answer with gzip again.
    :ivar fired: how often it has happened.
    :ivar skipped: how often it let a request go well because of ``skip``.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    kind: str
    method: str = "*"
    path: str = "*"
    times: int | None = 1
    skip: int = 0
    probability: float = 1.0
    seconds: float = 0.0
    status: int = 0
    body: dict[str, Any] | str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    after_work: bool = False
    value: str | None = None
    fired: int = field(default=0, init=False)
    skipped: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.kind not in WIRE_KINDS | VIEW_KINDS:
            raise ValueError(f"{self.kind!r} is not a kind of fault: {', '.join(sorted(WIRE_KINDS | VIEW_KINDS))}")
        self.status = self.status or (200 if self.kind == "html" else 500)
        if self.kind == "unknown-status" and self.value is None:
            self.value = "HIBERNATING"


class Faults:
    """The faults in force, in the order in which they were added; the first that fits and fires is taken."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.reset()

    def reset(self) -> None:
        self._random = random.Random(self._seed)
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        self._faults.clear()

    def take(
        self, kinds: Collection[str], method: str, path: str, applies: Callable[[Fault], bool] = lambda _: True
    ) -> Fault | None:
        """The fault of one of ``kinds`` that now happens to a request; it counts as fired."""
        path = plain_path(path)
        for fault in self._faults:
            if (
                fault.kind in kinds
                and (fault.times is None or fault.fired < fault.times)
                and fault.method.upper() in ("*", method)
                and fnmatchcase(path, fault.path)
                and applies(fault)
                and self._strikes(fault)
            ):
                fault.fired += 1
                return fault
        return None

    def _strikes(self, fault: Fault) -> bool:
        if fault.skipped < fault.skip:
            fault.skipped += 1
            return False
        return self._random.random() < fault.probability


def plain_path(path: str) -> str:
    """The older ``/v2/acts`` for ``/v2/actors``, so that one glob serves both."""
    head, rest = path[: len("/v2/actors")], path[len("/v2/actors") :]
    return "/v2/acts" + rest if head == "/v2/actors" and rest[:1] in ("", "/") else path
