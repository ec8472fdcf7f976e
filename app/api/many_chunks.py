"""POST /streams/predict: the next steps of many streams in one request.

Owns that each chunk is done or refused by itself, as if it had come alone, and that those of one stream run in their order. What
a chunk is, and how it is read, is chunks.py's.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from itertools import takewhile
from time import monotonic, perf_counter
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from app.api import problems
from app.api.bodies import Bodies, Headers, check_json, misplaced
from app.api.caller import Caller
from app.api.chunks import ChunkDecoder
from app.api.problems import Answer
from app.codecs import json
from app.codecs.request import ENTRY_MEMBERS
from app.errors import RecurveError, Unavailable
from app.manifest import ModelSpec
from app.streaming.service import StreamService
from app.streaming.streams import Chunk

PATH = "/streams/predict"
MOST_AT_ONCE = 32  # chunks of one stream that run together
BEGUN_AT_ONCE = 32  # streams, before the event loop does other work: some milliseconds
BUSY = 0.004  # seconds of decoding, after which the event loop does other work


class _Reader:
    """Decodes the chunks of one request, one at a time: together they may be large, or take long to find out what is wrong."""

    def __init__(self, decoder: ChunkDecoder) -> None:
        self._decoder = decoder
        self._alone = asyncio.Lock()
        self._busy = 0.0  # seconds

    async def decode(self, body: bytes, spec: ModelSpec) -> Chunk:
        async with self._alone:
            begin = perf_counter()
            try:
                return await self._decoder.from_json(body, spec, ENTRY_MEMBERS)
            finally:
                self._busy += perf_counter() - begin
                if self._busy > BUSY:
                    self._busy = 0.0
                    await asyncio.sleep(0)


class _Asked:
    """One chunk of a request, decoded once for the model that its stream has."""

    __slots__ = ("_body", "_chunk", "_reader", "_spec", "index", "wrong")

    def __init__(self, index: int, body: bytes, reader: _Reader) -> None:
        self.index = index  # in the request
        self.wrong = False  # it could not be decoded; why is found out once more when it comes first
        self._body = body
        self._reader = reader
        self._spec: ModelSpec | None = None
        self._chunk: Chunk | None = None

    async def decode(self, spec: ModelSpec) -> Chunk:
        if self._chunk is None or self._spec is not spec:
            try:
                self._chunk, self._spec = await self._reader.decode(self._body, spec), spec
            except RecurveError:
                self.wrong = True
                raise
        return self._chunk


class ManyChunks:
    """Answers the requests of this route; `refused` is called with the code of each error after which to try a chunk again."""

    def __init__(self, streams: StreamService, bodies: Bodies, decoder: ChunkDecoder, refused: Callable[[str], None]) -> None:
        self._streams = streams
        self._bodies = bodies
        self._decoder = decoder
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive) -> Answer:
        headers: Headers = dict(scope["headers"])
        check_json(headers)
        if scope["query_string"]:
            raise misplaced()
        with Caller(scope) as caller:
            body = self._bodies.at_hand(receive, headers) or await self._bodies.read(receive, headers)
            entries = await self._decoder.entries(body)
            reader = _Reader(self._decoder)
            by_stream: dict[str, list[_Asked]] = defaultdict(list)
            for index, (id, chunk) in enumerate(entries):
                by_stream[id].append(_Asked(index, chunk, reader))
            results: list[Any] = [None] * len(entries)
            models: set[tuple[str, str]] = set()
            deadline = monotonic() + self._streams.keeper.limits.timeout
            async with asyncio.TaskGroup() as streams:
                for number, (id, asked) in enumerate(by_stream.items(), 1):
                    if caller.gone:
                        break
                    streams.create_task(self._follow(id, asked, scope, deadline, results, models))
                    if number % BEGUN_AT_ONCE == 0:
                        await asyncio.sleep(0)
        if None in results:
            raise ClientDisconnect
        if len(models) == 1:
            (scope["state"]["model"],) = models
        return await self._bodies.json(json.encode_results(results), headers)

    async def _follow(
        self, id: str, asked: list[_Asked], scope: Scope, deadline: float, results: list[Any], models: set[tuple[str, str]]
    ) -> None:
        """Run the chunks of one stream in their order, and put what came of each into `results`, until the caller leaves."""
        with Caller(scope) as caller:
            while asked and not caller.gone:
                able = takewhile(lambda each: not each.wrong, asked[1:MOST_AT_ONCE])
                decoders = [each.decode for each in (asked[0], *able)]
                try:
                    answered, model = await self._streams.predict(id, decoders, caller, timeout=deadline - monotonic())
                except ClientDisconnect:
                    return
                except Exception as error:
                    if isinstance(error, Unavailable):
                        self._refused(error.code)
                    results[asked.pop(0).index] = {"id": id, "error": problems.of(scope, error).body}
                    continue
                spec = model.spec
                models.add((spec.name, spec.version))
                for (answer, chunk), each in zip(answered, asked, strict=False):
                    results[each.index] = {"id": id, **json.told_chunk(answer, chunk, spec)}
                del asked[: len(answered)]
