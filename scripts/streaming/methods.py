"""Simple methods that a network is compared with: each answers any rows of a recording from these rows and those before.

Owns all of them but the linear maps, which are in linear.py. Knows nothing of how answers are judged.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.streaming.linear import MOST_FITTED, Predict, Scaling
from scripts.streaming.rows import Piece, blocks
from scripts.tables.recording import Recording

Array = NDArray[np.float64]

WIDTHS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)  # rows, of the moving averages that are tried


@dataclass(frozen=True, slots=True)
class Method:
    """A name for a table, and what the method answers; `probabilities`: whether its scores of classes are probabilities."""

    name: str
    predict: Predict
    probabilities: bool = False


@dataclass(frozen=True, slots=True)
class Always:
    """One answer to every row."""

    answer: Array  # (targets or classes,)

    def __call__(self, recording: Recording, piece: Piece) -> Array:  # noqa: ARG002  # it looks at nothing
        return np.broadcast_to(self.answer, (len(piece), len(self.answer)))


@dataclass(frozen=True, slots=True)
class Average:
    """The mean of the last `width` rows of the feature that each target is the clean version of; 1: the raw signal.

    Before a recording begins, its first row is repeated.
    """

    width: int
    targets: int

    def __call__(self, recording: Recording, piece: Piece) -> Array:
        begin = max(0, piece.begin - self.width + 1)
        raw = recording.features[begin : piece.end, : self.targets].astype(np.float64)
        missing = self.width - 1 - (piece.begin - begin)
        # The first row is taken off before the running sum: a sum of numbers far from zero would lose digits.
        moved = np.concatenate([np.zeros((missing + 1, self.targets)), raw - raw[0]]).cumsum(axis=0)
        return np.asarray(raw[0] + (moved[self.width :] - moved[: -self.width]) / self.width)


@dataclass(frozen=True, slots=True)
class Nearest:
    """For each class, how near its mean is: minus the square of the distance in scaled features."""

    scaling: Scaling
    means: Array  # (classes, features), NaN for a class that training lacks

    def __call__(self, recording: Recording, piece: Piece) -> Array:
        return nearness(self.scaling(recording.features[piece.begin : piece.end]), self.means)


def nearness(points: Array, means: Array) -> Array:
    """Minus the squared distances (points, classes) of points (points, columns) from means (classes, columns)."""
    squares = [np.square(points - mean).sum(axis=1) for mean in means]
    return np.asarray(-np.nan_to_num(np.stack(squares, axis=1), nan=np.inf))


def tuned_average(recordings: Sequence[Recording]) -> Average:
    """The moving average with the least errors on these recordings, each target's in units of the raw signal's."""
    targets = recordings[0].targets.shape[1]
    raw, *averages = (Average(width, targets) for width in (1, *WIDTHS))
    least = _squares(raw, recordings)
    least[least == 0] = 1.0
    return min((raw, *averages), key=lambda each: float((_squares(each, recordings) / least).sum()))


def class_means(scaling: Scaling, recordings: Sequence[Recording], classes: int) -> Array:
    """The mean of the scaled features of each class's rows (classes, features)."""
    sums, counts = np.zeros((classes, len(scaling.mean))), np.zeros((classes, 1))
    for piece in blocks(recordings, most=MOST_FITTED):
        recording = recordings[piece.recording]
        assert recording.labels is not None
        told = recording.told(piece.begin, piece.end)
        member = np.eye(classes)[recording.labels[piece.begin : piece.end][told]]  # (rows, classes)
        sums += member.T @ scaling(recording.features[piece.begin : piece.end][told])
        counts += member.sum(axis=0)[:, None]
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def _squares(method: Predict, recordings: Sequence[Recording]) -> Array:
    """The sum of squared errors (targets,) over the rows that are fitted to."""
    total = np.zeros(recordings[0].targets.shape[1])
    for piece in blocks(recordings, most=MOST_FITTED):
        recording = recordings[piece.recording]
        errors = method(recording, piece) - recording.targets[piece.begin : piece.end]
        total += np.square(errors[recording.told(piece.begin, piece.end)]).sum(axis=0)
    return total
