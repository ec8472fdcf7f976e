"""Recognises the head of a request: most clients send the same head again and again, and only the body changes.

Owns when two heads are the same. Of what a head says, knows only the length of the body.
"""

import re
from typing import NamedTuple, Self

LONGEST = 2**12  # bytes of the longest head that is remembered
MOST_DIGITS = 16  # of a body's length
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)\r\n", re.IGNORECASE)


class Head(NamedTuple):
    """The bytes of a head, in two parts: before and after the digits of content-length."""

    before: bytes
    after: bytes  # to the end of the head, with the empty line

    @classmethod
    def of(cls, request: bytes, body: bytes) -> Self | None:
        """The head of a request that was found to be valid and to have this body.

        None if the head is too long or has no content-length, or if `request` is not exactly one whole request.
        """
        end = request.find(b"\r\n\r\n", 0, LONGEST)
        begin = end + 4
        lengths = [*_LENGTH.finditer(request, 0, begin)] if end >= 0 else []
        if len(lengths) != 1 or begin + len(body) != len(request) or int(lengths[0][1]) != len(body):
            return None
        return cls(request[: lengths[0].start(1)], request[lengths[0].end(1) : begin])

    def rest_of(self, request: bytes) -> tuple[bytes, bytes] | None:
        """The content-length's digits and the body of a whole request with the same head but for those digits; else None."""
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
