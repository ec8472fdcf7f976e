"""POST /predict: reads the body within its limit, decodes, predicts, encodes.

Owns the HTTP side of a prediction. Knows nothing of the format inside the body or of how batches are made.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Message

from app.api import schemas
from app.api.direct import Endpoint
from app.codecs import json
from app.codecs.request import Limits
from app.errors import TooLarge, UnsupportedMediaType
from app.service import Service

PATH = "/predict"
JSON = "application/json"
GRACE = 0.02  # seconds after which it is looked whether the caller is still there
LARGE = 2**18  # bytes, decoded in about half a millisecond


def endpoint(service: Service, *, limits: Limits, max_body_bytes: int, timeout: float) -> Endpoint:
    """What answers a request; `timeout` is the deadline in seconds of one that names none."""
    local = threading.local()

    def decoder() -> json.Decoder:
        if not hasattr(local, "decoder"):
            local.decoder = json.Decoder(limits, lambda name, version: service.model(name, version).spec)
        made: json.Decoder = local.decoder
        return made

    async def predict(request: Request) -> Response:
        """Sequences may have different lengths: each is answered exactly as if it had come alone."""
        _expect_json(request)
        body = await _read(request, max_body_bytes)
        # a large body must not hold up everyone else: a thread decodes it, with a parser of its own
        decoded = decoder().decode(body) if len(body) < LARGE else await asyncio.to_thread(lambda: decoder().decode(body))
        options = decoded.options
        model = service.model(options.model, options.version)
        limit = timeout if options.timeout is None else options.timeout
        async with _attended(request):
            predictions = await service.predict(model, decoded.instances, timeout=limit)
        return Response(json.encode(predictions, options, model.spec, model.engine.provider.in_use), media_type=JSON)

    return predict


def router(predict: Endpoint) -> APIRouter:
    """The same as a route of the framework: its documentation."""
    routes = APIRouter()

    routes.post(
        PATH,
        summary="Predict for a batch of sequences",
        tags=["prediction"],
        response_class=Response,
        responses={
            200: {"content": {JSON: {"schema": {"$ref": "#/components/schemas/PredictResponse"}}}},
            **schemas.problems(400, 404, 413, 415, 422, 500, 503, 504),
        },
        openapi_extra={
            "requestBody": {"required": True, "content": {JSON: {"schema": {"$ref": "#/components/schemas/PredictRequest"}}}}
        },
    )(predict)
    return routes


@asynccontextmanager
async def _attended(request: Request) -> AsyncIterator[None]:
    """Cancels what it holds when the caller goes away: ClientDisconnect. The body must have been read."""
    loop, work = asyncio.get_running_loop(), asyncio.current_task()
    assert work is not None
    watches: list[asyncio.Future[Message]] = []

    def watch() -> None:
        watches.append(asyncio.ensure_future(request.receive()))
        watches[0].add_done_callback(gone)

    def gone(watch: "asyncio.Future[Message]") -> None:
        if watches and not watch.cancelled():
            work.cancel()

    timer = loop.call_later(GRACE, watch)  # most answers are there before it is worth looking
    try:
        yield
    except asyncio.CancelledError:
        if any(watch.done() for watch in watches) and work.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        timer.cancel()
        while watches:
            watches.pop().cancel()


def _expect_json(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise UnsupportedMediaType(f"The body must not be encoded, got Content-Encoding: {encoding}.")
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != JSON:
        raise UnsupportedMediaType(f"The body must be {JSON}, got {given or 'no Content-Type'}: send 'Content-Type: {JSON}'.")


async def _read(request: Request, limit: int) -> bytes:
    """The body, refused as soon as it is known to be too long."""
    declared = request.headers.get("content-length", "").lstrip("0")
    if declared.isdecimal() and (len(declared) > 20 or int(declared) > limit):
        raise TooLarge(f"The body has {declared[:20]} bytes; at most {limit} are taken.")
    chunks = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"The body has more than the {limit} bytes that are taken.")
        chunks.append(chunk)
    return b"".join(chunks)
