"""The bodies of requests and answers: read within a limit, decompressed, compressed.

Owns media types, sizes and compression, in both directions. Knows nothing of the formats inside.
"""

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from app.api.problems import Answer
from app.codecs import compression
from app.codecs.compression import Coding
from app.errors import MOST_SHOWN, InvalidRequest, TooLarge, TooManyBytes, UnsupportedMediaType
from app.http.ahead import Room

T = TypeVar("T")
Headers = dict[bytes, bytes]

JSON = "application/json"
OCTETS = "application/octet-stream"
LARGE = 2**20  # bytes; smaller bodies are decompressed, read or compressed in some milliseconds, if nothing is wrong with them
SEARCHED = 2**16  # bytes; to find out what is wrong with so many takes some milliseconds too
WORTH_PACKING = 2**10  # bytes
COUNTED = 2**14  # bytes; to count a smaller body that has arrived in one piece costs more than its memory is worth

_OCTETS = OCTETS.encode()
_JSON_AMONG = (JSON.encode(), b"application/*", b"*/*")  # what a client accepts JSON with, the nearest first
_QUALITY = re.compile(rb"0(\.\d{0,3})?|1(\.0{0,3})?")
JSON_ANSWER = [(b"content-type", JSON.encode())]
OCTETS_ANSWER = [(b"content-type", _OCTETS)]
CODINGS: dict[bytes, Coding] = {b"gzip": "gzip", b"x-gzip": "gzip", b"deflate": "deflate"}


class ReceivedBody:
    """A body that has already arrived, as ASGI's `receive`; code that knows this class reads `body` without awaiting."""

    __slots__ = ("body",)

    def __init__(self, body: bytes) -> None:
        self.body = body

    async def __call__(self) -> Message:
        return {"type": "http.request", "body": self.body, "more_body": False}


