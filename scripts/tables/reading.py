"""Loads the user's files as a dataset.

Owns what is said about each file and each part. Knows nothing of what is learned from the result.
"""

from collections.abc import Sequence

import numpy as np

from scripts.tables import overlap, pace
from scripts.tables.cleaning import clean, opened
from scripts.tables.gathering import Gathered
from scripts.tables.labels import check_several
from scripts.tables.parting import part
from scripts.tables.recording import Column, DataError, Dataset, Recording, Wanted
from scripts.tables.roles import Roles, pair
from scripts.tables.sheet import Sheet
from scripts.tables.splits import parse_split
from scripts.tables.tracks import Track
from scripts.tables.wording import count, every, listed

_TOLD = 5  # files that get a sentence of their own
_COMPARED, _FEWEST = 100_000, 20  # rows in which features are compared with targets: about the most, the fewest
_LEFT = 1e-6  # of a target's variance: with less than this unexplained, a feature gives the target away


def load(wanted: Wanted) -> Dataset:
    """All recordings of the files, checked, cleaned and split. Prints nothing: what was found is in `notes`.

    Raises DataError, which names file, row and column, if the data cannot be used as they are.
    """
    split = parse_split(wanted.split)
    sheets = opened(wanted.data)
    cleaned = clean(sheets, wanted, split)
    gathered = cleaned.gathered
    if gathered.classes:
        check_several(gathered.classes, gathered.targets[0])
    notes = [*_files(sheets, gathered.tracks, cleaned.roles), *cleaned.found]
    if wanted.task == "denoise":
        notes.append(pair(gathered.features, gathered.targets))
    lead = 0 if cleaned.label_per_recording else wanted.lead  # before a recording that is dealt out whole there is no earlier part
    parts, said = part(cleaned.tracks, gathered.places, split, lead=lead, needed=wanted.needed, horizon=wanted.horizon)
    notes += [*cleaned.done, *said, *_still(parts[0], gathered.features), *_unseen(parts, gathered)]
    if wanted.task == "regress":
        notes += [*_switches(parts[0], gathered.targets), *_given_away(parts[0], gathered)]
    notes += overlap.warn_of_wholes(cleaned.tracks) if cleaned.label_per_recording else overlap.warn(cleaned.tracks, split)
    first = sheets[0]
    return Dataset(
        task=wanted.task,
        features=_columns(first, gathered.features),
        targets=_columns(first, gathered.targets),
        classes=gathered.classes,
        label_per_recording=cleaned.label_per_recording,
        period=cleaned.period,
        training=parts[0],
        validation=parts[1],
        test=parts[2],
        notes=tuple(dict.fromkeys(notes)),
    )


def _columns(sheet: Sheet, names: Sequence[str]) -> tuple[Column, ...]:
    return tuple(sheet.fields[name].column for name in names)


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
    """A note on features that never change in the training part."""
    low = np.min([each.features.min(axis=0) for each in training], axis=0)
    high = np.max([each.features.max(axis=0) for each in training], axis=0)
    names = [name for name, still in zip(features, low == high, strict=True) if still]
    return [f"The same value in all rows of the training part: {listed(names)}."] if names else []


def _labels(recording: Recording) -> set[int]:
    """The known labels of the part's own rows."""
    return set() if recording.labels is None else {int(label) for label in np.unique(recording.labels[recording.told()])}


def _switches(training: Sequence[Recording], targets: Sequence[str]) -> list[str]:
    """A note on targets that are 0 or 1 throughout."""
    found = [
        name
        for place, name in enumerate(targets)
        if all(np.isin(each.targets[each.told(), place], (0, 1)).all() for each in training)
    ]
    if not found:
        return []
    are = "are" if len(found) > 1 else "is"
    return [f"{listed(found)} {are} 0 or 1 throughout: --task classify learns the probability of each, and is scored by it."]


def _given_away(training: Sequence[Recording], gathered: Gathered) -> list[str]:
    """Notes on targets that a single feature gives almost exactly."""
    told = [np.flatnonzero(each.told()) for each in training]
    apart = -(-sum(map(len, told)) // _COMPARED)  # rows of all recordings: in a single one a feature may happen to be a copy
    kept = [(each.features[rows[::apart]], each.targets[rows[::apart]]) for each, rows in zip(training, told, strict=True)]
    features, targets = (np.concatenate(each).astype(np.float64) for each in zip(*kept, strict=True))
    features, targets = (each - each.mean(axis=0) for each in (features, targets))
    square, product = np.square(features).sum(axis=0)[:, None] * np.square(targets).sum(axis=0), features.T @ targets
    found = (len(targets) >= _FEWEST) & (square > 0) & (np.square(product) > (1 - _LEFT) * square)
    return [
        f"`{gathered.features[feature]}` tells `{gathered.targets[target]}` to a thousandth, by a straight line: where it is made"
        " of the target, or not known before it, scores mean nothing; name the other features with --features."
        for feature, target in np.argwhere(found)
    ]


def _unseen(parts: Sequence[Sequence[Recording]], gathered: Gathered) -> list[str]:
    """Notes on classes of training that another part lacks; DataError if training lacks a class of the other parts."""
    held = [{label for each in part_ for label in _labels(each)} for part_ in parts]
    missing = sorted((held[1] | held[2]) - held[0])
    if missing:
        names = ", ".join(repr(gathered.classes[label]) for label in missing)
        raise DataError(f"No row of the training part is {names}, and later rows are: choose another --split, or parts by --group.")
    notes = []
    for name, there in zip(("validation", "test"), held[1:], strict=True):
        if absent := [repr(gathered.classes[label]) for label in sorted(held[0] - there)]:
            notes.append(f"The {name} part has no row of the class {', '.join(absent)}.")
    return notes
