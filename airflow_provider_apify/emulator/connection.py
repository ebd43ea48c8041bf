"""A server connection that says when its client has gone and that can be broken off on purpose."""

from __future__ import annotations

import asyncio
import socket
import struct

from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from airflow_provider_apify.emulator.signals import Signal, first_of


class Connection(H11Protocol):
    """Puts itself into each request's ASGI scope, as ``scope["state"]["connection"]``."""

    def __init__(self, config: Config, server_state: ServerState) -> None:
        super().__init__(config, server_state, {"connection": self}, asyncio.get_running_loop())
        self.access_log = False
        self.gone = Signal()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        # asyncio does this only for sockets that name their protocol; without it, each answer takes 40 ms.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.gone.fire()

    async def close(self) -> None:
        """End the connection in an orderly way (FIN) after what was written, whatever was promised."""
        self.transport.close()
        await first_of(self.gone)

    async def reset(self) -> None:
        """Break the connection off (RST), unless the client has gone already."""
        if self.gone.fired:
            return
        linger_not_at_all = struct.pack("ii", 1, 0)
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_not_at_all)
        self.transport.abort()
        await first_of(self.gone)
