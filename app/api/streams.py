"""/streams: begins, shows, forks and ends streams.

Owns how a stream is shown. Its chunks are chunks.py's and live.py's. Knows nothing of how streams are stored.
"""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from app.api import chunks, many_chunks, responses, schemas
from app.api.bodies import Bodies, check_json, content, misplaced
from app.api.chunks import Chunks
from app.api.many_chunks import ManyChunks
from app.api.queries import NoQuery, PageQuery, ShowQuery
from app.codecs.request import LARGEST_SEQ
from app.errors import InvalidRequest, MalformedBody, StreamConflict, StreamExpired, StreamNotFound, UpgradeRequired
from app.service import Service
from app.streaming.service import StreamService
from app.streaming.streams import Stream
from app.streaming.tokens import BadToken, Tokens

SEQ = {"type": "integer", "minimum": 0, "maximum": LARGEST_SEQ}
BEGUN = {"headers": responses.headers(Location="where the stream is")}


class Streams:
    """What the routes about streams share: it reads bodies, begins streams, and makes state tokens."""

    def __init__(self, service: Service, streams: StreamService, bodies: Bodies, tokens: Tokens) -> None:
        self.streams = streams
        self._service = service
        self._bodies = bodies
        self._tokens = tokens

    async def body(self, request: Request) -> Any:
        """A request's JSON body, decoded; {} if it is empty or null. Raises InvalidRequest if there is a query."""
        if request.scope["query_string"]:
            raise misplaced()
        body = await self._bodies.read(request.receive, dict(request.scope["headers"]))
        if not body.strip():
            return {}
        check_json(dict(request.scope["headers"]))
        try:
            said = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise MalformedBody(f"The body is not valid JSON: {error}.") from None
        return {} if said is None else said

    async def open(self, asked: schemas.Begin) -> tuple[Stream, bool]:
        """The stream, and whether it is new: with `resume` it may be one that was begun before."""
        if not asked.resume:
            return await self._begin(asked), True
        if asked.id is None:
            raise InvalidRequest.at("/id", "resume goes on with the stream of an id, and none is given")
        while True:
            with suppress(StreamNotFound, StreamExpired):
                return _of_this_model(await self.streams.find(asked.id), asked), False
            with suppress(StreamConflict):  # another client has just begun it
                return await self._begin(asked), True

    async def _begin(self, begin: schemas.Begin) -> Stream:
        spec = self._service.model(begin.model, begin.version).spec
        try:
            state = None if begin.state is None else self._tokens.decode(begin.state, spec)
        except BadToken as error:
            raise InvalidRequest.at("/state", str(error)) from None
        return await self.streams.create(spec, id=begin.id, state=state, ttl=begin.ttl_seconds)

    async def token(self, stream: Stream) -> str:
        return self._tokens.encode(*await self.streams.state(stream))


