"""Uvicorn as this service needs it: one process that serves what it listens on, or what a supervisor hands it.

Owns what a signal does and how connections come in. Knows nothing of models or routes.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from math import ceil
from types import FrameType
from typing import Any
from typing import Protocol as Interface

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app import websocket
from app.fleet import Fleet
from app.sockets import CONNECTION, LEVEL, ON_DISCONNECT, SUMMONS, url_of

log = logging.getLogger(__name__)

WRITING = 5  # seconds, for the last answers to reach their callers


class Drain(Interface):
    """What a server tells those who work for it when it stops."""

    def drain(self) -> None:
        """Be not ready any more, and go on."""

    def refuse(self) -> None:
        """Answer what waits with an error."""


class Corked:
    """A transport whose writes leave together at the end of the loop's turn: an answer's head and body in one packet."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        """All the rest is the transport's own; found once."""
        found = self.__dict__[name] = getattr(self._transport, name)
        return found

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, []
            if not self._transport.is_closing():
                self._transport.writelines(held)


class Protocol(HttpToolsProtocol):
    """Sends an answer in one piece, and tells at once that a connection is lost: the application, and `lost`."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._lost = lost
        self._leaving: set[Callable[[], None]] = set()
        self.ws_protocol_class = websocket.protocol(lost)  # type: ignore[assignment]  # makes one, as a class would

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(Corked(transport, self.loop))  # type: ignore[arg-type]  # a transport in all but its class

    def on_headers_complete(self) -> None:
        self.scope["extensions"] = {ON_DISCONNECT: self._leaving}  # type: ignore[dict-item]  # functions, not settings
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if not self.pipeline:  # else it is paused so that no more requests come than are worked on
            self.flow.resume_reading()  # paused for a large body; who does not read does not see a caller leave

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for tell in [*self._leaving]:
            tell()
        self._lost()


class Server(uvicorn.Server):
    """Serves `app`; under a supervisor, the connections that come over `channel`, where it says how many are open, and how far
    it is with what was ordered of the `fleet`.

    Stopping, it lets `work` finish for `drain_timeout` seconds, then has it refuse what is left.
    """

    def __init__(
        self,
        app: ASGIApp,
        work: Drain,
        *,
        drain_timeout: float,
        max_message_bytes: int,
        fleet: Fleet,
        channel: socket.socket | None = None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Protocol,
                ws=websocket.WebSocket,
                ws_max_size=max_message_bytes,
                ws_per_message_deflate=False,  # float32 hardly shrinks, and a compressor for each connection costs much memory
                lifespan="off",  # the caller's, so that a bad artifact ends with its reason, not a traceback
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=ceil(drain_timeout) + WRITING,
            )
        )
        self._work = work
        self._drain_timeout = drain_timeout
        self._channel = channel
        self._fleet = fleet
        if channel is not None:
            fleet.report = self._report
        self._adopted = 0
        self._unfinished = b""  # a word that has come in part
        self._signals = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arriving: set[asyncio.Task[object]] = set()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # the signature is uvicorn's
        """The first signal stops in order, the second has what waits refused, the third ends at once.

        Not raised again afterwards, as uvicorn would: a clean stop exits with 0.
        """
        self._signals += 1
        self.should_exit = True
        self.force_exit = self._signals > 2
        if self._signals == 2 and self._loop is not None:
            self._loop.call_soon_threadsafe(self._work.refuse)  # not here: a signal comes between any two instructions

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        log.info("Stopping: what was accepted is finished, for up to %g s.", self._drain_timeout)
        self._work.drain()
        self._adopt_no_more()
        late = asyncio.get_running_loop().call_later(self._drain_timeout, self._work.refuse)
        await super().shutdown(sockets)
        late.cancel()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        if sockets:
            log.info("Ready on %s.", url_of(sockets[0]))
        if self._channel is not None:
            self._channel.setblocking(False)
            self._report()
            asyncio.get_running_loop().add_reader(self._channel, self._adopt)

    def _adopt(self) -> bool:
        """Serve the connections that the supervisor has accepted; end when it has. False when there are none now."""
        assert self._channel is not None
        loop = asyncio.get_running_loop()
        try:
            data, descriptors, *_ = socket.recv_fds(self._channel, 4096, 64)
        except BlockingIOError:
            return False
        except ConnectionError:
            data, descriptors = b"", []
        if not data:
            loop.remove_reader(self._channel)
            self.should_exit = True
        self._adopted += data.count(CONNECTION)  # whether its descriptor could be taken or not
        if SUMMONS in data:
            self._fleet.summon()
        *lines, self._unfinished = (self._unfinished + data).split(b"\n")
        for line in lines:
            self._fleet.level(int(line.rpartition(LEVEL)[2]))
        if LEVEL not in self._unfinished:
            self._unfinished = b""
        for descriptor in descriptors:
            connection = socket.socket(fileno=descriptor)
            connection.setblocking(False)
            task = loop.create_task(loop.connect_accepted_socket(self._protocol, connection))
            self._arriving.add(task)
            task.add_done_callback(self._arrived)
        return bool(data)

    def _adopt_no_more(self) -> None:
        """Take what has been handed over already; what comes now, the supervisor gives to another worker."""
        if self._channel is not None:
            while self._adopt():
                pass
            asyncio.get_running_loop().remove_reader(self._channel)
            with suppress(OSError):
                self._channel.shutdown(socket.SHUT_RD)

    def _arrived(self, task: "asyncio.Task[object]") -> None:
        self._arriving.discard(task)
        if task.cancelled() or task.exception():  # a caller that is gone already is nobody's error
            self._report()

    def _report(self) -> None:
        """Tell the supervisor how many connections have come, how many are open or about to be, and which order is done."""
        if self._channel is not None and self.started:
            with suppress(OSError):  # a supervisor that is gone needs no report
                open = len(self.server_state.connections) + len(self._arriving)
                self._channel.send(b"%d:%d:%d\n" % (self._adopted, open, self._fleet.done))

    def _protocol(self) -> asyncio.Protocol:
        return Protocol(config=self.config, server_state=self.server_state, app_state={}, lost=self._report)
