"""The shortest way for the routes that must be fast: around the framework's layers, which cost it more than its work.

Owns the short cut, and the count of what went through it; gives every request its id. What it serves is
also a route of the framework, which documents it and answers everything else that is asked of its path.
"""

from collections.abc import Awaitable, Callable, Mapping
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
    """ASGI middleware that answers POST requests for these routes, and WebSockets, and passes on everything else."""

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, Endpoint], *, live: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._endpoints = endpoints
        self._live = live
        self._metrics = metrics
        self._ids = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        request_id = self._ids.assign(scope)
        if scope["type"] == "websocket":
            await self._live(scope, receive, send)
            return
        route = _route(scope["path"])
        endpoint = self._endpoints.get(route) if scope["method"] == "POST" else None
        if endpoint is None:
            await self._app(scope, receive, with_header(send, request_id))
            return
        begin, gone = perf_counter(), False
        try:
            answer = await endpoint(scope, receive)
        except Exception as error:  # as the framework's own handlers would answer
            if isinstance(error, Unavailable):
                self._metrics.refused(error.code)
            gone = isinstance(error, ClientDisconnect)
            answer = problems.of(scope, error)
        headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body)), request_id]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})
        if not gone:
            self._metrics.answered(route, answer.status, seconds=perf_counter() - begin)


def _route(path: str) -> str:
    """The route of a path, in which the id of a stream has no part."""
    if not path.startswith("/streams/"):
        return path
    _, streams, _, *rest = path.split("/")
    return "/".join(("", streams, "{id}", *rest))
