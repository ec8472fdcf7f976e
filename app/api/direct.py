"""The shortest way for the routes that must be fast: around the framework's layers, which cost more than the work itself.

Owns the short cut, counts the requests that take it (by model too, if an endpoint names one in `scope["state"]`), and gives every
request its id. Each of these routes is also a route of the framework, which documents it and answers other methods.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from time import perf_counter
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api import problems
from app.api.answered import Answered
from app.api.bodies import ReceivedBody
from app.api.guard import Guard
from app.api.problems import Answer
from app.api.request_id import RequestIds, with_header
from app.errors import Draining, RateLimited, RecurveError, Unavailable
from app.http.extensions import ANSWER, Begin, Header, Reply
from app.metrics import Metrics

Endpoint = Callable[[Scope, Receive], Awaitable[Answer]]


class Direct:
    """ASGI middleware that answers POST requests for these routes, and WebSockets, and passes on everything else."""

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, Endpoint], *, live: ASGIApp, guard: Guard, metrics: Metrics) -> None:
        self._app = app
        self._guard = guard
        self._endpoints = endpoints
        self._live = live
        self._metrics = metrics
        self._answered = Answered(metrics)
        self._ids = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        request_id = self._ids.assign(scope)
        if scope["path"] == "*" and scope.get("method") == "OPTIONS":  # asks whether the service answers at all
            await send_reply(scope, (204, [request_id], b""), send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await send_reply(scope, reply_of(refusal, request_id), send)
            return
        if scope["type"] == "websocket":
            await self._live(scope, receive, send)
            return
        route = route_of(scope["path"])
        endpoint = self._endpoints.get(route) if scope["method"] == "POST" else None
        if endpoint is None:
            asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope  # the server leaves the body out
            try:
                await self._app(asked, receive, with_header(send, request_id))
            finally:
                scope["route"] = asked.get("route")  # set by the framework, read by traced.py
            return
        reply = await self._answer(scope, route, endpoint(scope, receive), request_id)
        at_once = scope.get("extensions", {}).get(ANSWER)
        if at_once is None or not at_once(scope, reply):
            await send_reply(scope, reply, send)

    def offer(self, scope: Scope) -> Begin | None:
        """How to answer requests with this head in one call; None if their route is not one of these."""
        route = route_of(scope["path"])
        endpoint = self._endpoints.get(route) if scope["method"] == "POST" else None
        return None if endpoint is None else partial(self._reply, route, endpoint)

    def _reply(self, route: str, endpoint: Endpoint, scope: Scope, body: bytes) -> Coroutine[Any, Any, Reply]:
        request_id = self._ids.assign(scope)
        refusal = self._refusal(scope)
        if refusal is None:
            return self._answer(scope, route, endpoint(scope, ReceivedBody(body)), request_id)
        return _told(reply_of(refusal, request_id))

    def _refusal(self, scope: Scope) -> Answer | None:
        """The answer to a request that the guard refuses; None if it may pass."""
        try:
            self._guard.check(scope)
        except RecurveError as error:
            if isinstance(error, RateLimited):
                self._metrics.refused(error.code)
            return problems.of(scope, error)
        return None

    async def _answer(self, scope: Scope, route: str, answering: Awaitable[Answer], request_id: Header) -> Reply:
        """The answer or the error of a request as a reply; counts it, unless the client has gone."""
        begin, gone = perf_counter(), False
        try:
            answer = await answering
        except asyncio.CancelledError:  # by the server, after the drain timeout
            self._metrics.refused(Draining.code)
            answer = problems.of(scope, Draining("The service is shutting down and could not finish this request."))
        except Exception as error:  # as the framework's own handlers would answer
            if isinstance(error, Unavailable):
                self._metrics.refused(error.code)
            gone = isinstance(error, ClientDisconnect)
            answer = problems.of(scope, error)
        if not gone:
            self._answered.count(route, answer.status, perf_counter() - begin, model=scope["state"].get("model"))
        return reply_of(answer, request_id)


async def _told(reply: Reply) -> Reply:
    return reply


def reply_of(answer: Answer, request_id: Header) -> Reply:
    """An answer with its length and the header that carries the request's id."""
    return answer.status, [*answer.headers, (b"content-length", b"%d" % len(answer.body)), request_id], answer.body


async def send_reply(scope: Scope, reply: Reply, send: Send) -> None:
    """Send an answer as ASGI messages; to a WebSocket that is refused, as the answer to its handshake."""
    status, headers, body = reply
    kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    await send({"type": f"{kind}.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})


def route_of(path: str) -> str:
    """The route of a path: with placeholders for the id of a stream, and for the name and version of a model."""
    if path.startswith("/streams/") and path != "/streams/predict":
        _, streams, _, *rest = path.split("/")
        return "/".join(("", streams, "{id}", *rest))
    if path.startswith("/v2/models/") and path.endswith("/infer"):
        parts = path.split("/")
        if len(parts) == 5 or (len(parts) == 7 and parts[4] == "versions"):
            return "/v2/models/{model}/infer"
    return path
