"""How a connection writes and reads: an answer leaves in one piece, no more requests are read than are worked on, and the last
answer is not lost when the connection ends.

Knows nothing of HTTP.
"""

import asyncio
from collections.abc import Callable, Sized
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl

SLOWEST = 2**12  # bytes a second, the least on average for a body: 32 MiB in two and a quarter hours
BRIEF = 2.0  # seconds that a client has to react to its last answer
LONGEST = 300.0  # seconds for a client that goes on sending after its last answer: 32 MiB at a megabit a second
MOST = 2**27  # bytes of that which are dropped; then the connection is closed


class Departures:
    """The writes for the end of this round of the event loop: all of them in one callback."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []

    def add(self, leave: Callable[[], None]) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._leave)
        self._waiting.append(leave)

    def _leave(self) -> None:
        waiting, self._waiting = self._waiting, []
        for leave in waiting:
            try:
                leave()
            except Exception as error:  # the other answers must not be lost for it
                asyncio.get_running_loop().call_exception_handler({"message": "An answer could not be sent.", "exception": error})


class Corked:
    """A transport whose writes leave together at the end of the loop's round: an answer's head and body in one packet.

    `close` asks `lingers` first: if that returns True, the connection is closed later, by somebody else.
    """

    def __init__(self, transport: asyncio.Transport, departures: Departures) -> None:
        self._transport = transport
        self._departures = departures
        self.lingers: Callable[[], bool] | None = None
        self._held: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._held:
            self._departures.add(self._flush)
        self._held.append(data)

    def write_at_once(self, data: bytes) -> None:
        """Write now; but if earlier writes are waiting, add to them, to keep the order."""
        if self._held:
            self._held.append(data)
        elif not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        if self.lingers is None or not self.lingers():
            self._transport.close()

    def write_eof(self) -> None:
        """End the sending side, if the transport can: with TLS, only `close` ends it."""
        self._flush()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def __getattr__(self, name: str) -> Any:
        """All other attributes are the transport's own; each is looked up once."""
        found = self.__dict__[name] = getattr(self._transport, name)
        return found

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, []
            if not self._transport.is_closing():
                self._transport.writelines(held)


class Flow(FlowControl):
    """Does not read on while requests wait for an earlier one: what a client sends ahead would fill the memory.

    Does not read on between `hold` and `let_go` either.
    """

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting
        self.held = False

    def resume_reading(self) -> None:
        if self.read_paused and not self._waiting:
            if not self.held:
                super().resume_reading()
            self.read_paused = False

    def hold(self) -> None:
        self.held = True
        if not self.read_paused:
            self._transport.pause_reading()

    def let_go(self) -> None:
        self.held = False
        if not self.read_paused:
            self._transport.resume_reading()


class Lingering(asyncio.Protocol):
    """The end of a connection whose client may still be sending: takes the place of `connection`, and drops the bytes that come.

    If the connection were closed at once, the system would answer those bytes with a reset, and the client would lose the last
    answer: RFC 9112, section 9.6. Call `check` about once a second; durations in seconds.
    """

    def __init__(self, connection: asyncio.Protocol, transport: Corked, now: float, *, longest: float) -> None:
        self._connection = connection
        self._transport = transport
        self._began = self._heard = now
        self._longest = longest
        self._dropped, self._new = 0, False  # bytes, and whether some came since the last look
        transport.write_eof()
        transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        self._dropped += len(data)
        self._new = True
        if self._dropped > MOST:
            self._transport.close()

    def hurry(self, now: float) -> None:
        """Close in about `BRIEF` seconds at most, whatever comes."""
        self._longest = min(self._longest, now - self._began + BRIEF)

    def check(self, now: float) -> None:
        """Close the connection if the client is silent or takes too long."""
        if self._new:
            self._heard, self._new = now, False
        taken = now - self._began
        if now - self._heard > BRIEF or taken > min(self._longest, BRIEF + self._dropped / SLOWEST):
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)


def forget_frames(*errors: BaseException | None) -> None:
    """Drop the stack frames that the errors, and the errors that caused them, hold in their tracebacks."""
    for each in errors:
        error = each
        while error is not None:
            error.__traceback__, error = None, error.__cause__ or error.__context__
