"""A stream: a sequence that arrives in chunks, and the record that is kept of it between them.

Owns the format of the record and which chunk is next. Knows nothing of stores, loaded models or clocks: the time is an argument.
A chunk's number is how many chunks were done before it. The record holds the last answers beside the state, so that a chunk
that was done lately and is sent again is answered from it: none before that of the last chunk without a number, for a client that
does not number its chunks cannot send one again.
"""

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate, count
from math import prod
from struct import Struct, pack, unpack_from
from typing import NamedTuple, Self

import numpy as np

from app.errors import RecurveError, StreamConflict
from app.manifest import ModelSpec
from app.tensors import Array, Prediction, State, pack_arrays, state_in, unpack

BEFORE, FORMAT = 2, 3  # format 2 has no weights: its streams stay in it, so that the release that began them can still read them
MOST_ANSWERS = 32  # kept in the record, at most: a client may have so many chunks in flight
MOST_BYTES = 64 * 2**10  # of the kept answers; the last answer is kept however long it is
MOST_JOINED = 256  # steps of waiting chunks that run together as one instance
DIGEST = 8  # bytes

# tag, format, seq, steps, created, used, ttl, characters of model, version and weights, bytes of the state, answers
_HEAD = Struct("<16sBQQdddHIB")
_STEPS = Struct("<I")
PREFIX = DIGEST + _STEPS.size  # bytes before the outputs of an answer
_tags = count()
_process: tuple[int, bytes] = (0, b"")


def new_tag() -> bytes:
    """Sixteen bytes that are unique across all processes: eight random ones for each process, and a counter."""
    global _process
    if _process[0] != os.getpid():  # a forked process must not use its parent's
        _process = (os.getpid(), os.urandom(8))
    return _process[1] + next(_tags).to_bytes(8, "little")


