"""gzip and deflate, in both directions; decompression stops as soon as a body exceeds its limit.

Owns the formats. Knows nothing of what a body holds.
"""

import zlib
from typing import Literal

from app.errors import MalformedBody, TooLarge

Coding = Literal["gzip", "deflate"]  # HTTP's names: its deflate is the zlib format

WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
BARE = -zlib.MAX_WBITS  # raw deflate, which some clients send as deflate: without zlib's header and checksum
FASTEST = 1
CHUNK = 2**16  # bytes given to zlib at once: it copies what follows the end of a stream, so this bounds the copy
MOST_STREAMS = 1024  # in one body


def inflate(body: bytes, limit: int, coding: Coding) -> bytes:
    """The decompressed body. Raises TooLarge beyond `limit` bytes, MalformedBody when it is cut off or not in this coding."""
    window = BARE if coding == "deflate" and not _has_zlib_head(body) else WINDOWS[coding]
    parts: list[bytes] = []
    left, position, streams = limit, 0, 0
    while position < len(body):
        if body[position] == 0 and not body[position:].strip(b"\0"):
            break  # padded with zeros, as some writers do
        streams += 1
        if streams > (MOST_STREAMS if coding == "gzip" else 1):
            raise MalformedBody(
                f"The body has more than {MOST_STREAMS} gzip streams, one after the other."
                if coding == "gzip"
                else "The body goes on after the end of its deflate stream."
            )
        stream = zlib.decompressobj(window)
        while not stream.eof:
            chunk = body[position : position + CHUNK]
            if not chunk:
                raise MalformedBody(f"The body is cut off: its {coding} stream does not end.")
            try:
                part = stream.decompress(chunk, left + 1)
            except zlib.error as error:
                raise MalformedBody(f"The body is not {coding}, as its Content-Encoding says: {error}.") from None
            left -= len(part)
            if left < 0:
                raise TooLarge(f"The body has more than {limit} bytes once it is decompressed, the most that are accepted.")
            parts.append(part)
            position += len(chunk) - len(stream.unused_data)
    return b"".join(parts)


def deflate(body: bytes, coding: Coding) -> bytes:
    return zlib.compress(body, FASTEST, WINDOWS[coding])


def _has_zlib_head(body: bytes) -> bool:
    """Whether the first two bytes are those of RFC 1950: the method, and a multiple of 31."""
    return body[0] & 0x0F == zlib.DEFLATED and int.from_bytes(body[:2], "big") % 31 == 0 if len(body) > 1 else True
