"""Cells with nothing in them, and what is done about them.

Owns the four choices. Knows nothing of files' formats or of time, but for where interpolation stands between two rows.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from scripts.tables.recording import DataError, Missing
from scripts.tables.tracks import Track, runs
from scripts.tables.wording import count, listed

Value = TypeVar("Value", np.float32, np.int64)

_CHOICES = (
    "Choose with --missing: `drop` cuts the recording there, `hold` carries the last value on, `interpolate` draws a straight line"
    " between the neighbours."
)


def settle(tracks: Sequence[Track], columns: Sequence[str], label: str, missing: Missing) -> tuple[list[Track], list[str]]:
    """Recordings whose spans hold no NaN, and notes; DataError where `missing` is error and a cell is missing.

    columns: of the tracks' values. label: the column of labels, or nothing. Values are changed in place.
    """
    names = [*columns, *([label] if label else [])]
    counts = np.sum([_counts(track) for track in tracks], axis=0)
    total = int(counts.sum())
    if not total:
        return list(tracks), []
    per_column = ", ".join(f"{number:,} of `{name}`" for name, number in zip(names, counts, strict=True) if number)
    where = next(place for track in tracks if (place := _first(track, names)))
    every = sum(map(len, tracks)) * len(names)
    said = f"{count(total, 'cell')} of {every:,} {'is' if total == 1 else 'are'} missing ({per_column}; first: {where})"
    if missing == "error":
        raise DataError(f"{said[0].upper()}{said[1:]}. {_CHOICES}")
    before = sum(_size(track) for track in tracks)
    done = [_settled(track, missing) for track in tracks]
    lost = before - sum(_size(track) for track in done)
    pieces = sum(len(track.spans) for track in done)
    left = f"{count(lost, 'row')} dropped, {count(pieces, 'piece')} left"
    if not pieces:
        raise DataError(f"{said[0].upper()}{said[1:]}: no row is left. {_most(names, counts)}")
    if missing == "drop":
        return done, [f"{said}: {left}.", *_short(done)]
    how = "filled with the value before" if missing == "hold" else "interpolated, from rows that a live stream has not had yet"
    ends = f"; where that cannot be, at {'the beginning' if missing == 'hold' else 'either end'}: {left}" if lost else ""
    return done, [f"{said}: {how}{ends}. Of a target, what is filled in counts as true; --missing drop leaves it out."]


def _most(names: Sequence[str], counts: NDArray[np.int64]) -> str:
    worst = names[int(counts.argmax())]
    return f"`{worst}` has most of them: leave it out of --features, or choose another --missing."


def _short(tracks: Sequence[Track]) -> list[str]:
    empty = [track.name for track in tracks if not track.spans]
    return [f"Nothing is left of {listed(empty)}."] if empty else []


def _size(track: Track) -> int:
    return sum(stop - start for start, stop in track.spans)


def _counts(track: Track) -> NDArray[np.int64]:
    """Missing cells of each column, the labels last."""
    each = [int(np.isnan(track.values[:, index]).sum()) for index in range(track.values.shape[1])]
    return np.array([*each, *([] if track.labels is None else [int((track.labels < 0).sum())])], dtype=np.int64)


def _good(track: Track) -> NDArray[np.bool_]:
    """Rows in which nothing is missing."""
    good = np.ones(len(track), dtype=np.bool_) if track.labels is None else track.labels >= 0
    for index in range(track.values.shape[1]):
        good &= ~np.isnan(track.values[:, index])
    return good


def _first(track: Track, names: Sequence[str]) -> str:
    good = _good(track)
    if good.all():
        return ""
    row = int(good.argmin())
    column = next((index for index in range(track.values.shape[1]) if np.isnan(track.values[row, index])), len(names) - 1)
    return track.at(row, names[column])


def _settled(track: Track, missing: Missing) -> Track:
    labels = None if track.labels is None else track.labels.copy()
    for start, stop in track.spans if missing != "drop" else ():
        where = np.arange(stop - start) if track.nanoseconds is None else track.nanoseconds[start:stop] - track.nanoseconds[start]
        for index in range(track.values.shape[1]):
            column = track.values[start:stop, index]
            bad = np.isnan(column)
            if bad.any() and not bad.all():
                column[:] = _held(column, ~bad) if missing == "hold" else _drawn(column, ~bad, where)
        if labels is not None:
            piece = labels[start:stop]
            if missing == "hold":
                piece[:] = _held(piece, piece >= 0)
            elif (piece >= 0).any():
                piece[:] = _nearest(piece, piece >= 0, where)
    filled = replace(track, labels=labels)
    return replace(filled, spans=runs(_good(filled), track.spans))


def _held(column: NDArray[Value], good: NDArray[np.bool_]) -> NDArray[Value]:
    """The last good value, in each row; before the first one, what stands there."""
    last = np.maximum.accumulate(np.where(good, np.arange(len(column)), 0))
    return column[last]


def _drawn(column: NDArray[np.float32], good: NDArray[np.bool_], where: NDArray[np.int64]) -> NDArray[np.float32]:
    """Straight lines between the good values, NaN before the first and after the last."""
    out = np.interp(where, where[good], column[good], left=np.nan, right=np.nan).astype(np.float32)
    return np.where(good, column, out)


def _nearest(labels: NDArray[np.int64], good: NDArray[np.bool_], where: NDArray[np.int64]) -> NDArray[np.int64]:
    """The nearest good label between the first and the last; -1 before and after."""
    places = np.flatnonzero(good)
    index = np.arange(len(labels))
    after = np.clip(np.searchsorted(places, index), 0, len(places) - 1)
    before = np.clip(np.searchsorted(places, index, side="right") - 1, 0, None)
    later, earlier = places[after], places[before]
    chosen = np.where(where[later] - where < where - where[earlier], later, earlier)
    inside = (index >= places[0]) & (index <= places[-1])
    return np.where(inside, labels[chosen], -1)
