"""How far apart the rows of a recording usually are, and which steps between them count as even.

Owns what even means. Knows nothing of what is done about steps that are not.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scripts.tables.months import one_in_each
from scripts.tables.tracks import Track
from scripts.tables.wording import NANOSECONDS

TOLERANCE = 0.05  # of the period; below, rows count as even
GAP = 1.5  # periods; in a longer step a row is missing
_DAY = 86_400 * NANOSECONDS
_WORKING = (26, 35)  # days from the first or last working day of a month to that of the next


def usual_step(steps: NDArray[np.int64]) -> float:
    """The usual one of these steps: the median; or the mean where all steps but gaps are even by it, and not by the median.

    So it is where times are rounded: 64 Hz to whole milliseconds makes steps of 15 and 16 ms.
    """
    median = float(np.median(steps))
    near = steps[steps < GAP * median]
    if not len(near) or _all_even(near, median) or not _all_even(near, mean := float(near.mean())):
        return median
    return mean


def _all_even(steps: NDArray[np.int64], period: float) -> bool:
    return bool((np.abs(steps - period) <= TOLERANCE * period).all())


def is_monthly(track: Track, steps: NDArray[np.int64]) -> bool:
    """Whether there is one row a month, which counts as even: months as long as they are, or one row in each, on its last working
    day for example."""
    if steps.min() >= 28 * _DAY - _DAY // 24 and steps.max() <= 31 * _DAY + _DAY // 24:
        return True
    return steps.min() >= _WORKING[0] * _DAY and steps.max() <= _WORKING[1] * _DAY and one_in_each(track)


def working_days(tracks: Sequence[Track], period: float) -> int:
    """On how many days of the week there are daily rows; 0 where it is all seven or one, or rows are not daily."""
    if abs(period * NANOSECONDS - _DAY) > TOLERANCE * _DAY:
        return 0
    times = [track.nanoseconds for track in tracks if track.nanoseconds is not None and track.dated]
    days = {int(day) for each in times for day in np.unique(each // _DAY % 7)}
    return len(days) if 1 < len(days) < 7 else 0
