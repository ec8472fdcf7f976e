"""POST /predict: reads the body within its limit, decodes, predicts, encodes.

Owns the HTTP side of a prediction. Knows nothing of the formats inside the body or of how batches are made.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import TypeVar
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from app.api import schemas
from app.api.problems import Answer
from app.codecs import compression, json, octets
from app.codecs.request import Limits, PredictRequest
from app.errors import DeadlineExceeded, InvalidInstances, TooLarge, UnsupportedMediaType, Violation
from app.lifecycle import Model
from app.manifest import ModelSpec
from app.queue import Ticket
from app.service import Service
from app.sockets import ON_DISCONNECT
from app.tensors import Prediction
from app.tokens import Tokens

T = TypeVar("T")

PATH = "/predict"
JSON = "application/json"
OCTETS = "application/octet-stream"
STATE = "Recurve-State"
QUERY = {
    "model": "string",
    "version": "string",
    "return_sequences": "boolean",
    "return_state": "boolean",
    "timeout_ms": "number",
}
BINARY = {"type": "string", "format": "binary"}
LARGE = 2**20  # bytes; smaller ones are read or packed in a few milliseconds
BUSY = 0.01  # seconds of work that wait
MOST_PACKED = 2**10  # times that gzip can shrink anything
WORTH_PACKING = 2**10  # bytes

JSON_ANSWER = [(b"content-type", JSON.encode())]
OCTETS_ANSWER = [(b"content-type", OCTETS.encode())]
PACKED = [(b"content-encoding", b"gzip"), (b"vary", b"accept-encoding")]


class Caller:
    """Who waits for an answer, and may leave: then what it has waiting is dropped."""

    __slots__ = ("gone", "ticket")

    def __init__(self) -> None:
        self.gone = False
        self.ticket: Ticket | None = None

    def leaves(self) -> None:
        self.gone = True
        if self.ticket is not None:
            self.ticket.fail(ClientDisconnect())


class Predict:
    """Answers requests; `timeout` is the deadline in seconds of one that names none."""

    def __init__(self, service: Service, *, limits: Limits, max_body_bytes: int, timeout: float, tokens: Tokens) -> None:
        self._service = service
        self._limits = limits
        self._max_body_bytes = max_body_bytes
        self._timeout = timeout
        self._tokens = tokens
        self._decoder = json.Decoder(limits, self._choose, tokens)
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="codec")

    async def __call__(self, scope: Scope, receive: Receive) -> Answer:
        caller = Caller()
        leaving: set[Callable[[], None]] = scope.get("extensions", {}).get(ON_DISCONNECT, set())
        leaving.add(caller.leaves)
        try:
            return await self._answer(scope, receive, caller)
        finally:
            leaving.discard(caller.leaves)

    async def _answer(self, scope: Scope, receive: Receive, caller: "Caller") -> Answer:
        begin = monotonic()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        binary = _is_binary(headers)
        body = await _read(receive, headers, self._max_body_bytes)
        if b"content-encoding" in headers:
            body = await self._unpack(body, headers)
        decoded = self._decode_octets(body, scope, headers) if binary else await self._decode_json(body, scope)
        options = decoded.options
        model = self._service.model(options.model, options.version)
        if caller.gone:
            raise ClientDisconnect
        left = (options.timeout or self._timeout) - (monotonic() - begin)
        if left <= 0:
            raise DeadlineExceeded("The deadline passed while the request was read; send less at once, or allow more time.")
        caller.ticket = self._service.predict(model, decoded.instances, timeout=left)
        predictions = await caller.ticket
        if binary and OCTETS.encode() in headers.get(b"accept", b""):
            return Answer(self._headers(model, decoded, predictions), octets.encode(predictions[0], options))
        body = json.encode(predictions, options, model.spec, model.engine.provider.in_use, self._tokens)
        if len(body) >= WORTH_PACKING and _takes_gzip(headers):
            return Answer(JSON_ANSWER + PACKED, await self._call(len(body), lambda: compression.deflate(body)))
        return Answer(JSON_ANSWER, body)

    def _choose(self, name: str | None, version: str | None) -> ModelSpec:
        return self._service.model(name, version).spec

    async def _decode_json(self, body: bytes, scope: Scope) -> PredictRequest:
        if scope["query_string"]:
            raise InvalidInstances([Violation("", f"the options of an {JSON} body stand in it, not in the query")])
        if self._service.backlog() > BUSY:  # whoever will be turned away need not be read first
            self._service.admit(json.hinted_timeout(body) or self._timeout)
        if len(body) < LARGE:
            return self._decoder.decode(body)
        # a parser keeps the memory of the largest body it has read: these get their own, one at a time
        decoder = json.Decoder(self._limits, self._choose, self._tokens)
        return await self._call(len(body), lambda: decoder.decode(body))

    def _decode_octets(self, body: bytes, scope: Scope, headers: dict[bytes, bytes]) -> PredictRequest:
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True) if scope["query_string"] else ()
        token = headers.get(STATE.lower().encode())
        return octets.decode(
            body, query, self._limits, self._choose, token=None if token is None else token.decode("latin-1"), tokens=self._tokens
        )

    def _headers(self, model: Model, decoded: PredictRequest, predictions: list[Prediction]) -> list[tuple[bytes, bytes]]:
        """What a JSON answer says beside the predictions."""
        spec = model.spec
        said = {"Recurve-Model": spec.name, "Recurve-Version": spec.version, "Recurve-Provider": model.engine.provider.in_use}
        if decoded.options.return_state:
            said[STATE] = self._tokens.encode(predictions[0].state, spec)
        return OCTETS_ANSWER + [(name.lower().encode(), value.encode()) for name, value in said.items()]

    async def _unpack(self, body: bytes, headers: dict[bytes, bytes]) -> bytes:
        encoding = headers[b"content-encoding"].strip().lower()
        if encoding == b"identity":
            return body
        if encoding not in (b"gzip", b"x-gzip"):
            shown = encoding.decode("latin-1")[:64]
            raise UnsupportedMediaType(f"The body may be encoded with gzip or not at all, got Content-Encoding: {shown}.")
        return await self._call(MOST_PACKED * len(body), lambda: compression.inflate(body, self._max_body_bytes))

    async def _call(self, size: int, work: Callable[[], T]) -> T:
        """Do work on `size` bytes: here, or on a thread where it would hold up the event loop."""
        if size < LARGE:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._aside, work)


def router(predict: Predict) -> APIRouter:
    """The same as a route of the framework: its documentation."""
    routes = APIRouter()

    @routes.post(
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

        A single sequence may come as octets: float32, little-endian, row-major, the options in the query. With
        `Accept: application/octet-stream` its prediction goes back the same way.

        With `return_state` a token of the state after the last step comes back for each instance; a later request that
        holds it goes on from there, on any replica with the same signing key.
        """
        return (await predict(request.scope, request.receive)).response()

    return routes


