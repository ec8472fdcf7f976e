"""What the product does with streams, in Python objects: a loop around the engine, which knows nothing of them.

Owns the life of a stream: it is made, takes its turns, forks, expires, ends. A chunk is done when its state, its number
and its answer are stored, together; until then the stream is where it was. Two processes may work on one chunk, or on
two of one stream: the store lets one of them through, and the other begins again. Knows nothing of wire formats.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from math import inf
from secrets import token_hex
from time import monotonic, time
from typing import Protocol

import numpy as np

from app import streams
from app.errors import (
    DeadlineExceeded,
    NotFinite,
    StoreUnavailable,
    StreamConflict,
    StreamExpired,
    StreamNotFound,
    TooManyStreams,
)
from app.lifecycle import Model
from app.manifest import NAME_PATTERN, ModelSpec
from app.metrics import StreamMetrics
from app.queue import Ticket
from app.service import Service
from app.stores import TAG, Store
from app.streams import Answer, Chunk, Decode, Limits, Stream
from app.tensors import Instance, State
from app.turns import Turns

log = logging.getLogger(__name__)

SWEEP = 1.0  # seconds between two looks for what has expired
FORGIVEN = 10.0  # seconds after a write that failed
SLICE = 256  # streams that are dropped before others have their turn


_ID = re.compile(NAME_PATTERN)


class Caller(Protocol):
    """Who waits for an answer, and may leave."""

    def waits_for(self, ticket: Ticket) -> None:
        """Raises when the caller has left; fails the ticket when it does."""


class StreamService:
    """Every stream of a store, and the models that go on with them."""

    def __init__(
        self, service: Service, store: Store, limits: Limits, metrics: StreamMetrics, *, clock: Callable[[], float] = time
    ) -> None:
        self.limits = limits
        self.store = store.name
        self.alive: int | None = None  # streams, when they were last counted
        self.trouble: str | None = None  # why they could not be, or could not be written
        self._failed = -inf  # when a chunk could not be stored
        self._service = service
        self._store = store
        self._metrics = metrics
        self._turns = Turns()
        self._clock = clock  # seconds since the epoch: records outlive the process
        self._sweeper: asyncio.Task[None] | None = None

    async def create(self, model: Model, *, id: str | None = None, state: State | None = None, ttl: float | None = None) -> Stream:
        """A new stream; StreamConflict when the id is alive, TooManyStreams, StoreUnavailable."""
        spec = model.spec
        begun = streams.pack_state(state) if state is not None else b""
        return await self._begin(id, spec.name, spec.version, begun, ttl)

    async def find(self, id: str) -> Stream:
        """Where a stream stands; StreamNotFound, StreamExpired, StoreUnavailable."""
        return await self._load(id, self._clock())

    async def state(self, stream: Stream) -> tuple[State, ModelSpec]:
        """Its state as the model takes it that goes on with it; raises what Service.pinned raises."""
        spec = (await self._service.pinned(stream.model, stream.version)).spec
        state = stream.state_of(spec)
        return tuple(np.zeros(each.shape, np.float32) for each in spec.states) if state is None else state, spec

    async def predict(self, id: str, decoders: Sequence[Decode], caller: Caller) -> tuple[list[tuple[Answer, Chunk]], Model]:
        """The answers to chunks that follow each other, to as many of the first ones as could be had at once, one or more.

        Each chunk is what its decoder gives for the model. With numbers they can be sent again: what was done is not done
        twice. Raises StreamNotFound, StreamExpired, StreamConflict, StoreUnavailable, and what the first decoder,
        Batcher.predict and its ticket raise; then the stream is where it was, or has done the chunks and will say so when they
        come again.
        """
        arrived, deadline = self._clock(), monotonic() + self.limits.timeout
        chunks: list[Chunk] = []
        most = len(decoders)
        await self._turns.take(id)
        try:
            while True:
                if monotonic() > deadline:
                    raise DeadlineExceeded("The deadline passed before the stream came to this chunk.")
                stream = await self._load(id, arrived)
                model = await self._service.pinned(stream.model, stream.version)
                if not chunks:
                    chunks = await streams.decoded(decoders, model.spec)
                    digests = [streams.digest_of(chunk.steps) for chunk in chunks]
                known, following = stream.place(chunks, digests, len(model.spec.outputs))
                if known:
                    self._metrics.repeated.inc(len(known))
                    return list(zip(known, chunks, strict=False)), model
                left = max(deadline - monotonic(), 0.0)
                first = chunks[: min(following, most)]
                instance = Instance(streams.joined(first), stream.state_of(model.spec))
                ticket = self._service.predict(model, (instance,), timeout=left)
                caller.waits_for(ticket)
                try:
                    (prediction,) = await ticket
                except NotFinite:
                    if len(first) == 1:
                        raise
                    most = 1  # it may be a later one's fault
                    continue
                after, answers = stream.after(prediction, first, digests[: len(first)], self._clock())
                if await self._put(after, expected=stream.tag):
                    self._metrics.done.inc(len(first))
                    return list(zip(answers, first, strict=True)), model
                self._metrics.raced.inc()  # another process was first
        finally:
            self._turns.give(id)

    async def fork(self, id: str, *, new: str | None = None, ttl: float | None = None) -> Stream:
        """A new stream that begins with the state of this one; raises what `find` and `create` raise."""
        async with self._turns.of(id):
            stream = await self._load(id, self._clock())
        return await self._begin(new, stream.model, stream.version, stream.state, stream.ttl if ttl is None else ttl)

    async def delete(self, id: str) -> None:
        """End a stream once what waits for it is done; StreamNotFound, StreamExpired, StoreUnavailable."""
        async with self._turns.of(id):
            while not await self._store.remove(id, expected=(await self._load(id, self._clock())).tag):
                pass  # a chunk was done in another process
        self._metrics.ended.labels("deleted").inc()

    async def page(self, cursor: str, *, limit: int) -> tuple[list[str], str]:
        """Ids, and the cursor for the next ones; empty after the last."""
        return await self._store.page(cursor, limit=limit)

    async def count(self) -> int:
        return await self._store.count()

    async def drop_expired(self) -> int:
        """Free some of the streams that have expired; how many."""
        dropped = await self._store.sweep(self._clock(), limit=SLICE)
        self._metrics.ended.labels("expired").inc(dropped)
        return dropped

    def start(self) -> None:
        """Begin to drop what expires."""
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    async def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        await self._store.close()

    async def _begin(self, id: str | None, model: str, version: str, state: bytes, ttl: float | None) -> Stream:
        count = await self._store.count()
        if count >= self.limits.max_streams:
            raise TooManyStreams(f"There are {count} streams; at most {self.limits.max_streams} are kept at once.", retry_after=5)
        now = self._clock()
        begun = Stream(
            id=token_hex(12) if id is None else id,
            model=model,
            version=version,
            ttl=self.limits.ttl if ttl is None else ttl,
            created=now,
            used=now,
            tag=streams.new_tag(),
            state=state,
        )
        while not await self._put(begun, expected=None):
            record = await self._store.read(begun.id)
            if record is None:
                continue
            if Stream.unpack(begun.id, record).expires > now:
                raise StreamConflict(f"There is a stream {begun.id} already.")
            await self._store.remove(begun.id, expected=record[:TAG])
            self._metrics.ended.labels("expired").inc()
        self._metrics.opened.inc()
        return begun

    async def _put(self, stream: Stream, *, expected: bytes | None) -> bool:
        # A chunk that came in time may have to wait: its stream must not be dropped meanwhile.
        until = stream.expires + self.limits.timeout
        try:
            written = await self._store.swap(stream.id, stream.pack(), expected=expected, until=until)
        except StoreUnavailable as error:
            self._failed = monotonic()
            self._is_in_trouble(error)
            raise
        if self.trouble is not None:
            self._is_well()
        return written

    def _is_in_trouble(self, error: StoreUnavailable) -> None:
        if self.trouble is None:
            log.error("Streams cannot be used: %s", error)
        self.trouble = error.detail

    def _is_well(self) -> None:
        if self.trouble is not None:
            log.info("Streams can be used again.")
        self.trouble = None

    async def _load(self, id: str, arrived: float) -> Stream:
        """The stream as it was for someone who came then; StreamNotFound, StreamExpired."""
        if not _ID.fullmatch(id):
            raise StreamNotFound(f"There is no stream {id[:64]!r}.")
        record = await self._store.read(id)
        if record is not None:
            stream = Stream.unpack(id, record)
            if stream.expires > arrived:
                return stream
            raise StreamExpired(f"Stream {id} was idle for more than {stream.ttl:g} s and has expired.")
        if await self._store.expired(id):
            raise StreamExpired(f"Stream {id} was idle for longer than it lives, and has expired.")
        raise StreamNotFound(f"There is no stream {id!r}.")

    async def _sweep(self) -> None:
        """Drop what has expired, a slice at a time, and count what is left."""
        while True:
            try:
                while await self.drop_expired():  # noqa: ASYNC110  # it waits for nothing: others have their turn
                    await asyncio.sleep(0)
                await self._service.retire()
                self.alive = await self._store.count()
                self._metrics.alive.set(self.alive)
                if monotonic() - self._failed > FORGIVEN:  # a full disk can still be read
                    self._is_well()
            except StoreUnavailable as error:
                self._is_in_trouble(error)
            except Exception:
                log.exception("Streams that expired could not be dropped.")
            await asyncio.sleep(SWEEP)
