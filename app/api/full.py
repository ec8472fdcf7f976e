"""The answer on a connection beyond the limit: probes are answered as usual, all other requests are told to try again later.

So an orchestrator, which restarts a service that does not answer probes, does not take a crowd for a failure. Knows nothing of how
many connections there are.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from app.api import problems
from app.api.direct import reply_of, send_reply
from app.api.guard import OPEN
from app.api.request_id import RequestIds, with_header
from app.errors import TooManyConnections
from app.metrics import Metrics

LAST = (b"connection", b"close")


class Full:
    """ASGI: `app` answers probes, and a problem answers all other requests; the connection is closed after the answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics, *, most: int) -> None:
        self._app = app
        self._metrics = metrics
        self._most = most
        self._ids = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(OPEN):
            await self._app(scope, receive, with_header(send, LAST))
            return
        request_id = self._ids.assign(scope)
        self._metrics.refused(TooManyConnections.code)
        if scope["type"] == "http":
            send = with_header(send, LAST)
        answer = problems.of(
            scope, TooManyConnections(f"All {self._most} connections (RECURVE_MAX_CONNECTIONS) are in use: try again later.")
        )
        await send_reply(scope, reply_of(answer, request_id), send)
