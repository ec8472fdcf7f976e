"""Uvicorn's WebSocket as this service needs it: bounded on the way in, told when it is lost, closed in order.

Owns the connection. Knows nothing of streams.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from app.sockets import ON_DISCONNECT, STOPPING, WAITING

AHEAD = 32  # messages that are taken from a caller before the first of them is answered
CLOSING = 2.0  # seconds for a caller to agree to the end


class WebSocket(WebSocketsSansIOProtocol):
    """Takes a few messages ahead and then no more until they are answered; `lost` is called when the connection has ended."""

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any], *, lost: Callable[[], None]) -> None:
        super().__init__(config, server_state, app_state)
        self.close_timeout = CLOSING
        self._lost = lost
        self._app = self.app
        self.app = self._answer
        self._leaving: set[Callable[[], None]] = set()

    def _next_waiting(self) -> Any:
        """The next message, as `receive` would give it, if there is one."""
        if self.queue.empty():
            return None
        message = self.queue.get_nowait()
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            self.transport.resume_reading()
        return message

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)
        if self.initial_response is not None:
            self.handshake_complete = True  # it was refused: that completes it too

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):  # it was a handshake
            self.scope["extensions"][WAITING] = self._next_waiting  # type: ignore[assignment]  # functions, not settings
            self.scope["extensions"][ON_DISCONNECT] = self._leaving  # type: ignore[assignment]  # functions, not settings

    def send_receive_event_to_app(self) -> None:
        was_paused, self.read_paused = self.read_paused, True  # decided here, not there
        super().send_receive_event_to_app()
        self.read_paused = was_paused
        if not was_paused and self.queue.qsize() >= AHEAD:
            self.read_paused = True
            self.transport.pause_reading()

    def shutdown(self) -> None:
        """Have the application answer what it has and then close; it is not cut off."""
        if self.handshake_complete and not self.close_sent:
            self.stop_keepalive()
            self.queue.put_nowait({"type": STOPPING})  # type: ignore[arg-type,misc]  # a message of our own
        else:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for tell in [*self._leaving]:
            tell()
        self._lost()


def protocol(lost: Callable[[], None]) -> Callable[..., asyncio.Protocol]:
    """What makes the protocol of a connection that becomes a WebSocket."""

    def make(config: Config, server_state: ServerState, app_state: dict[str, Any]) -> WebSocket:
        return WebSocket(config, server_state, app_state, lost=lost)

    return make
