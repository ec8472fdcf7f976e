"""One HTTP connection: uvicorn's, bounded in what it may send, in how long it may take, and in how many there are.

Owns the time and the bytes that a caller has for a request, and the answer to one that takes more. Knows nothing of what is
asked; a connection that becomes a WebSocket is websocket.py's from then on.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from app.ending import EndingProtocol
from app.errors import Draining, MalformedRequest, TooManyConnections, TooSlow
from app.extensions import ANSWER, ON_DISCONNECT, Reply
from app.terms import Terms
from app.transport import BRIEF, SLOWEST, Flow
from app.websocket import WebSocket
from app.wire import complete

SPARE = 64  # connections beyond the limit that are heard, so that probes are answered and others told why not


class Protocol(EndingProtocol):
    """Sends an answer in one piece.

    `check` is to be called about once a second: that takes less than a timer for each request.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        terms: Terms,
        lost: Callable[[], None] = lambda: None,
        leaving: bool = False,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop, terms=terms, lost=lost, leaving=leaving)
        self._began = self._heard = self._rested = self.loop.time()  # this part; when something came last; when all was done
        self._unread: tuple[int, float] | None = None  # bytes of answers that the caller does not read, and since when

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self.flow = Flow(self.transport, self.pipeline)
        beyond = len(self.connections) - self._terms.max_connections
        if self.server is not None and self.server[1] == self._terms.watch_port:
            beyond -= SPARE  # a crowd elsewhere must not shut it
            self.app = self._terms.watch
            if beyond > SPARE:
                self.transport.abort()
        elif beyond > SPARE:
            self._terms.refused(TooManyConnections.code)
            self.transport.abort()
        elif beyond > 0:
            self._full = True
            self.app = self._terms.full
        self.ws_protocol_class = partial(WebSocket, app=self.app, lost=self._lost)  # type: ignore[assignment]  # makes one, as a class would

    def data_received(self, data: bytes) -> None:
        self._heard = self.loop.time()
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._began = self._heard

    def on_headers_complete(self) -> None:
        self.scope["extensions"] = {ON_DISCONNECT: self._leaving, ANSWER: self._answer}  # type: ignore[dict-item]  # functions
        before = self.cycle
        super().on_headers_complete()
        self._began = self._heard
        if self._last and self.cycle is not before:
            self.cycle.keep_alive = False
            if before is not None and not before.response_started:
                before.keep_alive = True  # it is not the last, after all

    def on_message_complete(self) -> None:
        self._rested = self._heard  # unless it is answered later
        super().on_message_complete()
        self.flow.resume_reading()  # paused for a large body; who does not read does not see a caller leave

    def on_response_complete(self) -> None:
        """Begin the next request, or rest: without uvicorn's timer for each answer, for `check` ends what rests for too long."""
        self.server_state.total_requests += 1
        self._heard = self._rested = self.loop.time()
        if not self._over and not self.transport.is_closing():
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
            elif self._deaf:
                self.transport.close()
                return
            self._parse_on()
            self.flow.resume_reading()

    def _answer(self, scope: Scope, reply: Reply) -> bool:
        """Send an answer at once; False where that cannot be: another request waits behind it, or the caller does not read."""
        cycle: RequestResponseCycle | None = self.cycle  # none when the connection is lost
        if cycle is None or cycle.scope is not scope or cycle.response_started or self.flow.write_paused:
            return False
        self._complete(cycle, reply)
        return True

    def _complete(self, cycle: RequestResponseCycle, reply: Reply) -> None:
        if not cycle.disconnected:
            together = len(self.tasks) > 1 and reply[0] < 400  # who is alone, or refused, does not wait for others
            complete(cycle, self._corked.write if together else self._corked.write_at_once, reply)

    def handle_websocket_upgrade(self) -> None:
        if not self._rests():
            self._refuse(MalformedRequest("A WebSocket cannot begin before the previous request is answered."))
        elif self._ending:
            self._refuse(Draining("The service is shutting down and takes no new work."))
        else:
            self._over = True  # for this protocol
            super().handle_websocket_upgrade()
            self.parser = None  # type: ignore[assignment]  # as uvicorn does at the end of a connection
            self._forget()

    def check(self, now: float) -> None:
        """End what has taken too long; `now` is the loop's time."""
        if self._over and self._lingering is None:
            return
        if self._lingering is not None and not self.transport.get_write_buffer_size():
            self._lingering.check(now)
            return
        if self._over or self.transport.is_closing() or self.flow.write_paused:
            self._check_reader(now)
            return
        self._unread = None
        if self._deaf:
            return
        timeout, taken, answered = self._terms.read_timeout, now - self._began, self._rests()
        if self._full and taken > BRIEF:
            self.transport.abort()
        elif self._came == "nothing yet":
            if taken > timeout:
                self.transport.close()
        elif self._came == "all":
            if answered and now - self._rested > self._terms.keep_alive:
                self.transport.close()
        elif self.flow.read_paused or self.flow.held or (self._came == "head" and not answered):
            self._began = self._heard = now  # it is not the caller who is slow
        elif self._came == "head":
            if taken > timeout:
                self._refuse(TooSlow(f"The head of the request was not complete after {timeout:g} s."))
        elif now - self._heard > timeout:
            self._refuse(TooSlow(f"No data arrived for {timeout:g} s, after {self._body} bytes of the body."))
        elif taken > timeout + self._body / SLOWEST:
            self._refuse(
                TooSlow(
                    f"The body arrived too slowly: {self._body} bytes in {taken:.0f} s, where {SLOWEST} a second are the least."
                )
            )

    def _check_reader(self, now: float) -> None:
        """End a connection whose caller does not read: answers would be kept for him for ever."""
        left = self.transport.get_write_buffer_size()
        if self._unread is None or left != self._unread[0]:
            self._unread = left, now
        elif now - self._unread[1] > self._terms.keep_alive:
            self.transport.abort()
