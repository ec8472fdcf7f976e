"""Sums over rows from which linear maps are fitted in closed form, however many rows there are.

Owns ridge regression, means and spreads. Knows nothing of what the columns are. All in float64; inputs and targets must lie
around zero and be of about unit size, or digits are lost. Source: Hastie, Tibshirani & Friedman, "The elements of statistical
learning", section 3.4.1.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PENALTIES = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # times the sum of the squared weights; the best one is taken


class Moments:
    """Sums over rows of the products of inputs (rows, inputs), with a 1 put before them, and targets (rows, targets)."""

    def __init__(self, inputs: int, targets: int) -> None:
        self.count = 0
        self._xx = np.zeros((inputs + 1, inputs + 1))
        self._xy = np.zeros((inputs + 1, targets))
        self._yy = np.zeros(targets)

    def add(self, inputs: Array, targets: Array) -> None:
        x = np.concatenate([np.ones((len(inputs), 1)), inputs], axis=1)
        self.count += len(x)
        self._xx += x.T @ x
        self._xy += x.T @ targets
        self._yy += np.square(targets).sum(axis=0)

    def ridge(self, penalty: float) -> Array:
        """The weights (1 + inputs, targets) of least mean square error plus `penalty` times their squares, not the intercept's."""
        added = np.full(len(self._xx), penalty * self.count)
        added[0] = 0.0
        return np.asarray(np.linalg.lstsq(self._xx + np.diag(added), self._xy, rcond=None)[0], dtype=np.float64)

    def errors(self, weights: Array) -> Array:
        """The mean square error (targets,) of these weights over these rows."""
        squares = self._yy - 2 * (weights * self._xy).sum(axis=0) + (weights * (self._xx @ weights)).sum(axis=0)
        return np.asarray(np.maximum(squares, 0.0) / self.count)


def best(training: Moments, validation: Moments) -> Array:
    """The ridge weights (1 + inputs, targets) of the training rows, with the penalty of least error on the validation rows."""
    return min(map(training.ridge, PENALTIES), key=lambda weights: float(validation.errors(weights).sum()))


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and standard deviation of each column; the standard deviation of one that is constant is taken as 1."""

    mean: Array  # (columns,)
    scale: Array  # (columns,)


def spread(blocks: Callable[[], Iterable[Array]]) -> Spread:
    """The spread of the columns of these blocks (rows, columns), which hold at least one row; `blocks` is called twice."""
    first, count, total = None, 0, np.zeros(1)
    for block in blocks():
        if not len(block):
            continue
        first = block[0] if first is None else first
        count += len(block)
        total = total + (block - first).sum(axis=0)
    assert first is not None
    mean = first + total / count  # exact to the last bit if a column is constant
    variance = sum((np.square(block - mean).sum(axis=0) for block in blocks()), np.zeros(1)) / count
    scale = np.sqrt(variance)
    return Spread(mean=mean, scale=np.where(scale > np.finfo(np.float32).tiny, scale, 1.0))
