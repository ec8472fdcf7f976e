"""Uvicorn's WebSocket as this service needs it: limits what comes in, reports a lost connection, closes in order.

Owns the connection, and a faster way to read short messages. Knows nothing of streams.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn import Config
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame, apply_mask  # type: ignore[attr-defined]  # in C, or else in Python
from websockets.protocol import OPEN

from app.errors import TooManyBytes
from app.http import frames
from app.http.ahead import MOST, Ahead, compact
from app.http.extensions import ON_DISCONNECT, STOPPING, WAITING
from app.http.frames import BINARY, CLOSE, MASKED, NO_TEXT, SINGLE, TRY_AGAIN
from app.http.terms import Terms
from app.http.transport import LONGEST, forget_frames

FRAMES = 2**8  # that are read of one connection in one turn of the event loop: then others have theirs
SHORT = 2**16 - 1  # bytes of the longest message that is read here
UNREADABLE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
CLOSING = 2.0  # seconds for a client to answer the close


class WebSocket(WebSocketsSansIOProtocol):
    """Takes a few messages ahead, and then no more until they are answered.

    `app` answers the messages; `lost` is called when the connection has ended.
    """

    def __init__(self, config: Config, state: ServerState, *, app: Any, terms: Terms, lost: Callable[[], None]) -> None:
        super().__init__(config, state, {})
        self._terms = terms
        self._ahead = Ahead(terms.room, self.conn)
        self._held = b""  # bytes not read yet: the beginning of a frame's head, or frames that have to wait
        self._left = FRAMES  # frames that may still be read in this turn of the event loop
        self._renewal: asyncio.Handle | None = None  # sets `_left` back in the next turn
        self._rest = 0  # bytes still to come of a frame that the library has begun to read
        self._pongs = b""  # sent when the client reads again
        self._short = min(SHORT, config.ws_max_size)
        self._lost = lost
        self._app = app
        self.app = self._answer
        self._leaving: set[Callable[[], None]] = set()
        self._ends = 0.0  # the loop's time by which it is closed after an error; 0: there was none

    async def receive(self) -> Any:
        """The next message; makes room for another. Uvicorn's own method knows nothing of `_held` and `_ahead`."""
        self._ahead.answered()
        return self._taken(await self.queue.get())

    def _next_waiting(self) -> Any:
        """The next message, as `receive` would return it, or None if there is none yet."""
        if self.queue.empty():
            return None
        return self._taken(self.queue.get_nowait())

    def _taken(self, message: Any) -> Any:
        self._ahead.take(message)
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            self._read_on()
        return message

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)
        if self.initial_response is not None:
            self.handshake_complete = True  # it was refused: that completes it too

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):  # the handshake was valid
            self.scope["extensions"][WAITING] = self._next_waiting  # type: ignore[assignment]  # functions, not settings
            self.scope["extensions"][ON_DISCONNECT] = self._leaving  # type: ignore[assignment]  # functions, not settings

    def data_received(self, data: bytes) -> None:
        if self.handshake_complete:
            self._held += data
            self._read()
        elif self.handshake_initiated:  # but not answered
            self._held += data
            self.transport.pause_reading()
        else:
            super().data_received(data)
            if self.conn.handshake_exc is not None and not self.handshake_initiated:  # parsing.py knows no such head
                self.transport.write(UNREADABLE)
                self.transport.close()

    def _read(self) -> None:
        """Read the bytes that have arrived, as far as is allowed now; no more are taken before that is done.

        Most messages are one short frame: those are read here, in fewer steps. The library reads everything else.
        """
        data, self._held = self._held, b""
        at = 0
        while at < len(data) and self._left and not self.read_paused and not self.transport.is_closing():
            if self._rest:
                part = data[at : at + self._rest]
                self._rest -= len(part)
                at += len(part)
                if self._ends:
                    self.handle_parser_exception()
                else:
                    super().data_received(part)
                continue
            begin, length = frames.find(data, at)
            if not begin:
                self._held = data[at:]
                break
            if self._ends and data[at] == CLOSE:  # the client's answer to our close
                self.transport.close()
                return
            self._left -= 1
            end = begin + length
            if data[at] in SINGLE and data[at + 1] & MASKED and end <= len(data) and length <= self._short and not self._parted():
                self.curr_msg_data_type = "bytes" if data[at] == BINARY else "text"
                self.frames = [apply_mask(data[begin:end], data[begin - 4 : begin])]
                self.send_receive_event_to_app()
                at = end
            else:
                self._rest = end - at
        else:
            if at < len(data) and not self.transport.is_closing():
                self._held = data[at:]
                self.transport.pause_reading()
        if not self._ahead.fit() and not self._ends:
            self._terms.refused(TooManyBytes.code)
            self.conn.fail(TRY_AGAIN, "the service has no room left for so many bytes; try again in a moment")
            self.frames, self.conn.current_size = [], None  # of a message that will not be complete
            self._ahead.fit()
            self.handle_parser_exception()
        if self._left <= FRAMES - MOST and self._renewal is None:  # not after every message
            self._renewal = self.loop.call_soon(self._renew)

    def _read_on(self) -> None:
        if self._left and not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()
            self._read()

    def _renew(self) -> None:
        self._renewal, self._left = None, FRAMES
        self._read_on()

    async def send(self, message: Any) -> None:
        payload = message.get("bytes")
        await self.writable.wait()
        if self.conn.close_sent is not None:  # after an error, of which the application does not know yet
            raise ClientDisconnected
        if payload is not None and self.conn.state is OPEN and not self.disconnected:
            self.transport.write(frames.head(len(payload)) + payload)
            return
        await super().send(message)
        if self.close_sent:
            self.loop.call_later(CLOSING, self.transport.abort)  # nothing more is sent
        if self._held and self.handshake_complete:
            self._read_on()  # bytes from before the handshake was answered; or the answer to the close

    def _parted(self) -> bool:
        """Whether a message of several frames is incomplete, or the connection is closing after an error."""
        return self.conn.current_size is not None or self._ends > 0

    def handle_cont(self, event: Frame) -> None:
        super().handle_cont(event)
        self.frames = compact(self.frames)

    def send_receive_event_to_app(self) -> None:
        """Queue a whole message. A text that is not UTF-8 closes the connection, by RFC 6455 (8.1); that is not logged."""
        data, self.frames = b"".join(self.frames), []
        if self.close_sent:  # the application will not ask for it
            return
        if self.curr_msg_data_type == "text":
            try:
                self.queue.put_nowait({"type": "websocket.receive", "text": data.decode()})
            except UnicodeDecodeError:
                self.conn.send_close(NO_TEXT, "a text message must be UTF-8")
                self.handle_parser_exception()
                return
        else:
            self.queue.put_nowait({"type": "websocket.receive", "bytes": data})
        self._ahead.put(len(data))
        if not self.read_paused and (self.queue.qsize() >= MOST or self._ahead.full):
            self.read_paused = True
            self.transport.pause_reading()

    def handle_ping(self) -> None:
        """Answer a ping. A client that does not read is answered only its last one, as RFC 6455 (5.5.3) allows, to save memory."""
        pongs = b"".join(self.conn.data_to_send())
        if self.writable.is_set():
            self.transport.write(pongs)
        else:
            self._pongs = pongs or self._pongs

    def resume_writing(self) -> None:
        super().resume_writing()
        pongs, self._pongs = self._pongs, b""
        if pongs and not self.transport.is_closing():
            self.transport.write(pongs)

    def keepalive_timeout(self) -> None:
        """End the connection: a ping was not answered. Wait if the answer may be behind messages that are not read yet."""
        if self.read_paused and self.writable.is_set() and self.ping_timeout is not None:
            self.pong_timer = self.loop.call_later(self.ping_timeout, self.keepalive_timeout)
            return
        super().keepalive_timeout()
        self.transport.abort()  # `close` would wait until the client reads

    def handle_parser_exception(self) -> None:
        """Send the reason for the close, then drop what comes: an immediate close would be a reset, and the reason be lost."""
        if self.close_timer is not None:
            self.close_timer.cancel()
        elif (end := self.conn.close_sent) is not None:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": end.code, "reason": end.reason})
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent, self._ends = True, self.loop.time() + LONGEST
        self.close_timer = self.loop.call_at(min(self._ends, self.loop.time() + CLOSING), self.transport.close)

    def shutdown(self) -> None:
        """Have the application answer what has arrived, and then close. Only a client that does not read is cut off."""
        if hasattr(self, "scope") and self.initial_response is None and not self.close_sent:  # its handshake may be under way
            self.stop_keepalive()
            self.loop.call_later(CLOSING, self._give_up)
            self.queue.put_nowait({"type": STOPPING})  # type: ignore[arg-type,misc]  # a message of our own
        else:
            super().shutdown()

    def _give_up(self) -> None:
        if not self.writable.is_set():
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for tell in [*self._leaving]:
            tell()
        self._ahead.close()
        self._let_go()
        self._lost()

    def _let_go(self) -> None:
        """Break the reference cycles: else all of it stays in memory until the garbage collector runs."""
        self.app = self._app
        if hasattr(self, "scope"):
            self.scope["extensions"].pop(WAITING, None)
        self.conn.parser.close()
        forget_frames(self.conn.handshake_exc, self.conn.parser_exc)
