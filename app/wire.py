"""Answers as bytes of HTTP/1.1, each in one piece. Knows nothing of what they say, but to requests that did not come in whole."""

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from app.api import problems
from app.api.request_id import HEADER as REQUEST_ID
from app.api.request_id import RequestIds
from app.errors import RecurveError
from app.extensions import Header, Reply


def complete(cycle: RequestResponseCycle, write: Callable[[bytes], None], reply: Reply) -> None:
    """Answer a request that has had none yet: what `cycle.send` makes of two messages, in a fraction of the time."""
    status, headers, body = reply
    if cycle.waiting_for_100_continue:
        end_unasked(cycle)
        cycle.waiting_for_100_continue = False
    cycle.response_started = cycle.response_complete = True
    write(packed(status, chain(cycle.default_headers, headers), body, last=not cycle.keep_alive))
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()


def end_unasked(cycle: RequestResponseCycle) -> None:
    """Make the answer that now begins the last, where its caller waits to be told to send the body (RFC 9110, section 10.1.1).

    He may send it or not: what comes next is a body for one and a request for another.
    """
    if cycle.waiting_for_100_continue and cycle.more_body:
        cycle.keep_alive = False


def packed(status: int, headers: Iterable[Header], body: bytes, *, last: bool) -> bytes:
    """The bytes of HTTP/1.1; `last`: of its connection. The headers hold the length of the body, and no end of a line."""
    end = b"connection: close\r\n\r\n" if last else b"\r\n"
    return b"".join([STATUS_LINE[status], *[b"%s: %s\r\n" % each for each in headers], end, body])


def refusal(error: RecurveError, scope: dict[str, Any] | None, headers: Iterable[Header], ids: RequestIds) -> bytes:
    """The bytes of a problem, the last of its connection, for a request of which not all came in; `scope`: what did, if any."""
    scope = {"path": "", "headers": [], "state": {}} if scope is None else {**scope}
    known = scope["state"].get("request_id")
    header = ids.assign(scope) if known is None else (REQUEST_ID, known.encode())
    answer = problems.of(scope, error)
    length = (b"content-length", b"%d" % len(answer.body))
    return packed(answer.status, [*headers, *answer.headers, length, header], answer.body, last=True)
