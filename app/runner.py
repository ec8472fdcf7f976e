"""Runs a model's graph in one session: batches in, predictions out, for graphs of whole sequences and of one step a call.

Owns what all runners share. Knows nothing of which provider a batch should go to. All runners are thread-safe.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.cost import CostModel, Strain
from app.errors import BadArtifact
from app.manifest import ModelSpec
from app.runtime import Session
from app.tensors import Array, Batch, Prediction, batch_first, rows

Computed = tuple[list[Prediction], list[Array]]  # the predictions, and the arrays of which they are views


class Runner(ABC):
    """Runs batches on `provider`."""

    def __init__(self, spec: ModelSpec, session: Session, provider: str) -> None:
        self.spec, self.provider = spec, provider
        self._session = session
        self._outputs = [*(output.name for output in spec.outputs), *(state.output for state in spec.states)]
        self._constants = {each.name: np.array(each.value, dtype=each.type) for each in spec.constants}
        self._rows = [each.model_copy(update={"batch_axis": 0, "time_axis": 1, "shape": each.width}) for each in spec.outputs]
        self._cost = CostModel()
        self._strain = Strain()
        _check_signature(spec, session, self._constants)

    @abstractmethod
    def predict(self, batch: Batch) -> Computed:
        """Compute a batch; raises what ONNX Runtime raises."""

    def prepare(self, most: int) -> None:  # noqa: B027  # most have nothing to prepare
        """Prepare for batches of up to `most` instances."""

    def timed(self, batch: Batch) -> Computed:
        """The result of `predict`; its time tells `seconds_now` how busy the provider is."""
        begin = monotonic()
        answer = self.predict(batch)
        now = monotonic()
        size, steps, _ = batch.input.shape
        self._strain.learn(self.seconds(size, steps), now - begin, now)
        return answer

    def learn(self, size: int, steps: int, seconds: float) -> None:
        """Learn that a batch of `size` instances, the longest of `steps` steps, took `seconds` with no other load."""
        self._cost.learn(size, steps, seconds)

    def seconds(self, size: int, steps: int) -> float:
        """Expected seconds of such a batch with no other load; infinite while nothing is known."""
        return self._cost.predict(size, steps)

    def seconds_now(self, size: int, steps: int) -> float:
        """Expected seconds of such a batch if the provider is as busy as it was lately."""
        return self.seconds(size, steps) * self._strain.at(monotonic())

    def close(self) -> None:
        """Free all resources; the runner is not used again."""
        self._session.close()

    def run(self, feeds: dict[str, NDArray[Any]]) -> list[Array]:
        """Run the graph and return its outputs and then its states, in the manifest's order."""
        return self._session.run(self._outputs, feeds)

    def _split(self, batch: Batch, outputs: Sequence[Array], states: Sequence[Array]) -> list[Prediction]:
        """Predictions from outputs with all steps of the batch, (batch, time, ...), and states in the graph's layout."""
        return batch.split(outputs, states, outputs=self._rows, states=self.spec.states, provider=self.provider)


class Whole(Runner):
    """A graph that takes sequences of any length."""

    def predict(self, batch: Batch) -> Computed:
        spec = self.spec
        arrays = self.run(self.feeds(batch))
        count = len(spec.outputs)
        split = batch.split(arrays[:count], arrays[count:], outputs=spec.outputs, states=spec.states, provider=self.provider)
        return split, arrays

    def feeds(self, batch: Batch) -> dict[str, NDArray[Any]]:
        """The graph's inputs by name."""
        spec = self.spec
        input = batch.input if spec.input.batch_axis == 0 else np.ascontiguousarray(batch.input.swapaxes(0, 1))
        feeds: dict[str, NDArray[Any]] = {spec.input.name: input, **self._constants}
        if spec.lengths is not None:
            feeds[spec.lengths.name] = batch.lengths.astype(spec.lengths.type, copy=False)
        for state, array in zip(spec.states, batch.states, strict=True):
            feeds[state.input] = array
        return feeds


class Stepwise(Runner):
    """A graph that takes one step a call: it runs once for each step, with the sequences that are long enough."""

    def predict(self, batch: Batch) -> Computed:
        spec = self.spec
        size, longest, _ = batch.input.shape
        outputs = [np.zeros((size, longest, *output.width), np.float32) for output in spec.outputs]
        states = [np.copy(array) for array in batch.states]
        for time in range(longest):
            live = np.flatnonzero(batch.lengths > time)
            feeds: dict[str, NDArray[Any]] = {spec.input.name: batch.input[live, time], **self._constants}
            feeds.update((s.input, array.take(live, s.batch_axis)) for s, array in zip(spec.states, states, strict=True))
            arrays = self.run(feeds)
            answers = [batch_first(array, output) for output, array in zip(spec.outputs, arrays, strict=False)]
            ends = [rows(array, state.batch_axis) for state, array in zip(spec.states, arrays[len(outputs) :], strict=True)]
            if wrong := next((len(part) for part in (*answers, *ends) if len(part) != len(live)), None):
                raise ValueError(f"the graph of {spec} answers {wrong} rows to a batch of {len(live)}")  # NumPy would broadcast one
            for found, part in zip(outputs, answers, strict=True):
                found[live, time] = part
            for state, kept, part in zip(spec.states, states, ends, strict=True):
                rows(kept, state.batch_axis)[live] = part
        return self._split(batch, outputs, states), [*outputs, *states]


def _check_signature(spec: ModelSpec, session: Session, constants: Mapping[str, NDArray[Any]]) -> None:
    inputs = {spec.input.name: ("float32", 2 if spec.stepwise else 3)}
    if spec.lengths is not None:
        inputs[spec.lengths.name] = (spec.lengths.type, 1)
    inputs |= {name: (str(value.dtype), value.ndim) for name, value in constants.items()}
    inputs |= {state.input: ("float32", len(state.shape) + 1) for state in spec.states}
    outputs = {each.name: ("float32", len(each.shape) + (1 if each.time_axis is None else 2)) for each in spec.outputs}
    outputs |= {state.output: ("float32", len(state.shape) + 1) for state in spec.states}
    if set(session.inputs) != set(inputs):
        raise BadArtifact(f"The inputs of the graph are {sorted(session.inputs)}; the manifest of {spec} says {sorted(inputs)}.")
    if missing := set(outputs) - set(session.outputs):
        has = sorted(session.outputs)
        raise BadArtifact(f"The outputs of the graph are {has}; the manifest of {spec} has {', '.join(sorted(missing))} too.")
    for name, (type, rank) in (inputs | outputs).items():
        node = session.inputs.get(name) or session.outputs[name]
        if node.type != _TYPES[type] or (node.shape and len(node.shape) != rank):
            raise BadArtifact(
                f"{name} is a {node.type} of {len(node.shape)} axes in the graph; the manifest of {spec} says {type}, {rank}."
            )


_TYPES = {
    "bool": "tensor(bool)",
    "float32": "tensor(float)",
    "float64": "tensor(double)",
    "int32": "tensor(int32)",
    "int64": "tensor(int64)",
}
