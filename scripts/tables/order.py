"""Whether the rows of a recording stand in the order of time.

Owns what is done about those that do not. How it came to that is guessed by mixed.py; knows nothing of how even the times are.
"""

import numpy as np
from numpy.typing import NDArray

from scripts.tables import mixed
from scripts.tables.recording import DataError, Irregular
from scripts.tables.tracks import Track
from scripts.tables.wording import count


def in_order(track: Track, irregular: Irregular, notes: list[str]) -> Track:
    """With times that rise, if there are any; what was done for that is added to the notes.

    A recording whose newest row comes first is turned round; of rows with the same time the first is kept where they are to be
    resampled. DataError where times go back and forth, or come twice otherwise.
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
    """What such times are usually about; `by`: nanoseconds that the first goes back."""
    assert track.nanoseconds is not None
    if track.dated and mixed.is_clock_put_back(track.nanoseconds, wrong):
        return "This is what the end of daylight saving time looks like: write times in UTC or with their zone."
    return f"{mixed.groups(track)} Else {'sort the rows by time' if by else 'write the times with more digits'}."