def _is_binary(headers: dict[bytes, bytes]) -> bool:
    """Whether the body is octets, not JSON; UnsupportedMediaType for anything else."""
    given = headers.get(b"content-type", b"").decode("latin-1")
    if given != JSON:  # most say just this
        given = given.partition(";")[0].strip().lower()
    if given not in (JSON, OCTETS):
        allowed = f"{JSON} or {OCTETS}"
        raise UnsupportedMediaType(
            f"The body must be {allowed}, got {given[:64] or 'no Content-Type'}: send 'Content-Type: {JSON}'."
        )
    return given == OCTETS


def _takes_gzip(headers: dict[bytes, bytes]) -> bool:
    if b"accept-encoding" not in headers:
        return False
    for coding in headers[b"accept-encoding"].split(b","):
        name, _, quality = coding.replace(b" ", b"").lower().partition(b";q=")
        if name == b"gzip":
            return quality.strip(b"0.") != b"" or not quality
    return False


async def _read(receive: Receive, headers: dict[bytes, bytes], limit: int) -> bytes:
    """The body, refused as soon as it is known to be too long."""
    declared = headers.get(b"content-length", b"").lstrip(b"0").decode("latin-1")
    if declared.isdecimal() and (len(declared) > 20 or int(declared) > limit):
        raise TooLarge(f"The body has {declared[:20]} bytes; at most {limit} are taken.")
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"The body has more than the {limit} bytes that are taken.")
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks) if len(chunks) > 1 else chunk