class _Hold:
    """What one request's body takes of the room for all bodies, until the task that answers the request is done."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._bytes = 0

    def more(self, size: int) -> None:
        """Take room for `size` more bytes; raises TooManyBytes if there is not enough."""
        room, task = self._room, asyncio.current_task()
        if size > room.left:
            raise TooManyBytes(f"The service has {room.left} bytes of room left for bodies: send it again in a moment.")
        if size and not self._bytes and task is not None:
            task.add_done_callback(self._free)
        room.left -= size
        self._bytes += size

    def _free(self, _: object) -> None:
        self._room.left += self._bytes


class Bodies:
    """Reads and writes bodies of `limit` bytes at most; `room` limits those of all requests that are not answered yet."""

    def __init__(self, limit: int, room: Room) -> None:
        self._limit = limit
        self._room = room
        self._least = min(COUNTED, limit + 1)  # bytes for which `at_hand` is not enough
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="codec")

    def at_hand(self, receive: Receive, headers: Headers) -> bytes | None:
        """The body, if it has arrived, is not compressed and is too small to be counted; None: use `read`."""
        if isinstance(receive, ReceivedBody) and b"content-encoding" not in headers and len(receive.body) < self._least:
            return receive.body
        return None

    async def read(self, receive: Receive, headers: Headers) -> bytes:
        """The whole body, decompressed. Raises ClientDisconnect, and TooLarge or TooManyBytes as soon as that is known."""
        hold = _Hold(self._room)
        if isinstance(receive, ReceivedBody):
            body = receive.body
            if len(body) > self._limit:
                raise TooLarge(f"The body has {len(body)} bytes; at most {self._limit} are accepted.")
            if len(body) >= COUNTED:
                hold.more(len(body))
        else:
            body = await _read(receive, headers, self._limit, hold)
        if b"content-encoding" in headers:
            body = await self._unpack(body, headers)
            hold.more(len(body))
        return body

    async def json(self, body: bytes, headers: Headers) -> Answer:
        """A JSON answer, compressed if that is worth it and the client accepts it."""
        return Answer(JSON_ANSWER, body) if b"accept-encoding" not in headers else await self.answer(body, headers, JSON_ANSWER)

    async def answer(self, body: bytes, headers: Headers, said: list[tuple[bytes, bytes]]) -> Answer:
        """An answer with the headers `said`, compressed if that is worth it and the client accepts it."""
        coding = _taken(headers) if len(body) >= WORTH_PACKING else None
        if coding is None:
            return Answer(said, body)
        packed = [*said, (b"content-encoding", coding.encode()), (b"vary", b"accept-encoding")]
        return Answer(packed, await self.call(len(body), lambda: compression.deflate(body, coding)))

    async def call(self, size: int, work: Callable[[], T], *, large: int = LARGE) -> T:
        """Do work on `size` bytes: here, or from `large` on in a thread, as it would hold up the event loop.

        A thread helps if the work is made of short steps, or releases the interpreter's lock, as zlib does. simdjson, orjson and
        json keep the lock: while one of them reads a body, or the piece that it is given, nothing else runs.
        """
        if size < large:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._aside, work)

    async def search(self, size: int, work: Callable[[], T]) -> T:
        """Find out what is wrong with `size` bytes: here, or in the thread of `call` if that takes long."""
        return await self.call(size, work, large=SEARCHED)

    async def _unpack(self, body: bytes, headers: Headers) -> bytes:
        encoding = headers[b"content-encoding"].strip().lower()
        if encoding == b"identity":
            return body
        if encoding not in CODINGS:
            shown = encoding.decode("latin-1")[:MOST_SHOWN]
            raise UnsupportedMediaType(f"The body may be encoded with gzip, deflate or not at all, got Content-Encoding: {shown}.")
        coding = CODINGS[encoding]
        if len(body) < LARGE < self._limit:  # the result is mostly small too: try here, instead of waiting for the thread
            try:
                return compression.inflate(body, LARGE, coding)
            except TooLarge:
                pass
        return await self.call(self._limit, lambda: compression.inflate(body, self._limit, coding))


def is_binary(headers: Headers) -> bool:
    """Whether the body is octets, not JSON. Raises UnsupportedMediaType for anything else."""
    given = headers.get(b"content-type", b"").decode("latin-1")
    if given not in (JSON, OCTETS):  # most clients send exactly one of these
        given = given.partition(";")[0].strip().lower()
    if given not in (JSON, OCTETS):
        raise _unsupported(given, f"{JSON} or {OCTETS}")
    return given == OCTETS


def check_json(headers: Headers) -> None:
    """Raise UnsupportedMediaType if the body is anything but JSON."""
    given = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    if given != JSON:
        raise _unsupported(given, JSON)


def misplaced() -> InvalidRequest:
    """The error for options in the query beside a JSON body."""
    return InvalidRequest.at("", f"with an {JSON} body the options go into the body, not the query")


def _unsupported(given: str, allowed: str) -> UnsupportedMediaType:
    return UnsupportedMediaType(
        f"The body must be {allowed}, got {given[:MOST_SHOWN] or 'no Content-Type'}: send 'Content-Type: {JSON}'."
    )


def _taken(headers: Headers) -> Coding | None:
    """The compression that the client accepts, gzip rather than deflate; None: no compression."""
    if b"accept-encoding" not in headers:
        return None
    taken = set()
    for coding in headers[b"accept-encoding"].split(b","):
        name, _, quality = coding.replace(b" ", b"").lower().partition(b";q=")
        if quality.strip(b"0.") or not quality:
            taken.add(name)
    return "gzip" if b"gzip" in taken else "deflate" if b"deflate" in taken else None


def content(schema: str, *, octets: bool = False) -> dict[str, Any]:
    """A body of this schema, for a route's OpenAPI description: as JSON, and with `octets` also as bytes."""
    described: dict[str, Any] = {JSON: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return described | {OCTETS: {"schema": {"type": "string", "format": "binary"}}} if octets else described


async def _read(receive: Receive, headers: Headers, limit: int, hold: _Hold) -> bytes:
    """The body as it arrived; raises TooLarge as soon as it is known to be too long."""
    declared = headers.get(b"content-length", b"").lstrip(b"0").decode("latin-1")
    if declared.isdecimal() and (len(declared) > 20 or int(declared) > limit):
        raise TooLarge(f"The body has {declared[:20]} bytes; at most {limit} are accepted.")
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"The body has more than {limit} bytes, the most that are accepted.")
        hold.more(len(chunk))
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks) if len(chunks) > 1 else chunk


def takes_octets(headers: Headers) -> bool:
    """Whether the answer is to be octets, instead of JSON: the client names them and does not prefer JSON (RFC 9110, 12.5.1)."""
    accepted = headers.get(b"accept", b"")
    if accepted == _OCTETS:  # most clients that want octets send exactly this
        return True
    accepted = accepted.lower()
    if _OCTETS not in accepted:
        return False
    qualities: dict[bytes, float] = {}
    for given in accepted.split(b","):
        kind, *parameters = (part.strip() for part in given.split(b";"))
        said = next((part[2:] for part in parameters if part.startswith(b"q=")), b"1")
        qualities[kind] = max(qualities.get(kind, 0.0), float(said) if _QUALITY.fullmatch(said) else 0.0)
    json = next((qualities[kind] for kind in _JSON_AMONG if kind in qualities), 0.0)
    return 0 < qualities.get(_OCTETS, 0.0) >= json
