"""WS /streams/{id}/ws and /streams/ws: a stream over one connection, a message for each chunk.

Owns the messages and the meaning of the close codes. Binary messages are float32, text messages are JSON; each is answered in its
own kind, in order. Knows nothing of how streams are stored, nor of frames.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import takewhile
from time import perf_counter
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from app.api import problems, schemas
from app.api.answered import Answered
from app.api.caller import Caller
from app.api.chunks import ChunkDecoder
from app.api.direct import reply_of, send_reply
from app.api.guard import PROTOCOL, Guard
from app.api.origins import HOST, is_foreign
from app.api.request_id import HEADER as REQUEST_ID
from app.api.streams import Streams
from app.codecs import json, octets
from app.errors import Forbidden, RateLimited, RecurveError, Unavailable
from app.http.extensions import STOPPING, WAITING
from app.manifest import ModelSpec
from app.metrics import Metrics
from app.streaming.bookmark import Bookmark
from app.streaming.service import StreamService
from app.streaming.streams import Chunk, ChunkAnswer, Stream

NEW = "/streams/ws"
ROUTE = "/streams/{id}/ws"  # the label under which the messages of both are counted
MOST_AT_ONCE = 32  # messages that run together
LONGEST_REASON = 123  # bytes, of a close frame
# The close codes of RFC 6455 for these statuses; every other status becomes 4000 + status.
CODES = {413: 1009, 500: 1011, 503: 1013}
RESTART = 1012


@dataclass(slots=True)
class Connection:
    """What holds for all messages of one connection."""

    id: str
    next: int | None  # the number of the next chunk; None: the connection was opened without ?seq, and counts nothing
    return_sequences: bool
    bookmark: Bookmark = field(default_factory=Bookmark)

    def complete(self, chunk: Chunk) -> Chunk:
        """The next chunk, with the connection's number and options where its message has none.

        A connection that counts goes on from the number that a message has. One that does not leaves a message without a number as
        it is: it may be taken for a chunk that another client sent, and would then never be done.
        """
        seq = chunk.seq
        if self.next is not None:
            seq = self.next if seq is None else seq
            self.next = seq + 1
        return Chunk(chunk.steps, seq, chunk.return_sequences and self.return_sequences)


class Live:
    """Answers WebSockets."""

    def __init__(self, streams: StreamService, opening: Streams, decoder: ChunkDecoder, *, guard: Guard, metrics: Metrics) -> None:
        self._guard = guard
        self._streams = streams
        self._opening = opening
        self._decoder = decoder
        self._metrics = metrics
        self._answered = Answered(metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        path = scope["path"].split("/")
        if scope["path"] != NEW and not (len(path) == 4 and path[1] == "streams" and path[3] == "ws"):
            await _reject(scope, HTTPException(404, "There is no WebSocket here."), send)
            return
        if is_foreign(dict(scope["headers"])):  # browsers do not apply CORS to WebSockets
            await _reject(scope, Forbidden(f"The request comes from a page of another origin; {HOST}."), send)
            return
        self._metrics.streams.connections.inc()
        try:
            with Caller(scope) as caller:
                await self._serve(scope, receive, send, caller)
        except ClientDisconnect:
            pass  # a chunk that was applied is answered if the client sends it again
        finally:
            self._metrics.streams.connections.dec()

    async def _serve(self, scope: Scope, receive: Receive, send: Send, caller: Caller) -> None:
        accepted, begin = False, perf_counter()
        try:
            query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
            if scope["path"] == NEW:
                options: schemas.Attach = (opening := schemas.read(schemas.Open, query))
                stream, _ = await self._opening.open(opening)
            else:
                options = schemas.read(schemas.Attach, query)
                stream = await self._streams.find(scope["path"].split("/")[2])
            await send(_accepted(scope, _headers(scope, stream)))
            accepted = True
            connection = Connection(stream.id, options.seq, options.return_sequences)
            waiting: Callable[[], Message | None] = scope["extensions"].get(WAITING, lambda: None)
            messages, allowed = [await receive()], 0
            while messages[0]["type"] == "websocket.receive":
                while len(messages) < MOST_AT_ONCE and (more := waiting()) is not None:
                    messages.append(more)
                begin = perf_counter()
                allowed = allowed or self._guard.allow(scope, len(messages))
                answers, spec = await self._answer(connection, messages[:allowed], caller)
                allowed -= len(answers)
                for answer in answers:
                    await send(answer)
                    self._answered.count(ROUTE, 200, perf_counter() - begin, model=(spec.name, spec.version))
                messages = messages[len(answers) :] or [await receive()]
            if messages[0]["type"] == STOPPING:
                await _close(send, RESTART, "the service is shutting down; reconnect and go on where you were")
        except (ClientDisconnect, OSError):  # the connection is lost
            raise
        except Exception as error:
            if not accepted:  # accept first: browsers would show no reason for a failed handshake
                await send(_accepted(scope, []))
            if isinstance(error, Unavailable | RateLimited):
                self._metrics.refused(error.code)
            told = problems.of(scope, error)
            self._answered.count(ROUTE, told.status, perf_counter() - begin, model=None)
            await send({"type": "websocket.send", "text": told.body.decode()})
            reason = error.detail if isinstance(error, RecurveError) and told.status != 500 else "the service failed on this"
            await _close(send, CODES.get(told.status, 4000 + told.status), reason)

    async def _answer(self, connection: Connection, messages: list[Message], caller: Caller) -> tuple[list[Message], ModelSpec]:
        """The answers to one or more of the first of these messages, which run together, and the model's spec."""
        given = list(takewhile(lambda message: message["type"] == "websocket.receive", messages))
        begin = connection.next

        def decoder(message: Message) -> Callable[[ModelSpec], Awaitable[Chunk]]:
            async def decode(spec: ModelSpec) -> Chunk:
                if message is given[0]:
                    connection.next = begin  # they may be decoded again, for another model
                data = message.get("bytes")
                if data is not None:
                    return connection.complete(self._decoder.from_octets(data, (), spec))
                return connection.complete(await self._decoder.from_json(message["text"].encode(), spec))

            return decode

        decoders = [decoder(message) for message in given]
        answered, model = await self._streams.predict(connection.id, decoders, caller, bookmark=connection.bookmark)
        if begin is not None:
            connection.next = answered[-1][0].seq
        return [_told(connection, model.spec, message, *each) for message, each in zip(given, answered, strict=False)], model.spec


