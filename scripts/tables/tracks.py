"""A recording in preparation: its rows as they were read, before it is split.

Owns the shape. Knows nothing of files' formats.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scripts.tables.sheet import Sheet
from scripts.tables.wording import instant

Span = tuple[int, int]  # first row, and the row after the last


@dataclass(frozen=True, slots=True)
class Track:
    """One recording: a file, or the rows of one group in it.

    values: (rows, columns) float32, features first, then the targets that are no features; NaN where a cell is missing.
    """

    name: str
    sheet: Sheet
    rows: NDArray[np.int64]  # (rows,), indices among the rows that the sheet uses, from 0
    values: NDArray[np.float32]
    labels: NDArray[np.int64] | None = None  # (rows,), -1 where missing
    nanoseconds: NDArray[np.int64] | None = None  # (rows,)
    dated: bool = False  # whether nanoseconds count from 1970
    origin: int = 0  # nanoseconds of the file's first row
    spans: tuple[Span, ...] = ()  # the pieces without gaps, in order
    borders: tuple[int, ...] = ()  # rows at which training, validation and test end; empty where there are no parts
    drawn: NDArray[np.bool_] | None = None  # (rows,), rows whose values were drawn between rows far apart
    filled: NDArray[np.bool_] | None = None  # (rows,), rows that may be read and are no truth

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def times(self) -> NDArray[np.int64]:
        """The nanoseconds of a recording that is known to have them."""
        assert self.nanoseconds is not None
        return self.nanoseconds

    def taken(self, index: NDArray[np.int64], *, name: str = "") -> "Track":
        """These rows alone, in one piece."""
        return replace(
            self,
            name=name or self.name,
            rows=self.rows[index],
            values=self.values[index],
            labels=None if self.labels is None else self.labels[index],
            nanoseconds=None if self.nanoseconds is None else self.nanoseconds[index],
            spans=((0, len(index)),),
        )

    def at(self, index: int, column: str = "") -> str:
        """Where row `index` stands in its file."""
        return self.sheet.at(int(self.rows[index]), column)

    def when(self, index: int) -> str:
        """The time of row `index`, or which row of the file it is."""
        if self.nanoseconds is None:
            return f"row {self.sheet.row(int(self.rows[index])):,}"
        return instant(int(self.nanoseconds[index]), dated=self.dated)


def runs(good: NDArray[np.bool_], within: Sequence[Span]) -> tuple[Span, ...]:
    """The unbroken runs of good rows in each of the spans."""
    found: list[Span] = []
    for start, stop in within:
        edges = np.flatnonzero(np.diff(np.concatenate(([False], good[start:stop], [False])).astype(np.int8)))
        found += [(start + int(first), start + int(last)) for first, last in zip(edges[::2], edges[1::2], strict=True)]
    return tuple(found)
