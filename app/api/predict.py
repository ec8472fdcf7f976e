"""POST /predict: reads the body within its limit, decodes, predicts, encodes.

Owns the HTTP side of a prediction. Knows nothing of the formats inside the body or of how batches are made.
"""

from collections.abc import Callable
from functools import lru_cache
from time import monotonic
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Scope

from app.api import responses
from app.api.bodies import LARGE, OCTETS_ANSWER, Bodies, Headers, content, is_binary, misplaced, takes_octets
from app.api.caller import Caller
from app.api.problems import Answer
from app.codecs import json, octets
from app.codecs.request import LONGEST_TIMEOUT, Limits, PredictRequest
from app.lifecycle import Model
from app.manifest import ModelSpec
from app.queue import Ticket
from app.service import BUSY, Lease, Service
from app.streaming.tokens import Tokens
from app.tensors import Prediction

PATH = "/predict"
STATE = "Recurve-State"
_STATE = STATE.lower().encode()
QUERY = {
    "model": {"type": "string"},
    "version": {"type": "string"},
    "return_sequences": {"type": "boolean"},
    "return_state": {"type": "boolean"},
    "timeout_ms": {"type": "number", "exclusiveMinimum": 0, "maximum": LONGEST_TIMEOUT},
}
SAID = responses.headers(
    Recurve_Model="of octets: the model that gave them",
    Recurve_Version="of octets: its version",
    Recurve_Provider="of octets: the execution provider that computed them",
    Recurve_State="of octets, with return_state: the token of the state after the last step",
)


class Predict:
    """Answers requests; `timeout` is the deadline, in seconds, of a request that names none."""

    def __init__(
        self,
        service: Service,
        bodies: Bodies,
        *,
        limits: Limits,
        timeout: float,
        tokens: Tokens,
        new_parser: Callable[[], json.Decoder],
    ) -> None:
        self._service = service
        self._limits = limits
        self._bodies = bodies
        self._timeout = timeout
        self._tokens = tokens
        self._new_parser = new_parser
        self._parser = new_parser()

    async def __call__(self, scope: Scope, receive: Receive) -> Answer:
        begin = monotonic()
        headers: Headers = dict(scope["headers"])
        binary = is_binary(headers)
        with Caller(scope) as caller, Lease(self._service) as lease:
            body = self._bodies.at_hand(receive, headers) or await self._bodies.read(receive, headers)
            arrived = monotonic()
            if binary:
                decoded = self._decode_octets(body, scope, headers, lease)
            else:
                self._admit(body, scope)
                quick = self._parser.quick(body, lease.choose) if len(body) < LARGE else None
                decoded = quick or await self._decode_aside(body, lease)
            scope["state"]["model"] = lease.model.spec.name, lease.model.spec.version
            predictions = await self._predict(lease.model, decoded, caller, begin if decoded.options.timeout else arrived)
        spec, provider = lease.model.spec, predictions[0].provider
        if len(predictions) > 1:
            provider = ", ".join(sorted({each.provider for each in predictions}))
        if binary and takes_octets(headers):
            answer = octets.encode(predictions[0].outputs, decoded.options, spec)
            return Answer(self._headers(spec, provider, decoded, predictions), answer)
        return await self._bodies.json(json.encode(predictions, decoded.options, spec, provider, self._tokens), headers)

    def _predict(self, model: Model, decoded: PredictRequest, caller: Caller, begin: float) -> Ticket:
        left = caller.time_left(begin + (decoded.options.timeout or self._timeout))
        return caller.waits_for(model.batcher.predict(decoded.instances, timeout=left))

    def _admit(self, body: bytes, scope: Scope) -> None:
        """Refuse a request before its body is decoded, if its query or the load of the service is enough to decide."""
        if scope["query_string"]:
            raise misplaced()
        if self._service.backlog() > BUSY:
            self._service.admit(json.hinted_timeout(body) or self._timeout)

    async def _decode_aside(self, body: bytes, lease: Lease) -> PredictRequest:
        """Decode a body that is large, or that the quick parser did not accept."""
        parser = self._parser
        if len(body) < LARGE:
            return await self._bodies.search(len(body), lambda: parser.exact(body, lease.choose))
        # A parser keeps memory for its largest body so far: a large one gets its own parser, freed before a search begins.
        quick = await self._bodies.call(len(body), lambda: self._new_parser().quick(body, lease.choose))
        return await self._bodies.search(len(body), lambda: parser.exact(body, lease.choose)) if quick is None else quick

    def _decode_octets(self, body: bytes, scope: Scope, headers: Headers, lease: Lease) -> PredictRequest:
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True) if scope["query_string"] else ()
        token = headers.get(_STATE)
        return octets.decode(
            body,
            query,
            self._limits,
            lease.choose,
            token=None if token is None else token.decode("latin-1"),
            tokens=self._tokens,
        )

    def _headers(
        self, spec: ModelSpec, provider: str, decoded: PredictRequest, predictions: list[Prediction]
    ) -> list[tuple[bytes, bytes]]:
        """The headers for what a JSON answer says beside the predictions."""
        said = _said(spec.name, spec.version, provider)
        if not decoded.options.return_state:
            return said
        return [*said, (_STATE, self._tokens.encode(predictions[0].state, spec).encode())]


@lru_cache
def _said(model: str, version: str, provider: str) -> list[tuple[bytes, bytes]]:
    said = {"recurve-model": model, "recurve-version": version, "recurve-provider": provider}
    return OCTETS_ANSWER + [(name.encode(), value.encode()) for name, value in said.items()]


def router(predict: Predict) -> APIRouter:
    """A route of the framework that answers as `predict` does, and documents it in OpenAPI."""
    routes = APIRouter()

    @routes.post(
        PATH,
        operation_id="predict",
        summary="Predict for a batch of sequences",
        tags=["prediction"],
        response_class=Response,
        responses={
            200: {"headers": SAID, "content": content("PredictResponse", octets=True)},
            **responses.problems(400, 401, 404, 413, 415, 422, 431, 500, 503, 504),
        },
        openapi_extra={
            "requestBody": {"required": True, "content": content("PredictRequest", octets=True)},
            "parameters": [
                {"name": name, "in": "query", "schema": schema, "description": "for an octet-stream body"}
                for name, schema in QUERY.items()
            ]
            + [
                {
                    "name": STATE,
                    "in": "header",
                    "schema": {"type": "string"},
                    "description": "state token, for an octet-stream body",
                }
            ],
        },
    )
    async def answer(request: Request) -> Response:
        """Sequences may have different lengths: each is answered exactly as if it had come alone.

        The example below is for the model `gyro-denoiser`; `GET /models/{model}/example` gives an instance for any other.

        A single sequence may come as octets: float32, little-endian, row-major, the options in the query, which is for such a
        body alone. With `Accept: application/octet-stream` its prediction goes back the same way.

        With `return_state` a token of the state after the last step comes back for each instance; a later request that
        holds it goes on from there, on any replica with the same signing key.
        """
        return (await predict(request.scope, request.receive)).response()

    return routes
