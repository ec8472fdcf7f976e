"""Fills missing cells of features, if the user asked for it; a value that was filled in never counts as truth.

Owns the filling, and which rows are no truth: such rows are read, and neither learned from nor scored. Knows nothing of files'
formats; of time only what interpolation needs.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from scripts.tables.holes import Holes, absent, nothing_left
from scripts.tables.recording import DataError
from scripts.tables.tracks import Track, runs
from scripts.tables.wording import count, listed

_HOW = {"hold": "filled with the value before", "interpolate": "interpolated, from rows that a live stream has not had yet"}


def settle(tracks: Sequence[Track], holes: Holes) -> tuple[list[Track], list[str]]:
    """The recordings with spans in which no value that is read is NaN and no truth is made up; and notes. Changes values in place.

    A row is filled from rows of its own part and of earlier ones. A row without truth is read, and marked as `filled`.
    """
    drawn = sum(int(track.drawn.sum()) for track in tracks if track.drawn is not None)
    if not holes.said and not drawn:
        return list(tracks), []
    before = sum(_size(track) for track in tracks)
    done = [_settled(track, holes) for track in tracks]
    lost = before - sum(_size(track) for track in done)
    pieces = sum(len(track.spans) for track in done)
    if not pieces:
        raise DataError(nothing_left(holes))
    left = f"{count(lost, 'row')} dropped, {count(pieces, 'piece')} left"
    notes = []
    judged = bool(holes.truth) or any(track.labels is not None for track in done)
    features = "those of features are " if judged and not holes.forecast else ""
    if drawn and judged:
        notes.append(
            f"{count(drawn, 'row')} of the grid {'lies' if drawn == 1 else 'lie'} in gaps, between rows far apart: what is drawn"
            f" there is no truth{f': {left}' if lost and not holes.said else ''}."
        )
    if holes.missing == "drop":
        notes += [f"{holes.said}{f': {left}' if lost else ''}."] if holes.said else []
    elif holes.said:
        where = "the beginning" if holes.missing == "hold" else "either end, or at the end of a part"
        ends = f". Where that cannot be, at {where}: {left}" if lost else ""
        notes.append(f"{holes.said}: {features}{_HOW[holes.missing]}{ends}.")
    if empty := [track.name for track in done if not track.spans]:
        notes.append(f"Nothing is left of {listed(empty)}.")
    return done, [*notes, *_no_truth(done, forecast=holes.forecast)]


def _no_truth(tracks: Sequence[Track], *, forecast: bool) -> list[str]:
    """A note on the rows that are only read."""
    rows = sum(int(track.filled[start:stop].sum()) for track in tracks if track.filled is not None for start, stop in track.spans)
    if not rows:
        return []
    if not forecast:
        return [
            f"{count(rows, 'row')} {'is' if rows == 1 else 'are'} read, and neither learned from nor scored: a target or label is"
            " missing there, which is never made up."
        ]
    return [
        f"{count(rows, 'row')} {'is' if rows == 1 else 'are'} read and never forecast, since a target there is made up or told by"
        " the row before: a window with one in its horizon is neither learned from nor scored."
    ]


def _size(track: Track) -> int:
    return sum(stop - start for start, stop in track.spans)


def _settled(track: Track, holes: Holes) -> Track:
    drawn = track.drawn
    if drawn is not None and not holes.forecast:
        for index in holes.truth:
            track.values[drawn, index] = np.nan
    filled = _filled(track, holes) if holes.forecast else _untold(track, holes)
    for start, stop in track.spans:
        where = np.arange(stop - start) if track.nanoseconds is None else track.nanoseconds[start:stop] - track.nanoseconds[start]
        borders = [border - start for border in track.borders if start < border < stop]
        for index in holes.filled_in(track):
            column = track.values[start:stop, index]
            bad = np.isnan(column)
            if bad.any() and not bad.all():
                column[:] = _held(column, ~bad) if holes.missing == "hold" else _drawn(column, ~bad, where, borders)
    return replace(track, spans=runs(~absent(track, holes.read(track)), track.spans), filled=filled)


def _untold(track: Track, holes: Holes) -> NDArray[np.bool_] | None:
    """Rows that miss a target or their label; None if no row does."""
    rows = absent(track, holes.truth)
    if track.labels is not None:
        rows |= track.labels < 0
    return rows if rows.any() else None


def _filled(track: Track, holes: Holes) -> NDArray[np.bool_] | None:
    """Rows of a forecast that are no truth; called before filling. They were drawn, miss a target, or follow a drawn row."""
    drawn = np.zeros(len(track), dtype=np.bool_) if track.drawn is None else track.drawn
    filled = drawn | absent(track, holes.truth) if holes.missing in _HOW else drawn.copy()
    if holes.missing == "interpolate":
        drawn = drawn | absent(track, range(track.values.shape[1]))
    filled[1:] |= drawn[:-1]
    return filled if filled.any() else None


def _held(column: NDArray[np.float32], good: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The last good value up to each row; NaN before the first one."""
    last = np.maximum.accumulate(np.where(good, np.arange(len(column)), 0))
    return column[last]


def _drawn(
    column: NDArray[np.float32], good: NDArray[np.bool_], where: NDArray[np.int64], borders: Sequence[int] = ()
) -> NDArray[np.float32]:
    """Straight lines between good values; NaN before the first, after the last, and where the line would lead to a later part."""
    out = column.copy()
    out[~good] = np.interp(where[~good], where[good], column[good], left=np.nan, right=np.nan)
    for border in borders:
        open_ = int(good[:border][::-1].argmax()) if good[:border].any() else border  # rows at the part's end without a value
        out[border - open_ : border] = np.nan
    return out
