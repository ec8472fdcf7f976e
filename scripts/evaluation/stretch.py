"""Chooses the stretch of a recording that a picture shows; its pieces follow each other with gaps between them.

Owns where rows stand along the picture, and which of them are worth showing. Knows nothing of how it looks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.tensors import Array
from scripts.tables.recording import Recording
from scripts.tables.wording import axis

SHOWN = 600  # rows
Floats = NDArray[np.floating]
Piece = tuple[Recording, Array]  # and the answers to its rows (rows, numbers)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows of a recording without their lead; a row of NaN stands for a gap."""

    features: Floats  # (rows, features)
    targets: Floats  # (rows, targets)
    answers: Floats  # (rows, numbers)
    across: Floats  # (rows,)
    label: str  # what `across` means


def stretch(pieces: Sequence[Piece], *, truth: bool, part: str) -> Stretch:
    """The SHOWN rows in which the truth changes most, or without one the features. part: which rows of the data there are."""
    own = [(recording, answers, slice(recording.lead, None)) for recording, answers in pieces]
    features = _joined([recording.features[rows] for recording, _, rows in own])
    targets = _joined([recording.targets[rows] for recording, _, rows in own])
    answers = _joined([each[rows] for _, each, rows in own])
    shown = most_eventful(targets if truth else features)
    seconds = [None if recording.seconds is None else recording.seconds[rows] for recording, _, rows in own]
    known = [each[:, None] for each in seconds if each is not None]
    if len(known) == len(own):
        times = _joined(known)[shown, 0]
        size, unit = axis(float(np.nanmax(times) - np.nanmin(times)))
        across, label = times / size, f"{unit} since the first row of the file"
    else:
        counted = np.cumsum(~np.isnan(features).any(axis=1))[shown].astype(np.float64)
        across, label = np.where(np.isnan(features[shown]).any(axis=1), np.nan, counted), f"row of the recording, in {part}"
    return Stretch(features[shown], targets[shown], answers[shown], across, label)


def most_eventful(values: Floats) -> slice:
    """The SHOWN rows in which values (rows, columns) change most, of stretches that lie side by side; NaN does not count."""
    begins = range(0, max(1, len(values) - SHOWN + 1), SHOWN)
    begin = max(begins, key=lambda begin: _change(values[begin : begin + SHOWN]))
    return slice(begin, begin + SHOWN)


def _change(values: Floats) -> float:
    there = values[~np.isnan(values).any(axis=1)]
    return len(there) * float(there.std(axis=0).sum()) if len(there) else -1.0


def _joined(arrays: Sequence[Floats]) -> Floats:
    """One after another, a row of NaN between two."""
    if len(arrays) == 1:
        return arrays[0]
    gap = np.full((1, arrays[0].shape[1]), np.nan, arrays[0].dtype)
    return np.concatenate([each for array in arrays for each in (gap, array)][1:])
