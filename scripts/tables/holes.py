"""Finds the missing cells of the files, and keeps what the user chose to do about them.

Owns the counting, the refusal, and which columns may be filled. Does not know how they are filled.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.tables.recording import DataError, Missing
from scripts.tables.tracks import Track
from scripts.tables.wording import count, listed

_CHOICES = (
    "Choose with --missing: `drop` cuts the recording there, `hold` carries the last value on, `interpolate` draws a straight line"
    " between the neighbours."
)
_TRUTH = (
    "All of that is truth, which is never filled in: with --missing drop such rows are read, and neither learned from nor scored;"
    " the one label of a recording holds for all of its rows."
)


@dataclass(frozen=True, slots=True)
class Holes:
    """What is missing in the files, and what is to be done about it."""

    missing: Missing
    said: str  # how many cells, and the first of them; empty where none is missing
    truth: tuple[int, ...]  # the columns of the values that are targets; none where there are labels
    forecast: bool  # whether targets are read too, in a context
    worst: str  # the column with the most missing cells

    def read(self, track: Track) -> list[int]:
        """The columns that are read, not only compared with."""
        return [column for column in range(track.values.shape[1]) if self.forecast or column not in self.truth]

    def filled_in(self, track: Track) -> list[int]:
        """The columns that may be filled."""
        return self.read(track) if self.missing in {"hold", "interpolate"} else []


def find(tracks: Sequence[Track], columns: Sequence[str], truth: Sequence[str], missing: Missing, *, forecast: bool) -> Holes:
    """The missing cells, as the files have them. DataError if a cell is missing and `missing` is error.

    columns: the names of the values' columns. truth: the targets among them, or the column of labels.
    """
    names = [*columns, *(name for name in truth if name not in columns)]
    places = tuple(columns.index(name) for name in truth if name in columns)
    counts = np.sum([_counts(track) for track in tracks], axis=0)
    total = int(counts.sum())
    if not total:
        return Holes(missing, "", places, forecast, "")
    per_column = ", ".join(f"{number:,} of `{name}`" for name, number in zip(names, counts, strict=True) if number)
    where = next(place for track in tracks if (place := _first(track, names)))
    every = sum(map(len, tracks)) * len(names)
    said = f"{count(total, 'cell')} of {every:,} {'is' if total == 1 else 'are'} missing ({per_column}; first: {where})"
    if missing == "error":
        only = not forecast and all(name in truth for name, number in zip(names, counts, strict=True) if number)
        raise DataError(f"{said}. {_TRUTH if only else _CHOICES}")
    return Holes(missing, said, places, forecast, names[int(counts.argmax())])


def usable(tracks: Sequence[Track], holes: Holes, *, untold: bool) -> tuple[list[Track], list[str]]:
    """The recordings that have rows to use, and a note on the others; DataError if there is no such recording.

    untold: whether rows of recordings without any truth can be used.
    """
    if not holes.said:
        return list(tracks), []
    kept = [track for track in tracks if _may_stay(track, holes, untold=untold)]
    if not kept:
        raise DataError(nothing_left(holes))
    gone = [track.name for track in tracks if not any(track is each for each in kept)]
    return kept, [f"Nothing is left of {listed(gone)}."] if gone else []


def nothing_left(holes: Holes) -> str:
    advice = f"`{holes.worst}` has most of them: leave it out, or choose another --missing"
    if len(holes.truth) > 1 and not holes.forecast:
        advice += "; targets that stand in different rows take a model each"
    return f"{holes.said}: no row is left. {advice}."


def _counts(track: Track) -> NDArray[np.int64]:
    """Missing cells of each column, the labels last."""
    each = [int(np.isnan(track.values[:, index]).sum()) for index in range(track.values.shape[1])]
    return np.array([*each, *([] if track.labels is None else [int((track.labels < 0).sum())])], dtype=np.int64)


def absent(track: Track, columns: Sequence[int]) -> NDArray[np.bool_]:
    """Rows in which a value of these columns is missing."""
    bad = np.zeros(len(track), dtype=np.bool_)
    for column in columns:
        bad |= np.isnan(track.values[:, column])
    return bad


def complete(track: Track) -> NDArray[np.bool_]:
    """Rows in which nothing is missing."""
    rows = ~absent(track, range(track.values.shape[1]))
    return rows if track.labels is None else rows & (track.labels >= 0)


def _may_stay(track: Track, holes: Holes, *, untold: bool) -> bool:
    """Whether one row has all that is read and not filled in, one has a truth, and columns to be filled have a value at all."""
    filled = holes.filled_in(track)
    rows = ~absent(track, [column for column in holes.read(track) if column not in filled])
    told = ~absent(track, holes.truth) if track.labels is None else track.labels >= 0
    return bool(rows.any() and (untold or holes.forecast or told.any())) and not any(
        np.isnan(track.values[:, column]).all() for column in filled
    )


def _first(track: Track, names: Sequence[str]) -> str:
    rows = complete(track)
    if rows.all():
        return ""
    row = int(rows.argmin())
    column = next((index for index in range(track.values.shape[1]) if np.isnan(track.values[row, index])), len(names) - 1)
    return track.at(row, names[column])
