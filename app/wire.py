"""Answers as they go over the wire, each in one piece. Knows nothing of what they say."""

from collections.abc import Callable, Iterable
from itertools import chain

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from app.extensions import Header, Reply


def complete(cycle: RequestResponseCycle, write: Callable[[bytes], None], reply: Reply) -> None:
    """Answer a request that has had none yet: what `cycle.send` makes of two messages, in a fraction of the time."""
    status, headers, body = reply
    cycle.response_started = cycle.response_complete = True
    write(packed(status, chain(cycle.default_headers, headers), body, last=not cycle.keep_alive))
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()


def packed(status: int, headers: Iterable[Header], body: bytes, *, last: bool) -> bytes:
    """The bytes of HTTP/1.1; `last`: of its connection. The headers hold the length of the body, and no end of a line."""
    end = b"connection: close\r\n\r\n" if last else b"\r\n"
    return b"".join([STATUS_LINE[status], *[b"%s: %s\r\n" % each for each in headers], end, body])
