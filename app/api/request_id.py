"""An id for every request: the caller's X-Request-ID, or one made here; it comes back in the answer and in problems.

Knows nothing of what the request asks for.
"""

import os
import re
from itertools import count

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = b"x-request-id"
_USABLE = re.compile(rb"[\x21-\x7e]{1,128}")  # visible ASCII: safe in a header and in a line of a log


class RequestId:
    """ASGI middleware that puts the id into `request.state.request_id` and the response headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._prefix = os.urandom(8).hex().encode()  # once: random numbers are slow to come by
        self._numbers = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == HEADER), b"")
        request_id = given if _USABLE.fullmatch(given) else b"%s%016x" % (self._prefix, next(self._numbers))
        scope.setdefault("state", {})["request_id"] = request_id.decode()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (HEADER, request_id)]
            await send(message)

        await self._app(scope, receive, send_with_id)
