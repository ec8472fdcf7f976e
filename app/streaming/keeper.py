"""Streams in their store: begins, reads, writes and removes them, and drops those that have expired.

Owns when a stream expires, how many there may be, and whether the store works. Knows nothing of models or chunks.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from math import inf
from secrets import token_hex
from time import monotonic
from typing import NamedTuple

from app.errors import MOST_SHOWN, StoreUnavailable, StreamConflict, StreamExpired, StreamNotFound, TooManyStreams
from app.manifest import NAME_PATTERN
from app.metrics import StreamMetrics
from app.stores import TAG, Store
from app.streaming import streams
from app.streaming.streams import Stream, StreamLimits

log = logging.getLogger(__name__)

FORGIVEN = 10.0  # seconds since the last failed write, after which `sweep` reports the store as working again
PROOF = 1.5  # seconds without a write, after which `sweep` tests whether the store can be written
SLICE = 256  # streams that are dropped before the event loop does other work

_NAME = NAME_PATTERN.strip("^$")
_ID = re.compile(f"(?:{_NAME}:)?{_NAME}")  # with a model's name in front for V2 sequences: their ids are unique within a model only


class Place(NamedTuple):  # not a dataclass: one is made for each chunk
    """A stream before its next chunk, and the record that the store holds under its id."""

    stream: Stream
    tag: bytes | None  # of the stored record; None: there is none
    begins: bool = False  # `stream` is new and not stored yet
    ends: str | None = None  # why another stream, whose record is replaced, ends: "expired" or "deleted"


class Origin(NamedTuple):
    """The model, version and weights that a stream begins with and stays with."""

    model: str
    version: str
    weights: str


class Keeper:
    """All streams of a store. Every method that uses the store raises StoreUnavailable when it cannot be used."""

    def __init__(
        self, store: Store, limits: StreamLimits, metrics: StreamMetrics, *, clock: Callable[[], float] | None = None
    ) -> None:
        self.limits = limits
        self.metrics = metrics
        self.name = store.name
        self.now = clock or store.now  # seconds since the epoch: records outlive the process
        self.alive: int | None = None  # number of streams at the last count
        self.trouble: str | None = None  # why the store could not be read or written; None: it works
        metrics.limit.set(limits.max_streams)
        self._beginning = 0  # calls of `begin` in progress
        self._failed = -inf  # when a write last failed
        self._written = -inf  # when a write, or a test of the store, last succeeded
        self._unproved = False  # a test of the store has begun and has not succeeded
        self._store = store

    async def begin(self, id: str | None, of: Origin, state: bytes, ttl: float | None) -> Stream:
        """Store a new stream with this packed state; raises StreamConflict when a live stream has the id, TooManyStreams."""
        begun = self._new(token_hex(12) if id is None else id, of, state, ttl)
        self._beginning += 1
        try:
            await self._check_room()
            await self._begin(begun)
        finally:
            self._beginning -= 1
        self.metrics.opened.inc()
        return begun

    async def _begin(self, begun: Stream) -> None:
        while not await self.put(begun, expected=None):
            record = await self._store.read(begun.id)
            if record is None:
                continue
            found = _known(begun.id, record)
            if found is None:
                raise StreamConflict(f"There is a stream {begun.id} already, kept by another release: DELETE ends it.")
            if found.expires > begun.created:
                raise StreamConflict(f"There is a stream {begun.id} already.")
            if await self._store.remove(begun.id, expected=record[:TAG]):  # else another process removed it first, and counts it
                self.metrics.ended.labels("expired").inc()

    async def vacate(self, id: str, of: Origin) -> Place:
        """A new stream to replace the record under this id, if any; nothing is stored before `settle`. Raises TooManyStreams."""
        begun = self._new(id, of, b"", None)
        record = await self._store.read(id)
        if record is None:
            await self._check_room()
            return Place(begun, None, begins=True)
        return Place(begun, record[:TAG], begins=True, ends="expired" if _is_over(id, record, begun.created) else "deleted")

    async def settle(self, place: Place, after: Stream | None) -> bool:
        """Store the stream after its chunk, or remove it if `after` is None; False, with nothing done, if the record changed."""
        if after is not None:
            settled = await self.put(after, expected=place.tag)
        else:
            settled = place.tag is None or await self._store.remove(place.stream.id, expected=place.tag)
        if settled:
            if place.begins:
                self.metrics.opened.inc()
            for reason in (place.ends, "deleted" if after is None else None):
                if reason is not None:
                    self.metrics.ended.labels(reason).inc()
        return settled

    async def load(self, id: str, arrived: float) -> Stream:
        """The stream, for a request that arrived then. Raises StreamNotFound, StreamExpired, StreamConflict: another release's."""
        return _alive(Stream.unpack(id, await self._record(id)), arrived)

    async def put(self, stream: Stream, *, expected: bytes | None) -> bool:
        """Store the stream if the stored record has the tag `expected` (None: if there is none); else return False."""
        # A chunk that arrived in time may have to wait: its stream must not be dropped meanwhile.
        until = stream.expires + self.limits.timeout
        try:
            written = await self._store.swap(stream.id, stream.pack(), expected=expected, until=until)
        except StoreUnavailable as error:
            self._failed = monotonic()
            self._is_in_trouble(error)
            raise
        if written:
            self._written = monotonic()
            if not self._unproved:  # on a full disk small writes may succeed: trouble would be reported on and off
                self._is_well()
        return written

    async def remove(self, id: str) -> bool:
        """End a stream of any release; False when a chunk was done meanwhile. Raises StreamNotFound, StreamExpired."""
        record = await self._record(id)
        if (found := _known(id, record)) is not None:
            _alive(found, self.now())
        removed = await self._store.remove(id, expected=record[:TAG])
        if removed:
            self.metrics.ended.labels("deleted").inc()
        return removed

    async def page(self, cursor: str, *, limit: int) -> tuple[list[str], str]:
        """Ids of streams, and the cursor for the next page; the cursor is empty after the last page."""
        return await self._store.page(cursor, limit=limit)

    async def count(self) -> int:
        return await self._store.count()

    async def drop_expired(self) -> int:
        """Drop some of the streams that have expired, and return how many."""
        dropped = await self._store.sweep(self.now(), limit=SLICE)
        self.metrics.ended.labels("expired").inc(dropped)
        return dropped

    async def sweep(self) -> None:
        """Drop expired streams, a slice at a time, count those that are left, and test that the store can be written."""
        try:
            alive = await self._store.count()  # first: a store in Redis learns the time when it connects
            while dropped := await self.drop_expired():
                alive -= dropped
                await asyncio.sleep(0)
            self.alive = alive
            self.metrics.alive.set(alive)
            if self._unproved or monotonic() - self._written > PROOF:  # a full disk can still be read: only a write shows it
                self._unproved = True
                await self._store.prove()
                self._unproved = False
                self._written = monotonic()
            if monotonic() - self._failed > FORGIVEN:
                self._is_well()
        except StoreUnavailable as error:
            self._is_in_trouble(error)

    async def close(self) -> None:
        await self._store.close()

    async def _record(self, id: str) -> bytes:
        if not _ID.fullmatch(id):
            raise StreamNotFound(f"There is no stream {id[:MOST_SHOWN]!r}; POST /streams begins one.")
        record = await self._store.read(id)
        if record is not None:
            return record
        if await self._store.expired(id):
            raise StreamExpired(f"Stream {id} was idle for longer than its time to live and has expired.")
        raise StreamNotFound(f"There is no stream {id!r}; POST /streams begins one.")

    async def _check_room(self) -> None:
        """Raises TooManyStreams unless there is room for all streams that this process is beginning now."""
        count = await self._store.count()
        if count + max(1, self._beginning) > self.limits.max_streams:
            raise TooManyStreams(f"There are {count} streams; at most {self.limits.max_streams} are kept at once.", retry_after=5)

    def _new(self, id: str, of: Origin, state: bytes, ttl: float | None) -> Stream:
        now = self.now()
        return Stream(
            id=id,
            model=of.model,
            version=of.version,
            weights=of.weights,
            ttl=self.limits.ttl if ttl is None else ttl,
            created=now,
            used=now,
            tag=streams.new_tag(),
            state=state,
        )

    def _is_in_trouble(self, error: StoreUnavailable) -> None:
        if self.trouble is None:
            log.error("Streams cannot be used: %s", error)
            self.metrics.trouble.set(1)
        self.trouble = error.detail

    def _is_well(self) -> None:
        if self.trouble is not None:
            log.info("Streams can be used again.")
            self.metrics.trouble.set(0)
        self.trouble = None


def _alive(stream: Stream, now: float) -> Stream:
    if stream.expires > now:
        return stream
    raise StreamExpired(f"Stream {stream.id} was idle for more than {stream.ttl:g} s and has expired.")


def _known(id: str, record: bytes) -> Stream | None:
    """The stream in the record; None when only another release can read it, so that it is unknown whether it has expired."""
    try:
        return Stream.unpack(id, record)
    except StreamConflict:
        return None


def _is_over(id: str, record: bytes, now: float) -> bool:
    found = _known(id, record)
    return found is not None and found.expires <= now
