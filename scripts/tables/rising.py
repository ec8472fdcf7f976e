"""Detects columns that rise evenly from row to row: a clock with an unusual name, or a row number.

Owns what counts as even. Knows nothing of what columns are for. From such a column a network would learn when a row was taken,
which says nothing about later rows.
"""

from collections.abc import Iterable
from math import ceil

import numpy as np
from numpy.typing import NDArray

_LEAST = 10  # rows, in all recordings together
_EVEN = 0.05  # of the usual step
_MOST = 0.98  # of the steps: a few rows may be missing
_EPSILON = 2.0**-24  # the relative error of rounding to float32
_CLEAR = 8  # times that error: how much a column must change over the rows between which a step is measured


def rises_evenly(recordings: Iterable[NDArray[np.float32]]) -> bool:
    """Whether the values (rows,) of one column rise, or fall, evenly in every one of these recordings; NaN is passed over."""
    rows = 0
    for values in recordings:
        if len(values) > 2:
            if not _rises(values):
                return False
            rows += len(values)
    return rows >= _LEAST


def _rises(values: NDArray[np.float32]) -> bool:
    there = np.flatnonzero(~np.isnan(values))
    if len(there) < 3:
        return False
    numbers = values[there].astype(np.float64)
    slope = float(numbers[-1] - numbers[0]) / int(there[-1] - there[0])
    rounding = _EPSILON * max(abs(numbers[0]), abs(numbers[-1]))
    if not slope:
        return False
    stride = max(1, ceil(_CLEAR * rounding / abs(slope)))
    steps = np.diff(numbers[::stride]) / np.diff(there[::stride])
    if len(steps) < 2:
        return False
    usual = float(np.median(steps))
    allowed = _EVEN * abs(usual) + 2 * rounding / stride
    return bool((np.sign(steps) == np.sign(slope)).all()) and float(np.mean(np.abs(steps - usual) <= allowed)) >= _MOST
