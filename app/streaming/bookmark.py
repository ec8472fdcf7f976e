"""The stream as one client's last chunk left it: the next chunk starts from it without reading the store.

Owns when a stream is remembered. It may be out of date: the store's compare-and-set detects that. Knows nothing of clients or
stores.
"""

from dataclasses import dataclass

from app.streaming.streams import Stream

MOST_REMEMBERED = 2**13  # bytes of state and answers: a larger stream is not remembered


@dataclass(slots=True)
class Bookmark:
    """Holds the stream between the chunks of one client, which sends them one after the other."""

    last: Stream | None = None
    used: bool = True  # false once it was out of date: then other clients send chunks of this stream too

    def take(self, id: str, now: float) -> Stream | None:
        """Remove and return the stream; None when none is held, when it has another id or when it has expired."""
        last, self.last = self.last, None
        return last if last is not None and last.id == id and last.expires > now else None

    def put(self, stream: Stream) -> None:
        if self.used and len(stream.state) + len(stream.answers) <= MOST_REMEMBERED:
            self.last = stream
