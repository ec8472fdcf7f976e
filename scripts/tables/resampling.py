"""Interpolates rows at any times onto an even grid.

Owns the interpolation. Knows nothing of why it is wanted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scripts.tables.recording import DataError
from scripts.tables.tracks import Track
from scripts.tables.wording import NANOSECONDS, count, seconds

LONGEST_GAP = 4.0  # periods; longer gaps are not interpolated across
FAR = 1.5  # periods between two rows; beyond, a row is missing between them, and what is drawn there is made up
_MOST = 20  # rows of the grid for each row that was read

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]  # indices of rows, and of rows of the grid


@dataclass(frozen=True, slots=True)
class Resampled:
    """A recording on its grid, and at how many gaps it was cut."""

    track: Track
    cuts: int
    first: str  # where the first cut is


def resample(track: Track, period: float, usual: float, truth: Sequence[int] = ()) -> Resampled:
    """Resample onto a grid of `period` seconds that begins at the first row; `usual`: seconds between the rows as they are.

    Numbers are interpolated linearly; labels and `rows` are those of the nearest row. A number whose neighbours are missing would
    be lost: it is put into the next row of the grid, by whose time it has been measured. A label that would be lost, and a number
    in a column of `truth`, which is never read, is put into the nearest row of the grid, if that is not in an earlier part. Both
    happen only where the grid has no value.
    Gaps are measured in the longer of the two periods. Between rows more than FAR apart, the grid is marked as `drawn`, and has no
    label if those rows have different ones. A gap of more than LONGEST_GAP is not interpolated across: the recording has a span on
    either side. A row of the grid belongs to the part of the later of the two rows that it is drawn from. DataError if the grid
    would be huge.
    """
    times = track.times
    step = max(round(period * NANOSECONDS), 1)
    longer = max(period, usual) * NANOSECONDS
    wide = np.flatnonzero(np.diff(times) > LONGEST_GAP * longer)
    starts, stops = np.concatenate(([0], wide + 1)), np.concatenate((wide + 1, [len(times)]))
    firsts = -(-(times[starts] - times[0]) // step)  # the first point of the grid in each piece
    lasts = (times[stops - 1] - times[0]) // step
    sizes = np.maximum(lasts - firsts + 1, 0)
    total = int(sizes.sum())
    if total > _MOST * len(track) + 1000:
        raise DataError(
            f"{track.name}: a row every {seconds(period)} would make {count(total, 'row')} of {len(track):,}:"
            " choose a longer --period."
        )
    ends = np.cumsum(sizes)
    grid = np.concatenate([times[0] + step * np.arange(first, first + size) for first, size in zip(firsts, sizes, strict=True)])
    piece = np.repeat(np.arange(len(sizes)), sizes)
    before = np.searchsorted(times, grid, side="right") - 1
    after = np.minimum(before + 1, stops[piece] - 1)
    length = times[after] - times[before]
    weight = np.where(length > 0, (grid - times[before]) / np.maximum(length, 1), 0.0).astype(np.float32)
    nearest = np.where(weight > 0.5, after, before)
    drawn = (length > FAR * longer) & (grid > times[before])
    borders = tuple(int(np.searchsorted(grid, times[end - 1], side="right")) if end else 0 for end in track.borders)
    nearest_of = _nearest(times, grid, step / 2, list(zip(track.borders, borders, strict=True)))
    next_of = _next(times, grid, step)
    labels = None if track.labels is None else track.labels[nearest]
    if labels is not None and track.labels is not None:
        labels[drawn & (track.labels[before] != track.labels[after])] = -1
        told = labels >= 0
        lost = _lost(track.labels >= 0, told, nearest_of, nearest[told])
        labels[lost[1]] = track.labels[lost[0]]
    values = np.empty((total, track.values.shape[1]), dtype=np.float32)
    for column in range(values.shape[1]):
        own, made = track.values[:, column], values[:, column]
        made[:] = np.where(weight == 0, own[before], own[before] + weight * (own[after] - own[before]))
        told = ~np.isnan(made)
        lost = _lost(~np.isnan(own), told, nearest_of if column in truth else next_of, before[told], after[told & (weight > 0)])
        made[lost[1]] = own[lost[0]]
    resampled = replace(
        track,
        rows=track.rows[nearest],
        values=values,
        labels=labels,
        nanoseconds=grid,
        spans=tuple((int(end - size), int(end)) for end, size in zip(ends, sizes, strict=True) if size),
        borders=borders,
        drawn=drawn,
    )
    return Resampled(resampled, len(wide), track.at(int(wide[0]) + 1) if len(wide) else "")


def _nearest(times: NDArray[np.int64], grid: NDArray[np.int64], far: float, borders: Sequence[tuple[int, int]]) -> Pairs:
    """Rows, and for each the nearest row of the grid, at most `far` off and not in an earlier part; the nearest last, so they win.

    borders: where each part ends, in rows and on the grid.
    """
    after = np.searchsorted(grid, times).clip(max=len(grid) - 1)
    before = (after - 1).clip(min=0)
    to = np.where(times - grid[before] < grid[after] - times, before, after)
    off = np.abs(grid[to] - times)
    fits = off <= far
    for row, place in borders:
        fits[row:] &= to[row:] >= place
    rows = np.argsort(-off, kind="stable")
    rows = rows[fits[rows]]
    return rows, to[rows]


def _next(times: NDArray[np.int64], grid: NDArray[np.int64], step: int) -> Pairs:
    """Rows, and for each the row of the grid at its time or less than a step later; the nearest last, so they win."""
    to = np.searchsorted(grid, times)
    rows = np.flatnonzero(to < len(grid))
    rows = rows[grid[to[rows]] - times[rows] < step]
    return rows, to[rows]


def _lost(known: NDArray[np.bool_], told: NDArray[np.bool_], pairs: Pairs, *used: NDArray[np.int64]) -> Pairs:
    """The pairs whose row has a value that was not used, and whose row of the grid has none."""
    unused = known.copy()
    for each in used:
        unused[each] = False
    rows, to = pairs
    lost = unused[rows] & ~told[to]
    return rows[lost], to[lost]
