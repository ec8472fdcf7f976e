"""The recordings that a model is evaluated on, with the truth if the files have it.

Owns which rows they are, and that they are read as for training. Knows nothing of which columns the model wants, or of answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from scripts.evaluation.card import Card
from scripts.evaluation.choice import Wish, classes_of, features_of, targets_of, targets_without_truth, task_of, units_of
from scripts.evaluation.times import Clock, Times
from scripts.series.config import WARM_UP
from scripts.tables.cleaning import Cleaned, clean, opened
from scripts.tables.parting import part, whole
from scripts.tables.recording import Column, NoTruth, Recording, Task, Wanted
from scripts.tables.sheet import Sheet
from scripts.tables.splits import PARTS, Split, parse_split
from scripts.tables.wording import count


@dataclass(frozen=True, slots=True)
class Material:
    """Recordings with the features that the model takes. Their targets are NaN in rows without truth, which may be all."""

    task: Task | None
    truth: bool
    recordings: tuple[Recording, ...]
    times: tuple[Times, ...]  # of each recording
    targets: tuple[Column, ...]  # the label's column where there are classes
    classes: tuple[str, ...]  # in the order of the recordings' labels
    known_classes: tuple[str, ...]  # in the order of the numbers of the model's answer
    label_per_recording: bool
    period: float | None  # seconds
    paths: tuple[Path, ...]  # of the files
    part: str  # what of the data this is, in words
    notes: tuple[str, ...]

    @classmethod
    def read(cls, card: Card, wish: Wish) -> Self:
        """Read the data; DataError if they cannot be used as they are, WrongUse if they do not fit the model."""
        task = task_of(card, wish)
        sheets = opened(wish.data)
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
            na=wish.na,
            irregular=wish.irregular,
            period=wish.period,
        )
        split = parse_split(wish.split) if wish.part == "test" else None
        told = _by_recording(card)
        try:
            # a test part must be the same as in training, which leaves out recordings without truth before it sets grid and parts
            cleaned = clean(sheets, reading, split, truth=bool(targets), untold=split is None, by_recording=told)
        except NoTruth as error:
            targets, notes = (), [f"Nothing can be scored: {error}"]
            reading = replace(reading, task="forecast", targets=())
            cleaned = clean(sheets, reading, split, truth=False, untold=True, by_recording=told)
        gathered = cleaned.gathered
        by_recording = task == "classify" and cleaned.label_per_recording
        needed = (card.time_steps or 0) if task == "forecast" else 0
        follows = task != "forecast" and card.streamable and not by_recording
        recordings, parted = _recordings(cleaned, split, lead=WARM_UP if follows else needed, needed=needed)
        clock = Clock(cleaned.tracks, cleaned.roles, resampled=wish.irregular == "resample")
        columns = (
            tuple(sheets[0].fields[name].column for name in gathered.targets) if targets else targets_without_truth(card, task)
        )
        notes += [*cleaned.found, *cleaned.done, *parted, *(_several(recordings) if by_recording else [])]
        return cls(
            task=task,
            truth=bool(targets),
            recordings=recordings if targets else tuple(_without_truth(each, len(columns)) for each in recordings),
            times=tuple(map(clock.of, recordings)),
            targets=columns,
            classes=gathered.classes,
            known_classes=classes_of(card) if task == "classify" else (),
            label_per_recording=by_recording,
            period=cleaned.period,
            paths=tuple(sheet.path for sheet in sheets),
            part=f"all rows of {_named(sheets)}" if split is None else f"the test part of {_named(sheets)}",
            notes=tuple(dict.fromkeys([*notes, *units_of(card, features, sheets[0])])),
        )

    def names_of(self, index: int, rows: int) -> list[tuple[str, Any]]:
        """A column with the recording's name in each of so many rows, if there are several recordings."""
        return [("recording", [self.recordings[index].name] * rows)] if len(self.recordings) > 1 else []


def _named(sheets: Sequence[Sheet]) -> str:
    return sheets[0].label if len(sheets) == 1 else count(len(sheets), "file")


def _by_recording(card: Card) -> bool | None:
    """Whether labels belong to recordings, not to rows: as in training; else as the model's answers suggest, or None: the data."""
    if card.label_per_recording is not None:
        return card.label_per_recording
    return None if card.outputs[0].every_step else True


def _several(recordings: Sequence[Recording]) -> list[str]:
    """A note if labels change within recordings that get one answer."""
    several = sum(each.labels is not None and len(set(each.labels[each.told()].tolist())) > 1 for each in recordings)
    if not several:
        return []
    of = f"{several:,} of {count(len(recordings), 'recording')}"
    return [
        f"The model tells one label of a recording, and {of} {'holds' if several == 1 else 'hold'} several: the last row's counts."
    ]


def _recordings(cleaned: Cleaned, split: Split | None, *, lead: int, needed: int) -> tuple[tuple[Recording, ...], list[str]]:
    """Every piece of what was read, or those of the test part and notes on where it lies. lead, needed: as of `part`."""
    if split is None:
        return whole(cleaned.tracks, cleaned.gathered.places), []
    (_, _, test), notes = part(cleaned.tracks, cleaned.gathered.places, split, lead=lead, needed=needed, judged=PARTS[2:])
    return test, [note for note in notes if note.startswith(("Test", "Scored"))]


def _without_truth(recording: Recording, targets: int) -> Recording:
    nothing = np.full((len(recording.features), targets), np.nan, np.float32)
    return replace(recording, targets=nothing, labels=None, filled=None)
