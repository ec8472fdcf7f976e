"""Guesses why times repeat or go back: a clock was put back, or one file holds several recordings; and the latter without times.

Owns the patterns and the advice. Knows nothing of what is done about such rows.
"""

from collections.abc import Collection
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from scripts.tables.sheet import Sheet
from scripts.tables.tracks import Track
from scripts.tables.wording import NANOSECONDS, listed

_BACK = (3600 * NANOSECONDS, 1800 * NANOSECONDS)  # how far clocks are put back at the end of daylight saving time
_APART = 300 * 86_400 * NANOSECONDS  # less than the time from one such day to the next
_OFF = 0.1  # relative tolerance: a few of the doubled rows may be missing


def is_clock_put_back(nanoseconds: NDArray[np.int64], wrong: NDArray[np.bool_]) -> bool:
    """Whether the wrong steps between these times look like the end of daylight saving time.

    That is, once a year at most: a step back by an hour or half an hour; or, if rows were sorted since, that much time doubled.
    """
    steps = np.diff(nanoseconds)
    forward = steps[steps > 0]
    if not len(forward):
        return False
    usual = float(np.median(forward))
    at = np.flatnonzero(wrong)
    nights = np.split(at, np.flatnonzero(np.diff(nanoseconds[at + 1]) > _BACK[0]) + 1)
    begins = np.array([int(nanoseconds[each[0] + 1]) for each in nights])
    if (np.diff(begins) < _APART).any():
        return False
    return all(_is_night(steps[each], usual) for each in nights)


def _is_night(steps: NDArray[np.int64], usual: float) -> bool:
    """Whether these wrong steps, all within an hour, look like one night on which a clock is put back."""
    if (steps < 0).any():
        return len(steps) == 1 and any(abs(int(steps[0]) + by - usual) <= _OFF * usual for by in _BACK)
    return any(by >= (1 - _OFF) * usual and abs(len(steps) - by / usual) <= _OFF * by / usual for by in _BACK)


def groups(track: Track) -> str:
    """The advice to tell recordings apart, with the columns of text that may name them."""
    names = namers(track)
    how = f": {listed(names)} may name them" if names else ""
    return f"Rows of several recordings in one file are told apart with --group{how}."


def namers(track: Track) -> list[str]:
    """Text columns whose values repeat, as a machine's name does."""
    texts = [each for each in track.sheet.fields.values() if each.kind == "text" and len(set(each.head)) < max(2, len(each.head))]
    return [each.name for each in sorted(texts, key=lambda each: -len(set(each.head)))]


def blocks(sheet: Sheet, taken: Collection[str]) -> list[str]:
    """A note on free columns of text that hold one name after another, each in several rows: without times nothing else tells."""
    found = []
    for field in sheet.fields.values():
        names = [name for name, _ in groupby(field.head)]
        if field.kind == "text" and field.name not in taken and 2 <= len(names) == len(set(names)) <= len(field.head) / 2:
            found.append(field.name)
    if not found:
        return []
    hold = "holds" if len(found) == 1 else "hold"
    return [
        f"Warning: all rows of {sheet.label} are taken as one recording, and {listed(found)} {hold} one name after another, each in"
        f" rows that follow each other: if these are recordings, add --group {found[0]}."
    ]
