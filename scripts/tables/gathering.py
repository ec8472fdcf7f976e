"""From sheets to recordings as they stand in the files.

Owns which columns are used in the end, and how rows are parted by group. Knows nothing of evenness, gaps or splits.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tqdm import tqdm

from scripts.tables import columns
from scripts.tables.clock import Times, read_times
from scripts.tables.columns import Values
from scripts.tables.labels import read_labels
from scripts.tables.recording import DataError, Wanted
from scripts.tables.roles import Roles
from scripts.tables.sheet import Field, Sheet
from scripts.tables.tracks import Track
from scripts.tables.wording import listed


@dataclass(frozen=True, slots=True)
class Content:
    """What was read of one file; a column that turned out to hold text is None."""

    sheet: Sheet
    rows: int
    values: dict[str, Values | None]
    times: Times | None
    groups: pl.Series | None
    labels: pl.Series | None


@dataclass(frozen=True, slots=True)
class Gathered:
    """All recordings, and what their columns are."""

    tracks: tuple[Track, ...]
    features: tuple[str, ...]
    targets: tuple[str, ...]
    columns: tuple[str, ...]  # of the tracks' values: the features, then the targets that are no features
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def gather(sheets: Sequence[Sheet], roles: Roles, wanted: Wanted) -> Gathered:
    """Read every file; DataError names file, row and column of what cannot be used."""
    contents = [
        _read(sheet, roles, wanted)
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


def _read(sheet: Sheet, roles: Roles, wanted: Wanted) -> Content:
    label = roles.targets[0] if wanted.task == "classify" else ""
    numeric = list(dict.fromkeys([*roles.features, *(() if label else roles.targets)]))
    texts = [name for name in (roles.clock, roles.group, label) if name]
    if roles.time and not _plain(sheet.fields[roles.time]):
        texts.append(roles.time)
    frame = sheet.read(list(dict.fromkeys([*texts, *([roles.time] if roles.time else []), *numeric])), texts=texts)
    frame, sheet = _without_blanks(frame, sheet, timed=bool(roles.time))
    if frame.is_empty():
        raise DataError(f"{sheet.label} has no rows of data.")
    times = None
    if roles.time:
        times = read_times(frame[roles.time], sheet, roles.time, frame[roles.clock] if roles.clock else None)
    groups = frame[roles.group].str.strip_chars() if roles.group else None
    if groups is not None and (groups.is_null() | (groups == "")).any():
        row = int((groups.is_null() | (groups == "")).arg_max() or 0)
        raise DataError(
            f"{sheet.at(row, roles.group)}: the group is missing. Name the recording that the row is of, or remove the row."
        )
    found = {name: columns.values(frame[name], sheet, name, named=name in roles.named) for name in numeric}
    return Content(sheet, len(frame), found, times, groups, frame[label] if label else None)


def _plain(field: Field) -> bool:
    """Whether a column of time holds numbers that 64-bit floats hold exactly, and no dates without separators."""
    whole = [cell.strip() for cell in field.head if cell.strip().isdecimal()]
    return field.kind == "number" and all(len(cell) < 16 and len(cell) not in {8, 14} for cell in whole)


def _without_blanks(frame: pl.DataFrame, sheet: Sheet, *, timed: bool) -> tuple[pl.DataFrame, Sheet]:
    """Without the empty rows at the end, and without those between where it is time that tells how rows follow each other."""
    blank = frame.select(pl.all_horizontal(pl.all().is_null())).to_series()
    if not blank.any():
        return frame, sheet
    full = (~blank).arg_true().to_numpy().astype(np.int64)
    if timed:
        return frame.filter(~blank), replace(sheet, kept=full)
    return frame[: int(full[-1]) + 1 if len(full) else 0], sheet


def _settled(roles: Roles, contents: Sequence[Content], targets: Sequence[str], notes: list[str]) -> tuple[str, ...]:
    """The features that stay: named ones all, of the others those that hold numbers, and not always the same one."""
    words, empty, still = [], [], []
    for name in dict.fromkeys([*roles.features, *targets]):
        every = [each.values[name] for each in contents]
        told = [each for each in every if each is not None]
        if len(told) < len(every):
            words.append(name)
            continue
        if all(np.isnan(each.low) for each in told):
            if name in roles.named:
                raise DataError(f"`{name}` holds no value at all, in {_files(contents)}.")
            empty.append(name)
            continue
        value = columns.constant(told)
        if value is not None and name in roles.named:
            notes.append(f"`{name}` is {value:g} in all rows: there is nothing to learn from it.")
        elif value is not None:
            still.append(name)
            continue
        notes += [note for note in (columns.digits(name, told), *(each.note for each in told)) if note][:3]
    reasons = [(words, "text"), (empty, "no value at all"), (still, "the same value in all rows")]
    notes += [f"Left out of the features: {listed(names)}, with {why}." for names, why in reasons if names]
    chosen = tuple(name for name in roles.features if name not in {*words, *empty, *still})
    if not chosen:
        raise DataError(f"No feature is left: {' '.join(notes[-3:])}")
    return chosen


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
    if content.groups is None:
        return [whole]
    numbered = content.groups.rank("dense").cast(pl.Int64).to_numpy()
    order = np.argsort(numbered, kind="stable")
    pieces = np.split(order, np.flatnonzero(np.diff(numbered[order])) + 1)
    groups = content.groups
    return [
        whole.taken(piece, name=f"{sheet.label}, {groups[int(piece[0])]}")
        for piece in sorted(pieces, key=lambda piece: int(piece[0]))
    ]
