"""An id for every request: the client's X-Request-ID, or one made here; it is returned in the answer and in problems.

Knows nothing of what the request asks for.
"""

import os
import re
from itertools import count

from starlette.types import Message, Scope, Send

HEADER = b"x-request-id"
_USABLE = re.compile(rb"[\x21-\x7e]{1,128}")  # visible ASCII: safe in a header and in a line of a log


class RequestIds:
    """Makes ids that no other process makes."""

    def __init__(self) -> None:
        self._prefix = os.urandom(8).hex().encode()  # once: random numbers are slow to make
        self._numbers = count(1)

    def assign(self, scope: Scope) -> tuple[bytes, bytes]:
        """Put an id into the request's state; returns the header that carries it back."""
        given = [value for name, value in scope["headers"] if name == HEADER]
        request_id = given[0] if given and _USABLE.fullmatch(given[0]) else b"%s%016x" % (self._prefix, next(self._numbers))
        scope["state"]["request_id"] = request_id.decode()
        return HEADER, request_id


def with_header(send: Send, header: tuple[bytes, bytes]) -> Send:
    """`send`, with a header added to the answer. An answer without headers for caches gets `no-store`: it changes with time."""

    async def send_with_header(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], header]
            if not any(name in (b"cache-control", b"etag") for name, _ in message["headers"]):
                message["headers"].append((b"cache-control", b"no-store"))
        await send(message)

    return send_with_header
