"""Where a stream stood after a caller's last chunk: there it stands for the next one, and no store is asked, if nobody else came.

Owns when that is remembered. Knows nothing of callers or stores.
"""

from dataclasses import dataclass

from app.streaming.streams import Stream

MOST_REMEMBERED = 2**13  # bytes of a stream


@dataclass(slots=True)
class Bookmark:
    """For all chunks of one caller, who sends them one after the other."""

    last: Stream | None = None
    used: bool = True  # false once it was wrong: others send chunks of that stream too

    def take(self, id: str, now: float) -> Stream | None:
        """The stream, where it is the one that is asked for and alive."""
        last, self.last = self.last, None
        return last if last is not None and last.id == id and last.expires > now else None

    def put(self, stream: Stream) -> None:
        if self.used and len(stream.state) + len(stream.answers) <= MOST_REMEMBERED:
            self.last = stream