def router(streams: Streams, answer: Chunks, answer_many: ManyChunks) -> APIRouter:
    routes = APIRouter(prefix="/streams", tags=["streams"])
    service = streams.streams

    @routes.post(
        "",
        operation_id="begin_stream",
        summary="Begin a stream",
        status_code=201,
        response_model=schemas.Stream,
        responses={
            200: {"model": schemas.Stream, "description": "with `resume`: the stream was there already", **BEGUN},
            201: BEGUN,
            **responses.problems(400, 401, 404, 409, 413, 415, 422, 503),
        },
        openapi_extra={"requestBody": {"content": content("Begin")}},
    )
    async def begin(request: Request) -> JSONResponse:
        """The service keeps its state. Everything in the body may be left out, and so may the body.

        With `resume` a stream of this `id` that is alive goes on as it is, and only where there is none one is begun.
        """
        stream, new = await streams.open(schemas.read(schemas.Begin, await streams.body(request)))
        return _placed(stream, status=201 if new else 200)

    @routes.get(
        "",
        operation_id="list_streams",
        summary="Counts, limits, and a page of ids",
        response_model=schemas.StreamPage,
        responses=responses.problems(401, 422, 503),
    )
    async def page(query: PageQuery) -> schemas.StreamPage:
        """A page has about `limit` ids, in no order; `next` is the `cursor` of the one after it."""
        ids, following = await service.keeper.page(query.cursor, limit=query.limit)
        return schemas.StreamPage(
            count=await service.keeper.count(),
            limit=service.keeper.limits.max_streams,
            ttl_seconds=service.keeper.limits.ttl,
            store=service.keeper.name,
            ids=ids,
            next=following or None,
        )

    @routes.get("/ws", include_in_schema=False)  # before /{id}, which would take "ws" for an id
    @routes.get("/{id}/ws", include_in_schema=False)
    async def websocket(request: Request) -> None:
        """Refuse a plain request for a WebSocket of live.py."""
        raise UpgradeRequired(
            f"{request.scope['path']} is a WebSocket, and this request is no handshake: connect with ws:// or wss://, and have a "
            "proxy in between pass on the headers Upgrade and Connection."
        )

    @routes.get(
        "/{id}",
        operation_id="show_stream",
        summary="Where a stream stands",
        response_model=schemas.Stream,
        responses=responses.problems(401, 404, 409, 410, 422, 503),
    )
    async def show(id: str, query: ShowQuery) -> JSONResponse:
        """Looking at it does not keep it alive."""
        stream = await service.find(id)
        return JSONResponse(_shown(stream, await streams.token(stream) if query.state else None))

    @routes.delete(
        "/{id}",
        operation_id="end_stream",
        summary="End a stream",
        status_code=204,
        response_class=Response,
        responses=responses.problems(401, 403, 404, 410, 422, 503),
    )
    async def end(id: str, _: NoQuery) -> Response:
        """Its state is freed, once the chunks that wait are done."""
        await service.delete(id)
        return Response(status_code=204)

    @routes.post(
        "/{id}/fork",
        operation_id="fork_stream",
        summary="Begin a stream with the state of another",
        status_code=201,
        response_model=schemas.Stream,
        responses={201: BEGUN, **responses.problems(400, 401, 404, 409, 410, 413, 415, 422, 503)},
        openapi_extra={"requestBody": {"content": content("Fork")}},
    )
    async def fork(id: str, request: Request) -> JSONResponse:
        """Both go on from here, each on its own; the new one counts from 0."""
        asked = schemas.read(schemas.Fork, await streams.body(request))
        return _placed(await service.fork(id, new=asked.id, ttl=asked.ttl_seconds))

    @routes.post(
        chunks.PATH.removeprefix("/streams"),
        operation_id="predict_chunk",
        summary="The next steps of a stream",
        response_class=Response,
        responses={
            200: {"headers": chunks.SAID, "content": content("ChunkResponse", octets=True)},
            **responses.problems(400, 401, 404, 409, 410, 413, 415, 422, 500, 503, 504),
        },
        openapi_extra={
            "requestBody": {"required": True, "content": content("ChunkRequest", octets=True)},
            "parameters": [
                {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "title": "Id"}},
                {"name": "seq", "in": "query", "schema": SEQ, "description": "for an octet-stream body"},
                {"name": "return_sequences", "in": "query", "schema": {"type": "boolean"}, "description": "the same"},
            ],
        },
    )
    async def predict(request: Request) -> Response:
        """Answered as if the stream had never been cut. Chunks of one stream take turns.

        `seq`, the number of the chunk, makes it safe to send again: what was done is answered from what is kept, the state
        untouched. After a gap the answer is 409, and `expected` says which chunk is next. As octets: float32,
        little-endian, row-major, in both directions.
        """
        return (await answer(request.scope, request.receive)).response()

    @routes.post(
        many_chunks.PATH.removeprefix("/streams"),
        operation_id="predict_chunks",
        summary="The next steps of many streams",
        response_class=Response,
        responses={
            200: {"content": content("ChunksResponse")},
            **responses.problems(400, 401, 413, 415, 422, 500, 503),
        },
        openapi_extra={"requestBody": {"required": True, "content": content("ChunksRequest")}},
    )
    async def predict_many(request: Request) -> Response:
        """Each chunk is done or refused by itself, as if it had come alone; its result says which. Chunks of one stream run in
        their order.

        The request as a whole is refused, and nothing of it done, only if it cannot be said which chunks it holds.
        """
        return (await answer_many(request.scope, request.receive)).response()

    return routes


def _of_this_model(stream: Stream, asked: schemas.Begin) -> Stream:
    """The stream itself; raises StreamConflict when it is of another model or version than the one that was asked for."""
    for wanted, has in ((asked.model, stream.model), (asked.version, stream.version)):
        if wanted not in (None, has):
            detail = f"There is a stream {stream.id} already, and it is one of {stream.model} version {stream.version}."
            raise StreamConflict(detail)
    return stream


def _placed(stream: Stream, *, status: int = 201) -> JSONResponse:
    return JSONResponse(_shown(stream), status_code=status, headers={"Location": f"/streams/{stream.id}"})


def _shown(stream: Stream, token: str | None = None) -> dict[str, Any]:
    created, used, expires = (datetime.fromtimestamp(at, UTC) for at in (stream.created, stream.used, stream.expires))
    return schemas.Stream(
        id=stream.id,
        model=stream.model,
        version=stream.version,
        seq=stream.seq,
        steps=stream.steps,
        created_at=created,
        used_at=used,
        expires_at=expires,
        ttl_seconds=stream.ttl,
        state=token,
    ).model_dump(mode="json", exclude_none=True)
