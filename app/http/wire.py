"""Answers as bytes of HTTP/1.1, each in one piece.

Knows nothing of what they say, except in the answer to a request that did not arrive whole.
"""

from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from app.api import problems
from app.api.request_id import HEADER as REQUEST_ID
from app.api.request_id import RequestIds
from app.errors import RecurveError
from app.http.extensions import Header


def packed(status: int, headers: Iterable[Header], body: bytes, *, last: bool) -> bytes:
    """An answer as bytes of HTTP/1.1; `last`: then the connection closes. The headers include content-length, and no line ends."""
    end = b"connection: close\r\n\r\n" if last else b"\r\n"
    return b"".join([STATUS_LINE[status], *[b"%s: %s\r\n" % each for each in headers], end, body])


def refusal(error: RecurveError, scope: dict[str, Any] | None, headers: Iterable[Header], ids: RequestIds) -> bytes:
    """The bytes of `error` as a problem, for a request that did not arrive whole; the last answer of its connection.

    `scope`: the request's, or None if its head did not arrive.
    """
    scope = {"path": "", "headers": [], "state": {}} if scope is None else {**scope}
    known = scope["state"].get("request_id")
    header = ids.assign(scope) if known is None else (REQUEST_ID, known.encode())
    answer = problems.of(scope, error)
    length = (b"content-length", b"%d" % len(answer.body))
    return packed(answer.status, [*headers, *answer.headers, length, header], answer.body, last=True)
