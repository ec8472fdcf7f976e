"""What the product does with streams, in Python objects: a loop around the engine, which knows nothing of them.

Owns the life of a stream: it is made, takes its turns, forks, expires, ends. A chunk is done when its state, its number
and its answer are stored, together; until then the stream is where it was. Two processes may work on one chunk, or on
two of one stream: the store lets one of them through, and the other begins again. Knows nothing of wire formats.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from time import monotonic
from typing import Protocol

import numpy as np

from app.catalog import Catalog
from app.errors import DeadlineExceeded, InvalidRequest, NotFinite, RecurveError, StoreUnavailable
from app.lifecycle import Model
from app.manifest import ModelSpec
from app.queue import Ticket
from app.streaming import streams
from app.streaming.bookmark import Bookmark
from app.streaming.keeper import Keeper, Origin, Place
from app.streaming.pins import Pins
from app.streaming.streams import Chunk, ChunkAnswer, Decode, Stream
from app.streaming.turns import Turns
from app.tensors import Instance, State, pack_arrays

log = logging.getLogger(__name__)

SWEEP = 1.0  # seconds between two looks for what has expired


class Caller(Protocol):
    """Who waits for an answer, and may leave."""

    def waits_for(self, ticket: Ticket) -> Ticket:
        """The ticket itself, which now fails when the caller leaves; raises when he has."""


@dataclass(slots=True)
class _Asked:
    """What is asked of a stream at once, as it was read for `spec`."""

    decoders: Sequence[Decode]
    caller: Caller
    bookmark: Bookmark | None
    deadline: float
    end: bool
    spec: ModelSpec | None = None
    chunks: list[Chunk] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)


class StreamService:
    """Every stream of a store, and the models that go on with them."""

    def __init__(self, catalog: Catalog, pins: Pins, keeper: Keeper) -> None:
        self.keeper = keeper
        self._catalog = catalog
        self._pins = pins
        self._metrics = keeper.metrics
        self._turns = Turns()
        self._sweeper: asyncio.Task[None] | None = None

    async def create(
        self, spec: ModelSpec, *, id: str | None = None, state: State | None = None, ttl: float | None = None
    ) -> Stream:
        """A new stream of this model.

        Raises InvalidRequest when the model cannot be streamed, StreamConflict when the id is alive, TooManyStreams,
        StoreUnavailable.
        """
        _check_streamed(spec)
        begun = pack_arrays(state) if state is not None else b""
        return await self.keeper.begin(id, _origin(spec), begun, ttl)

    async def find(self, id: str) -> Stream:
        """Where a stream stands; StreamNotFound, StreamExpired, StoreUnavailable."""
        return await self.keeper.load(id, self.keeper.now())

    async def state(self, stream: Stream) -> tuple[State, ModelSpec]:
        """Its state as the model takes it that goes on with it; raises what Pins.model raises."""
        spec = (await self._pins.model(stream.model, stream.version)).spec
        state = stream.state_of(spec)
        return tuple(np.zeros(each.shape, np.float32) for each in spec.states) if state is None else state, spec

    async def predict(
        self,
        id: str,
        decoders: Sequence[Decode],
        caller: Caller,
        *,
        bookmark: Bookmark | None = None,
        begin: Model | None = None,
        end: bool = False,
        timeout: float = inf,
    ) -> tuple[list[tuple[ChunkAnswer, Chunk]], Model]:
        """The answers to chunks that follow each other, to as many of the first ones as could be had at once, one or more.

        Each chunk is what its decoder gives for the model; it is asked again where the id is one of another model meanwhile.
        With numbers chunks can be sent again: what was done is not done twice. `bookmark`: the same for all chunks of one caller,
        who need not be told from the store where the stream stands. `begin`: with a new stream of this model, which the caller
        holds, in the place of one that has the id. `end`: it has ended when all are done. That is one turn, for other processes
        too. `timeout`: seconds, no more than any chunk has.

        Raises StreamNotFound, StreamExpired, StreamConflict, StoreUnavailable, DeadlineExceeded, with `begin` what `create`
        does, and what the first decoder, Batcher.predict and its ticket raise; then the stream is where it was, and with `begin`
        the one before it, or has done the chunks and will say so when they come again.
        """
        if begin is not None:
            _check_streamed(begin.spec)
        arrived, deadline = self.keeper.now(), monotonic() + min(timeout, self.keeper.limits.timeout)
        asked = _Asked(decoders, caller, bookmark, deadline, end)
        await self._turns.take(id, timeout=deadline - monotonic())
        try:
            if bookmark is not None and (last := bookmark.take(id, arrived)) is not None and begin is None:
                try:
                    model = await self._model_of(last, deadline - monotonic())
                    answered, after = await self._attempt(asked, last, model)
                except RecurveError:  # of a stream that may stand elsewhere by now, or be another one
                    after = None
                if after is not None and await self._settle(asked, Place(last, last.tag), after, len(answered)):
                    return answered, model
                bookmark.used = False  # what was computed for nothing is no race, and happens once
            while True:
                place, model = await self._place(id, arrived, begin, deadline)
                answered, after = await self._attempt(asked, place.stream, model)
                if after is None:
                    self._metrics.repeated.inc(len(answered))
                    return answered, model
                if await self._settle(asked, place, after, len(answered)):
                    return answered, model
                self._metrics.raced.inc()  # another process was first
        finally:
            self._turns.give(id)

    async def _attempt(self, asked: _Asked, stream: Stream, model: Model) -> tuple[list[tuple[ChunkAnswer, Chunk]], Stream | None]:
        """Answers to the first chunks, if the stream stands here, and where it stands after them; None: they were done before."""
        spec = model.spec
        with model:  # which is not let go meanwhile
            if spec != asked.spec:
                asked.chunks = await streams.decoded(asked.decoders, spec)
                asked.digests = [streams.digest_of(chunk.steps) for chunk in asked.chunks]
                asked.spec = spec
            known, following = stream.place(asked.chunks, asked.digests, spec)
            if known:
                return list(zip(known, asked.chunks, strict=False)), None
            while True:
                first = asked.chunks[:following]
                instance = Instance(streams.joined(first), stream.state_of(spec))
                left = max(asked.deadline - monotonic(), 0.0)
                try:
                    (prediction,) = await asked.caller.waits_for(model.batcher.predict((instance,), timeout=left))
                    break
                except NotFinite:
                    if following == 1:
                        raise
                    following = 1  # it may be a later one's fault
        after, answers = stream.after(prediction, first, asked.digests[: len(first)], self.keeper.now())
        return list(zip(answers, first, strict=True)), after

    async def _settle(self, asked: _Asked, place: Place, after: Stream, done: int) -> bool:
        """Store what became of the stream by so many chunks; False, with nothing changed, when it stands elsewhere."""
        ends = asked.end and done == len(asked.decoders)
        if not await self.keeper.settle(place, None if ends else after):
            return False
        if asked.bookmark is not None and not ends:
            asked.bookmark.put(after)
        self._metrics.done.inc(done)
        return True

    async def fork(self, id: str, *, new: str | None = None, ttl: float | None = None) -> Stream:
        """A new stream that begins with the state of this one; raises what `find`, `state` and `create` raise."""
        async with self._turns.of(id):
            stream = await self.keeper.load(id, self.keeper.now())
        await self.state(stream)  # or it would be one that cannot go on
        origin = Origin(stream.model, stream.version, stream.weights)
        return await self.keeper.begin(new, origin, stream.state, stream.ttl if ttl is None else ttl)

    async def delete(self, id: str) -> None:
        """End a stream once what waits for it is done; StreamNotFound, StreamExpired, StoreUnavailable."""
        async with self._turns.of(id):
            while not await self.keeper.remove(id):
                pass  # a chunk was done in another process

    async def start(self) -> None:
        """Reach the store, where it can be, and begin to drop what expires."""
        with suppress(StoreUnavailable):
            await self.keeper.count()
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    async def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        await self.keeper.close()

    async def _place(self, id: str, arrived: float, begin: Model | None, deadline: float) -> tuple[Place, Model]:
        """Where a chunk is to be done, and with which model."""
        left = deadline - monotonic()
        if left < 0:
            raise DeadlineExceeded("The deadline passed before the stream came to this chunk.")
        if begin is not None:
            begin.follow()
            return await self.keeper.vacate(id, _origin(begin.spec)), begin
        stream = await self.keeper.load(id, arrived)
        return Place(stream, stream.tag), await self._model_of(stream, left)

    async def _model_of(self, stream: Stream, left: float) -> Model:
        """The model that goes on with a stream; DeadlineExceeded when it cannot be had in time."""
        coming = self._pins.model(stream.model, stream.version)
        if self._catalog.find(stream.model, stream.version) is not None:
            return await coming  # it is there
        try:
            async with asyncio.timeout(left):
                return await asyncio.shield(coming)  # what is loaded is for those too who come later
        except TimeoutError:
            detail = f"The deadline passed while version {stream.version} of {stream.model} was loaded; ask again later."
            raise DeadlineExceeded(detail) from None

    async def _sweep(self) -> None:
        while True:
            try:
                await self.keeper.sweep()
                self._pins.retire()
            except Exception:
                log.exception("Streams that expired could not be dropped.")
            await asyncio.sleep(SWEEP)


def _origin(spec: ModelSpec) -> Origin:
    return Origin(spec.name, spec.version, spec.weights)


def _check_streamed(spec: ModelSpec) -> None:
    """InvalidRequest unless the model can be streamed."""
    if not spec.causal:
        detail = f"{spec} answers whole sequences only and cannot be streamed: POST them to /predict"
        raise InvalidRequest.at("/model", detail)
