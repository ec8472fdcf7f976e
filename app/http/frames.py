"""The frames of a WebSocket as bytes, by RFC 6455, section 5.2. Knows nothing of connections."""

BINARY, TEXT, CLOSE = 0x82, 0x81, 0x88  # the first byte of a frame with a whole message, or of a close
MASKED = 0x80  # the bit of the second byte that marks a masked payload
SINGLE = (BINARY, TEXT)
NO_TEXT, TRY_AGAIN = 1007, 1013  # codes of a close, from section 7.4.1 and its registry


def find(data: bytes, at: int) -> tuple[int, int]:
    """Where the payload of the frame at `at` begins, and its length; both 0 if the frame's head is not complete."""
    if len(data) < at + 2:
        return 0, 0
    length = data[at + 1] & 0x7F
    begin = at + 2 + {126: 2, 127: 8}.get(length, 0) + (4 if data[at + 1] & MASKED else 0)
    if len(data) < begin:
        return 0, 0
    if length > 125:
        length = int.from_bytes(data[at + 2 : at + (4 if length == 126 else 10)], "big")
    return begin, length


def head(length: int) -> bytes:
    """The head of a frame that is a whole binary message of `length` bytes."""
    if length < 126:
        return bytes((BINARY, length))
    return bytes((BINARY, 126)) + length.to_bytes(2, "big") if length < 2**16 else bytes((BINARY, 127)) + length.to_bytes(8, "big")
