"""gzip, both ways: a compressed body is never unpacked beyond its limit.

Owns the format. Knows nothing of what is inside.
"""

import zlib

from app.errors import MalformedBody, TooLarge

GZIP = 16 + zlib.MAX_WBITS
FASTEST = 1
CHUNK = 2**16  # bytes: what follows the end of a stream is copied, so it is given in pieces
MOST_STREAMS = 1024  # in one body


def inflate(body: bytes, limit: int) -> bytes:
    """What was compressed; TooLarge as soon as it passes `limit` bytes, MalformedBody when it is not gzip or cut off."""
    parts: list[bytes] = []
    left, position, streams = limit, 0, 0
    while position < len(body):
        if body[position] == 0 and not body[position:].strip(b"\0"):
            break  # filled up with zeros, as some writers do
        streams += 1
        if streams > MOST_STREAMS:
            raise MalformedBody(f"The body has more than {MOST_STREAMS} gzip streams, one after the other.")
        stream = zlib.decompressobj(GZIP)
        while not stream.eof:
            chunk = body[position : position + CHUNK]
            if not chunk:
                raise MalformedBody("The body is cut off: its gzip stream does not end.")
            try:
                part = stream.decompress(chunk, left + 1)
            except zlib.error as error:
                raise MalformedBody(f"The body is not gzip, as its Content-Encoding says: {error}.") from None
            left -= len(part)
            if left < 0:
                raise TooLarge(f"The body has more bytes, once it is unpacked, than the {limit} that are taken.")
            parts.append(part)
            position += len(chunk) - len(stream.unused_data)
    return b"".join(parts)


def deflate(body: bytes) -> bytes:
    return zlib.compress(body, FASTEST, GZIP)
