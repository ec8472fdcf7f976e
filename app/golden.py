"""The golden sample of a model version: inputs from random states and the answers they must give.

Owns the format of golden.npz: ragged instances, padded, with what the equations say in float64. Knows nothing of who
computes an answer. An engine that does not reproduce its golden sample must not serve.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from app.errors import BadArtifact
from app.manifest import GOLDEN_NAME, ModelSpec, StateSpec, Tolerance
from app.tensors import Batch, Instance, Prediction


@dataclass(frozen=True, slots=True)
class Golden:
    """Instances with their states, and the prediction for each."""

    instances: list[Instance]
    predictions: list[Prediction]

    @classmethod
    def load(cls, folder: Path, spec: ModelSpec) -> Self:
        """Read golden.npz beside the manifest; BadArtifact when it does not fit the manifest."""
        try:
            with (folder / GOLDEN_NAME).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                lengths = arrays["lengths"]
                batch = Batch(input=arrays["input"], lengths=lengths, states=tuple(arrays[f"from_{s.input}"] for s in spec.states))
                predictions = batch.split(arrays["output"], [arrays[f"to_{s.output}"] for s in spec.states], spec.states)
                widths = arrays["input"].shape[2], arrays["output"].shape[2]
                if not len(lengths) or widths != (len(spec.features), len(spec.outputs)):
                    raise ValueError(f"{len(lengths)} instances of {widths[0]} features and {widths[1]} outputs")
        except Exception as error:  # a broken archive fails in as many ways as it has parts
            raise BadArtifact(f"The golden sample of {spec} cannot be read: {error}.") from error
        starts = batch.split(batch.input, batch.states, spec.states)
        for state, *arrays in zip(spec.states, starts[0].state, predictions[0].state, strict=True):
            if any(array.shape != state.shape for array in arrays):
                raise BadArtifact(f"The golden sample of {spec} has other states than its manifest says: {state.input}.")
        return cls([Instance(steps=start.output, state=start.state) for start in starts], predictions)

    def save(self, folder: Path, states: Sequence[StateSpec]) -> None:
        """Write golden.npz for a model with these states; `load` gives back the same."""
        start = Batch.collate(self.instances, states)
        answer = Batch.collate([Instance(steps=p.output, state=p.state) for p in self.predictions], states)
        arrays: dict[str, NDArray[np.generic]] = {"input": start.input, "lengths": start.lengths, "output": answer.input}
        for state, before, after in zip(states, start.states, answer.states, strict=True):
            arrays[f"from_{state.input}"], arrays[f"to_{state.output}"] = before, after
        with (folder / GOLDEN_NAME).open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)


def difference(actual: Sequence[Prediction], expected: Sequence[Prediction], tolerance: Tolerance) -> float:
    """The largest |actual - expected| over outputs and states, in units of what the tolerance allows: at most 1 is equal.

    NaN anywhere, or another shape, is infinitely different.
    """
    worst = 0.0
    for a, b in zip(actual, expected, strict=True):
        for x, y in zip((a.output, *a.state), (b.output, *b.state), strict=True):
            if x.shape != y.shape:
                return float("inf")
            apart = np.abs(x.astype(np.float64) - y)
            allowed = tolerance.atol + tolerance.rtol * np.abs(y)
            ratio = np.divide(apart, allowed, out=np.where(apart == 0, 0.0, np.inf), where=allowed > 0)
            worst = max(worst, float(np.max(np.nan_to_num(ratio, nan=np.inf, posinf=np.inf))))
    return worst
