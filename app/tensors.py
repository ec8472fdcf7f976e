"""Sequences and batches as arrays: the only module that pads sequences and splits batches.

Owns the shapes. Knows nothing of ONNX Runtime, queues or wire formats. All arrays are float32, C-contiguous.
A one-shot prediction and a step of a live stream are the same thing: an `Instance`, whose state says where it starts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import Self

import numpy as np
from numpy.typing import NDArray

from app.manifest import ModelSpec, OutputSpec, StateSpec

Array = NDArray[np.float32]
State = tuple[Array, ...]  # one array per state of the model, in the manifest's order, each with the shape of its StateSpec

FLOAT32 = np.dtype("<f4")  # for numbers that are stored or sent: little-endian
FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(slots=True)  # not frozen, which would take three times as long to make: there is one for every sequence
class Instance:
    """One sequence of one step or more, and the state it starts from; None is the zero state."""

    steps: Array  # (time, features)
    state: State | None = None

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(slots=True)  # not frozen, for the same reason
class Prediction:
    """The answer to one instance, never padded, and the state after its last step.

    `outputs` holds one array per output of the model, in the manifest's order: (time, *width) for an output that answers every
    step, (*width,) for one that answers the whole sequence.
    """

    outputs: tuple[Array, ...]
    state: State
    provider: str = ""  # the execution provider that computed it

    @property
    def output(self) -> Array:
        """The first output; most models have only one."""
        return self.outputs[0]


@dataclass(frozen=True, slots=True)
class Batch:
    """Instances padded with zeros to the longest of them, as the graph takes them."""

    input: Array  # (batch, time, features)
    lengths: NDArray[np.int32]  # (batch,)
    states: State  # one array per state: the StateSpec's shape with the batch axis inserted

    @classmethod
    def collate(cls, instances: Sequence[Instance], states: Sequence[StateSpec]) -> Self:
        """Pad one or more instances; raises ValueError for an empty sequence, for which the graph has no answer."""
        if len(instances) == 1:
            return cls._of_one(instances[0], states)
        lengths = [len(instance.steps) for instance in instances]
        shortest, longest = min(lengths), max(lengths)
        if shortest == 0:
            raise ValueError("an instance has no steps")
        if shortest == longest:
            input = np.concatenate([instance.steps for instance in instances]).reshape(len(instances), longest, -1)
        else:
            input = np.zeros((len(instances), longest, instances[0].steps.shape[1]), dtype=np.float32)
            for row, length, instance in zip(input, lengths, instances, strict=True):
                row[:length] = instance.steps
        given = [instance.state for instance in instances]
        stacked = []
        for index, state in enumerate(states):
            zeros = _zeros(len(instances), state.shape, state.batch_axis)
            if any(one is not None for one in given):
                starts = rows(zeros, state.batch_axis)
                arrays = [row if one is None else one[index] for row, one in zip(starts, given, strict=True)]
                stacked.append(np.stack(arrays, axis=state.batch_axis))
            else:
                stacked.append(zeros)
        return cls(input=input, lengths=np.array(lengths, dtype=np.int32), states=tuple(stacked))

    @classmethod
    def _of_one(cls, instance: Instance, states: Sequence[StateSpec]) -> Self:
        """A batch of one instance, with nothing to pad: much faster than the general way. Raises ValueError if it has no steps."""
        if len(instance.steps) == 0:
            raise ValueError("an instance has no steps")
        starts = [_zeros(1, state.shape, state.batch_axis) for state in states]
        if instance.state is not None:
            given = zip(instance.state, starts, strict=True)
            starts = [np.ascontiguousarray(array).reshape(zeros.shape) for array, zeros in given]
        lengths = np.array([len(instance.steps)], dtype=np.int32)
        return cls(input=instance.steps[np.newaxis], lengths=lengths, states=tuple(starts))

    def split(
        self,
        answers: Sequence[Array],
        finals: Sequence[Array],
        *,
        outputs: Sequence[OutputSpec],
        states: Sequence[StateSpec],
        provider: str = "",
    ) -> list[Prediction]:
        """Each instance's own prediction from what the graph returned, in the order of the instances.

        answers: an array for each output; finals: the final states, laid out as `Batch.states`. The predictions are views of
        these arrays: copy one that is kept for long, for it keeps the whole batch in memory.
        """
        wholes = [batch_first(array, spec) for array, spec in zip(answers, outputs, strict=True)]
        ends = [rows(array, state.batch_axis) for array, state in zip(finals, states, strict=True)]
        lengths = self.lengths.tolist()
        if len(lengths) == 1:  # in less than half the time
            given = [row if spec.time_axis is None else row[: lengths[0]] for (row,), spec in zip(wholes, outputs, strict=True)]
            return [Prediction(tuple(given), tuple([end for (end,) in ends]), provider)]
        columns: list[list[Array]] = []
        for whole, spec in zip(wholes, outputs, strict=True):
            if spec.time_axis is None:
                columns.append([*whole])
            else:
                columns.append([row[:length] for row, length in zip(whole, lengths, strict=True)])
        each = zip(*ends, strict=True) if ends else ((),) * len(lengths)
        return [Prediction(some, tuple(state), provider) for some, state in zip(zip(*columns, strict=True), each, strict=True)]


def batch_first(array: Array, spec: OutputSpec) -> Array:
    """The graph's array for this output as (batch, time, *width), or (batch, *width) without a time axis; contiguous."""
    axes = (spec.batch_axis,) if spec.time_axis is None else (spec.batch_axis, spec.time_axis)
    if axes != (0, 1)[: len(axes)]:
        array = np.ascontiguousarray(np.moveaxis(array, axes, range(len(axes))))
    return array if spec.shape else array[..., np.newaxis]


@lru_cache(maxsize=256)
def _zeros(size: int, shape: tuple[int, ...], batch_axis: int) -> Array:
    """The zero states of `size` instances in the graph's layout; shared, and therefore read-only."""
    zeros = np.zeros(batch_shape(shape, batch_axis, size), dtype=np.float32)
    zeros.flags.writeable = False
    return zeros


def batch_shape(shape: tuple[int, ...], batch_axis: int, size: int) -> tuple[int, ...]:
    """The shape of one instance with a batch axis of this size inserted."""
    return (*shape[:batch_axis], size, *shape[batch_axis:])


def rows(array: Array, batch_axis: int) -> Array:
    """A view with the batch axis first: like NumPy's moveaxis, in a tenth of its time."""
    if batch_axis == 1:
        return array.swapaxes(0, 1)
    return array.transpose(batch_axis, *range(batch_axis), *range(batch_axis + 1, array.ndim))


def pack_arrays(arrays: Sequence[Array]) -> bytes:
    """The numbers of all arrays, one array after the other, as FLOAT32."""
    return b"".join([array.astype(FLOAT32, copy=False).tobytes() for array in arrays])


def unpack(data: bytes, count: int = -1) -> Array:
    """The first `count` numbers that `pack_arrays` wrote, or all of them, as an array of one axis."""
    return np.frombuffer(data, FLOAT32, count).astype(np.float32, copy=False)


def state_in(numbers: Array, spec: ModelSpec) -> State:
    """The state whose arrays follow each other in these numbers."""
    return tuple([numbers[part].reshape(shape) for part, shape in spec.layout])


def is_finite(array: Array) -> bool:
    """Whether every number is finite. A finite sum of squares proves it; only otherwise is each number checked."""
    return isfinite(np.vdot(array, array)) or bool(np.isfinite(array).all())
