"""Measures how far the answers of two readings of a graph differ: the largest difference, in units of float32 rounding.

Each tensor is measured by its own size, so that a small state beside a large output is not overlooked.
"""

from collections.abc import Sequence

import numpy as np

from app.tensors import Array, Prediction
from scripts.training.exactness import tensors

UNIT = 1e-5  # of the largest number in a tensor


def units(actual: Sequence[Prediction], expected: Sequence[Prediction]) -> float:
    """The largest difference; infinite where shapes differ or a number is not finite."""
    worst = 0.0
    for a, b in zip(actual, expected, strict=True):
        for x, y in zip(tensors(a), tensors(b), strict=True):
            worst = max(worst, difference(x, y))
    return worst


def difference(actual: Array, expected: Array) -> float:
    if actual.shape != expected.shape or not np.isfinite(actual).all() or not np.isfinite(expected).all():
        return float("inf")
    size = float(np.abs(expected).max(initial=0.0)) or float(np.abs(actual).max(initial=0.0))
    return float(np.abs(actual - expected).max(initial=0.0)) / (UNIT * size) if size else 0.0


def is_number(prediction: Prediction) -> bool:
    return all(np.isfinite(array).all() for array in tensors(prediction))


def share(units: float) -> str:
    """A difference in words, as a share of the largest number in the tensor."""
    share = units * UNIT
    if share == float("inf"):
        return "more than can be said"
    return f"{share:.1f} times the values" if share >= 1 else f"{100 * share:.2g} % of the values"
