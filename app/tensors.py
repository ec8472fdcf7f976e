"""Sequences and batches of them as arrays: the only place where sequences are padded and batches taken apart.

Owns the shapes. Knows nothing of ONNX Runtime, queues or wire formats. All arrays are float32, C-contiguous.
A one-shot prediction and a step of a live stream are the same thing: an `Instance`, whose state says where it starts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from app.manifest import StateSpec

Array = NDArray[np.float32]
State = tuple[Array, ...]  # one array per state of the model, in the manifest's order, each of its `shape`


@dataclass(frozen=True, slots=True)
class Instance:
    """One sequence of one step or more, and the state it starts from; None is the zero state."""

    steps: Array  # (time, features)
    state: State | None = None

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one instance, never padded, and the state after its last step."""

    output: Array  # (time, outputs)
    state: State


@dataclass(frozen=True, slots=True)
class Batch:
    """Instances padded with zeros to the longest of them, as the graph takes them."""

    input: Array  # (batch, time, features)
    lengths: NDArray[np.int32]  # (batch,)
    states: State  # per state, `shape` with the batch axis put in

    @classmethod
    def collate(cls, instances: Sequence[Instance], states: Sequence[StateSpec]) -> Self:
        """Pad instances, one or more; ValueError on an empty sequence, for which the graph has no answer."""
        lengths = np.array([len(instance) for instance in instances], dtype=np.int32)
        if lengths.min() == 0:
            raise ValueError("an instance has no steps")
        shape = (len(instances), int(lengths.max()), instances[0].steps.shape[1])
        filled = (lengths == shape[1]).all()
        input = np.empty(shape, dtype=np.float32) if filled else np.zeros(shape, dtype=np.float32)
        for row, instance in zip(input, instances, strict=True):
            row[: len(instance)] = instance.steps
        stacked = []
        for index, state in enumerate(states):
            rows = np.zeros((len(instances), *state.shape), dtype=np.float32)
            for row, instance in zip(rows, instances, strict=True):
                if instance.state is not None:
                    row[...] = instance.state[index]
            stacked.append(np.ascontiguousarray(np.moveaxis(rows, 0, state.batch_axis)))
        return cls(input=input, lengths=lengths, states=tuple(stacked))

    def split(self, output: Array, finals: Sequence[Array], states: Sequence[StateSpec]) -> list[Prediction]:
        """Each instance's own prediction from what the graph returned, in the order of the instances.

        output: (batch, time, outputs); finals: the final states, laid out as `Batch.states`. The states are copies: they
        may outlive the batch, the outputs are views of it.
        """
        rows = [np.ascontiguousarray(np.moveaxis(a, s.batch_axis, 0)) for a, s in zip(finals, states, strict=True)]
        return [
            Prediction(output=output[index, :length], state=tuple(row[index].copy() for row in rows))
            for index, length in enumerate(self.lengths)
        ]
