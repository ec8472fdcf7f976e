"""How a connection ends: its caller is told which answer is the last, and that answer is not lost on its way.

Owns which request is the last, and what is still read after its answer. Knows nothing of timeouts.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.errors import RecurveError
from app.parsing import ParsingProtocol
from app.terms import Terms
from app.transport import BRIEF, LONGEST, Corked, Lingering
from app.wire import end_unasked, refusal

LINGER = 0.1  # seconds until a connection is closed that rests when the service stops: its next request may have been sent


class EndingProtocol(ParsingProtocol):
    """Tells the application, and `lost`, as soon as the connection is lost."""

    def __init__(self, *arguments: Any, terms: Terms, lost: Callable[[], None], leaving: bool, **more: Any) -> None:
        super().__init__(*arguments, max_head_bytes=terms.max_head_bytes, **more)
        self._terms = terms
        self._lost = lost
        self._last = leaving  # its next answer is the last
        self._ending = False  # it takes one more request at most, if that is on its way
        self._leaving: set[Callable[[], None]] = set()
        self._full = self._over = False  # one too many; refused, or answered for the last time
        self._deaf = False  # what comes is not read, but what came before it is answered
        self._corked: Corked = None  # type: ignore[assignment]  # as uvicorn's own transport: there is none yet
        self._lingering: Lingering | None = None  # what is left of it

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        self._corked = Corked(transport, self._terms.departures)
        self._corked.lingers = self._lingers
        super().connection_made(self._corked)  # type: ignore[arg-type]  # a transport in all but its class

    def _listens(self) -> bool:
        return super()._listens() and not self._over and not self._deaf

    def _rests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        super()._start_asgi_task(cycle, _asking(cycle, app) if cycle.waiting_for_100_continue else app)

    def leave(self) -> None:
        """Say with the next answer that it is the last, so that its caller goes elsewhere."""
        self._last = True
        if self.cycle is not None:
            self.cycle.keep_alive = False  # no effect on one that is answered already

    def shutdown(self) -> None:
        """Answer what has come, and end; a request that is on its way is not cut off."""
        self.leave()
        self._ending = True
        if self._lingering is not None:
            self._lingering.hurry(self.loop.time())
        elif self._rests():
            self.loop.call_later(LINGER, self._end)

    def _end(self, *, patient: bool = True) -> None:
        if self._over or not self._rests():
            return
        if patient and self._came == "head":
            self.loop.call_later(BRIEF, partial(self._end, patient=False))
        else:
            self.transport.close()

    def _refuse(self, error: RecurveError) -> None:
        """Answer what has not come in whole, where that is still possible, and read no more."""
        self._terms.refused(error.code)
        cycle, reading = self.cycle, self._came == "body"
        if not self._rests() and (not reading or self.pipeline):
            self._deaf = True  # others are under way, and have come in whole
            if reading:
                self.pipeline.popleft()
            return
        if not reading or not (self._rests() or cycle.response_started):  # else it has its answer
            scope: dict[str, Any] | None = {**self.scope} if reading else None
            self.transport.write(refusal(error, scope, self.server_state.default_headers, self._terms.ids))
        if reading:
            cycle.disconnected = True  # for the application, its caller has gone
            cycle.message_event.set()
            for tell in [*self._leaving]:
                tell()
        self._linger()

    def _lingers(self) -> bool:
        """Whether this connection ends later, because more may come than was read before its last answer."""
        read = self._came in ("nothing yet", "all") and not self._deaf and not self._kept and not self.flow.read_paused
        if self._over or read or self.transport.is_closing():
            return False
        self._linger()
        return True

    def _linger(self) -> None:
        """Say no more, and read no more as requests."""
        self._over = True
        self._kept = b""
        self.pipeline.clear()
        self.flow.resume_reading()
        brief = self._full or self._ending  # others wait for its place
        self._lingering = Lingering(self, self._corked, self.loop.time(), longest=BRIEF if brief else LONGEST)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for tell in [*self._leaving]:
            tell()
        self._forget()
        self._lost()

    def _forget(self) -> None:
        """Let go of the requests, which hold this connection: else all of it stays until garbage is collected."""
        self.cycle, self.scope = None, {}  # type: ignore[assignment, typeddict-item]  # as before the first
        self.pipeline.clear()
        self._kept = b""
        self._lingering = None  # and so do these
        if self.transport is not None:
            self._corked.lingers = None


def _asking(cycle: RequestResponseCycle, app: Any) -> Any:
    """`app`, for a request whose caller waits to be asked for the body: answered instead, he is told that it is the end."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_last(message: Message) -> None:
            end_unasked(cycle)  # no effect once the answer has begun
            await send(message)

        await app(scope, receive, send_last)

    return run
