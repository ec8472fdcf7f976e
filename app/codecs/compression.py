"""gzip, both ways: a compressed body is never unpacked beyond its limit.

Owns the format. Knows nothing of what is inside.
"""

import zlib

from app.errors import MalformedBody, TooLarge

GZIP = 16 + zlib.MAX_WBITS
FASTEST = 1
MOST_MEMBERS = 16  # each is a copy of what follows it


def inflate(body: bytes, limit: int) -> bytes:
    """What was compressed; TooLarge as soon as it passes `limit` bytes, MalformedBody when it is not gzip or cut off."""
    parts: list[bytes] = []
    left = limit
    while body:
        if len(parts) == MOST_MEMBERS:
            raise MalformedBody(f"The body has more than {MOST_MEMBERS} gzip streams, one after the other.")
        member = zlib.decompressobj(GZIP)
        try:
            part = member.decompress(body, left + 1)
        except zlib.error as error:
            raise MalformedBody(f"The body is not gzip, as its Content-Encoding says: {error}.") from None
        left -= len(part)
        if left < 0:
            raise TooLarge(f"The body has more bytes, once it is unpacked, than the {limit} that are taken.")
        if not member.eof:
            raise MalformedBody("The body is cut off: its gzip stream does not end.")
        parts.append(part)
        body = member.unused_data.lstrip(b"\0")  # gzip files may stand one after the other, and be filled up
    return b"".join(parts)


def deflate(body: bytes) -> bytes:
    return zlib.compress(body, FASTEST, GZIP)
