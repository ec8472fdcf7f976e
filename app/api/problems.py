"""Every error as application/problem+json (RFC 9457), 404 and 405 included.

Owns how an error looks on the wire. What an error means is errors.py's; a defect shows a generic text, its traceback
goes to the log.
"""

import json
import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app.errors import InvalidInstances, RecurveError, Unavailable

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class ProblemResponse(JSONResponse):
    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        return json.dumps(content).encode()  # in ASCII: what the caller wrote may not be valid text


def install(app: FastAPI) -> None:
    """Answer every error of `app` with a problem."""
    app.add_exception_handler(RecurveError, known)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(Exception, defect)


async def known(request: Request, error: Exception) -> Response:
    assert isinstance(error, RecurveError)
    if error.status == 500:
        return await defect(request, error)
    extra: dict[str, Any] = {}
    headers = {}
    if isinstance(error, InvalidInstances):
        extra["errors"] = [{"pointer": v.pointer, "detail": v.detail} for v in error.violations]
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(error.retry_after)
    return _problem(request, error.status, error.code, error.title, error.detail, extra, headers)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    title = HTTPStatus(error.status_code).phrase
    detail = f"{request.method} {request.url.path}: {title.lower()}. The routes are listed at /docs."
    code = title.lower().replace(" ", "-")
    return _problem(request, error.status_code, code, title, detail, {}, dict(error.headers or {}))


async def gone(request: Request, error: Exception) -> Response:
    log.debug("Request %s: its caller went away.", _request_id(request), exc_info=error)
    return Response(status_code=400)  # nobody reads it


async def defect(request: Request, error: Exception) -> Response:
    log.error("Request %s failed.", _request_id(request), exc_info=error)
    detail = "The service failed on this request; its log has the reason under the request id."
    return _problem(request, 500, RecurveError.code, RecurveError.title, detail, {}, {})


def _problem(
    request: Request, status: int, code: str, title: str, detail: str, extra: dict[str, Any], headers: dict[str, str]
) -> Response:
    content = {
        "type": f"urn:recurve:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": _request_id(request),
        "error": detail,
        **extra,
    }
    return ProblemResponse(content, status_code=status, headers=headers)


def _request_id(request: Request) -> str:
    return str(request.state.request_id)
