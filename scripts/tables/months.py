"""Rows that come by the calendar: once a month, a quarter or a year, on the same day of the month or on its last.

Owns the count of months and the way back to a time. Knows nothing of gaps or of what is done about them. Months have 28 to 31 days:
a grid of days would leave the calendar after a few rows, and mix each month with the next.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from scripts.tables.tracks import Track

_MONTH = np.timedelta64(1, "M")
_DAY = np.timedelta64(1, "D").astype("timedelta64[ns]")


@dataclass(frozen=True, slots=True)
class Months:
    """When the rows of a recording were taken."""

    counted: NDArray[np.int64]  # (rows,), months since January 1970; they rise
    before: np.timedelta64  # from the beginning of a month to a row
    after: np.timedelta64  # from a row to the end of its month
    last: bool  # whether rows are as far from the end of their month, not from its beginning

    @classmethod
    def of(cls, track: Track) -> Self | None:
        """None if the rows do not come by the calendar, or have no dates."""
        if track.nanoseconds is None or not track.dated or len(track) < 2:
            return None
        moments = track.nanoseconds.astype("datetime64[ns]")
        months = moments.astype("datetime64[M]")
        before, after = moments - months, (months + _MONTH).astype("datetime64[ns]") - moments
        first, last = (bool((each == each[0]).all()) for each in (before, after))
        counted = months.astype(np.int64)
        if not (first or last) or not (np.diff(counted) > 0).all():
            return None
        return cls(counted, before[0], after[0], last=not first)

    def nanoseconds(self, counted: NDArray[np.int64]) -> NDArray[np.int64]:
        """The times since 1970 of rows in these months; the last day of a month that has too few."""
        months = counted.astype("datetime64[M]")
        ends = (months + _MONTH).astype("datetime64[ns]")
        moments = ends - self.after if self.last else np.minimum(months + self.before, ends - _DAY + self.before % _DAY)
        return np.asarray(moments.astype(np.int64))


def one_in_each(track: Track) -> bool:
    """Whether each month from the first to the last has one row, on whatever day."""
    if track.nanoseconds is None or not track.dated:
        return False
    months = track.nanoseconds.astype("datetime64[ns]").astype("datetime64[M]").astype(np.int64)
    return bool((np.diff(months) == 1).all())
