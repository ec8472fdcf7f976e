"""How a connection writes and reads: an answer leaves in one piece, no more requests are read than are worked on, and the last
answer is not lost when the connection ends.

Knows nothing of HTTP.
"""

import asyncio
from collections.abc import Callable, Sized
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl

SLOWEST = 2**12  # bytes of a body in a second, on average: 32 MiB in two and a quarter hours
BRIEF = 2.0  # seconds that a caller who was told the last has to take notice of it
LONGEST = 300.0  # seconds that one has who goes on sending: 32 MiB at a megabit a second
MOST = 2**27  # bytes of that which are dropped


class Departures:
    """What is to be sent at the end of this round of the event loop: all of it in one callback."""

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
            except Exception as error:  # the others' is not lost for it
                asyncio.get_running_loop().call_exception_handler({"message": "An answer could not be sent.", "exception": error})


class Corked:
    """A transport whose writes leave together at the end of the loop's round: an answer's head and body in one packet.

    Before it is closed, `lingers` is asked whether that is for another to do, later.
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
        """What needs no company leaves in this round."""
        if self._held:
            self._held.append(data)
        elif not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        if self.lingers is None or not self.lingers():
            self._transport.close()

    def write_eof(self) -> None:
        """Say no more, where that can be said: with TLS, only `close` says goodbye."""
        self._flush()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def __getattr__(self, name: str) -> Any:
        """All the rest is the transport's own; found once."""
        found = self.__dict__[name] = getattr(self._transport, name)
        return found

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, []
            if not self._transport.is_closing():
                self._transport.writelines(held)


class Flow(FlowControl):
    """Does not read on while requests wait for the one before them: what a caller sends ahead would fill the memory.

    Nor while it is held.
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
    """The end of a connection whose caller may still be sending: what comes is dropped, in the place of `connection`.

    Closed at once, the system would answer what comes with a reset, and the caller lose the last answer: RFC 9112, section 9.6.
    `check` is to be called now and then; durations in seconds.
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
        """Come to the end soon, whatever comes."""
        self._longest = min(self._longest, now - self._began + BRIEF)

    def check(self, now: float) -> None:
        """Close what has fallen silent, or takes too long."""
        if self._new:
            self._heard, self._new = now, False
        taken = now - self._began
        if now - self._heard > BRIEF or taken > min(self._longest, BRIEF + self._dropped / SLOWEST):
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)


def forget_frames(*errors: BaseException | None) -> None:
    """Those that the errors went through, and those of what they came of."""
    for each in errors:
        error = each
        while error is not None:
            error.__traceback__, error = None, error.__cause__ or error.__context__
