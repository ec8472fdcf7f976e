"""POST /v2/models/{model}/infer: the inference of the Open Inference Protocol V2, with or without a sequence whose state is kept.

Owns its HTTP side. Knows nothing of the formats inside the body, of how batches are made or streams are stored.
"""

from collections.abc import Awaitable, Callable
from time import monotonic

from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Scope

from app.api import responses, v2_schemas
from app.api.bodies import JSON, JSON_ANSWER, OCTETS, OCTETS_ANSWER, Bodies
from app.api.caller import Caller
from app.api.problems import Answer
from app.codecs import v2
from app.codecs.request import Limits
from app.codecs.v2 import InferRequest, SequenceFlags
from app.errors import MOST_SHOWN, InvalidRequest, StreamExpired, StreamNotFound
from app.lifecycle import Model
from app.manifest import ModelSpec
from app.service import BUSY, Service
from app.streaming.service import StreamService
from app.streaming.streams import Chunk
from app.tensors import Prediction

PATH = "/v2/models/{model}/infer"
VERSIONED = "/v2/models/{model}/versions/{version}/infer"
HEADER_LENGTH = "Inference-Header-Content-Length"
BINARY = {"type": "string", "format": "binary"}

Fit = Callable[[ModelSpec], Awaitable[InferRequest]]  # turns the decoded body into a request for this model
Answered = tuple[list[Prediction], InferRequest, ModelSpec]


class Infer:
    """Answers requests; `timeout` is the deadline, in seconds, of a request that names none."""

    def __init__(self, service: Service, streams: StreamService, bodies: Bodies, *, limits: Limits, timeout: float) -> None:
        self._service = service
        self._streams = streams
        self._bodies = bodies
        self._limits = limits
        self._timeout = timeout

    async def __call__(self, scope: Scope, receive: Receive) -> Answer:
        with Caller(scope) as caller:
            return await self._answer(scope, receive, caller)

    async def _answer(self, scope: Scope, receive: Receive, caller: Caller) -> Answer:
        begin = monotonic()
        headers = dict(scope["headers"])
        _, _, _, name, *more = scope["path"].split("/")
        version = more[1] if more[0] == "versions" else None
        body = await self._bodies.read(receive, headers)
        arrived = monotonic()
        length = headers.get(HEADER_LENGTH.lower().encode())
        self._admit(scope, name, version)
        asked = await self._bodies.call(len(body), lambda: v2.read(body, length))
        deadline = begin + asked.timeout if asked.timeout else arrived + self._timeout

        async def fit(spec: ModelSpec) -> InferRequest:
            scope["state"]["model"] = (spec.name, spec.version)  # the request is counted for this model
            request = await self._bodies.call(len(body), lambda: v2.fit(asked, spec, self._limits))
            caller.time_left(deadline)  # raises if the client no longer waits
            return request

        if asked.sequence is not None and not asked.sequence.start:
            answered = await self._go_on(asked.sequence, (name, version), fit, caller, deadline)
        else:
            with self._service.model(name, version) as model:
                if asked.sequence is None:
                    answered = await self._predict(model, fit, caller, deadline)
                else:
                    v2.check_kept(model.spec)
                    answered = await self._go_on(asked.sequence, (name, version), fit, caller, deadline, begin=model)
        encoded = await self._bodies.call(len(body), lambda: v2.encode(*answered))
        if encoded.header_length is None:
            return await self._bodies.answer(encoded.body, headers, JSON_ANSWER)
        said = [*OCTETS_ANSWER, (HEADER_LENGTH.lower().encode(), b"%d" % encoded.header_length)]
        return await self._bodies.answer(encoded.body, headers, said)

    def _admit(self, scope: Scope, name: str, version: str | None) -> None:
        """Refuse a request before its body is decoded, if possible; raises what Service.model and Batcher.admit raise.

        A version that is not served is not refused here: a sequence may still go on with it.
        """
        self._service.model(name)
        model = self._service.catalog.find(name, version)
        if model is not None:
            scope["state"]["model"] = (model.spec.name, model.spec.version)
            if model.batcher.backlog > BUSY:
                model.batcher.admit(self._timeout)

    async def _predict(self, model: Model, fit: Fit, caller: Caller, deadline: float) -> Answered:
        request = await fit(model.spec)
        left = deadline - monotonic()
        predictions = await caller.waits_for(model.batcher.predict(request.instances, timeout=left))
        return predictions, request, model.spec

    async def _go_on(
        self,
        sequence: SequenceFlags,
        target: tuple[str, str | None],
        fit: Fit,
        caller: Caller,
        deadline: float,
        *,
        begin: Model | None = None,
    ) -> Answered:
        """Continue the sequence with these steps, on the version that it began with; or begin it, on the model `begin`."""
        request: InferRequest

        name, version = target
        id = f"{name}:{sequence.id}"  # each model has its own sequences

        async def decode(pinned: ModelSpec) -> Chunk:
            nonlocal request
            if version not in (None, pinned.version):
                detail = f"the sequence {sequence.id} is one of {pinned}, not of version {version[:MOST_SHOWN]}"
                raise InvalidRequest.at("/parameters/sequence_id", detail)
            request = await fit(pinned)
            return Chunk(request.instances[0].steps)

        try:
            ((answer, _),), model = await self._streams.predict(
                id, (decode,), caller, begin=begin, end=sequence.end, timeout=deadline - monotonic()
            )
        except (StreamNotFound, StreamExpired):
            raise _unknown(name, sequence) from None
        return [Prediction(answer.outputs, ())], request, model.spec


def _unknown(model: str, sequence: SequenceFlags) -> InvalidRequest:
    why = "its first request says so with sequence_start, and it ends when it is idle for long"
    detail = f"there is no sequence {sequence.id} of {model}: {why}"
    return InvalidRequest.at("/parameters/sequence_id", detail)


def router(infer: Infer) -> APIRouter:
    """Routes of the framework that answer as `infer` does, and document it in OpenAPI."""
    routes = APIRouter(tags=["open inference protocol"])

    async def answer(request: Request) -> Response:
        """Every row of the batch is a sequence, answered exactly as if it had come alone.

        Tensors have the names and layouts of the graph, as the model's metadata lists them. They may follow the JSON as bytes:
        little-endian, row-major, with `Inference-Header-Content-Length` and `parameters.binary_data_size`. With a
        `sequence_id` the service keeps the state from one request to the next.
        """
        return (await infer(request.scope, request.receive)).response()

    for path, names in ((PATH, ("model",)), (VERSIONED, ("model", "version"))):
        bytes_of_json = {"type": "integer", "minimum": 0}
        length = {"name": HEADER_LENGTH, "in": "header", "schema": bytes_of_json, "description": "bytes of the JSON"}
        said = {HEADER_LENGTH: {"schema": bytes_of_json, "description": "bytes of the JSON, where bytes follow it"}}
        routes.add_api_route(
            path,
            answer,
            methods=["POST"],
            operation_id="infer" if path == PATH else "infer_with_version",
            summary="Infer" if path == PATH else "Infer with this version",
            response_class=Response,
            responses={
                200: {
                    "headers": said,
                    "content": {JSON: {"schema": {"$ref": "#/components/schemas/InferResponse"}}, OCTETS: {"schema": BINARY}},
                },
                **responses.problems(400, 401, 404, 500, 503, 504),
            },
            openapi_extra={
                "requestBody": {
                    "required": True,
                    "content": {JSON: {"schema": {"$ref": "#/components/schemas/InferRequest"}}, OCTETS: {"schema": BINARY}},
                },
                "parameters": [*v2_schemas.path(*names), length],
            },
        )
    return routes
