"""WebSocket frames as a client writes and reads them, no more than a load generator needs.

Owns the bytes. Knows nothing of connections, nor of what the messages mean.
"""

from collections.abc import Iterator

TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A  # first bytes, of frames that are whole messages
HANDSHAKE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def frame(payload: bytes, first: int = BINARY) -> bytes:
    """A message as clients send it: masked, with a key of zeros, which leaves it as it is."""
    size = len(payload)
    if size < 126:
        return bytes((first, 0x80 | size)) + bytes(4) + payload
    short, width = (126, 2) if size < 2**16 else (127, 8)
    return bytes((first, 0x80 | short)) + size.to_bytes(width, "big") + bytes(4) + payload


class Frames:
    """Cuts what comes from a server into frames, wherever its pieces begin and end."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The first byte and the payload of each frame that is whole now. To be walked through to its end."""
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
