"""How far predictions are from the truth, summed up row by row, however many there are.

Owns the metrics. Knows nothing of where predictions come from. Source of macro F1: Opitz & Burst, "Macro F1 and Macro F1", 2019:
the mean of the classes' F1.
"""

from dataclasses import dataclass
from math import log10, nan, sqrt

import numpy as np
from numpy.typing import NDArray

from scripts.tables.recording import Column, unit_of

Array = NDArray[np.float64]

STANDARDISED = "standard deviations"  # the unit of errors in targets that share none
LEAST_PROBABILITY = 1e-7  # smaller ones count as this: float32 can hardly tell them from 0 beside 1


@dataclass(frozen=True, slots=True)
class Ruler:
    """The unit of errors: the one that all targets share, else the standard deviation of each target."""

    scale: Array  # (targets,)
    unit: str

    @classmethod
    def of(cls, targets: tuple[Column, ...], deviations: Array) -> "Ruler":
        unit = unit_of(targets)
        return cls(deviations, STANDARDISED) if unit is None else cls(np.ones(len(targets)), unit)


class Errors:
    """Sums over the errors of predictions (rows, targets)."""

    def __init__(self, targets: int) -> None:
        self.count = 0
        self._squares, self._sizes = np.zeros(targets), np.zeros(targets)
        self._first: Array | None = None
        self._sum, self._sum_of_squares = np.zeros(targets), np.zeros(targets)  # of the truth, less its first row

    def add(self, predictions: NDArray[np.floating], truth: NDArray[np.floating]) -> None:
        """Add one row or more."""
        truth = truth.astype(np.float64)
        errors = predictions - truth
        if self._first is None:
            self._first = truth[0]
        moved = truth - self._first
        self.count += len(errors)
        self._squares += np.square(errors).sum(axis=0)
        self._sizes += np.abs(errors).sum(axis=0)
        self._sum += moved.sum(axis=0)
        self._sum_of_squares += np.square(moved).sum(axis=0)

    def mean_square(self, scale: Array) -> float:
        """The mean square error of all targets together, each in units of its `scale`."""
        return float((self._squares / np.square(scale)).mean() / self.count)

    def rmse(self, scale: Array) -> float:
        return sqrt(self.mean_square(scale))

    def mae(self, scale: Array) -> float:
        return float((self._sizes / scale).mean() / self.count)

    def r2(self) -> float:
        """The share of the truth's variance that is explained, the mean over the targets; NaN where one of them is constant."""
        total = self._sum_of_squares - np.square(self._sum) / self.count
        return float((1 - self._squares / total).mean()) if (total > 0).all() else nan


def decibels(raw: float, cleaned: float) -> float:
    """By how much an error is smaller than the raw signal's: 20 dB is a tenth."""
    if not raw:
        return nan
    return 20 * log10(raw / cleaned) if cleaned else float("inf")


class Confusion:
    """How often each class was predicted for each true class."""

    def __init__(self, classes: int) -> None:
        self.counts = np.zeros((classes, classes), np.int64)  # (truth, prediction)
        self._surprise = 0.0

    def add(self, predictions: NDArray[np.floating], labels: NDArray[np.int64]) -> None:
        """Add probabilities, or other scores, of the classes (rows, classes), and the labels (rows,)."""
        classes = len(self.counts)
        pairs = labels * classes + predictions.argmax(axis=1)
        self.counts += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
        given = predictions[np.arange(len(labels)), labels].astype(np.float64)
        self._surprise -= float(np.log(given.clip(LEAST_PROBABILITY, None)).sum())

    @property
    def accuracy(self) -> float:
        return float(self.counts.trace() / self.counts.sum())

    @property
    def macro_f1(self) -> float:
        """The mean F1 of the classes that occur in the truth or in the predictions."""
        right, both = np.diag(self.counts), self.counts.sum(axis=0) + self.counts.sum(axis=1)
        return float((2 * right[both > 0] / both[both > 0]).mean())

    @property
    def log_loss(self) -> float:
        """In nats; has a meaning only where predictions are probabilities."""
        return self._surprise / int(self.counts.sum())
