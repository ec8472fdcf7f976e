"""The golden sample of a model version: inputs from random states and the answers they must give.

Owns the format of golden.npz: instances of different lengths, padded, batch first whatever the graph's layout, each with its
answer. Knows nothing of engines. An engine that does not reproduce its golden sample must not serve.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from app.errors import BadArtifact
from app.manifest import GOLDEN_NAME, ModelSpec, OutputSpec, StateSpec, Tolerance
from app.tensors import Array, Instance, Prediction, State


@dataclass(frozen=True, slots=True)
class Golden:
    """Instances with their states, and the prediction for each."""

    instances: list[Instance]
    predictions: list[Prediction]

    @classmethod
    def load(cls, folder: Path, spec: ModelSpec) -> Self:
        """Read golden.npz from the version's folder; raises BadArtifact when it does not fit the manifest."""
        try:
            with (folder / GOLDEN_NAME).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                lengths = arrays["lengths"].tolist()
                steps = [row[:length] for row, length in zip(arrays["input"], lengths, strict=True)]
                before = _states(arrays, [f"from_{state.input}" for state in spec.states], len(lengths))
                after = _states(arrays, [f"to_{state.output}" for state in spec.states], len(lengths))
                columns = []
                for output in spec.outputs:
                    ends = lengths if spec.every_step(output) else [output.width[0]] * len(lengths)
                    columns.append([row[:end] for row, end in zip(arrays[f"output_{output.name}"], ends, strict=True)])
            instances = [Instance(*pair) for pair in zip(steps, before, strict=True)]
            predictions = [Prediction(*pair) for pair in zip(zip(*columns, strict=True), after, strict=True)]
            _check_shapes(instances, predictions, spec)
        except Exception as error:  # a broken archive can raise almost anything
            raise BadArtifact(f"The golden sample of {spec} cannot be read: {error}.") from error
        return cls(instances, predictions)

    def save(self, folder: Path, *, outputs: Sequence[OutputSpec], states: Sequence[StateSpec]) -> None:
        """Write golden.npz for a model with these outputs and states; `load` returns the same sample."""
        arrays: dict[str, NDArray[np.generic]] = {
            "input": _padded([instance.steps for instance in self.instances]),
            "lengths": np.array([len(instance.steps) for instance in self.instances], dtype=np.int32),
        }
        for index, output in enumerate(outputs):
            arrays[f"output_{output.name}"] = _padded([prediction.outputs[index] for prediction in self.predictions])
        for index, state in enumerate(states):
            zeros = np.zeros(state.shape, np.float32)
            given = [zeros if instance.state is None else instance.state[index] for instance in self.instances]
            arrays[f"from_{state.input}"] = np.stack(given)
            arrays[f"to_{state.output}"] = np.stack([prediction.state[index] for prediction in self.predictions])
        with (folder / GOLDEN_NAME).open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)


def _padded(rows: Sequence[Array]) -> Array:
    """One array of all rows, each padded with zeros along its first axis."""
    padded = np.zeros((len(rows), max(map(len, rows)), *rows[0].shape[1:]), dtype=np.float32)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded


def _states(arrays: Mapping[str, Array], names: Sequence[str], count: int) -> list[State]:
    """The state of each instance, from its part of each of the named arrays."""
    return [*zip(*(arrays[name] for name in names), strict=True)] if names else [()] * count


def _check_shapes(instances: Sequence[Instance], predictions: Sequence[Prediction], spec: ModelSpec) -> None:
    """Raises ValueError when they do not fit this model."""
    if not instances:
        raise ValueError("it holds no instance")
    for instance, prediction in zip(instances, predictions, strict=True):
        time = len(instance.steps)
        wants: list[tuple[int, ...]] = [(time, len(spec.features))]
        wants += [(time, *output.width) if spec.every_step(output) else output.width for output in spec.outputs]
        wants += [state.shape for state in spec.states] * 2
        for array, shape in zip(
            (instance.steps, *prediction.outputs, *(instance.state or ()), *prediction.state), wants, strict=True
        ):
            if array.shape != shape or not time:
                raise ValueError(f"it holds an array of shape {array.shape} where the manifest says {shape}")


def difference(actual: Sequence[Prediction], expected: Sequence[Prediction], tolerance: Tolerance) -> float:
    """The largest |actual - expected| over outputs and states, as a multiple of the tolerance: up to 1 counts as equal.

    Infinite when a shape differs or any number is NaN.
    """
    worst = 0.0
    for a, b in zip(actual, expected, strict=True):
        for x, y in zip((*a.outputs, *a.state), (*b.outputs, *b.state), strict=True):
            if x.shape != y.shape:
                return float("inf")
            apart = np.abs(x.astype(np.float64) - y)
            allowed = tolerance.atol + tolerance.rtol * np.abs(y)
            ratio = np.divide(apart, allowed, out=np.where(apart == 0, 0.0, np.inf), where=allowed > 0)
            worst = max(worst, float(np.max(np.nan_to_num(ratio, nan=np.inf, posinf=np.inf))))
    return worst