def digest_of(steps: Array) -> bytes:
    """A digest by which a chunk that is sent again is recognised."""
    return blake2b(steps.tobytes(), digest_size=DIGEST).digest()


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """The limits of all streams. Durations in seconds."""

    ttl: float  # idle time after which a stream expires, unless its client asked for another
    max_streams: int
    timeout: float  # of a chunk, from its arrival
    answers: int = MOST_ANSWERS  # kept of a stream whose chunks are numbered


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next steps of a stream, (time, features), and the number that the client gave the chunk, if any."""

    steps: Array
    seq: int | None = None
    return_sequences: bool = True  # false: return the output of the last step only


Decode = Callable[[ModelSpec], Awaitable[Chunk]]  # decodes a chunk for the model; raises what is wrong with it


@dataclass(frozen=True, slots=True)
class ChunkAnswer:
    """The answer to a chunk: its outputs, as in a Prediction, and how many chunks and steps of the stream are done after it."""

    outputs: tuple[Array, ...]
    seq: int
    steps: int

    @property
    def output(self) -> Array:
        """The first output; most models have only one."""
        return self.outputs[0]


class Stream(NamedTuple):  # not a dataclass: two are made for each chunk
    """One stream after its last chunk. Times in seconds since the epoch; an empty state is the zero state."""

    id: str
    model: str
    version: str
    ttl: float
    created: float
    used: float
    tag: bytes
    seq: int = 0  # chunks done
    steps: int = 0  # in all chunks done
    state: bytes = b""  # float32 numbers, one array after the other
    answers: bytes = b""  # the newest first; each is the chunk's digest, its number of steps, and the outputs
    sizes: tuple[int, ...] = ()  # of each answer, in bytes
    weights: str = ""  # ModelSpec.weights of the model that made the state; empty in a record of an earlier release

    @property
    def expires(self) -> float:
        return self.used + self.ttl

    @classmethod
    def unpack(cls, id: str, record: bytes) -> Self:
        """The stream in a record that `pack` made; raises StreamConflict for a format of another release."""
        tag, format, seq, steps, created, used, ttl, characters, state, answers = _HEAD.unpack_from(record)
        if format not in (BEFORE, FORMAT):
            raise StreamConflict(f"Stream {id} was kept by another release of this service, in format {format}, not {FORMAT}.")
        begin = _HEAD.size + 4 * answers
        between, end = begin + characters, begin + characters + state
        model, version, *weights = record[begin:between].decode().split("\n")
        sizes = unpack_from(f"<{answers}I", record, _HEAD.size)
        return cls(id, model, version, ttl, created, used, tag, seq, steps, record[between:end], record[end:], sizes, *weights)

    def pack(self) -> bytes:
        of, format = ((self.weights,), FORMAT) if self.weights else ((), BEFORE)
        name = "\n".join((self.model, self.version, *of)).encode()
        lengths = len(name), len(self.state), len(self.sizes)
        head = _HEAD.pack(self.tag, format, self.seq, self.steps, self.created, self.used, self.ttl, *lengths)
        return b"".join((head, pack(f"<{lengths[-1]}I", *self.sizes), name, self.state, self.answers))

    def state_of(self, spec: ModelSpec) -> State | None:
        """The state as the model takes it, None for zeros; raises StreamConflict when the model's weights or layout are others."""
        if self.weights not in ("", spec.weights):
            raise StreamConflict(
                f"Stream {self.id} began with other files of {spec} than the ones that are served now: begin a new stream."
            )
        if not self.state:
            return None
        numbers = unpack(self.state)
        if spec.state_size != len(numbers):
            raise StreamConflict(f"Stream {self.id} has a state of {len(numbers)} numbers, {spec} one of {spec.state_size}.")
        return state_in(numbers, spec)

    def place(self, chunks: Sequence[Chunk], digests: Sequence[bytes], spec: ModelSpec) -> tuple[list[ChunkAnswer], int]:
        """The stored answers to the first chunks that were done already, and how many of the chunks after them are next.

        A chunk without a number is always next. The result ends before the first chunk that is neither done nor next; raises
        StreamConflict when the very first chunk is neither, or when a different chunk was done under its number.
        """
        known: list[ChunkAnswer] = []
        following = 0
        for chunk, digest in zip(chunks, digests, strict=True):
            if chunk.seq is None or chunk.seq == self.seq + following:
                following += 1
            elif following:
                break
            else:
                try:
                    known.append(self._find(chunk.seq, digest, spec))
                except StreamConflict:
                    if known:
                        break
                    raise
        return known, following

    def after(
        self, prediction: Prediction, chunks: Sequence[Chunk], digests: Sequence[bytes], now: float, *, most: int = MOST_ANSWERS
    ) -> tuple[Self, list[ChunkAnswer]]:
        """The stream after one or more chunks that ran as one instance, and the answer to each of them. `most`: answers to keep."""
        parts = [prediction.outputs] if len(chunks) == 1 else _parted(prediction.outputs, _ends(chunks)[:-1])
        done = [
            b"".join((digest, _STEPS.pack(len(chunk.steps)), pack_arrays(outputs)))
            for outputs, chunk, digest in zip(parts, chunks, digests, strict=True)
        ]
        done.reverse()
        answers, sizes = b"".join((*done, self.answers)), (*map(len, done), *self.sizes)
        most = next((number for number, chunk in enumerate(reversed(chunks[-most:]), 1) if chunk.seq is None), most)
        if len(answers) > MOST_BYTES or len(sizes) > most:
            fitting = sum(size <= MOST_BYTES for size in accumulate(sizes[:most]))
            sizes = sizes[: max(1, fitting)]
            answers = answers[: sum(sizes)]
        stream = type(self)(
            self.id,
            self.model,
            self.version,
            self.ttl,
            self.created,
            now,
            new_tag(),
            self.seq + len(chunks),
            self.steps + _ends(chunks)[-1],
            pack_arrays(prediction.state),
            answers,
            sizes,
            self.weights,
        )
        ends = zip(parts, _ends(chunks), strict=True)
        return stream, [ChunkAnswer(outputs, self.seq + 1 + index, self.steps + end) for index, (outputs, end) in enumerate(ends)]

    def _find(self, seq: int, digest: bytes, spec: ModelSpec) -> ChunkAnswer:
        """The stored answer to chunk `seq`. Raises StreamConflict: not done, done with other steps, or its answer was dropped."""
        back = self.seq - 1 - seq
        if back < 0:
            raise StreamConflict(f"Chunk {seq} is out of order: chunk {self.seq} is next.", expected=self.seq)
        if back >= len(self.sizes):
            detail = f"Chunk {seq} was done, but its answer is not kept any more. Chunk {self.seq} is next."
            raise StreamConflict(detail, expected=self.seq)
        begin = sum(self.sizes[:back])
        if self.answers[begin : begin + DIGEST] != digest:
            raise StreamConflict(f"Chunk {seq} was done with other steps than these. Chunk {self.seq} is next.", expected=self.seq)
        (steps,) = _STEPS.unpack_from(self.answers, begin + DIGEST)
        numbers = unpack(self.answers[begin + PREFIX : begin + self.sizes[back]])
        outputs, at = [], 0
        for output in spec.outputs:
            shape = (steps, *output.width) if spec.every_step(output) else output.width
            outputs.append(numbers[at : at + prod(shape)].reshape(shape))
            at += prod(shape)
        later = sum(_STEPS.unpack_from(self.answers, sum(self.sizes[:index]) + DIGEST)[0] for index in range(back))
        return ChunkAnswer(tuple(outputs), seq + 1, self.steps - later)


def _parted(outputs: Sequence[Array], ends: Sequence[int]) -> list[tuple[Array, ...]]:
    """Outputs that answer every step, split before each step in `ends`."""
    return [*zip(*(np.split(output, ends) for output in outputs), strict=True)]


async def decoded(decoders: Sequence[Decode], spec: ModelSpec) -> list[Chunk]:
    """The first chunks, one or more: those that are valid, can run as one instance, and have at most MOST_JOINED steps together.

    Raises what the first decoder raises.
    """
    chunks = [await decoders[0](spec)]
    steps = len(chunks[0].steps)
    for decode in decoders[1:] if spec.divisible else ():
        try:
            chunk = await decode(spec)
        except RecurveError:
            break  # its error is raised when it comes first
        steps += len(chunk.steps)
        if steps > MOST_JOINED:
            break
        chunks.append(chunk)
    return chunks


def joined(chunks: Sequence[Chunk]) -> Array:
    """The steps of all chunks, one after the other: (time, features)"""
    return chunks[0].steps if len(chunks) == 1 else np.concatenate([chunk.steps for chunk in chunks])


def _ends(chunks: Sequence[Chunk]) -> list[int]:
    return list(accumulate(len(chunk.steps) for chunk in chunks))
