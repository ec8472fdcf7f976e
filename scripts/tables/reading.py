"""From the user's files to a dataset.

Owns the order of the steps, and what is said about each file. Knows nothing of what is learned from the result.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scripts.tables import gaps, pace
from scripts.tables.files import find, labels
from scripts.tables.gathering import Gathered, gather
from scripts.tables.parquet_sheet import is_parquet, open_parquet
from scripts.tables.parting import Parting, one_label_each, part
from scripts.tables.recording import Column, DataError, Dataset, Recording, Wanted
from scripts.tables.roles import Roles, choose, pair
from scripts.tables.sheet import Sheet
from scripts.tables.splits import parse_split
from scripts.tables.text_sheet import open_separated
from scripts.tables.tracks import Track
from scripts.tables.wording import count, every, listed

_TOLD = 5  # files that get a sentence of their own


def load(wanted: Wanted) -> Dataset:
    """All recordings of the files, checked, cleaned and parted. Reads, and prints nothing: what was found is in `notes`.

    Raises DataError, which names file, row and column, where the data cannot be used as they are.
    """
    split = parse_split(wanted.split)
    paths = find(wanted.data)
    sheets = [_open(path, label) for path, label in zip(paths, labels(paths), strict=True)]
    roles = choose(wanted, sheets)
    gathered = gather(sheets, roles, wanted)
    notes = [
        *_files(sheets, gathered.tracks, roles),
        *(note for sheet in sheets for note in sheet.notes),
        *roles.notes,
        *gathered.notes,
    ]
    if wanted.task == "denoise":
        notes.append(pair(gathered.features, gathered.targets))
    label = gathered.targets[0] if gathered.classes else ""
    if wanted.missing == "error":  # before rows are moved, so that it is the file's cells that are counted
        gaps.settle(gathered.tracks, gathered.columns, label, wanted.missing)
    even, period, said = pace.settle(gathered.tracks, wanted)
    notes += said
    whole, said = gaps.settle(even, gathered.columns, label, wanted.missing)
    notes += said
    parting = Parting(split, wanted.lead, *_places(gathered), gathered.classes)
    parts, said = part(whole, parting)
    notes += [*said, *_still(parts[0], gathered.features), *_unseen(parts, gathered)]
    first = sheets[0]
    return Dataset(
        task=wanted.task,
        features=_columns(first, gathered.features),
        targets=_columns(first, gathered.targets),
        classes=gathered.classes,
        label_per_recording=bool(gathered.classes) and one_label_each(whole),
        period=period,
        training=parts[0],
        validation=parts[1],
        test=parts[2],
        notes=tuple(dict.fromkeys(notes)),
    )


def _open(path: Path, label: str) -> Sheet:
    try:
        return open_parquet(path, label) if is_parquet(path) else open_separated(path, label)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _columns(sheet: Sheet, names: Sequence[str]) -> tuple[Column, ...]:
    return tuple(sheet.fields[name].column for name in names)


def _places(gathered: Gathered) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Where the features and the targets stand in the values."""
    places = {name: place for place, name in enumerate(gathered.columns)}
    features = tuple(places[name] for name in gathered.features)
    targets = () if gathered.classes else tuple(places[name] for name in gathered.targets)
    return features, targets


def _files(sheets: Sequence[Sheet], tracks: Sequence[Track], roles: Roles) -> list[str]:
    """A sentence on each of the first files, and one on all others."""
    told = []
    for sheet in sheets[:_TOLD]:
        own = [track for track in tracks if track.sheet.path == sheet.path]
        rows = sum(map(len, own))
        text = f"{sheet.label}: {count(rows, 'row')} of {count(len(sheet.fields), 'column')}, {sheet.format}"
        if roles.time:
            period = pace.usual_period(own)
            text += f"; time in `{roles.time}`" + (f", {every(period)}" if period else "")
        if roles.group:
            text += f"; {count(len(own), 'recording')} by `{roles.group}`"
        told.append(text + ".")
    if len(sheets) > _TOLD:
        others = sum(len(track) for track in tracks) - sum(
            len(t) for t in tracks if t.sheet.path in {s.path for s in sheets[:_TOLD]}
        )
        told.append(f"{count(len(sheets) - _TOLD, 'more file')} of {count(others, 'row')}.")
    return told


def _still(training: Sequence[Recording], features: Sequence[str]) -> list[str]:
    """Features that never change while they are learned from."""
    low = np.min([each.features.min(axis=0) for each in training], axis=0)
    high = np.max([each.features.max(axis=0) for each in training], axis=0)
    names = [name for name, still in zip(features, low == high, strict=True) if still]
    return [f"The same value in all rows of the training part: {listed(names)}."] if names else []


def _unseen(parts: Sequence[Sequence[Recording]], gathered: Gathered) -> list[str]:
    """Classes that are in one part and not in another; DataError where training lacks one of the others'."""
    held = [{int(label) for each in part_ if each.labels is not None for label in np.unique(each.labels)} for part_ in parts]
    missing = sorted((held[1] | held[2]) - held[0])
    if missing:
        names = ", ".join(repr(gathered.classes[label]) for label in missing)
        raise DataError(f"No row of the training part is {names}, and later rows are: choose another --split, or parts by --group.")
    notes = []
    for name, there in zip(("validation", "test"), held[1:], strict=True):
        if absent := [repr(gathered.classes[label]) for label in sorted(held[0] - there)]:
            notes.append(f"The {name} part has no row of the class {', '.join(absent)}.")
    return notes