def _told(connection: Connection, spec: ModelSpec, message: Message, answer: ChunkAnswer, chunk: Chunk) -> Message:
    """The answer in the kind of its message, binary or text."""
    if message.get("bytes") is not None:
        return {"type": "websocket.send", "bytes": octets.encode(answer.outputs, chunk, spec)}
    return {"type": "websocket.send", "text": json.encode_chunk(answer, chunk, spec, id=connection.id).decode()}


def _accepted(scope: Scope, headers: list[tuple[bytes, bytes]]) -> Message:
    """The message that accepts. A browser that offers subprotocols gives up unless one of them is chosen."""
    subprotocol = PROTOCOL if PROTOCOL in scope.get("subprotocols", ()) else None
    return {"type": "websocket.accept", "headers": headers, "subprotocol": subprotocol}


def _headers(scope: Scope, stream: Stream) -> list[tuple[bytes, bytes]]:
    """The headers by which the handshake describes the stream."""
    said = {
        "X-Request-ID": scope["state"]["request_id"],
        "Location": f"/streams/{stream.id}",
        "Recurve-Model": stream.model,
        "Recurve-Version": stream.version,
        "Recurve-Stream": stream.id,
        "Recurve-Seq": str(stream.seq),
        "Recurve-Steps": str(stream.steps),
    }
    return [(name.lower().encode(), value.encode()) for name, value in said.items()]


async def _reject(scope: Scope, error: Exception, send: Send) -> None:
    request_id = (REQUEST_ID, scope["state"]["request_id"].encode())
    await send_reply(scope, reply_of(problems.of(scope, error), request_id), send)


async def _close(send: Send, code: int, reason: str) -> None:
    short = reason.encode()[:LONGEST_REASON].decode(errors="ignore")
    await send({"type": "websocket.close", "code": code, "reason": short})
