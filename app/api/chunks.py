"""POST /streams/{id}/predict: the next steps of a stream.

Owns the HTTP side of a chunk. Knows nothing of how streams are stored.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope

from app.api import responses
from app.api.bodies import LARGE, OCTETS_ANSWER, Bodies, Headers, is_binary, misplaced, takes_octets
from app.api.caller import Caller
from app.api.problems import Answer
from app.codecs import json, octets
from app.codecs.entries import Entry
from app.codecs.request import CHUNK_MEMBERS, Limits
from app.manifest import ModelSpec
from app.streaming.service import StreamService
from app.streaming.streams import Chunk

T = TypeVar("T")

PATH = "/streams/{id}/predict"

SAID = responses.headers(
    Recurve_Model="of octets: the model of the stream",
    Recurve_Version="of octets: its version",
    Recurve_Seq="of octets: chunks done, and so the number of the next",
    Recurve_Steps="of octets: time steps in all of them",
)


class ChunkDecoder:
    """Reads the bodies of chunks, JSON or octets, and of requests with the chunks of many streams."""

    def __init__(self, bodies: Bodies, limits: Limits, new_parser: Callable[[], json.Decoder]) -> None:
        self._bodies = bodies
        self._limits = limits
        self._new_parser = new_parser
        self._parser = new_parser()

    async def from_json(self, body: bytes, spec: ModelSpec, known: Sequence[str] = CHUNK_MEMBERS) -> Chunk:
        """The chunk in a JSON body that may have the members `known`."""
        parser = self._parser
        quick = parser.quick_chunk(body, spec, known) if len(body) < LARGE else None
        if quick is not None:
            return quick
        return await self._aside(
            body, lambda new: new.quick_chunk(body, spec, known), lambda: parser.exact_chunk(body, spec, known)
        )

    async def entries(self, body: bytes) -> list[Entry]:
        """The chunks of many streams in a JSON body."""
        parser = self._parser
        quick = parser.quick_entries(body) if len(body) < LARGE else None
        if quick is not None:
            return quick
        return await self._aside(body, lambda new: new.quick_entries(body), lambda: parser.exact_entries(body))

    async def _aside(self, body: bytes, quick: Callable[[json.Decoder], T | None], exact: Callable[[], T]) -> T:
        """Decode a body that is large, or that the quick parser did not accept."""
        # A parser keeps memory for its largest body so far: a large one gets its own parser, freed before a search begins.
        found = None if len(body) < LARGE else await self._bodies.call(len(body), lambda: quick(self._new_parser()))
        return await self._bodies.search(len(body), exact) if found is None else found

    def from_octets(self, body: bytes, query: Sequence[tuple[str, str]], spec: ModelSpec) -> Chunk:
        return octets.decode_chunk(body, query, self._limits, spec)


class Chunks:
    """Answers the requests of this route."""

    def __init__(self, streams: StreamService, bodies: Bodies, decoder: ChunkDecoder) -> None:
        self._streams = streams
        self._bodies = bodies
        self._decoder = decoder

    async def __call__(self, scope: Scope, receive: Receive) -> Answer:
        headers: Headers = dict(scope["headers"])
        binary = is_binary(headers)
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True) if scope["query_string"] else []
        if query and not binary:
            raise misplaced()
        id = scope["path"].split("/")[2]
        with Caller(scope) as caller:
            body = self._bodies.at_hand(receive, headers) or await self._bodies.read(receive, headers)

            async def decode(spec: ModelSpec) -> Chunk:
                scope["state"]["model"] = spec.name, spec.version
                if binary:
                    return self._decoder.from_octets(body, query, spec)
                return await self._decoder.from_json(body, spec)

            ((answer, chunk),), model = await self._streams.predict(id, (decode,), caller)
        if binary and takes_octets(headers):
            said = {
                "Recurve-Model": model.spec.name,
                "Recurve-Version": model.spec.version,
                "Recurve-Seq": str(answer.seq),
                "Recurve-Steps": str(answer.steps),
            }
            extra = [(name.lower().encode(), value.encode()) for name, value in said.items()]
            return Answer(OCTETS_ANSWER + extra, octets.encode(answer.outputs, chunk, model.spec))
        return await self._bodies.json(json.encode_chunk(answer, chunk, model.spec), headers)
