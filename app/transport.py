"""What a connection writes to, and when it is read from: answers in one piece, and not more requests than are worked on.

Knows nothing of HTTP.
"""

import asyncio
from collections.abc import Callable, Sized
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl


class Departures:
    """Whoever holds something back in one round of an event loop: all of it leaves when that is over, in one callback."""

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
    """A transport whose writes leave together at the end of the loop's round: an answer's head and body in one packet."""

    def __init__(self, transport: asyncio.Transport, departures: Departures) -> None:
        self._transport = transport
        self._departures = departures
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
        self._transport.close()

    def write_eof(self) -> None:
        self._flush()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()  # TLS says goodbye and reads on until the caller does

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
    """Does not read on while requests wait for the one before them: what a caller sends ahead would fill the memory."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if self.read_paused and not self._waiting:
            super().resume_reading()


class Refused(asyncio.Protocol):
    """What is left of a connection that was refused: what still comes is dropped, for else the answer would be lost on its way."""

    def __init__(self, connection: asyncio.Protocol) -> None:
        self._connection = connection

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)
