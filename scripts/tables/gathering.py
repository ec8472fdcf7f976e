"""Reads sheets into recordings, unchanged from the files.

Owns which columns are used in the end, and how rows are divided by group. Knows nothing of evenness, gaps or splits.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tqdm import tqdm

from scripts.tables import columns
from scripts.tables.contents import Content, read
from scripts.tables.labels import read_labels
from scripts.tables.parting import Places
from scripts.tables.recording import DataError, NoTruth, Wanted
from scripts.tables.rising import rises_evenly
from scripts.tables.roles import Roles
from scripts.tables.sheet import Sheet
from scripts.tables.tracks import Track
from scripts.tables.wording import listed

_HEAD = 200  # rows of a recording that are looked at first


@dataclass(frozen=True, slots=True)
class Gathered:
    """All recordings, and what their columns are."""

    tracks: tuple[Track, ...]
    features: tuple[str, ...]
    targets: tuple[str, ...]
    columns: tuple[str, ...]  # of the tracks' values: the features, then the targets that are no features
    classes: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def truth(self) -> tuple[str, ...]:
        """The label column if there are classes, otherwise the target columns."""
        return self.targets[:1] if self.classes else self.targets

    @property
    def places(self) -> Places:
        """Which columns of the values are features and which are targets."""
        found = {name: place for place, name in enumerate(self.columns)}
        targets = () if self.classes else tuple(found[name] for name in self.targets)
        return Places(tuple(found[name] for name in self.features), targets)


def gather(sheets: Sequence[Sheet], roles: Roles, wanted: Wanted) -> Gathered:
    """Read every file; DataError names file, row and column of what cannot be used."""
    contents = [
        read(sheet, roles, wanted)
        for sheet in tqdm(sheets, desc="reading", unit="file", file=sys.stderr, disable=len(sheets) < 10, leave=False)
    ]
    notes = [note for each in contents for note in (each.times.notes if each.times else ())][:3]
    classify = wanted.task == "classify"
    features = _settled(roles, contents, () if classify else roles.targets, notes)
    targets = features if wanted.task == "forecast" and not wanted.targets else roles.targets
    classes: tuple[str, ...] = ()
    codes: list[NDArray[np.int64]] = []
    if classify:
        classes, codes = read_labels([_present(each.labels) for each in contents], [each.sheet for each in contents], targets[0])
    names = tuple(dict.fromkeys([*features, *(() if classify else targets)]))
    tracks: list[Track] = []
    for index, each in enumerate(contents):
        tracks += _tracks(each, names, codes[index] if codes else None)
    return Gathered(tuple(tracks), features, targets, names, classes, tuple(notes))


def _present(series: pl.Series | None) -> pl.Series:
    assert series is not None
    return series


def _settled(roles: Roles, contents: Sequence[Content], targets: Sequence[str], notes: list[str]) -> tuple[str, ...]:
    """The features that are kept: all named ones; of the others, those with numbers that change and do not just rise evenly."""
    words, empty, still, rising = [], [], [], []
    for name in dict.fromkeys([*roles.features, *targets]):
        every = [each.values[name] for each in contents]
        told = [each for each in every if each is not None]
        if len(told) < len(every):
            words.append(name)
            continue
        if all(np.isnan(each.low) for each in told):
            if name in roles.named:
                error = DataError if name in roles.features else NoTruth
                raise error(f"`{name}` holds no value at all, in {_files(contents)}.")
            empty.append(name)
            continue
        value = columns.constant(told)
        if value is not None and name in roles.named:
            notes.append(f"`{name}` is {value:g} in all rows: there is nothing to learn from it.")
        elif value is not None:
            still.append(name)
            continue
        elif name not in roles.named and _rises(name, contents):
            rising.append(name)
            continue
        notes += [note for note in (columns.digits(name, told), *(each.note for each in told)) if note][:3]
    reasons = [(words, "text"), (empty, "no value at all"), (still, "the same value in all rows")]
    notes += [f"Left out of the features: {listed(names)}, with {why}." for names, why in reasons if names]
    chosen = tuple(name for name in roles.features if name not in {*words, *empty, *still, *rising})
    if rising:
        notes.append(_told(rising, kept=not chosen, timed=bool(roles.time)))
        chosen = chosen or tuple(rising)
    if not chosen and sum(each.rows for each in contents) == 1:
        raise DataError(f"{contents[0].sheet.label} has one row of data, and nothing follows from one: give more rows.")
    if not chosen:
        raise DataError(f"No feature is left: {' '.join(notes[-3:])}")
    return chosen


def _rises(name: str, contents: Sequence[Content]) -> bool:
    """Whether a column rises evenly in every recording. The first rows come first: they mostly rule it out already."""
    return all(rises_evenly(one for each in contents for one in each.recordings(name, most)) for most in (_HEAD, None))


def _told(rising: Sequence[str], *, kept: bool, timed: bool) -> str:
    """The note on features that rise evenly in every recording."""
    why = "as a clock or the number of the row does"
    time = "" if timed else " Pass --time NAME if one of them is the time."
    if kept:
        return f"All that is learned from rises evenly, {why}: {listed(rising)}.{time}"
    return (
        f"Left out of the features, since they rise evenly, {why}: {listed(rising)}.{time} To learn from one all the same, name"
        " every feature with --features."
    )


def _files(contents: Sequence[Content]) -> str:
    """The first files, and how many more."""
    return listed([each.sheet.label for each in contents], limit=3)


def _tracks(content: Content, names: Sequence[str], codes: NDArray[np.int64] | None) -> list[Track]:
    """The recordings of one file: all of its rows, or those of each group, in the order in which groups first appear."""
    sheet, times = content.sheet, content.times
    matrix = np.empty((content.rows, len(names)), dtype=np.float32)
    for index, name in enumerate(names):
        column = content.values.pop(name)  # no longer needed there, and it may be large
        assert column is not None
        matrix[:, index] = column.array
    nanoseconds = times.nanoseconds if times else None
    dated, origin = (times.dated, int(times.nanoseconds.min())) if times else (False, 0)
    rows = np.arange(content.rows, dtype=np.int64)
    whole = Track(sheet.label, sheet, rows, matrix, codes, nanoseconds, dated, origin, ((0, content.rows),))
    if content.groups is None or content.pieces is None:
        return [whole]
    groups = content.groups
    return [whole.taken(piece, name=f"{sheet.label}, {groups[int(piece[0])]}") for piece in content.pieces]
