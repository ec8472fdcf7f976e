"""The shortest way for the one route that must be fast: around the framework's layers, which cost it more than its work.

Owns the short cut, and the count of what went through it; gives every request its id. What it serves is also a route of
the framework, which documents it and answers everything else that is asked of its path.
"""

from collections.abc import Awaitable, Callable
from time import perf_counter

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api import problems
from app.api.problems import Answer
from app.api.request_id import RequestIds, with_header
from app.errors import Unavailable
from app.metrics import Metrics

Endpoint = Callable[[Scope, Receive], Awaitable[Answer]]


class Direct:
    """ASGI middleware that answers POST requests for `path` with `endpoint`, and passes on everything else."""

    def __init__(self, app: ASGIApp, *, path: str, endpoint: Endpoint, metrics: Metrics) -> None:
        self._app = app
        self._path = path
        self._endpoint = endpoint
        self._metrics = metrics
        self._ids = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = self._ids.assign(scope)
        if scope["path"] != self._path or scope["method"] != "POST":
            await self._app(scope, receive, with_header(send, request_id))
            return
        begin, gone = perf_counter(), False
        try:
            answer = await self._endpoint(scope, receive)
        except Exception as error:  # as the framework's own handlers would answer
            if isinstance(error, Unavailable):
                self._metrics.refused(error.code)
            gone = isinstance(error, ClientDisconnect)
            answer = problems.of(scope, error)
        headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body)), request_id]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})
        if not gone:
            self._metrics.answered(self._path, answer.status, seconds=perf_counter() - begin)
