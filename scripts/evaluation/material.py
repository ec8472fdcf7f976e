"""The recordings that a model is evaluated on, with the truth where the files have it.

Owns which rows they are, and that they are read as for training. Knows nothing of which columns the model wants, or of answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from scripts.evaluation.card import Card, Task
from scripts.evaluation.choice import Part, Wish, classes_of, features_of, targets_of, targets_without_truth, task_of, units_of
from scripts.evaluation.times import Clock, Times
from scripts.tables import gaps, pace
from scripts.tables.files import find, labels
from scripts.tables.gathering import Gathered, gather
from scripts.tables.parquet_sheet import is_parquet, open_parquet
from scripts.tables.parting import Parting, one_label_each, part
from scripts.tables.recording import Column, DataError, Recording, Wanted
from scripts.tables.roles import choose
from scripts.tables.sheet import Sheet
from scripts.tables.splits import parse_split
from scripts.tables.text_sheet import open_separated
from scripts.tables.tracks import Track
from scripts.tables.wording import NANOSECONDS, count


@dataclass(frozen=True, slots=True)
class Material:
    """Recordings, as the model takes them. Their targets are NaN where there is no truth."""

    task: Task | None
    truth: bool
    recordings: tuple[Recording, ...]
    times: tuple[Times, ...]  # of each recording
    targets: tuple[Column, ...]  # the label's column where there are classes
    classes: tuple[str, ...]  # by the labels of the recordings
    known_classes: tuple[str, ...]  # by the numbers of the model's answer
    label_per_recording: bool
    period: float | None  # seconds
    paths: tuple[Path, ...]  # of the files
    part: str  # what of the data this is, in words
    notes: tuple[str, ...]

    @classmethod
    def read(cls, card: Card, wish: Wish) -> Self:
        """DataError where the data cannot be used as they are, WrongUse where they are not for this model."""
        task = task_of(card, wish)
        paths = find(wish.data)
        sheets = [_opened(path, label) for path, label in zip(paths, labels(paths), strict=True)]
        features = features_of(card, wish)
        targets, notes = targets_of(card, task, wish, sheets)
        reading = Wanted(
            task=(task or "regress") if targets else "forecast",
            data=wish.data,
            time=wish.time,
            features=features,
            targets=targets,
            group=wish.group,
            split=wish.split,
            missing=wish.missing,
            irregular=wish.irregular,
            period=wish.period,
            lead=(card.time_steps or 0) if task == "forecast" else 0,
        )
        roles = choose(reading, sheets)
        gathered = gather(sheets, roles, reading)
        even, period, paced = pace.settle(gathered.tracks, reading)
        label = gathered.targets[0] if gathered.classes else ""
        tracks, filled = gaps.settle(even, gathered.columns, label, wish.missing)
        recordings, parted = _recordings(tracks, gathered, reading, wish.part)
        clock = Clock(tracks, roles, resampled=wish.irregular == "resample")
        columns = (
            tuple(sheets[0].fields[name].column for name in gathered.targets) if targets else targets_without_truth(card, task)
        )
        notes += [*(note for sheet in sheets for note in sheet.notes), *roles.notes, *gathered.notes, *paced, *filled, *parted]
        return cls(
            task=task,
            truth=bool(targets),
            recordings=recordings if targets else tuple(_without_truth(each, len(columns)) for each in recordings),
            times=tuple(map(clock.of, recordings)),
            targets=columns,
            classes=gathered.classes,
            known_classes=classes_of(card) if task == "classify" else (),
            label_per_recording=bool(gathered.classes) and one_label_each(tracks),
            period=period,
            paths=paths,
            part=f"all rows of {_named(sheets)}" if wish.part == "all" else f"the test part of {_named(sheets)}",
            notes=tuple(dict.fromkeys([*notes, *units_of(card, features, sheets[0])])),
        )

    def names_of(self, index: int, rows: int) -> dict[str, Any]:
        """The name of a recording in each of so many rows, where there are several."""
        return {"recording": [self.recordings[index].name] * rows} if len(self.recordings) > 1 else {}


def _opened(path: Path, label: str) -> Sheet:
    try:
        return open_parquet(path, label) if is_parquet(path) else open_separated(path, label)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _named(sheets: Sequence[Sheet]) -> str:
    return sheets[0].label if len(sheets) == 1 else count(len(sheets), "file")


def _recordings(
    tracks: Sequence[Track], gathered: Gathered, reading: Wanted, wanted: Part
) -> tuple[tuple[Recording, ...], list[str]]:
    """Every whole piece of what was read, or those of the test part; and where it lies."""
    features = [gathered.columns.index(name) for name in gathered.features]
    targets = [] if gathered.classes else [gathered.columns.index(name) for name in gathered.targets]
    if wanted == "test":
        parting = Parting(parse_split(reading.split), reading.lead, tuple(features), tuple(targets), gathered.classes)
        (_, _, test), notes = part(tracks, parting)
        return test, [note for note in notes if note.startswith("Test")]
    found = []
    for track in tracks:
        for start, stop in track.spans:
            seconds = None if track.nanoseconds is None else (track.nanoseconds[start:stop] - track.origin) / NANOSECONDS
            found.append(
                Recording(
                    name=track.name,
                    features=track.values[start:stop, features],
                    targets=track.values[start:stop, targets],
                    labels=None if track.labels is None else track.labels[start:stop],
                    seconds=seconds,
                )
            )
    return tuple(found), []


def _without_truth(recording: Recording, targets: int) -> Recording:
    nothing = np.full((len(recording.features), targets), np.nan, np.float32)
    return replace(recording, targets=nothing, labels=None)
