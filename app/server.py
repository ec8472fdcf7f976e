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
from typing import Protocol

import uvicorn
from starlette.types import ASGIApp

from app.sockets import url_of

log = logging.getLogger(__name__)

WRITING = 5  # seconds, for the last answers to reach their callers


class Drain(Protocol):
    """What a server tells those who work for it when it stops."""

    def drain(self) -> None:
        """Be not ready any more, and go on."""

    def refuse(self) -> None:
        """Answer what waits with an error."""


class Server(uvicorn.Server):
    """Serves `app`; under a supervisor, the connections that come over `channel`, where it says how many are open.

    Stopping, it lets `work` finish for `drain_timeout` seconds, then has it refuse what is left.
    """

    def __init__(self, app: ASGIApp, work: Drain, *, drain_timeout: float, channel: socket.socket | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
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
        self._adopted = 0
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
        self._adopted += len(data)  # one byte each, whether its descriptor could be taken or not
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
        """Tell the supervisor how many connections have come, and how many are open or about to be."""
        if self._channel is not None:
            with suppress(OSError):  # a supervisor that is gone needs no report
                self._channel.send(b"%d:%d\n" % (self._adopted, len(self.server_state.connections) + len(self._arriving)))

    def _protocol(self) -> asyncio.Protocol:
        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        protocol = make(config=self.config, server_state=self.server_state, app_state={})
        lost = protocol.connection_lost

        def connection_lost(error: Exception | None) -> None:
            lost(error)
            self._report()

        protocol.connection_lost = connection_lost  # type: ignore[assignment,method-assign]  # when a place is free again
        return protocol
