"""Uvicorn as this service needs it: one process that serves connections it accepts itself or gets from a supervisor.

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

LOOK = 1.0  # seconds between two rounds of checks of all connections
SOME, SOON = 500, 0.02  # connections that are checked together, in about a millisecond; seconds until the next ones
LATE = 1.0  # seconds that a worker gives its supervisor, after the drain delay, to end that delay
WRITING = 4  # seconds for the last answers to reach their clients


class Drain(Interface):
    """What a server calls when it stops."""

    def drain(self) -> None:
        """Stop being ready, but go on serving."""

    def refuse(self) -> None:
        """Answer all waiting requests with an error."""


class Server(uvicorn.Server):
    """Serves `app`. Under a supervisor, it serves the connections that come over `channel`, and reports there how many are open and
    which order of the `fleet` is done.

    Requests are answered in one call where `offer` gives one. Connections are held to the `terms`; about once a second `connected`
    is told how many there are. When `hangs` returns True, the server reports no more, and the supervisor replaces it. To stop, it
    tells `work` to be not ready and goes on serving for `drain_delay` seconds, lets `work` finish for `drain_timeout` seconds, then
    has it refuse what is left.
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
                ws="none",  # connection.py makes them
                ws_max_size=max_message_bytes,
                ws_per_message_deflate=False,  # float32 hardly shrinks, and a compressor for each connection costs much memory
                lifespan="off",  # run by the caller, so that a bad artifact is reported by its reason, not a traceback
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
        self._looked_for: list[object] = []  # connections still to check in this round
        self._adopted = 0
        self._unfinished = b""  # a message from the supervisor that has arrived in part
        self._signals = 0
        self._leaving = False  # it is no longer ready
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
        """The first signal begins the drain delay, if there is one. The next ends the delay and stops in order, the one after that
        has waiting requests refused, and the last ends the process at once.

        Signals are not raised again afterwards, as uvicorn would do: a clean stop exits with 0.
        """
        if sig == signal.SIGHUP and self._signals:  # a terminal that is closed may send it twice: that must not hurry the stop
            return
        self._signals += 1
        loop = self._loop
        if self._signals == 1 and self._drain_delay and not self.should_exit and loop is not None:
            self._leaving = True
            loop.call_soon_threadsafe(self._leave)  # not here: a signal's handler runs between any two instructions
        elif self._signals == 1 or not self.should_exit:  # the supervisor's message may arrive before its signal
            self.should_exit = True
        elif not self._refusing and loop is not None:
            self._refusing = True
            loop.call_soon_threadsafe(self._work.refuse)
        else:
            self.force_exit = True

    def _leave(self) -> None:
        """Stop being ready but go on serving, so that load balancers can notice; answers say that they are the last."""
        assert self._loop is not None
        log.info("Not ready any more: requests are still taken, for %g s.", self._drain_delay)
        self._work.drain()
        for connection in [*self.server_state.connections]:
            if isinstance(connection, Protocol):
                connection.leave()
        # A supervisor that began the delay ends it by closing the channel, after the last connection. The timer is for a signal
        # that did not come from the supervisor.
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
        await super().startup([])  # uvicorn has one TLS for all, no limits on handshakes, and resets its backlog at the end
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
        """Take what the supervisor sends: connections and orders. Stop when it has closed the channel. False: nothing came."""
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
        self._adopted += data.count(CONNECTION)  # even if its descriptor could not be taken
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
        """Take the connections already handed over; the supervisor gives later ones to another worker."""
        if self._channel is not None:
            while self._adopt():
                pass
            asyncio.get_running_loop().remove_reader(self._channel)
            with suppress(OSError):
                self._channel.shutdown(socket.SHUT_RD)

    def _report(self) -> None:
        """Tell the supervisor how many connections were taken, how many are open or about to be, and which order is done."""
        if self._channel is not None and self.started and not self._hangs():
            with suppress(OSError):  # a supervisor that is gone needs no report
                open = len(self.server_state.connections) + len(self._arrivals)
                self._channel.send(b"%d:%d:%d\n" % (self._adopted, open, self._fleet.done))

    def _look(self) -> None:
        """Check every connection, some at a time, and schedule the next check."""
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
        finally:  # whatever fails, go on checking: nothing else ends slow connections
            pause = max(SOON, min(LOOK, terms.read_timeout / 4, terms.keep_alive / 4))
            self._loop.call_later(SOON if self._looked_for else pause, self._look)

    def _protocol(self) -> Protocol:
        return Protocol(
            self.config, self.server_state, offer=self._offer, terms=self._terms, lost=self._report, leaving=self._leaving
        )
