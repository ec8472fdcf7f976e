"""POST /predict: reads the body within its limit, decodes, predicts, encodes.

Owns the HTTP side of a prediction. Knows nothing of the format inside the body or of how batches are made.
"""

from fastapi import APIRouter, Request, Response

from app.api import schemas
from app.codecs import json
from app.codecs.request import Limits
from app.errors import TooLarge, UnsupportedMediaType
from app.service import Service

JSON = "application/json"


def router(service: Service, *, limits: Limits, max_body_bytes: int, timeout: float) -> APIRouter:
    """The route; `timeout` is the deadline in seconds of a request that names none."""
    decoder = json.Decoder(limits, lambda name, version: service.model(name, version).spec)
    routes = APIRouter()

    @routes.post(
        "/predict",
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
    )
    async def predict(request: Request) -> Response:
        """Sequences may have different lengths: each is answered exactly as if it had come alone."""
        _expect_json(request)
        decoded = decoder.decode(await _read(request, max_body_bytes))
        options = decoded.options
        model = service.model(options.model, options.version)
        predictions = await service.predict(model, decoded.instances, timeout=options.timeout or timeout)
        return Response(json.encode(predictions, options, model.spec, model.engine.provider.in_use), media_type=JSON)

    return routes


def _expect_json(request: Request) -> None:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != JSON:
        raise UnsupportedMediaType(f"The body must be {JSON}, got {given or 'no Content-Type'}: send 'Content-Type: {JSON}'.")


async def _read(request: Request, limit: int) -> bytes:
    """The body, refused as soon as it is known to be too long."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise TooLarge(f"The body has {declared} bytes; at most {limit} are taken.")
    chunks = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"The body has more than the {limit} bytes that are taken.")
        chunks.append(chunk)
    return b"".join(chunks)
