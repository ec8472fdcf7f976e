"""What the product does with streams, in Python objects: a loop around the engine, which knows nothing of them.

Owns the life of a stream: it is made, takes its turns, forks, expires, ends. A chunk is done when its state, its number
and its answer are stored, together; until then the stream is where it was. Two processes may work on one chunk, or on
two of one stream: the store lets one of them through, and the other begins again. Knows nothing of wire formats.
"""

import asyncio
import logging
from collections.abc import Sequence
from math import inf
from time import monotonic
from typing import Protocol

import numpy as np

from app import streams
from app.errors import DeadlineExceeded, InvalidRequest, NotFinite, Violation
from app.keeper import Keeper, Place
from app.lifecycle import Model
from app.manifest import ModelSpec
from app.pins import Pins
from app.queue import Ticket
from app.service import Service
from app.streams import Answer, Chunk, Decode, Stream
from app.tensors import Instance, State
from app.turns import Turns

log = logging.getLogger(__name__)

SWEEP = 1.0  # seconds between two looks for what has expired


class Caller(Protocol):
    """Who waits for an answer, and may leave."""

    last: Stream | None  # where the stream stood when this caller's last chunk was done: there it stands, if nobody else came

    def waits_for(self, ticket: Ticket) -> None:
        """Raises when the caller has left; fails the ticket when it does."""


class StreamService:
    """Every stream of a store, and the models that go on with them."""

    def __init__(self, service: Service, pins: Pins, keeper: Keeper) -> None:
        self.keeper = keeper
        self._service = service
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
        begun = streams.pack_arrays(state) if state is not None else b""
        return await self.keeper.begin(id, spec.name, spec.version, begun, ttl)

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
        begin: Model | None = None,
        end: bool = False,
        timeout: float = inf,
    ) -> tuple[list[tuple[Answer, Chunk]], Model]:
        """The answers to chunks that follow each other, to as many of the first ones as could be had at once, one or more.

        Each chunk is what its decoder gives for the model; it is asked again where the id is one of another model meanwhile.
        With numbers chunks can be sent again: what was done is not done twice. `begin`: with a new stream of this model, which
        the caller holds, in the place of one that has the id. `end`: it has ended when all are done. That is one turn, for
        other processes too. `timeout`: seconds, no more than any chunk has.

        Raises StreamNotFound, StreamExpired, StreamConflict, StoreUnavailable, DeadlineExceeded, with `begin` what `create`
        does, and what the first decoder, Batcher.predict and its ticket raise; then the stream is where it was, and with `begin`
        the one before it, or has done the chunks and will say so when they come again.
        """
        if begin is not None:
            _check_streamed(begin.spec)
        arrived, deadline = self.keeper.now(), monotonic() + min(timeout, self.keeper.limits.timeout)
        decoded: ModelSpec | None = None
        most = len(decoders)
        await self._turns.take(id)
        try:
            while True:
                place, model = await self._place(id, arrived, begin, deadline, caller.last)
                stream, spec = place.stream, model.spec
                recalled, caller.last = stream is caller.last, None  # which is worth one try
                with model:  # which is not let go meanwhile
                    if spec != decoded:
                        chunks = await streams.decoded(decoders, spec)
                        digests = [streams.digest_of(chunk.steps) for chunk in chunks]
                        decoded = spec
                    if recalled and chunks[0].seq not in (None, stream.seq):
                        continue  # what became of others is in the store
                    known, following = stream.place(chunks, digests, spec)
                    if known:
                        self._metrics.repeated.inc(len(known))
                        return list(zip(known, chunks, strict=False)), model
                    left = max(deadline - monotonic(), 0.0)
                    first = chunks[: min(following, most)]
                    instance = Instance(streams.joined(first), stream.state_of(spec))
                    ticket = self._service.predict(model, (instance,), timeout=left)
                    caller.waits_for(ticket)
                    try:
                        (prediction,) = await ticket
                    except NotFinite:
                        if len(first) == 1:
                            raise
                        most = 1  # it may be a later one's fault
                        continue
                after, answers = stream.after(prediction, first, digests[: len(first)], self.keeper.now())
                ends = end and len(first) == len(decoders)
                if await self.keeper.settle(place, None if ends else after):
                    caller.last = None if ends else after
                    self._metrics.done.inc(len(first))
                    return list(zip(answers, first, strict=True)), model
                self._metrics.raced.inc()  # another process was first
        finally:
            self._turns.give(id)

    async def fork(self, id: str, *, new: str | None = None, ttl: float | None = None) -> Stream:
        """A new stream that begins with the state of this one; raises what `find` and `create` raise."""
        async with self._turns.of(id):
            stream = await self.keeper.load(id, self.keeper.now())
        return await self.keeper.begin(new, stream.model, stream.version, stream.state, stream.ttl if ttl is None else ttl)

    async def delete(self, id: str) -> None:
        """End a stream once what waits for it is done; StreamNotFound, StreamExpired, StoreUnavailable."""
        async with self._turns.of(id):
            while not await self.keeper.remove(await self.keeper.load(id, self.keeper.now())):
                pass  # a chunk was done in another process

    def start(self) -> None:
        """Begin to drop what expires."""
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    async def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        await self.keeper.close()

    async def _place(
        self, id: str, arrived: float, begin: Model | None, deadline: float, last: Stream | None
    ) -> tuple[Place, Model]:
        """Where a chunk is to be done, and with which model."""
        left = deadline - monotonic()
        if left < 0:
            raise DeadlineExceeded("The deadline passed before the stream came to this chunk.")
        if begin is not None:
            begin.follow()
            return await self.keeper.vacate(id, begin.spec.name, begin.spec.version), begin
        if last is None or last.id != id or last.expires <= arrived:
            last = await self.keeper.load(id, arrived)
        return Place(last, last.tag), await self._model_of(last, left)

    async def _model_of(self, stream: Stream, left: float) -> Model:
        """The model that goes on with a stream; DeadlineExceeded when it cannot be had in time."""
        coming = self._pins.model(stream.model, stream.version)
        if self._service.catalog.find(stream.model, stream.version) is not None:
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


def _check_streamed(spec: ModelSpec) -> None:
    """InvalidRequest unless the model can be streamed."""
    if not spec.causal:
        detail = f"{spec} answers whole sequences only and cannot be streamed: POST them to /predict"
        raise InvalidRequest([Violation("/model", detail)])
