"""Waiting for the first of several events at the price of one future, so that thousands of long-polls stay cheap."""

from __future__ import annotations

import asyncio


class Signal:
    """Something that happens at most once; touched only by the emulator's event loop."""

    def __init__(self) -> None:
        self.fired = False
        self.waiters: set[asyncio.Future[None]] = set()

    def fire(self) -> None:
        self.fired = True
        for waiter in self.waiters:
            _wake(waiter)


async def first_of(*signals: Signal, timeout: float | None = None) -> None:
    """Return when a signal has fired or ``timeout`` seconds have passed; look at ``fired`` to see which."""
    if any(signal.fired for signal in signals):
        return
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()
    timer = None if timeout is None else loop.call_later(timeout, _wake, waiter)
    for signal in signals:
        signal.waiters.add(waiter)
    try:
        await waiter
    finally:
        if timer is not None:
            timer.cancel()
        for signal in signals:
            signal.waiters.discard(waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
