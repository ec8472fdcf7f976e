"""What one WebSocket's caller has sent that is not answered yet, and how much there may be of that and of bodies in all.

Owns the count of their bytes. Knows nothing of what they say.
"""

from typing import Any

from websockets.protocol import Protocol

MOST = 32  # messages that are taken from a caller before the first of them is answered
MOST_BYTES = 2**20  # the same; and the message with which they become more
PARTS = 2**10  # of a message that are kept one by one
FREE = 2**16  # bytes of a connection that take no room


class Room:
    """For how many more bytes of bodies and messages there is room in this process."""

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = size


class Ahead:
    """The messages of one caller, from their first byte until all that were taken together are answered.

    `conn` has what is not a whole message yet.
    """

    __slots__ = ("_conn", "_held", "_room", "_taken", "_waiting")

    def __init__(self, room: Room, conn: Protocol) -> None:
        self._room = room
        self._conn = conn
        self._held = 0  # bytes of the room
        self._waiting = 0
        self._taken = 0

    @property
    def full(self) -> bool:
        return self._waiting >= MOST_BYTES

    def put(self, size: int) -> None:
        """A whole message waits."""
        self._waiting += size

    def take(self, message: Any) -> None:
        """One that has waited is worked on."""
        size = _size(message)
        self._waiting -= size
        self._taken += size

    def answered(self) -> None:
        """All that were taken are."""
        self._taken = 0
        if self._held:
            self.fit()

    def fit(self) -> bool:
        """Take room for what is there, or give back what is over; False: there is not enough."""
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
    """The parts of a message, or one of them all where they are many: each takes more memory than its bytes."""
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
