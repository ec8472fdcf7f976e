"""Times as a spreadsheet counts them: days since the end of 1899, with the time of day as a fraction.

Owns how they are distinguished from seconds. Knows nothing of files.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.tables.wording import NANOSECONDS, instant

_DAYS = (20_000, 60_000)  # of the years 1954 to 2064
_MINUTES = 1440  # of a day
_WRITTEN = 1e-4  # of a day: such numbers may be rounded to this, so that steps differ by as much
_NEAR = 2e-5  # of a day: how close the mean of the steps must be to whole minutes
_THOUSANDTH = 1e-3  # of a second: steps of whole thousandths, such as 0.125, may be seconds as well as days
_EPOCH = 25_569  # days of 1970-01-01


def is_serial(values: NDArray[Any]) -> bool:
    """Whether numbers (rows,) that could be seconds are days: their usual step is whole minutes, and not whole thousandths."""
    if len(values) < 2 or not (_DAYS[0] <= values.min() and values.max() <= _DAYS[1]):
        return False
    steps = np.sort(np.diff(values.astype(np.float64)))
    step = abs(float(steps[abs(steps - steps[len(steps) // 2]) < 1.01 * _WRITTEN].mean()))
    minutes = round(step * _MINUTES)
    if not 1 <= minutes < _MINUTES or abs(step - minutes / _MINUTES) > _NEAR:
        return False
    return abs(step - round(step / _THOUSANDTH) * _THOUSANDTH) > _NEAR


def as_date(value: float) -> str:
    return instant(round((value - _EPOCH) * _MINUTES) * 60 * NANOSECONDS, dated=True)
