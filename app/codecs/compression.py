"""gzip, both ways: a compressed body is never unpacked beyond its limit.

Owns the format. Knows nothing of what is inside.
"""

import zlib

from app.errors import MalformedBody, TooLarge

GZIP = 16 + zlib.MAX_WBITS
FASTEST = 1


def inflate(body: bytes, limit: int) -> bytes:
    """What was compressed; TooLarge as soon as it passes `limit` bytes, MalformedBody when it is not gzip or cut off."""
    parts = []
    left = limit
    while body:
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
        body = member.unused_data  # gzip files may stand one after the other
    return b"".join(parts)


def deflate(body: bytes) -> bytes:
    return zlib.compress(body, FASTEST, GZIP)
