"""A stream: a sequence that comes in chunks, and what is kept of it between them.

Owns the record that is stored and which chunk is next. Knows nothing of where records are kept, of models or of time:
it is told. A chunk is numbered by how many were done before it; one that was done lately and comes again is answered
from the record, which holds the last answers beside the state.
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

BEFORE, FORMAT = 2, 3  # the first knows nothing of weights: what that release began stays in it, lest it has to go on with it
MOST_ANSWERS = 32  # that are kept: a caller may have as many chunks under way
MOST_BYTES = 64 * 2**10  # of them; the last one is kept however long it is
MOST_JOINED = 256  # steps of chunks that were sent ahead and run as one
DIGEST = 8  # bytes

# tag, format, seq, steps, created, used, ttl, characters of model, version and weights, bytes of the state, answers
_HEAD = Struct("<16sBQQdddHIB")
_STEPS = Struct("<I")
PREFIX = DIGEST + _STEPS.size  # bytes before the outputs of an answer
_tags = count()
_process: tuple[int, bytes] = (0, b"")


def new_tag() -> bytes:
    """Sixteen bytes that no process has ever written before."""
    global _process
    if _process[0] != os.getpid():  # forked processes must not go on with their parent's
        _process = (os.getpid(), os.urandom(8))
    return _process[1] + next(_tags).to_bytes(8, "little")


def digest_of(steps: Array) -> bytes:
    """Identifies the steps of a chunk that is sent again."""
    return blake2b(steps.tobytes(), digest_size=DIGEST).digest()


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What all streams are held to. Durations in seconds."""

    ttl: float  # that a stream may be idle, where its maker says nothing else
    max_streams: int
    timeout: float  # of a chunk, from when it came


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next steps of a stream: (time, features), and by which number their sender knows them, if by any."""

    steps: Array
    seq: int | None = None
    return_sequences: bool = True  # false: only the output of the last step is wanted


Decode = Callable[[ModelSpec], Awaitable[Chunk]]  # gives a chunk for the model; raises what is wrong with it


@dataclass(frozen=True, slots=True)
class ChunkAnswer:
    """What was said to a chunk, the outputs as in a Prediction, and where the stream stood after it."""

    outputs: tuple[Array, ...]
    seq: int
    steps: int

    @property
    def output(self) -> Array:
        """The first, of most models the only one."""
        return self.outputs[0]


class Stream(NamedTuple):  # not a dataclass: two are made for each chunk
    """Where one stream stands. Times in seconds since the epoch; an empty state is the zero state."""

    id: str
    model: str
    version: str
    ttl: float
    created: float
    used: float
    tag: bytes
    seq: int = 0  # chunks done
    steps: int = 0  # in all of them
    state: bytes = b""  # its float32, one array after the other
    answers: bytes = b""  # the last first, each a digest of the chunk, how many steps it had, and the outputs
    sizes: tuple[int, ...] = ()  # of each answer, in bytes
    weights: str = ""  # that made the state, as ModelSpec.weights; not known of a record of an earlier release

    @property
    def expires(self) -> float:
        return self.used + self.ttl

    @classmethod
    def unpack(cls, id: str, record: bytes) -> Self:
        """The stream in a record that `pack` made; StreamConflict for a format of another release."""
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
        """The state as the model takes it, or None for zeros; StreamConflict when it is not of this model's weights and layout."""
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
        """The answers of the first chunks, as far as they were done already, and how many of the others are next.

        One without a number always is. It ends before the first that is neither; StreamConflict when that is the very first,
        or when another chunk had its number.
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
        self, prediction: Prediction, chunks: Sequence[Chunk], digests: Sequence[bytes], now: float
    ) -> tuple[Self, list[ChunkAnswer]]:
        """The stream once the chunks are done, one or more that ran as one; and the answer to each."""
        parts = [prediction.outputs] if len(chunks) == 1 else _parted(prediction.outputs, _ends(chunks)[:-1])
        done = [
            b"".join((digest, _STEPS.pack(len(chunk.steps)), pack_arrays(outputs)))
            for outputs, chunk, digest in zip(parts, chunks, digests, strict=True)
        ]
        done.reverse()
        answers, sizes = b"".join((*done, self.answers)), (*map(len, done), *self.sizes)
        if len(answers) > MOST_BYTES or len(sizes) > MOST_ANSWERS:
            fitting = sum(size <= MOST_BYTES for size in accumulate(sizes[:MOST_ANSWERS]))
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
        """What chunk `seq` was answered; StreamConflict when it was not done, or not with these steps."""
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
    """Outputs of every step, taken apart at these steps."""
    return [*zip(*(np.split(output, ends) for output in outputs), strict=True)]


async def decoded(decoders: Sequence[Decode], spec: ModelSpec) -> list[Chunk]:
    """The first chunks, one or more: as many as are good and can be answered together, and make no instance that holds up others.

    Raises what the first does.
    """
    chunks = [await decoders[0](spec)]
    steps = len(chunks[0].steps)
    for decode in decoders[1:] if spec.divisible else ():
        try:
            chunk = await decode(spec)
        except RecurveError:
            break  # it is told when it is the first
        steps += len(chunk.steps)
        if steps > MOST_JOINED:
            break
        chunks.append(chunk)
    return chunks


def joined(chunks: Sequence[Chunk]) -> Array:
    """The steps of chunks that follow each other: (time, features)"""
    return chunks[0].steps if len(chunks) == 1 else np.concatenate([chunk.steps for chunk in chunks])


def _ends(chunks: Sequence[Chunk]) -> list[int]:
    return list(accumulate(len(chunk.steps) for chunk in chunks))
