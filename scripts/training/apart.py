"""How far two runs of a model are apart, tensor by tensor, and how far they may be.

Owns which tolerance a tensor has. An output has the manifest's. That is one for all tensors, so that of the largest of them: a
state of ones beside an output of hundreds could be wrong in its third digit and be within it. So a state has it only where
rounding alone may do as much, by exactness.py; and every tensor of a model that others made has what that module says.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.engine import Engine
from app.golden import Golden
from app.tensors import Array, Prediction
from scripts.training import exactness
from scripts.training.exactness import tensors
from scripts.training.tolerance import TINY


@dataclass(frozen=True, slots=True)
class Apart:
    """One tensor where it is farthest off: by how much, and by how much it may be; infinite where shapes differ, or for NaN."""

    tensor: str
    by: float
    allowed: float

    @property
    def share(self) -> float:
        """Of what is allowed: at most 1 is equal."""
        return self.by / self.allowed if self.by else 0.0

    def __str__(self) -> str:
        return f"{self.tensor} by {self.by:.2g}, allowed {self.allowed:.2g}"


Compared = tuple[Apart, ...]  # the outputs, and then the states
Compare = Callable[[Sequence[Prediction], Sequence[Prediction]], Compared]  # actual, expected


def compare(engine: Engine, golden: Golden) -> Compare:
    """What compares the answers of this model, or of its equations, by what the golden sample's instances need."""
    spec = engine.spec
    names = [*(output.name for output in spec.outputs), *(state.output for state in spec.states)]
    least = exactness.measured(engine, golden.instances).allowed

    def allowed(index: int, expected: Array) -> NDArray[np.float64]:
        by_rounding = np.full(expected.shape, max(least[index], exactness.RELATIVE * exactness.size_of(expected)))
        if spec.cell is None:
            return by_rounding
        by_manifest = spec.tolerance.atol + spec.tolerance.rtol * np.abs(expected.astype(np.float64))
        return by_manifest if index < len(spec.outputs) else np.fmin(by_manifest, by_rounding)  # a graph may answer NaN

    def apart(index: int, actual: Array, expected: Array) -> Apart:
        if actual.shape != expected.shape or not np.isfinite(actual).all() or not np.isfinite(expected).all():
            return Apart(names[index], float("inf"), spec.tolerance.atol or 1.0)
        by, limit = np.abs(actual.astype(np.float64) - expected), allowed(index, expected)
        worst = np.unravel_index(np.argmax(by / np.maximum(limit, TINY)), by.shape)
        return Apart(names[index], float(by[worst]), float(max(limit[worst], TINY)))

    def compared(actual: Sequence[Prediction], expected: Sequence[Prediction]) -> Compared:
        pairs = zip(actual, expected, strict=True)
        return farthest(
            tuple(apart(index, x, y) for index, (x, y) in enumerate(zip(tensors(a), tensors(b), strict=True))) for a, b in pairs
        )

    return compared


def farthest(found: Iterable[Compared]) -> Compared:
    """Each tensor where it is farthest off in all of these comparisons."""
    return tuple(max(each, key=lambda apart: apart.share) for each in zip(*found, strict=True))
