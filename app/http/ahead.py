"""Counts the bytes of a WebSocket's unanswered messages, which are limited per connection and per process.

Request bodies share the limit per process (`Room`). Knows nothing of what the messages say.
"""

from typing import Any

from websockets.protocol import Protocol

MOST = 32  # messages of one connection that may wait; then no more are read
MOST_BYTES = 2**20  # the same in bytes; the message that reaches this limit is still taken
PARTS = 2**10  # of a message, that are kept separately
FREE = 2**16  # bytes that a connection may hold without taking room; beyond that, all its bytes count


class Room:
    """How many more bytes of bodies and messages this process may hold."""

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = size


class Ahead:
    """Counts the bytes of one client's messages, from their arrival until all messages that were taken together are answered.

    `conn` holds the bytes that are not a whole message yet.
    """

    __slots__ = ("_conn", "_held", "_room", "_taken", "_waiting")

    def __init__(self, room: Room, conn: Protocol) -> None:
        self._room = room
        self._conn = conn
        self._held = 0  # bytes taken of the room
        self._waiting = 0
        self._taken = 0

    @property
    def full(self) -> bool:
        return self._waiting >= MOST_BYTES

    def put(self, size: int) -> None:
        """Count a whole message as waiting."""
        self._waiting += size

    def take(self, message: Any) -> None:
        """Count a message that was waiting as being worked on."""
        size = _size(message)
        self._waiting -= size
        self._taken += size

    def answered(self) -> None:
        """Stop counting the messages that were taken: they are all answered."""
        self._taken = 0
        if self._held:
            self.fit()

    def fit(self) -> bool:
        """Take room for the bytes held now, or give back what is no longer needed. False: there is not enough room."""
        needed = self._waiting + self._taken + (self._conn.current_size or 0) + len(self._conn.reader.buffer)
        more = (needed if needed > FREE else 0) - self._held
        if more > self._room.left:
            return False
        self._room.left -= more
        self._held += more
        return True

    def close(self) -> None:
        self._room.left += self._held
        self._held = 0


def compact(parts: list[Any]) -> list[Any]:
    """The parts of a message, joined into one if they are many: each part takes more memory than its bytes."""
    if len(parts) <= PARTS:
        return parts
    whole = parts[0] if type(parts[0]) is bytearray else bytearray(parts[0])
    whole += b"".join(parts[1:])
    return [whole]


def _size(message: Any) -> int:
    data = message.get("bytes")
    if data is None:
        text = message.get("text", "")
        return len(text) if text.isascii() else len(text.encode())
    return len(data)
