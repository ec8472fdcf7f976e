"""Rows at any times, interpolated onto an even grid.

Owns the interpolation. Knows nothing of why it is wanted.
"""

from dataclasses import dataclass, replace

import numpy as np

from scripts.tables.recording import DataError
from scripts.tables.tracks import Track
from scripts.tables.wording import NANOSECONDS, count, seconds

LONGEST_GAP = 4.0  # periods that are interpolated across
FAR = 1.5  # periods between two rows; beyond, a row is missing between them, and what is drawn there is made up
_MOST = 20  # rows of the grid for each row that was read


@dataclass(frozen=True, slots=True)
class Resampled:
    """A recording on its grid, and at how many gaps it was cut."""

    track: Track
    cuts: int
    first: str  # where the first cut is


def resample(track: Track, period: float, usual: float) -> Resampled:
    """Onto a grid of `period` seconds that begins at the first row; `usual`: seconds between the rows as they are.

    Numbers are interpolated linearly, labels and rows are those of the nearest row. What lies between rows more than FAR of the
    longer of the two periods apart is `drawn`, and has no label where those rows have different ones. A gap of more than
    LONGEST_GAP is not interpolated across: the recording has a span on either side. A row belongs to the part of the later of the
    two rows that it is drawn from. DataError where the grid would be huge.
    """
    times = track.nanoseconds
    assert times is not None
    step = max(round(period * NANOSECONDS), 1)
    longer = max(period, usual) * NANOSECONDS
    wide = np.flatnonzero(np.diff(times) > LONGEST_GAP * longer)
    starts, stops = np.concatenate(([0], wide + 1)), np.concatenate((wide + 1, [len(times)]))
    firsts = -(-(times[starts] - times[0]) // step)  # of the grid's points, in each piece
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
    labels = None if track.labels is None else track.labels[nearest]
    if labels is not None and track.labels is not None:
        labels[drawn & (track.labels[before] != track.labels[after])] = -1
    values = np.empty((total, track.values.shape[1]), dtype=np.float32)
    for column in range(values.shape[1]):
        lower, upper = track.values[before, column], track.values[after, column]
        values[:, column] = np.where(weight == 0, lower, lower + weight * (upper - lower))
    made = replace(
        track,
        rows=track.rows[nearest],
        values=values,
        labels=labels,
        nanoseconds=grid,
        spans=tuple((int(end - size), int(end)) for end, size in zip(ends, sizes, strict=True) if size),
        borders=tuple(int(np.searchsorted(grid, times[end - 1], side="right")) if end else 0 for end in track.borders),
        drawn=drawn,
    )
    return Resampled(made, len(wide), track.at(int(wide[0]) + 1) if len(wide) else "")
