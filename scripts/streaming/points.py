"""Recordings as points: the statistics by which a classifier that knows nothing of time can tell them apart.

Owns the statistics of a recording, and two classifiers of them that need no training loop. Knows nothing of networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from scripts.streaming.linear import Scaling
from scripts.streaming.methods import nearness
from scripts.streaming.moments import Moments, Spread, best, spread
from scripts.streaming.rows import Piece
from scripts.tables.recording import Recording

Array = NDArray[np.float64]


def statistics(scaling: Scaling, recording: Recording) -> Array:
    """Mean, standard deviation and mean step from row to row of each scaled feature: (3 features,)."""
    z = scaling(recording.features)
    steps = np.abs(np.diff(z, axis=0)).mean(axis=0) if len(z) > 1 else np.zeros(z.shape[1])
    return np.concatenate([z.mean(axis=0), z.std(axis=0), steps])


@dataclass(frozen=True, slots=True)
class Points:
    """The statistics of recordings, each scaled to a mean of 0 and a standard deviation of 1 in training."""

    scaling: Scaling
    spread: Spread

    @classmethod
    def of(cls, scaling: Scaling, recordings: Sequence[Recording]) -> Self:
        found = np.stack([statistics(scaling, recording) for recording in recordings])
        return cls(scaling, spread(lambda: [found]))

    def __call__(self, recordings: Sequence[Recording]) -> Array:
        """(recordings, statistics)"""
        found = np.stack([statistics(self.scaling, recording) for recording in recordings])
        return np.asarray((found - self.spread.mean) / self.spread.scale)


@dataclass(frozen=True, slots=True)
class NearestPoint:
    """For each class, how near the mean of its recordings is; the same at every row."""

    points: Points
    means: Array  # (classes, statistics), NaN for a class that training lacks

    @classmethod
    def of(cls, points: Points, training: Sequence[Recording], classes: int) -> Self:
        found, labels = points(training), labels_of(training)
        of_class = [found[labels == label] for label in range(classes)]
        return cls(points, np.stack([own.mean(axis=0) if len(own) else np.full(found.shape[1], np.nan) for own in of_class]))

    def __call__(self, recording: Recording, piece: Piece) -> Array:
        return np.repeat(nearness(self.points([recording]), self.means), len(piece), axis=0)


@dataclass(frozen=True, slots=True)
class LinearPoint:
    """A linear map of the statistics, fitted to a 1 for the right class; the same at every row."""

    points: Points
    weights: Array  # (1 + statistics, classes)

    @classmethod
    def of(cls, points: Points, training: Sequence[Recording], validation: Sequence[Recording], classes: int) -> Self:
        sums = []
        for recordings in (training, validation):
            found = points(recordings)
            moments = Moments(found.shape[1], classes)
            moments.add(found, np.eye(classes)[labels_of(recordings)])
            sums.append(moments)
        return cls(points, best(*sums))

    def __call__(self, recording: Recording, piece: Piece) -> Array:
        answer = self.weights[0] + self.points([recording]) @ self.weights[1:]
        return np.repeat(answer, len(piece), axis=0)


def labels_of(recordings: Sequence[Recording]) -> NDArray[np.int64]:
    """The labels of recordings that have one each: (recordings,)."""
    found = []
    for recording in recordings:
        assert recording.labels is not None
        found.append(recording.labels[-1])
    return np.array(found, np.int64)
