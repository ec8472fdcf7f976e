"""POST /v2/models/{model}/infer: the inference of the Open Inference Protocol V2, with and without a kept sequence.

Owns its HTTP side. Knows nothing of the formats inside the body, of how batches are made or streams are kept.
"""

import asyncio
from contextlib import suppress
from time import monotonic

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from app.api import schemas, v2_schemas
from app.api.bodies import JSON, JSON_ANSWER, OCTETS, OCTETS_ANSWER, Bodies
from app.api.caller import Caller
from app.api.problems import Answer
from app.codecs import v2
from app.codecs.request import Limits
from app.codecs.v2 import InferRequest, Turn
from app.errors import DeadlineExceeded, InvalidRequest, StreamExpired, StreamNotFound, Violation
from app.lifecycle import Model
from app.manifest import ModelSpec
from app.queue import Ticket
from app.service import Service
from app.stream_service import StreamService
from app.streams import Chunk
from app.tensors import Prediction

PATH = "/v2/models/{model}/infer"
VERSIONED = "/v2/models/{model}/versions/{version}/infer"
HEADER_LENGTH = "Inference-Header-Content-Length"
BINARY = {"type": "string", "format": "binary"}
BUSY = 0.01  # seconds of work that wait


class Infer:
    """Answers requests; `timeout` is the deadline in seconds of one that names none."""

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
        length = headers.get(HEADER_LENGTH.lower().encode())
        with self._service.model(name, version) as model:
            spec = model.spec
            scope["state"]["model"] = (spec.name, spec.version)  # it is counted under this name
            if model.batcher.backlog > BUSY:  # whoever will be turned away need not be read first
                model.batcher.admit(self._timeout)
            request = await self._bodies.call(len(body), lambda: v2.decode(body, length, spec, self._limits))
            deadline = begin + (request.timeout or self._timeout)
            if caller.gone:
                raise ClientDisconnect
            if deadline <= monotonic():
                raise DeadlineExceeded("The deadline passed while the request was read; send less at once, or allow more time.")
            if request.turn is not None:
                predictions, spec = await self._go_on(request.turn, request, spec, version, Deadline(caller, deadline))
            else:
                predictions = await self._predict(model, request, caller, deadline)
        encoded = await self._bodies.call(len(body), lambda: v2.encode(predictions, request, spec))
        if encoded.header_length is None:
            return await self._bodies.answer(encoded.body, headers, JSON_ANSWER)
        said = [*OCTETS_ANSWER, (HEADER_LENGTH.lower().encode(), b"%d" % encoded.header_length)]
        return await self._bodies.answer(encoded.body, headers, said)

    async def _predict(self, model: Model, request: InferRequest, caller: Caller, deadline: float) -> list[Prediction]:
        ticket = self._service.predict(model, request.instances, timeout=deadline - monotonic())
        caller.waits_for(ticket)
        return await ticket

    async def _go_on(
        self, turn: Turn, request: InferRequest, spec: ModelSpec, version: str | None, caller: "Deadline"
    ) -> tuple[list[Prediction], ModelSpec]:
        """The sequence goes on with these steps: the answer, and of which model the version that it began with."""
        if turn.start:
            await self._streams.create(spec, id=turn.id, anew=True)

        async def decode(pinned: ModelSpec) -> Chunk:
            if pinned.name != spec.name or version not in (None, pinned.version):
                detail = f"the sequence {turn.id} is one of {pinned}, not of {spec.name if version is None else spec}"
                raise InvalidRequest([Violation("/parameters/sequence_id", detail)])
            if len(pinned.features) != len(spec.features):
                raise _unknown(turn)
            return Chunk(request.instances[0].steps)

        try:
            with caller:
                ((answer, _),), model = await self._streams.predict(turn.id, (decode,), caller)
        except (StreamNotFound, StreamExpired):
            raise _unknown(turn) from None
        if turn.end:
            with suppress(StreamNotFound, StreamExpired):
                await self._streams.delete(turn.id)
        return [Prediction(answer.outputs, ())], model.spec


class Deadline:
    """A caller who waits until then, and no longer; the sequence is where it was when that is over."""

    def __init__(self, caller: Caller, at: float) -> None:
        self._caller = caller
        self._at = at
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def waits_for(self, ticket: Ticket) -> None:
        self._caller.waits_for(ticket)
        left = self._at - monotonic()
        if left > 0:
            self._timer = asyncio.get_running_loop().call_later(left, ticket.expire)
        else:  # while it waited for its turn
            ticket.expire()


def _unknown(turn: Turn) -> InvalidRequest:
    detail = f"there is no sequence {turn.id}: its first request says so with sequence_start, and it ends when it is idle for long"
    return InvalidRequest([Violation("/parameters/sequence_id", detail)])


def router(infer: Infer) -> APIRouter:
    """The same as routes of the framework: their documentation."""
    routes = APIRouter(tags=["open inference protocol"])

    async def answer(request: Request) -> Response:
        """Every row of the batch is a sequence, answered exactly as if it had come alone.

        Tensors have the names and layouts of the graph, as the model's metadata lists them. They may follow the JSON as bytes:
        little-endian, row-major, with `Inference-Header-Content-Length` and `parameters.binary_data_size`. With a
        `sequence_id` the service keeps the state from one request to the next.
        """
        return (await infer(request.scope, request.receive)).response()

    for path, names in ((PATH, ("model",)), (VERSIONED, ("model", "version"))):
        length = {"name": HEADER_LENGTH, "in": "header", "schema": {"type": "integer"}, "description": "bytes of the JSON"}
        said = {HEADER_LENGTH: {"schema": {"type": "integer"}, "description": "bytes of the JSON, where bytes follow it"}}
        routes.add_api_route(
            path,
            answer,
            methods=["POST"],
            summary="Infer" if path == PATH else "Infer with this version",
            response_class=Response,
            responses={
                200: {
                    "headers": said,
                    "content": {JSON: {"schema": {"$ref": "#/components/schemas/InferResponse"}}, OCTETS: {"schema": BINARY}},
                },
                **schemas.problems(400, 401, 404, 500, 503, 504),
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
