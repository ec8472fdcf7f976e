"""Writes and reads WebSocket frames as a client does, only as far as a load generator needs it.

Owns the bytes. Knows nothing of connections, nor of what the messages mean.
"""

from collections.abc import Iterator

TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A  # first bytes of frames that are whole messages
HANDSHAKE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def frame(payload: bytes, first: int = BINARY) -> bytes:
    """A message as clients send it: masked, with a key of zeros, which leaves the payload unchanged."""
    size = len(payload)
    if size < 126:
        return bytes((first, 0x80 | size)) + bytes(4) + payload
    short, width = (126, 2) if size < 2**16 else (127, 8)
    return bytes((first, 0x80 | short)) + size.to_bytes(width, "big") + bytes(4) + payload


class Frames:
    """Splits the bytes from a server into frames, however they are divided into pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The first byte and the payload of each frame that is complete now. The iterator must be exhausted."""
        data = self._rest + data
        begin = 0
        while len(data) >= begin + 2:
            size, head = data[begin + 1], begin + 2
            if size >= 126:
                head += 2 if size == 126 else 8
                size = int.from_bytes(data[begin + 2 : head], "big")
            if len(data) < head + size:
                break
            yield data[begin], data[head : head + size]
            begin = head + size
        self._rest = data[begin:]
