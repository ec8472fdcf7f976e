"""WS /streams/{id}/ws and /streams/ws: a stream over one connection, a message for each chunk.

Owns the messages and what the close codes mean. Binary messages are float32, text is JSON; each is answered in its kind, in
order. Knows nothing of how streams are kept, nor of frames.
"""

from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from app.api import problems, schemas
from app.api.caller import Caller
from app.api.chunks import Decoder
from app.api.problems import Answer
from app.api.streams import Streams
from app.codecs import json, octets
from app.errors import Forbidden, RecurveError
from app.manifest import ModelSpec
from app.metrics import StreamMetrics
from app.sockets import STOPPING
from app.stream_service import StreamService
from app.streams import Chunk, Stream

NEW = "/streams/ws"
LONGEST_REASON = 123  # bytes, of a close frame
# What the close codes of RFC 6455 say; every other status is told as 4000 + status.
CODES = {413: 1009, 500: 1011, 503: 1013}
RESTART = 1012


@dataclass(slots=True)
class Connection:
    """What is so for every message of one connection."""

    id: str
    next: int | None  # the number of the next chunk; None: the caller does not count
    return_sequences: bool

    def complete(self, chunk: Chunk) -> Chunk:
        """The chunk with what was not said of it."""
        seq = self.next if chunk.seq is None else chunk.seq
        return Chunk(chunk.steps, seq, chunk.return_sequences and self.return_sequences)


class Live:
    """Answers WebSockets."""

    def __init__(self, streams: StreamService, opening: Streams, decoder: Decoder, metrics: StreamMetrics) -> None:
        self._streams = streams
        self._opening = opening
        self._decoder = decoder
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        path = scope["path"].split("/")
        if scope["path"] != NEW and not (len(path) == 4 and path[1] == "streams" and path[3] == "ws"):
            await _reject(send, problems.of(scope, HTTPException(404, "There is no WebSocket here.")))
            return
        if not _same_origin(scope):
            await _reject(send, problems.of(scope, Forbidden("The page that asks is of another origin than the service.")))
            return
        self._metrics.connections.inc()
        try:
            with Caller(scope) as caller:
                await self._serve(scope, receive, send, caller)
        except ClientDisconnect:
            pass  # what was applied is answered when it comes again
        finally:
            self._metrics.connections.dec()

    async def _serve(self, scope: Scope, receive: Receive, send: Send, caller: Caller) -> None:
        accepted = False
        try:
            query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
            if scope["path"] == NEW:
                options: schemas.Attach = (opening := schemas.read(schemas.Open, query))
                stream = await self._opening.create(opening)
            else:
                options = schemas.read(schemas.Attach, query)
                stream = await self._streams.find(scope["path"].split("/")[2])
            await send({"type": "websocket.accept", "headers": _headers(scope, stream)})
            accepted = True
            connection = Connection(stream.id, options.seq, options.return_sequences)
            while (message := await receive())["type"] != "websocket.disconnect":
                if message["type"] == STOPPING:
                    await _close(send, RESTART, "the service stops; connect again and go on where it was")
                    return
                await send(await self._answer(connection, message, caller))
        except RecurveError as error:
            if not accepted:  # so that the reason gets to browsers too, which show nothing of a failed handshake
                await send({"type": "websocket.accept", "headers": []})
            told = problems.of(scope, error)
            await send({"type": "websocket.send", "text": told.body.decode()})
            await _close(send, CODES.get(told.status, 4000 + told.status), error.detail)

    async def _answer(self, connection: Connection, message: Message, caller: Caller) -> Message:
        data, text = message.get("bytes"), message.get("text")

        async def decode(spec: ModelSpec) -> Chunk:
            if data is not None:
                chunk = self._decoder.from_octets(data, (), spec)
            else:
                assert text is not None
                chunk = await self._decoder.from_json(text.encode(), spec)
            return connection.complete(chunk)

        answer, chunk, _ = await self._streams.predict(connection.id, decode, caller)
        if chunk.seq is not None:
            connection.next = answer.seq
        if data is not None:
            return {"type": "websocket.send", "bytes": octets.encode(answer.output, chunk)}
        return {"type": "websocket.send", "text": json.encode_chunk(answer, chunk, id=connection.id).decode()}


def _headers(scope: Scope, stream: Stream) -> list[tuple[bytes, bytes]]:
    """What the handshake tells of the stream."""
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


def _same_origin(scope: Scope) -> bool:
    """Whether it is not a page of somewhere else that asks: a browser would let it, WebSockets know no CORS."""
    headers = dict(scope["headers"])
    origin = headers.get(b"origin")
    return origin is None or urlsplit(origin).netloc == headers.get(b"host")


async def _reject(send: Send, answer: Answer) -> None:
    await send({"type": "websocket.http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "websocket.http.response.body", "body": answer.body})


async def _close(send: Send, code: int, reason: str) -> None:
    short = reason.encode()[:LONGEST_REASON].decode(errors="ignore")
    await send({"type": "websocket.close", "code": code, "reason": short})
