"""What the product does with streams, in Python objects: a loop around the engine, which knows nothing of streams.

Owns the life of a stream: creating it, running its chunks in turn, forking it, dropping it when it expires, ending it. A chunk
is done when its state, its number and its answer are stored, in one write; until then the stream is unchanged. Two processes
may work on the same stream: the store accepts the write of one, and the other starts again. Knows nothing of wire formats.
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

SWEEP = 1.0  # seconds between two sweeps for expired streams


class Caller(Protocol):
    """The client that waits for an answer, and may disconnect."""

    def waits_for(self, ticket: Ticket) -> Ticket:
        """The ticket itself, which now fails when the client disconnects; raises when the client has disconnected already."""


@dataclass(slots=True)
class _Asked:
    """The chunks of one call of `predict`; `chunks` and `digests` are as decoded for `spec`."""

    decoders: Sequence[Decode]
    caller: Caller
    bookmark: Bookmark | None
    deadline: float
    end: bool
    spec: ModelSpec | None = None
    chunks: list[Chunk] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)


class StreamService:
    """All streams of a store, and the models that run their chunks."""

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

        Raises InvalidRequest when the model cannot be streamed, StreamConflict when a live stream has the id, TooManyStreams,
        StoreUnavailable.
        """
        _check_streamed(spec)
        begun = pack_arrays(state) if state is not None else b""
        return await self.keeper.begin(id, _origin(spec), begun, ttl)

    async def find(self, id: str) -> Stream:
        """The stream as it is stored; raises StreamNotFound, StreamExpired, StoreUnavailable."""
        return await self.keeper.load(id, self.keeper.now())

    async def state(self, stream: Stream) -> tuple[State, ModelSpec]:
        """The stream's state, laid out for the model that runs its next chunk, and that model; raises what Pins.model raises."""
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
        """Run chunks that follow each other, and return the answers to the first of them: one or more, as many as run together.

        A chunk is what its decoder returns for the model; decoders run again if the id has passed to another model meanwhile.
        A numbered chunk may be sent again: it is not done twice. `bookmark`: shared by all chunks of one client, and saves
        reading the store. `begin`: first begin a new stream of this model, which must be held, in place of any with this id.
        `end`: end the stream once all chunks are done. Other processes see all of this as one change. `timeout`: seconds,
        capped at StreamLimits.timeout.

        Raises StreamNotFound, StreamExpired, StreamConflict, StoreUnavailable, DeadlineExceeded, what `create` raises if `begin`
        is given, and what the first decoder, Batcher.predict and its ticket raise. After an error the stored stream is unchanged,
        or the chunks are done and their stored answers are returned when they are sent again.
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
                except RecurveError:  # the bookmark may be out of date, so read the store before failing
                    after = None
                if after is not None and await self._settle(asked, Place(last, last.tag), after, len(answered)):
                    return answered, model
                bookmark.used = False  # no race is counted: an old bookmark wastes work only once
            while True:
                place, model = await self._place(id, arrived, begin, deadline)
                answered, after = await self._attempt(asked, place.stream, model)
                if after is None:
                    self._metrics.repeated.inc(len(answered))
                    return answered, model
                if await self._settle(asked, place, after, len(answered)):
                    return answered, model
                self._metrics.raced.inc()  # another process stored its chunk first
        finally:
            self._turns.give(id)

    async def _attempt(self, asked: _Asked, stream: Stream, model: Model) -> tuple[list[tuple[ChunkAnswer, Chunk]], Stream | None]:
        """The answers to the first chunks, run on this stream, and the stream after them; None: they were done before."""
        spec = model.spec
        with model:  # so that it stays loaded meanwhile
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
                    following = 1  # a later chunk may have caused it: run the first alone
        most = self.keeper.limits.answers
        after, answers = stream.after(prediction, first, asked.digests[: len(first)], self.keeper.now(), most=most)
        return list(zip(answers, first, strict=True)), after

    async def _settle(self, asked: _Asked, place: Place, after: Stream, done: int) -> bool:
        """Store the stream after the `done` first chunks, or end it; False, with nothing changed, when its record has changed."""
        ends = asked.end and done == len(asked.decoders)
        if not await self.keeper.settle(place, None if ends else after):
            return False
        if asked.bookmark is not None and not ends:
            asked.bookmark.put(after)
        self._metrics.done.inc(done)
        return True

    async def fork(self, id: str, *, new: str | None = None, ttl: float | None = None) -> Stream:
        """A new stream that begins with the state of stream `id`; raises what `find`, `state` and `create` raise."""
        async with self._turns.of(id):
            stream = await self.keeper.load(id, self.keeper.now())
        await self.state(stream)  # raises if its model cannot go on with it: then the new stream could not either
        origin = Origin(stream.model, stream.version, stream.weights)
        return await self.keeper.begin(new, origin, stream.state, stream.ttl if ttl is None else ttl)

    async def delete(self, id: str) -> None:
        """End a stream after the chunks that wait for it; raises StreamNotFound, StreamExpired, StoreUnavailable."""
        async with self._turns.of(id):
            while not await self.keeper.remove(id):
                pass  # another process did a chunk meanwhile: try again

    async def start(self) -> None:
        """Connect to the store, if it can be reached, and start the task that drops expired streams."""
        with suppress(StoreUnavailable):
            await self.keeper.count()
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    async def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        await self.keeper.close()

    async def _place(self, id: str, arrived: float, begin: Model | None, deadline: float) -> tuple[Place, Model]:
        """The stream and the stored record that a chunk starts from, and the model to run it with."""
        left = deadline - monotonic()
        if left < 0:
            raise DeadlineExceeded("The deadline passed before the stream came to this chunk.")
        if begin is not None:
            begin.follow()
            return await self.keeper.vacate(id, _origin(begin.spec)), begin
        stream = await self.keeper.load(id, arrived)
        return Place(stream, stream.tag), await self._model_of(stream, left)

    async def _model_of(self, stream: Stream, left: float) -> Model:
        """The model for a stream's next chunk; raises DeadlineExceeded when it is not loaded within `left` seconds."""
        coming = self._pins.model(stream.model, stream.version)
        if self._catalog.find(stream.model, stream.version) is not None:
            return await coming  # it is loaded
        try:
            async with asyncio.timeout(left):
                return await asyncio.shield(coming)  # loading goes on after the timeout, for later requests
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
    """Raises InvalidRequest unless the model can be streamed."""
    if not spec.causal:
        detail = f"{spec} answers whole sequences only and cannot be streamed: POST them to /predict"
        raise InvalidRequest.at("/model", detail)
