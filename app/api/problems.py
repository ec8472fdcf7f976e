"""Every error as application/problem+json (RFC 9457), 404 and 405 included; and the answers to OPTIONS, an error to the framework.

Owns how an error looks on the wire, and the log line by which an operator finds it. What an error means is errors.py's. A defect
shows a generic text, and its traceback goes to the log. Under /v2 most client errors are 400, whatever they are elsewhere, as
clients of that protocol expect.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import Scope

from app.api import violations
from app.api.guard import OPEN
from app.errors import (
    MOST_SHOWN,
    InvalidRequest,
    RateLimited,
    RecurveError,
    StreamConflict,
    Unauthorized,
    Unavailable,
    UpgradeRequired,
)

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
V2 = "/v2/"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
NOT_400 = {401, 403, 404, 405, 408, 429, 431}  # client errors that keep their status under /v2


@dataclass(slots=True)  # not frozen, which would take three times as long: one is made for every request
class Answer:
    """A whole answer; the length of its body is added to the headers."""

    headers: list[tuple[bytes, bytes]]
    body: bytes
    status: int = 200

    def response(self) -> Response:
        """The framework's response with these headers and this body."""
        response = Response(self.body, self.status)
        response.raw_headers += self.headers
        return response


def install(app: FastAPI, refused: Callable[[str], None]) -> None:
    """Answer every error of `app` with a problem; `refused` is called with the code of each error after which to try again."""

    async def handle(request: Request, error: Exception) -> Response:
        if isinstance(error, Unavailable) and not request.scope["path"].startswith(OPEN):  # a failed probe is no refused request
            refused(error.code)
        if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            error.headers = allow = {"Allow": ", ".join(_methods(app, request.scope["path"]))}  # of all routes, not of one
            if request.method == "OPTIONS":
                return Response(status_code=HTTPStatus.NO_CONTENT, headers=allow)
        return of(request.scope, error).response()

    for kind in (RecurveError, RequestValidationError, HTTPException, ClientDisconnect, Exception):
        app.add_exception_handler(kind, handle)


def _methods(app: FastAPI, path: str) -> list[str]:
    """The HTTP methods that this path is answered for."""
    asked: list[Scope] = [{"type": "http", "path": path, "root_path": "", "headers": [], "method": method} for method in METHODS]
    found = [scope["method"] for scope in asked if any(route.matches({**scope})[0] == Match.FULL for route in app.routes)]
    return [*found, "HEAD"] if "GET" in found else found


def of(scope: Scope, error: Exception) -> Answer:
    """The answer to a request that raised this error; logs a defect."""
    if isinstance(error, RequestValidationError):  # the framework's own, of a query
        error = InvalidRequest(violations.of([{**each, "loc": each["loc"][1:]} for each in error.errors()]))
    if isinstance(error, RecurveError) and error.status != 500:
        extra: dict[str, Any] = {}
        headers = []
        if isinstance(error, InvalidRequest):
            extra["errors"] = [{"pointer": v.pointer, "detail": v.detail} for v in error.violations]
        if isinstance(error, StreamConflict) and error.expected is not None:
            extra["expected"] = error.expected
        if isinstance(error, Unavailable | RateLimited):
            headers.append((b"retry-after", b"%d" % error.retry_after))
        if isinstance(error, UpgradeRequired):
            headers += [(b"upgrade", b"websocket"), (b"connection", b"upgrade"), (b"sec-websocket-version", b"13")]
        if isinstance(error, Unauthorized):
            headers.append((b"www-authenticate", b"Bearer"))
        return _problem(scope, error.status, error.code, error.title, error.detail, extra, headers)
    if isinstance(error, HTTPException):
        title = HTTPStatus(error.status_code).phrase
        detail = f"{scope.get('method', 'WebSocket')} {scope['path']}: {title.lower()}. The routes are listed at /docs."
        headers = [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
        return _problem(scope, error.status_code, title.lower().replace(" ", "-"), title, detail, {}, headers)
    request_id = scope["state"]["request_id"]
    if isinstance(error, ClientDisconnect):
        log.debug("Request %s: its caller went away.", request_id)
        return Answer([], b"", 400)  # nobody reads it
    log.error("Request %s failed.", request_id, exc_info=error)
    detail = "The service failed on this request; its log has the reason under the request id."
    return _problem(scope, 500, RecurveError.code, RecurveError.title, detail, {}, [])


def _problem(
    scope: Scope, status: int, code: str, title: str, detail: str, extra: dict[str, Any], headers: list[tuple[bytes, bytes]]
) -> Answer:
    if 400 <= status < 500 and status not in NOT_400 and scope["path"].startswith(V2):
        status = 400
    if log.isEnabledFor(logging.DEBUG):
        _note(scope, status, code)
    content = {
        "type": f"urn:recurve:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": scope["state"]["request_id"],
        "error": detail,
        **extra,
    }
    body = json.dumps(content).encode()  # in ASCII: what the client wrote may not be valid text
    return Answer([(b"content-type", MEDIA_TYPE.encode()), *headers], body, status)


def _note(scope: Scope, status: int, code: str) -> None:
    """Log which request failed, without its contents. The path is logged as a repr: it may hold anything, even line ends."""
    state = scope["state"]
    model = " of model {} {}".format(*state["model"]) if "model" in state else ""
    key = f" with key {state['key'].name}" if "key" in state else ""
    asked = f"{scope.get('method', scope.get('type', 'HTTP'))} {scope['path'][:MOST_SHOWN]!r}"
    log.debug("Request %s: %s%s%s is answered %d, %s.", state["request_id"], asked, model, key, status, code)
