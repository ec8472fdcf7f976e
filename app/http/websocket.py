"""Uvicorn's WebSocket as this service needs it: bounded on the way in, told when it is lost, closed in order.

Owns the connection, and the short way for short messages. Knows nothing of streams.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn import Config
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame, apply_mask  # type: ignore[attr-defined]  # the fast one, or the one that is always there
from websockets.protocol import OPEN

from app.errors import TooManyBytes
from app.http import frames
from app.http.ahead import MOST, Ahead, compact
from app.http.extensions import ON_DISCONNECT, STOPPING, WAITING
from app.http.frames import BINARY, CLOSE, MASKED, NO_TEXT, SINGLE, TRY_AGAIN
from app.http.terms import Terms
from app.http.transport import LONGEST, forget_frames

FRAMES = 2**8  # of one connection in one turn of the event loop: then it is the others'
SHORT = 2**16 - 1  # bytes of a message that is read here
UNREADABLE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
CLOSING = 2.0  # seconds for a caller to agree to the end


class WebSocket(WebSocketsSansIOProtocol):
    """Takes a few messages ahead and then no more until they are answered.

    `app` answers it; `lost` is called when the connection has ended.
    """

    def __init__(self, config: Config, state: ServerState, *, app: Any, terms: Terms, lost: Callable[[], None]) -> None:
        super().__init__(config, state, {})
        self._terms = terms
        self._ahead = Ahead(terms.room, self.conn)
        self._held = b""  # what is not read yet: the beginning of a frame's head, or what has to wait
        self._left = FRAMES  # that are read in this turn of the event loop
        self._renewal: asyncio.Handle | None = None  # of that, in the next
        self._rest = 0  # bytes of a frame that the library has begun to read
        self._pongs = b""  # that go out when the caller reads again
        self._short = min(SHORT, config.ws_max_size)
        self._lost = lost
        self._app = app
        self.app = self._answer
        self._leaving: set[Callable[[], None]] = set()
        self._ends = 0.0  # the loop's time, when it is over whatever comes

    async def receive(self) -> Any:
        """The next message, and room for another; uvicorn's own knows nothing of what is kept here."""
        self._ahead.answered()
        message = await self.queue.get()
        self._taken(message)
        return message

    def _next_waiting(self) -> Any:
        """The next message, as `receive` would give it, if there is one."""
        if self.queue.empty():
            return None
        message = self.queue.get_nowait()
        self._taken(message)
        return message

    def _taken(self, message: Any) -> None:
        self._ahead.take(message)
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            self._read_on()

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)
        if self.initial_response is not None:
            self.handshake_complete = True  # it was refused: that completes it too

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):  # it was a handshake
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
            if self.conn.handshake_exc is not None and not self.handshake_initiated:  # the library has its own limits for a head
                self.transport.write(UNREADABLE)
                self.transport.close()

    def _read(self) -> None:
        """Read what has come, as far as may be now; no more comes before that is done.

        Most messages are one short frame: those are read here, in fewer steps; all else by the library.
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
            if self._ends and data[at] == CLOSE:  # the answer to ours
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
            self.conn.send_close(TRY_AGAIN, "the service has no room left for so many bytes; try again in a moment")
            self.handle_parser_exception()
        if self._left <= FRAMES - MOST and self._renewal is None:  # not for each message
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
        if payload is None or not self.handshake_complete or self.close_sent or not self.writable.is_set():
            await super().send(message)
            if self.close_sent:
                self.loop.call_later(CLOSING, self.transport.abort)  # nothing more is said
            if self._held and self.handshake_complete:
                self._read_on()  # what came before the handshake was answered; or what may be the answer to the close
        elif self.conn.state is OPEN and not self.disconnected:
            self.transport.write(frames.head(len(payload)) + payload)
        else:
            raise ClientDisconnected

    def _parted(self) -> bool:
        """Whether a message is under way that comes in several frames, or one that could not be read has ended it all."""
        return self.conn.current_size is not None or self._ends > 0

    def handle_cont(self, event: Frame) -> None:
        super().handle_cont(event)
        self.frames = compact(self.frames)

    def send_receive_event_to_app(self) -> None:
        """A whole message. A text that is not UTF-8 ends the connection, by RFC 6455 (8.1): no defect, and nothing for the log."""
        data, self.frames = b"".join(self.frames), []
        if self.close_sent:  # nobody will ask for it
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
        """Who does not read is answered the last of his pings only, as RFC 6455 (5.5.3) allows: all would fill the memory."""
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
        """No answer to a ping: the end, unless it may stand behind messages that have not been read yet."""
        if self.read_paused and self.writable.is_set() and self.ping_timeout is not None:
            self.pong_timer = self.loop.call_later(self.ping_timeout, self.keepalive_timeout)
            return
        super().keepalive_timeout()
        self.transport.abort()  # `close` would wait for what the caller does not read

    def handle_parser_exception(self) -> None:
        """Say why it ends, and drop what is still on its way: closed at once, it would be reset, and its caller lose the reason."""
        if self.close_timer is not None:
            self.close_timer.cancel()
        elif (end := self.conn.close_sent) is not None:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": end.code, "reason": end.reason})
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent, self._ends = True, self.loop.time() + LONGEST
        self.close_timer = self.loop.call_at(min(self._ends, self.loop.time() + CLOSING), self.transport.close)

    def shutdown(self) -> None:
        """Have the application answer what it has and then close; it is not cut off, but for a caller who does not read."""
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
        """Of what holds this connection in turn: else all of it stays until garbage is collected."""
        self.app = self._app
        if hasattr(self, "scope"):
            self.scope["extensions"].pop(WAITING, None)
        self.conn.parser.close()
        forget_frames(self.conn.handshake_exc, self.conn.parser_exc)
