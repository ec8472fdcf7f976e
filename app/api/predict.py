"""POST /predict: reads the body within its limit, decodes, predicts, encodes.

Owns the HTTP side of a prediction. Knows nothing of the formats inside the body or of how batches are made.
"""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Message

from app.api import schemas
from app.api.direct import Endpoint
from app.codecs import json, octets
from app.codecs.request import Limits
from app.errors import InvalidInstances, TooLarge, UnsupportedMediaType, Violation
from app.manifest import ModelSpec
from app.service import Service

PATH = "/predict"
JSON = "application/json"
OCTETS = "application/octet-stream"
QUERY = {"model": "string", "version": "string", "return_sequences": "boolean", "timeout_ms": "number"}
BINARY = {"type": "string", "format": "binary"}
GRACE = 0.02  # seconds after which it is looked whether the caller is still there
LARGE = 2**18  # bytes; a good body of this size takes the event loop under a millisecond


def endpoint(service: Service, *, limits: Limits, max_body_bytes: int, timeout: float) -> Endpoint:
    """What answers a request; `timeout` is the deadline in seconds of one that names none."""
    aside = ThreadPoolExecutor(1, thread_name_prefix="decode")

    def choose(name: str | None, version: str | None) -> ModelSpec:
        return service.model(name, version).spec

    decoder = json.Decoder(limits, choose)

    async def predict(request: Request) -> Response:
        """Sequences may have different lengths: each is answered exactly as if it had come alone.

        A single sequence may come as octets: float32, little-endian, row-major, the options in the query. With
        `Accept: application/octet-stream` its prediction goes back the same way.
        """
        media = _media_type(request)
        body = await _read(request, max_body_bytes)
        if media == OCTETS:
            decoded = octets.decode(body, request.query_params.multi_items(), limits, choose)
        elif request.query_params:
            raise InvalidInstances([Violation("", f"the options of an {JSON} body stand in it, not in the query")])
        elif len(body) < LARGE:
            decoded = decoder.decode(body)
        else:  # a parser keeps the memory of the largest body it has read: these get their own, one at a time
            decode = json.Decoder(limits, choose).decode
            decoded = await asyncio.get_running_loop().run_in_executor(aside, decode, body)
        options = decoded.options
        model = service.model(options.model, options.version)
        limit = timeout if options.timeout is None else options.timeout
        async with _attended(request):
            predictions = await service.predict(model, decoded.instances, timeout=limit)
        provider = model.engine.provider.in_use
        if media == OCTETS and OCTETS in request.headers.get("accept", ""):
            headers = {"Recurve-Model": model.spec.name, "Recurve-Version": model.spec.version, "Recurve-Provider": provider}
            return Response(octets.encode(predictions[0], options), media_type=OCTETS, headers=headers)
        return Response(json.encode(predictions, options, model.spec, provider), media_type=JSON)

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
            200: {"content": {JSON: {"schema": {"$ref": "#/components/schemas/PredictResponse"}}, OCTETS: {"schema": BINARY}}},
            **schemas.problems(400, 404, 413, 415, 422, 500, 503, 504),
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {JSON: {"schema": {"$ref": "#/components/schemas/PredictRequest"}}, OCTETS: {"schema": BINARY}},
            },
            "parameters": [
                {"name": name, "in": "query", "schema": {"type": kind}, "description": "for an octet-stream body"}
                for name, kind in QUERY.items()
            ],
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


def _media_type(request: Request) -> str:
    """What the body is, JSON or OCTETS; UnsupportedMediaType for anything else."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise UnsupportedMediaType(f"The body must not be encoded, got Content-Encoding: {encoding}.")
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in (JSON, OCTETS):
        allowed = f"{JSON} or {OCTETS}"
        raise UnsupportedMediaType(f"The body must be {allowed}, got {given or 'no Content-Type'}: send 'Content-Type: {JSON}'.")
    return given


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
