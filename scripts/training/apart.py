"""How far two runs of a model differ, tensor by tensor, and how far they may differ.

Owns which tolerance a tensor has. An output has the manifest's, which is one for all tensors and so fits the largest: a state of
ones beside an output of hundreds could be wrong in its third digit and be within it. So a state has the smaller of this tolerance
and the one that exactness.py gives for rounding. In a model that others made, every tensor has the latter.
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
    """The worst difference in one tensor and how much is allowed there; infinite if shapes differ or a number is not finite."""

    tensor: str
    by: float
    allowed: float

    @property
    def share(self) -> float:
        """The difference as a share of what is allowed; up to 1 counts as equal."""
        return self.by / self.allowed if self.by else 0.0

    def __str__(self) -> str:
        return f"{self.tensor} by {self.by:.2g}, allowed {self.allowed:.2g}"


Compared = tuple[Apart, ...]  # the outputs, and then the states
Compare = Callable[[Sequence[Prediction], Sequence[Prediction]], Compared]  # actual, expected


def compare(engine: Engine, golden: Golden) -> Compare:
    """A function that compares answers of this model or of its equations. How it rounds is measured on the golden instances."""
    spec = engine.spec
    names = [*(output.name for output in spec.outputs), *(state.output for state in spec.states)]
    least = exactness.measured(engine, golden.instances).allowed

    def allowed(index: int, expected: Array) -> NDArray[np.float64]:
        by_rounding = np.full(expected.shape, max(least[index], exactness.RELATIVE * exactness.size_of(expected)))
        if spec.cell is None:
            return by_rounding
        by_manifest = spec.tolerance.atol + spec.tolerance.rtol * np.abs(expected.astype(np.float64))
        return by_manifest if index < len(spec.outputs) else np.fmin(by_manifest, by_rounding)  # fmin: a measure may be NaN

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
    """For each tensor, the worst of these comparisons."""
    return tuple(max(each, key=lambda apart: apart.share) for each in zip(*found, strict=True))
