"""Recognises the head of a request: most callers send the same one again and again, and only the body changes.

Owns when two heads are the same. Knows nothing of what is in a head but the length of the body.
"""

import re
from typing import NamedTuple, Self

LONGEST = 2**12  # bytes of a head that is kept
MOST_DIGITS = 16  # of a body's length
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)\r\n", re.IGNORECASE)


class Head(NamedTuple):
    """The bytes of one, in two parts, between which stands the length of the body."""

    before: bytes
    after: bytes  # to its end, with the empty line

    @classmethod
    def of(cls, request: bytes, body: bytes) -> Self | None:
        """The head of a request that was found to be good and to have this body.

        None where it is too long, says nothing of the body's length, or `request` is anything else than one whole request.
        """
        end = request.find(b"\r\n\r\n", 0, LONGEST)
        begin = end + 4
        lengths = [*_LENGTH.finditer(request, 0, begin)] if end >= 0 else []
        if len(lengths) != 1 or begin + len(body) != len(request) or int(lengths[0][1]) != len(body):
            return None
        return cls(request[: lengths[0].start(1)], request[lengths[0].end(1) : begin])

    def rest_of(self, request: bytes) -> tuple[bytes, bytes] | None:
        """The length as it is written, and the body, of one whole request with the same head but for that length; else None."""
        before, after = self
        if not request.startswith(before):
            return None
        begin = len(before)
        end = request.find(b"\r\n", begin, begin + MOST_DIGITS + 2)
        length = request[begin:end]
        if not request.startswith(after, end) or not length.isdigit():
            return None
        end += len(after)
        return (length, request[end:]) if end + int(length) == len(request) else None
