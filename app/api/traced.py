"""A trace span around each HTTP request: middleware that is installed only if traces are sent.

Knows nothing of where spans go. A WebSocket may be open for days, so it has no span; the batches of its chunks have one each.
"""

from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.direct import route_of
from app.http.extensions import ANSWER
from app.traces import Traces

WATCHING = ("/health", "/metrics", "/v2/health")  # requested by monitors every few seconds: not traced


class Traced:
    """ASGI middleware; `direct`: the routes that bypass the framework, so that it does not set `scope["route"]`."""

    def __init__(self, app: ASGIApp, traces: Traces, *, direct: Collection[str]) -> None:
        self._app = app
        self._traces = traces
        self._direct = direct

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(WATCHING):
            await self._app(scope, receive, send)
            return
        status = 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        scope.get("extensions", {}).pop(ANSWER, None)  # it would bypass `sending`
        with self._traces.request(scope["method"], scope["path"], scope["headers"]) as span:
            try:
                await self._app(scope, receive, sending)
            finally:
                span.answered(status, route=self._route(scope), model=scope["state"].get("model"))

    def _route(self, scope: Scope) -> str | None:
        route = route_of(scope["path"])
        if route in self._direct and scope["method"] == "POST":  # else it may be the path of a stream named "predict"
            return route
        path: str | None = getattr(scope.get("route"), "path", None)
        return path
