"""Waiting until something is true, and what servers need that are waited for: ports, open files."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Callable
from typing import TypeVar

LOOPBACK = "127.0.0.1"

T = TypeVar("T")


def wait_until(
    probe: Callable[[], T | None], what: str | Callable[[], str], timeout: float = 60, every: float = 0.25
) -> T:
    """
    Ask ``probe`` until its answer is true, and give that.

    :param what: what should be true; or a function that says, after the time-out, how things are.
    :param timeout: seconds.
    :param every: seconds between two questions.
    :raises TimeoutError: it did not become true.
    """
    deadline = time.monotonic() + timeout
    while not (answer := probe()):
        if time.monotonic() > deadline:
            said = f"not so within {timeout} s: {what}" if isinstance(what, str) else f"after {timeout} s: {what()}"
            raise TimeoutError(said)
        time.sleep(every)
    return answer


def free_ports(count: int) -> list[int]:
    """Give TCP ports of this machine that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server((LOOPBACK, 0))) for _ in range(count)]
        return [int(listener.getsockname()[1]) for listener in listeners]


def allow_open_files(most: int = 65536) -> int:
    """Raise ``ulimit -n`` as far as this user may, ``most`` at most, for this process and its children: the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = most if hard == resource.RLIM_INFINITY else min(hard, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit
