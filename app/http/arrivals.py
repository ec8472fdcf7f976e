"""Connections between their acceptance and their first request: TLS handshakes, mostly.

Owns the sockets that this process listens on itself, how many such connections there may be, and how long each may take. Knows
nothing of requests.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ssl import SSLError
from typing import Any

from app.certificates import Certificate
from app.processes.sockets import BACKLOG, port_of
from app.watched import Watched

log = logging.getLogger(__name__)

TOGETHER = 64  # connections that are accepted in one turn of the loop
PAUSE = 1.0  # seconds without accepting, when the system has no room for another
LAST = 1.0  # seconds that those have to come who were accepted before the end
CLOSING = 2.0  # seconds for a caller to agree to the end of TLS


@dataclass(frozen=True, slots=True)
class Tls:
    """How connections are encrypted, but for those to the port `plain`; `patience`: seconds for a handshake."""

    certificate: Watched[Certificate]
    patience: float
    plain: int | None = None


class Arrivals:
    """Gives each connection a protocol, from `make`, which hears of its loss even where the handshake failed.

    `room`: how many connections there may be beside the open ones; those beyond are closed, then `refused` and `gone` are called.
    """

    def __init__(
        self,
        make: Callable[[], asyncio.Protocol],
        tls: Tls | None,
        *,
        room: Callable[[], int],
        refused: Callable[[], None],
        gone: Callable[[], None],
    ) -> None:
        self._make = make
        self._tls = tls
        self._room = room
        self._refused = refused
        self._gone = gone
        self._tasks: set[asyncio.Task[object]] = set()
        self._listeners: set[socket.socket] = set()
        self._plain_told = False

    def __len__(self) -> int:
        return len(self._tasks)

    def listen(self, listener: socket.socket) -> None:
        """Take what comes to it, until `settle`."""
        listener.listen(BACKLOG)
        listener.setblocking(False)
        self._listeners.add(listener)
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket, most: int = TOGETHER) -> None:
        for _ in range(most):
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # no file descriptors are left: asked at once again, it would say so again
                loop = asyncio.get_running_loop()
                loop.remove_reader(listener)
                loop.call_later(PAUSE, self._listen_again, listener)
                return
            self.take(connection)

    def _listen_again(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def take(self, connection: socket.socket) -> None:
        """Serve this connection, after a handshake where there is TLS."""
        if len(self._tasks) >= self._room():
            connection.close()
            self._refused()
            self._gone()
            return
        connection.setblocking(False)
        options: dict[str, Any] = {}
        tls = self._tls
        if tls is not None and port_of(connection) != tls.plain:
            options = {"ssl": tls.certificate.found.context, "ssl_handshake_timeout": tls.patience, "ssl_shutdown_timeout": CLOSING}
        loop = asyncio.get_running_loop()
        protocol = self._make()
        task = loop.create_task(loop.connect_accepted_socket(lambda: protocol, connection, **options))
        self._tasks.add(task)
        task.add_done_callback(partial(self._arrived, protocol))

    def _arrived(self, protocol: asyncio.Protocol, task: "asyncio.Task[object]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error:  # a caller that is gone already, or speaks no TLS, is nobody's error
            protocol.connection_lost(ConnectionAbortedError())
        if isinstance(error, SSLError) and error.reason == "HTTP_REQUEST" and not self._plain_told:
            self._plain_told = True  # once: anybody can send one
            log.warning("A request came in plain HTTP, and this port speaks TLS: ask for it with https:// or wss://.")

    async def settle(self) -> None:
        """Take those who have connected, and no more; wait a moment for those who are about to come."""
        loop = asyncio.get_running_loop()
        while self._listeners:
            listener = self._listeners.pop()
            loop.remove_reader(listener)
            self._accept(listener, BACKLOG)  # closing it resets those who wait in it: many, where this process got no CPU
            listener.close()
        if self._tasks:
            await asyncio.wait([*self._tasks], timeout=LAST)
            for task in [*self._tasks]:
                task.cancel()
