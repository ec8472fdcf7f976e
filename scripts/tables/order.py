"""Checks that the rows of a recording are in the order of time, one row at each time.

Owns what is done about rows that are not; mixed.py guesses the cause. Knows nothing of how even the times are.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from scripts.tables import mixed
from scripts.tables.recording import DataError, Irregular
from scripts.tables.tracks import Track
from scripts.tables.wording import count


def joined(track: Track, notes: list[str]) -> Track:
    """Join consecutive rows of the same time into one, if no column, and no label, has a value in two of them."""
    if track.nanoseconds is None or (steps := np.diff(track.nanoseconds)).all():
        return track
    begins = np.concatenate(([True], steps != 0))
    starts, own = np.flatnonzero(begins), np.cumsum(begins) - 1
    known = ~np.isnan(track.values) if track.labels is None else np.column_stack((~np.isnan(track.values), track.labels >= 0))
    fits = np.all(np.add.reduceat(known, starts, dtype=np.int64) <= 1, axis=1)[own]
    gone = fits & ~begins
    if not gone.any():
        return track
    notes.append(
        f"{track.name}: {count(int(gone.sum()), 'row')} joined with the row before, of the same time: no column has a value in both"
        f" (first: {track.at(int(gone.argmax()))})."
    )
    values = np.where(fits[:, None], np.fmax.reduceat(track.values, starts)[own], track.values)
    labels = None if track.labels is None else np.where(fits, np.maximum.reduceat(track.labels, starts)[own], track.labels)
    return replace(track, values=values, labels=labels).taken(np.flatnonzero(~gone))


def in_order(track: Track, irregular: Irregular, notes: list[str]) -> Track:
    """The recording with rising times, if it has times; what was done is added to the notes.

    A recording whose newest row comes first is reversed. Of rows with the same time, the first is kept if rows are to be
    resampled. DataError if times go back and forth, or repeat and are not to be resampled.
    """
    if track.nanoseconds is None:
        return track
    steps = np.diff(track.nanoseconds)
    if len(steps) and (steps < 0).all():
        notes.append(f"{track.name}: the newest row comes first; the rows are turned round.")
        return track.taken(np.arange(len(track))[::-1])
    back, same = steps < 0, steps == 0
    if back.any():
        index = int(back.argmax()) + 1
        raise DataError(
            f"{track.at(index)}: the time goes back from {track.when(index - 1)} to {track.when(index)}"
            f" ({count(int(back.sum()), 'such step')} in {track.name}). {_advice(track, back | same, by=int(-steps[index - 1]))}"
        )
    if not same.any():
        return track
    index = int(same.argmax()) + 1
    if irregular != "resample":
        first = "" if mixed.namers(track) else " --irregular resample keeps the first of each."
        raise DataError(
            f"{track.at(index)}: the time {track.when(index)} stands in the row before too ({count(int(same.sum()), 'such row')} in"
            f" {track.name}). {_advice(track, same, by=0)}{first}"
        )
    told = f"{count(int(same.sum()), 'row')} at a time that the row before has too"
    hint = f" {mixed.groups(track)}" if mixed.namers(track) else ""
    notes.append(f"{track.name}: {told}, left out (first: {track.at(index)}).{hint}")
    return track.taken(np.flatnonzero(np.concatenate(([True], ~same))))


def _advice(track: Track, wrong: NDArray[np.bool_], *, by: int) -> str:
    """What usually causes such times, and what to do; `by`: nanoseconds by which the first goes back."""
    if track.dated and mixed.is_clock_put_back(track.times, wrong):
        return "This is what the end of daylight saving time looks like: write times in UTC or with their zone."
    return f"{mixed.groups(track)} Else {'sort the rows by time' if by else 'write the times with more digits'}."
