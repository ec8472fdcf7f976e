"""Uvicorn as this service needs it: one process that serves what it listens on, or what a supervisor hands it.

Owns what a signal does and how connections come in. Knows nothing of models or routes.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from math import ceil
from types import FrameType
from typing import Protocol as Interface

import uvicorn
from starlette.types import ASGIApp

from app.errors import TooManyConnections
from app.http.arrivals import Arrivals, Tls
from app.http.connection import SPARE, Protocol
from app.http.extensions import Offer
from app.http.terms import Terms
from app.processes.fleet import Fleet
from app.processes.sockets import CONNECTION, LEVEL, SUMMONS, url_of

log = logging.getLogger(__name__)

LOOK = 1.0  # seconds between two looks at all connections
SOME, SOON = 500, 0.02  # that are looked at together, in about a millisecond; seconds until the next
LATE = 1.0  # seconds that a worker gives its supervisor to end the delay
WRITING = 4  # seconds, for the last answers to reach their callers


class Drain(Interface):
    """What a server tells those who work for it when it stops."""

    def drain(self) -> None:
        """Be not ready any more, and go on."""

    def refuse(self) -> None:
        """Answer what waits with an error."""


class Server(uvicorn.Server):
    """Serves `app`; under a supervisor, the connections that come over `channel`, on which it reports how many are open and which
    order of the `fleet` is done.

    Requests are answered as a whole where `offer` says how. Its connections are held to the `terms`, and about once a second
    `connected` is told how many there are. Where it `hangs`, it reports no more, and is replaced. Stopping, it goes on for
    `drain_delay` seconds though `work` is not ready any more, lets it finish for `drain_timeout` seconds, then has it refuse what
    is left.
    """

    def __init__(
        self,
        app: ASGIApp,
        work: Drain,
        *,
        offer: Offer,
        drain_delay: float,
        drain_timeout: float,
        max_message_bytes: int,
        terms: Terms,
        connected: Callable[[int], None],
        hangs: Callable[[], bool],
        fleet: Fleet,
        tls: Tls | None = None,
        channel: socket.socket | None = None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                ws="none",  # connections are made here
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
        self._terms = terms
        self._connected = connected
        self._hangs = hangs
        self._work = work
        self._offer = offer
        self._drain_delay = drain_delay
        self._drain_timeout = drain_timeout
        self._channel = channel
        self._fleet = fleet
        if channel is not None:
            fleet.report = self._report
        self._looked_for: list[object] = []  # connections, in this round
        self._adopted = 0
        self._unfinished = b""  # a word that has come in part
        self._signals = 0
        self._leaving = False  # it is not ready any more
        self._refusing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tls = tls
        self._arrivals = Arrivals(
            self._protocol,
            tls,
            room=lambda: terms.max_connections + 2 * SPARE - len(self.server_state.connections),
            refused=lambda: terms.refused(TooManyConnections.code),
            gone=self._report,
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # the signature is uvicorn's
        """The first signal begins the delay, where there is one; the next ends it and stops in order, the one after that has what
        waits refused, the last ends at once.

        Not raised again afterwards, as uvicorn would: a clean stop exits with 0.
        """
        if sig == signal.SIGHUP and self._signals:  # a terminal that is closed may send it twice, and is in no hurry
            return
        self._signals += 1
        loop = self._loop
        if self._signals == 1 and self._drain_delay and not self.should_exit and loop is not None:
            self._leaving = True
            loop.call_soon_threadsafe(self._leave)  # not here: a signal comes between any two instructions
        elif self._signals == 1 or not self.should_exit:  # a supervisor's word may be heard before its signal
            self.should_exit = True
        elif not self._refusing and loop is not None:
            self._refusing = True
            loop.call_soon_threadsafe(self._work.refuse)
        else:
            self.force_exit = True

    def _leave(self) -> None:
        """Be not ready any more and go on, so that whoever sends requests here can notice; answers say that they are the last."""
        assert self._loop is not None
        log.info("Not ready any more: requests are still taken, for %g s.", self._drain_delay)
        self._work.drain()
        for connection in [*self.server_state.connections]:
            if isinstance(connection, Protocol):
                connection.leave()
        # A supervisor ends it by letting go of the channel, after the last connection; unless it was not the one who began it.
        self._loop.call_later(self._drain_delay + (0 if self._channel is None else LATE), self._stop)

    def _stop(self) -> None:
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        log.info("Stopping: what was accepted is finished, for up to %g s.", self._drain_timeout)
        self._work.drain()
        self._adopt_no_more()
        self._leaving = True
        late = asyncio.get_running_loop().call_later(self._drain_timeout, self._work.refuse)
        await self._arrivals.settle()
        await super().shutdown(sockets)
        late.cancel()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])  # uvicorn would have one TLS for all, no limits to handshakes, and reset who waits at the end
        self._loop = asyncio.get_running_loop()
        self._look()
        for listener in sockets or []:
            self._arrivals.listen(listener)
        if sockets:
            log.info("Ready on %s.", url_of(sockets[0], "http" if self._tls is None else "https"))
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
            self._arrivals.take(socket.socket(fileno=descriptor))
        return bool(data)

    def _adopt_no_more(self) -> None:
        """Take what has been handed over already; what comes now, the supervisor gives to another worker."""
        if self._channel is not None:
            while self._adopt():
                pass
            asyncio.get_running_loop().remove_reader(self._channel)
            with suppress(OSError):
                self._channel.shutdown(socket.SHUT_RD)

    def _report(self) -> None:
        """Tell the supervisor how many connections have come, how many are open or about to be, and which order is done."""
        if self._channel is not None and self.started and not self._hangs():
            with suppress(OSError):  # a supervisor that is gone needs no report
                open = len(self.server_state.connections) + len(self._arrivals)
                self._channel.send(b"%d:%d:%d\n" % (self._adopted, open, self._fleet.done))

    def _look(self) -> None:
        """Look at every connection, some at a time, and again in a while."""
        assert self._loop is not None
        terms, now = self._terms, self._loop.time()
        if not self._looked_for:
            self._looked_for = [*self.server_state.connections]
            self._connected(len(self._looked_for))
            self._report()  # or the supervisor would take this worker for one that hangs
        some, self._looked_for = self._looked_for[:SOME], self._looked_for[SOME:]
        try:
            for connection in some:
                if isinstance(connection, Protocol):
                    connection.check(now)
        finally:  # nothing else ends what takes too long
            pause = max(SOON, min(LOOK, terms.read_timeout / 4, terms.keep_alive / 4))
            self._loop.call_later(SOON if self._looked_for else pause, self._look)

    def _protocol(self) -> Protocol:
        return Protocol(
            self.config, self.server_state, offer=self._offer, terms=self._terms, lost=self._report, leaving=self._leaving
        )
