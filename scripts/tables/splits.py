"""Where training, validation and test lie in a recording.

Owns the three ways of saying it: fractions, rows or dates. Knows nothing of classes or of gaps.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from scripts.tables import dates
from scripts.tables.recording import DataError
from scripts.tables.tracks import Track
from scripts.tables.wording import count, instant

PARTS = ("training", "validation", "test")
_HOW = (
    "--split takes three fractions such as 0.7,0.15,0.15, three numbers of rows such as 8640,2880,2880, or the three dates on"
    f" which the parts end, such as 2017-07-01,2017-11-01,2018-03-01, of the years {dates.YEARS[0]} to {dates.YEARS[1]}."
)


@dataclass(frozen=True, slots=True)
class Split:
    """Where the parts end, in one of the three ways."""

    fractions: tuple[float, ...] = ()  # cumulative
    rows: tuple[int, ...] = ()  # cumulative
    dates: tuple[int, ...] = ()  # nanoseconds since 1970; each is the first moment after the part


def parse_split(texts: Sequence[str]) -> Split:
    """Parse what the user wrote; DataError if it is none of the three ways."""
    said = ",".join(texts)
    if len(texts) != 3:
        raise DataError(f"A split has three parts, got {said!r}. {_HOW}")
    if all(re.fullmatch(r"\s*\d*\.?\d+(e-?\d+)?\s*|\s*\d+\.\s*", text) for text in texts):
        numbers = [float(text) for text in texts]
        if min(numbers) <= 0:
            raise DataError(f"Each part of a split needs rows, got {said}. {_HOW}")
        if all(number.is_integer() for number in numbers):
            return Split(rows=tuple(int(end) for end in np.cumsum(numbers)))
        if max(numbers) >= 1:
            raise DataError(f"The split {said} mixes fractions and rows. {_HOW}")
        ends = np.cumsum(numbers)
        if ends[-1] > 1 + 1e-9:
            raise DataError(f"The fractions {said} add up to {ends[-1]:g}, and there is 1 at most. {_HOW}")
        return Split(fractions=tuple(float(end) for end in ends))
    stamps = pl.Series(values=[text.strip() for text in texts], dtype=pl.String)
    try:
        read = dates.parse(stamps).nanoseconds
    except dates.UnclearDate as error:
        raise DataError(f"The split {said}: {error}.") from error
    if read.null_count():
        raise DataError(f"The split {said} is not to be understood: {stamps[int(read.is_null().arg_max() or 0)]!r}. {_HOW}")
    if not (read.diff().drop_nulls() > 0).all():
        raise DataError(f"The dates of the split {said} must rise. {_HOW}")
    return Split(dates=tuple(int(each) for each in read))


def ends(track: Track, split: Split, *, only: bool) -> tuple[int, ...]:
    """The rows at which the three parts of one recording end; `only`: there is no other. DataError if the split does not fit."""
    size = len(track)
    if split.rows:
        if not only:
            raise DataError("A split in rows is for a single recording, and there are several: give fractions or dates.")
        if split.rows[-1] > size:
            raise DataError(f"The split asks for {count(split.rows[-1], 'row')}, and {track.name} has {size:,}.")
        return split.rows
    if split.fractions:
        return tuple(int(size * fraction + 1e-6) for fraction in split.fractions)
    if track.nanoseconds is None or not track.dated:
        raise DataError(
            f"A split by dates needs a column of dates, and {track.name} has none: name it with --time, or give fractions."
        )
    return tuple(int(np.searchsorted(track.nanoseconds, end)) for end in split.dates)


def check_filled(sizes: Sequence[int], tracks: Sequence[Track], split: Split) -> None:
    """DataError where a part has no row in any recording."""
    for name, size in zip(PARTS, sizes, strict=True):
        if size:
            continue
        if split.dates:
            times = [track.nanoseconds for track in tracks if track.nanoseconds is not None and len(track)]
            first, last = min(int(each[0]) for each in times), max(int(each[-1]) for each in times)
            span = f"The rows go from {instant(first, dated=True)} to {instant(last, dated=True)}."
        else:
            span = f"There {'is' if sum(map(len, tracks)) == 1 else 'are'} {count(sum(map(len, tracks)), 'row')} in all."
        raise DataError(f"No row is left for the {name} part. {span} {_HOW}")
