"""A stream: a sequence that comes in chunks, and what is kept of it between them.

Owns the record that is stored and which chunk is next. Knows nothing of where records are kept, of models or of time:
it is told. A chunk is numbered by how many were done before it; one that was done lately and comes again is answered
from the record, which holds the last answers beside the state.
"""

import os
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate, count
from struct import Struct, pack, unpack_from
from typing import NamedTuple, Self

import numpy as np

from app.errors import StreamConflict
from app.manifest import ModelSpec
from app.tensors import Array, Prediction, State

FORMAT = 1
MOST_ANSWERS = 32  # that are kept: a caller may have as many chunks under way
MOST_BYTES = 16 * 2**10  # of them; the last one is kept however long it is
DIGEST = 8  # bytes

# tag, format, seq, steps, created, used, ttl, characters of model and version, bytes of the state, answers
_HEAD = Struct("<16sBQQdddHIB")
_FLOAT32 = np.dtype("<f4")
_tags = count()
_process: tuple[int, bytes] = (0, b"")


def new_tag() -> bytes:
    """Sixteen bytes that no process has ever written before."""
    global _process
    if _process[0] != os.getpid():  # forked processes must not go on with their parent's
        _process = (os.getpid(), os.urandom(8))
    return _process[1] + next(_tags).to_bytes(8, "little")


def digest_of(steps: Array) -> bytes:
    """By which a chunk that comes again is known."""
    return blake2b(steps.tobytes(), digest_size=DIGEST).digest()


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next steps of a stream: (time, features), and by which number their sender knows them, if by any."""

    steps: Array
    seq: int | None = None
    return_sequences: bool = True  # false: only the output of the last step is wanted


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said to a chunk: outputs (time, outputs), and where the stream stood after it."""

    output: Array
    seq: int
    steps: int


class Stream(NamedTuple):  # not a dataclass: two are made for each chunk, in a quarter of the time
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
    answers: bytes = b""  # the last first, each a digest of the chunk and then the outputs
    sizes: tuple[int, ...] = ()  # of each answer, in bytes

    @property
    def expires(self) -> float:
        return self.used + self.ttl

    @classmethod
    def unpack(cls, id: str, record: bytes) -> Self:
        """The stream in a record that `pack` made; StreamConflict for a format of another release."""
        tag, format, seq, steps, created, used, ttl, characters, state, answers = _HEAD.unpack_from(record)
        if format != FORMAT:
            raise StreamConflict(f"Stream {id} was kept by another release of this service, in format {format}, not {FORMAT}.")
        begin = _HEAD.size + 4 * answers
        between, end = begin + characters, begin + characters + state
        model, version = record[begin:between].decode().split("\n")
        sizes = unpack_from(f"<{answers}I", record, _HEAD.size)
        return cls(id, model, version, ttl, created, used, tag, seq, steps, record[between:end], record[end:], sizes)

    def pack(self) -> bytes:
        name = f"{self.model}\n{self.version}".encode()
        count = len(self.sizes)
        head = _HEAD.pack(
            self.tag, FORMAT, self.seq, self.steps, self.created, self.used, self.ttl, len(name), len(self.state), count
        )
        return b"".join((head, pack(f"<{count}I", *self.sizes), name, self.state, self.answers))

    def state_of(self, spec: ModelSpec) -> State | None:
        """The state as the model takes it, or None for zeros; StreamConflict when it is not of this model's layout."""
        if not self.state:
            return None
        numbers = np.frombuffer(self.state, _FLOAT32).astype(np.float32, copy=False)
        if spec.state_size != len(numbers):
            raise StreamConflict(f"Stream {self.id} has a state of {len(numbers)} numbers, {spec} one of {spec.state_size}.")
        return tuple([numbers[part].reshape(shape) for part, shape in spec.layout])

    def find(self, seq: int | None, digest: bytes, outputs: int) -> Answer | None:
        """The answer that chunk `seq` got already; None when it is the next, as a chunk without a number always is.

        Raises StreamConflict when it is neither, or when another chunk has its number.
        """
        if seq is None or seq == self.seq:
            return None
        back = self.seq - 1 - seq
        if back < 0:
            raise StreamConflict(f"Chunk {seq} cannot be next: {self.seq} is.", expected=self.seq)
        if back >= len(self.sizes):
            detail = f"Chunk {seq} was done, but its answer is not kept any more. Chunk {self.seq} is next."
            raise StreamConflict(detail, expected=self.seq)
        begin = sum(self.sizes[:back])
        if self.answers[begin : begin + DIGEST] != digest:
            detail = f"Chunk {seq} was done with other steps than these. Chunk {self.seq} is next."
            raise StreamConflict(detail, expected=self.seq)
        numbers = np.frombuffer(self.answers[begin + DIGEST : begin + self.sizes[back]], _FLOAT32)
        later = sum(size - DIGEST for size in self.sizes[:back]) // (_FLOAT32.itemsize * outputs)
        return Answer(numbers.astype(np.float32, copy=False).reshape(-1, outputs), seq + 1, self.steps - later)

    def after(self, prediction: Prediction, digest: bytes, now: float) -> Self:
        """The stream once a chunk is done."""
        answer = digest + prediction.output.astype(_FLOAT32, copy=False).tobytes()
        answers, sizes = answer + self.answers, (len(answer), *self.sizes)
        if len(answers) > MOST_BYTES or len(sizes) > MOST_ANSWERS:
            fitting = sum(size <= MOST_BYTES for size in accumulate(sizes[:MOST_ANSWERS]))
            sizes = sizes[: max(1, fitting)]
            answers = answers[: sum(sizes)]
        return type(self)(
            self.id,
            self.model,
            self.version,
            self.ttl,
            self.created,
            now,
            new_tag(),
            self.seq + 1,
            self.steps + len(prediction.output),
            pack_state(prediction.state),
            answers,
            sizes,
        )


def pack_state(state: State) -> bytes:
    return b"".join([array.astype(_FLOAT32, copy=False).tobytes() for array in state])
