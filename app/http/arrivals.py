"""Accepts connections and does their TLS handshakes, before their first request.

Owns the sockets that this process listens on itself, how many handshakes there may be at once, and how long each may take. Knows
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

TOGETHER = 64  # connections that are accepted in one turn of the event loop
PAUSE = 1.0  # seconds without accepting, when no file descriptors are left
LAST = 1.0  # seconds that handshakes under way have to complete when the service stops
CLOSING = 2.0  # seconds for a client to answer the end of TLS


@dataclass(frozen=True, slots=True)
class Tls:
    """How connections are encrypted, except those to the port `plain`; `patience`: seconds for a handshake."""

    certificate: Watched[Certificate]
    patience: float
    plain: int | None = None


class Arrivals:
    """Gives each connection a protocol from `make`. The protocol is told when the connection is lost, even if the handshake failed.

    `room` returns how many connections may be arriving, beside the open ones. A connection beyond that is closed, and `refused` and
    `gone` are called.
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
        """Accept connections on `listener`, until `settle`."""
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
            except OSError:  # no file descriptors are left: to accept again at once would fail again
                loop = asyncio.get_running_loop()
                loop.remove_reader(listener)
                loop.call_later(PAUSE, self._listen_again, listener)
                return
            self.take(connection)

    def _listen_again(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def take(self, connection: socket.socket) -> None:
        """Serve this connection, after the handshake if it uses TLS."""
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
        if task.cancelled() or error:  # a client that has already gone, or speaks no TLS, is not worth a log line
            protocol.connection_lost(ConnectionAbortedError())
        if isinstance(error, SSLError) and error.reason == "HTTP_REQUEST" and not self._plain_told:
            self._plain_told = True  # logged once: anybody can send such requests
            log.warning("A request came in plain HTTP, and this port speaks TLS: ask for it with https:// or wss://.")

    async def settle(self) -> None:
        """Accept the connections in the backlog and no more; wait up to `LAST` seconds for handshakes under way."""
        loop = asyncio.get_running_loop()
        while self._listeners:
            listener = self._listeners.pop()
            loop.remove_reader(listener)
            self._accept(listener, BACKLOG)  # closing resets the connections in the backlog: many, if this process got no CPU
            listener.close()
        if self._tasks:
            await asyncio.wait([*self._tasks], timeout=LAST)
            for task in [*self._tasks]:
                task.cancel()
