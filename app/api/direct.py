"""The shortest way for the one route that must be fast: around the framework's layers, which cost it more than its work.

Owns the short cut. What it serves is also a route of the framework, which documents it and answers everything else that
is asked of its path.
"""

from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api import problems
from app.errors import RecurveError

Endpoint = Callable[[Request], Awaitable[Response]]


class Direct:
    """ASGI middleware that answers POST requests for `path` with `endpoint`, and passes on everything else."""

    def __init__(self, app: ASGIApp, *, path: str, endpoint: Endpoint) -> None:
        self._app = app
        self._path = path
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self._path or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await self._endpoint(request)
        except RecurveError as error:
            response = await problems.known(request, error)
        except ClientDisconnect as error:
            response = await problems.gone(request, error)
        except Exception as error:  # a defect, as in the framework's own handler
            response = await problems.defect(request, error)
        await response(scope, receive, send)
