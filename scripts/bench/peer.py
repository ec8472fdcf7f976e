"""The connection of a good or bad client: whole requests, requests in pieces, and hanging up in the middle.

Owns HTTP/1.1 as far as such a client needs it. Knows nothing of what is asked.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from time import monotonic
from typing import Any, Self

import orjson

PATIENCE = 60.0  # seconds: longer than any deadline of the service
PAUSE = 0.05  # seconds between the pieces of a slow client
CUT_OFF = "cut off"
MOST_PIECE = 2**16  # bytes that a slow reader takes at a time


class NoAnswer(Exception):
    """The connection ended, or nothing came, before the answer was complete; the text says which."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass(slots=True)
class Peer:
    """One client's connection, opened when it is needed, and again after it was closed."""

    port: int
    sent: float = field(default=0.0, init=False)  # when the last request was sent whole, in monotonic seconds; infinite: not yet
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = field(default=None, init=False)
    _begun: bool = field(default=False, init=False)  # a part of the answer has arrived

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.leave()
        await asyncio.sleep(0)  # lets the event loop close the connection

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        """Send one request in one piece; NoAnswer if no whole answer comes."""
        return await self.send([request(method, path, body, **headers)])

    async def send(self, pieces: list[bytes], *, pause: float = 0.0, slow_reader: bool = False) -> Reply:
        """Send a request in pieces, `pause` seconds apart; NoAnswer if no whole answer comes.

        slow_reader: read the answer in small pieces, with pauses.
        """
        try:
            async with asyncio.timeout(PATIENCE + pause * len(pieces)):
                self._begun, self.sent = False, inf
                reader, writer = await self._open()
                for piece in pieces:
                    writer.write(piece)
                    if pause:
                        await asyncio.sleep(pause)
                self.sent = monotonic()
                return await self._read(reader, slow=slow_reader)
        except TimeoutError:
            problem = CUT_OFF if self._begun else "nothing came"
        except asyncio.IncompleteReadError as error:
            problem = CUT_OFF if error.partial or self._begun else "nothing came"
        except OSError as error:
            problem = CUT_OFF if self._begun else type(error).__name__
        self.leave()
        raise NoAnswer(problem)

    async def drop(self, data: bytes) -> None:
        """Send these bytes and hang up without waiting for an answer."""
        try:
            _, writer = await self._open()
            writer.write(data)
            await asyncio.wait_for(writer.drain(), PATIENCE)
        except (OSError, TimeoutError):
            pass  # it hangs up anyway
        self.leave()

    def leave(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port, limit=2**20)
        return self._streams

    async def _read(self, reader: asyncio.StreamReader, *, slow: bool) -> Reply:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self._begun = True
        pairs = (line.partition(":") for line in head[1:] if line)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        left, parts = int(headers.get("content-length", 0)), []
        while left:
            if slow:
                await asyncio.sleep(PAUSE / 5)
            parts.append(await reader.readexactly(min(left, MOST_PIECE) if slow else left))
            left -= len(parts[-1])
        if headers.get("connection", "").lower() == "close":
            self.leave()
        return Reply(int(head[0].split()[1]), headers, b"".join(parts))


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """The bytes of a request; headers have underscores for dashes. A content_length that is given is sent, even if wrong."""
    fields = {"host": "soak", "content_length": str(len(body)), **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body
