"""One HTTP connection: its size, its time and the number of connections are limited, and it is closed in order.

Owns when a client's bytes are read, how long a request may take, the answer to a request beyond a limit, and the close, which does
not lose the last answer. Knows nothing of what is asked. A connection that becomes a WebSocket passes to websocket.py.
"""

import asyncio
from collections.abc import Callable
from enum import IntEnum
from functools import partial
from typing import Any

import uvicorn
from uvicorn.protocols.utils import get_local_addr
from uvicorn.server import ServerState

from app.errors import Draining, MalformedRequest, RecurveError, TooManyConnections
from app.http.calls import Calls
from app.http.extensions import Offer
from app.http.parsing import PIECES, Parser
from app.http.terms import Terms
from app.http.transport import BRIEF, LONGEST, Corked, Lingering
from app.http.websocket import WebSocket
from app.http.wire import refusal

SPARE = 64  # connections beyond the limit that are still read, to answer probes and tell other clients why they are refused
LINGER = 0.1  # seconds until an idle connection is closed when the service stops: its next request may be on its way


class Phase(IntEnum):
    """How far a connection has come; it never goes back."""

    COMING = 0  # mostly the TLS handshake
    READING = 1
    DEAF = 2  # new bytes are not read, but earlier requests are still answered
    LINGERING = 3  # refused, or answered for the last time: new bytes are dropped
    GONE = 4  # lost, or now a WebSocket


class Protocol(asyncio.Protocol):
    """Sends an answer in one piece. Tells the application, and `lost`, as soon as the connection is lost.

    Call `check` about once a second: that costs less than a timer for each request.
    """

    def __init__(
        self, config: uvicorn.Config, state: ServerState, *, offer: Offer, terms: Terms, lost: Callable[[], None], leaving: bool
    ) -> None:
        self._config, self._state, self._offer, self._terms, self._lost = config, state, offer, terms, lost
        self._leaving = leaving  # its next answer is the last
        self._ending = False  # it takes at most one more request, if that is already on its way
        self._phase = Phase.COMING
        self._loop = asyncio.get_running_loop()
        self._unread: tuple[int, float] | None = None  # bytes of answers that the client does not read, and since when
        self._kept = b""  # bytes not parsed yet
        self._lingering: Lingering | None = None  # ends the connection, in the phase of that name

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # it is always one
        self._phase = Phase.READING
        self._transport = Corked(transport, self._terms.departures)
        self._transport.lingers = self._lingers
        self._state.connections.add(self)  # type: ignore[arg-type]  # uvicorn calls nothing of it but `shutdown`
        app: Any = self._config.loaded_app
        beyond = len(self._state.connections) - self._terms.max_connections
        local = get_local_addr(transport)
        if local is not None and local[1] == self._terms.watch_port:
            beyond -= SPARE  # a crowd on the other port must not close this one
            app = self._terms.watch
        elif beyond > 0:
            app = self._terms.full
            if beyond > SPARE:
                self._terms.refused(TooManyConnections.code)
        if beyond > SPARE:
            transport.abort()
        self._full = app is self._terms.full  # one beyond the limit
        offer = self._offer if app is self._config.loaded_app else lambda _: None
        self._calls = Calls(self._transport, self._state, app, offer, answered=self._answered, leaving=self._leaving)
        self._flow = self._calls.flow
        self._parser = Parser(self._calls, self._terms.max_head_bytes, self._loop.time())

    def pause_writing(self) -> None:
        self._flow.pause_writing()

    def resume_writing(self) -> None:
        self._flow.resume_writing()

    def data_received(self, data: bytes) -> None:
        calls, parser = self._calls, self._parser
        parser.heard = self._loop.time()
        new = parser.came in ("nothing yet", "all") and not self._kept
        if new and calls.begin_again(data):
            parser.loose = 0
            return
        calls.piece = data if new else b""
        self._kept += data
        self._parse_on()
        calls.piece = None

    def _parse_on(self) -> None:
        """Parse the bytes that have arrived, as far as is allowed now; called again when a request has been answered."""
        rest, self._kept = self._kept, b""
        if rest and self._phase is Phase.READING:
            try:
                rest = self._parser.parse(rest)
                if self._parser.handshake:
                    self._become_websocket(self._parser.handshake)
            except RecurveError as error:
                self._refuse(error)
        self._calls.begin()
        if rest and self._phase is Phase.READING:
            self._kept = rest
            if self._parser.pieces >= PIECES and not self._flow.held:
                self._flow.hold()
                self._loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._parser.pieces = 0
        self._flow.let_go()
        self._parse_on()

    def _become_websocket(self, handshake: bytes) -> None:
        if not self._calls.rest:
            raise MalformedRequest("A WebSocket cannot begin before the previous request is answered.")
        if self._ending:
            raise Draining("The service is shutting down and takes no new work.")
        self._state.connections.discard(self)
        successor = WebSocket(self._config, self._state, app=self._calls.app, terms=self._terms, lost=self._lost)
        successor.connection_made(self._transport)  # type: ignore[arg-type]  # a transport in all but its class
        successor.data_received(handshake)
        self._transport.set_protocol(successor)
        self._forget()

    def _answered(self) -> None:
        """Begin the next request, or stay idle. No timer for each answer: `check` ends what is idle for too long."""
        self._parser.ended = self._parser.heard = self._loop.time()
        if self._phase > Phase.DEAF or self._transport.is_closing():
            return
        if self._calls.waiting:
            self._calls.begin_waiting()
        elif self._phase is Phase.DEAF:
            self._transport.close()
            return
        if self._kept:
            self._parse_on()
        self._flow.resume_reading()

    def leave(self) -> None:
        """Mark the next answer as the last, so that the client goes to another server."""
        self._calls.leave()

    def shutdown(self) -> None:
        """Answer the requests that have arrived, and close; a request that is on its way is not cut off."""
        self._calls.leave()
        self._ending = True
        if self._lingering is not None:
            self._lingering.hurry(self._loop.time())
        elif self._calls.rest:
            self._loop.call_later(LINGER, self._end)

    def _end(self, *, patient: bool = True) -> None:
        if self._phase > Phase.DEAF or not self._calls.rest:
            return
        if patient and self._parser.came == "head":
            self._loop.call_later(BRIEF, partial(self._end, patient=False))
        else:
            self._transport.close()

    def _refuse(self, error: RecurveError) -> None:
        """Answer a request that has not arrived whole with `error`, if that is still possible, and read no more requests."""
        self._terms.refused(error.code)
        rest, reading = self._calls.rest, self._parser.came == "body"
        if not rest and (not reading or self._calls.waiting):
            self._phase = Phase.DEAF  # earlier requests have arrived whole and are being answered
            if reading:
                self._calls.waiting.popleft()
            return
        cycle = self._calls.cycle if reading else None
        if cycle is None or not cycle.response_started:  # else its answer has begun
            scope: Any = None if cycle is None else cycle.scope
            self._transport.write(refusal(error, scope, self._state.default_headers, self._terms.ids))
        if reading:
            self._calls.lose()
        self._linger()

    def _lingers(self) -> bool:
        """Linger, and return True, if the client may have sent more than was read before its last answer."""
        done = self._parser.came in ("nothing yet", "all") and not self._kept and not self._flow.read_paused
        if self._phase > Phase.DEAF or (done and self._phase is Phase.READING) or self._transport.is_closing():
            return False
        self._linger()
        return True

    def _linger(self) -> None:
        """Send no more, and drop the bytes that still come."""
        self._phase = Phase.LINGERING
        self._kept = b""
        self._calls.waiting.clear()
        self._flow.resume_reading()
        brief = self._full or self._ending  # other connections, or the stop, wait for its end
        self._lingering = Lingering(self, self._transport, self._loop.time(), longest=BRIEF if brief else LONGEST)

    def check(self, now: float) -> None:
        """End the connection if it has taken too long; `now` is the loop's time."""
        if self._phase is Phase.GONE:
            return
        unread = self._transport.get_write_buffer_size()
        if self._lingering is not None and not unread:
            self._lingering.check(now)
        elif self._phase is Phase.LINGERING or self._transport.is_closing() or self._flow.write_paused:
            if self._unread is None or unread != self._unread[0]:
                self._unread = unread, now
            elif now - self._unread[1] > self._terms.keep_alive:  # unread answers would stay in memory for ever
                self._transport.abort()
        else:
            self._unread = None
            if self._phase is Phase.READING:
                self._check_caller(now)

    def _check_caller(self, now: float) -> None:
        parser, rest, timeout = self._parser, self._calls.rest, self._terms.read_timeout
        if self._full and now - parser.began > BRIEF:
            self._transport.abort()
        elif parser.came == "nothing yet":
            if now - parser.began > timeout:
                self._transport.close()
        elif parser.came == "all":
            if rest and now - parser.ended > self._terms.keep_alive:
                self._transport.close()
        elif self._flow.read_paused or self._flow.held or (parser.came == "head" and not rest):
            parser.began = parser.heard = now  # the client is not the one that is slow
        elif slow := parser.too_slow(now, timeout):
            self._refuse(slow)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the signature is asyncio's
        self._state.connections.discard(self)
        if self._phase not in (Phase.COMING, Phase.GONE):
            self._flow.resume_writing()
            self._calls.lose()
            self._forget()
        self._lost()

    def _forget(self) -> None:
        """Break the reference cycles: else all of it stays in memory until the garbage collector runs."""
        self._phase = Phase.GONE
        self._kept = b""
        self._parser.close()
        self._calls.forget()
        self._transport.lingers = None
        self._lingering = None
