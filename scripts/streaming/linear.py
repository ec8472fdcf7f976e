"""The best linear answer: raw features in, raw units out, fitted in closed form.

Owns how features are scaled, and the linear maps of the current row and of the rows before it. A network starts from such a map,
and is compared with others. Knows nothing of networks.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.streaming.moments import Moments, Spread, best, spread
from scripts.streaming.rows import Piece, blocks
from scripts.tables.recording import Recording

Array = NDArray[np.float64]
Predict = Callable[[Recording, Piece], Array]  # the answers to these rows of the recording: (rows, targets or classes)

FAR = 1e6  # standard deviations at which scaled features are clipped, so that no value makes an answer infinite
SMALLER = 8192  # rows of a matrix that repeats, for each row, those before it
MOST_FITTED = 1_000_000  # rows that a linear map is fitted to, at most: more make no difference


@dataclass(frozen=True, slots=True)
class Scaling:
    """Scales each feature to a mean of 0 and a standard deviation of 1; kept in the network's own precision."""

    mean: NDArray[np.float32]  # (features,)
    scale: NDArray[np.float32]  # (features,), 1 where the feature is constant

    @classmethod
    def of(cls, recordings: Sequence[Recording]) -> "Scaling":
        found = spread(lambda: (recordings[p.recording].features[p.begin : p.end].astype(np.float64) for p in blocks(recordings)))
        return cls(mean=found.mean.astype(np.float32), scale=found.scale.astype(np.float32))

    def __call__(self, features: NDArray[np.floating]) -> Array:
        """Scaled features (rows, features) of raw ones, within FAR."""
        return np.asarray(((features.astype(np.float64) - self.mean) / self.scale).clip(-FAR, FAR))


@dataclass(frozen=True, slots=True)
class Goal:
    """What a linear map is fitted to, in the rows that have a truth: the targets; in denoising, what must be added to the
    feature of each; or a 1 for the right class.
    """

    task: str
    classes: int = 0

    def __call__(self, recording: Recording, piece: Piece) -> Array:
        """(rows with a truth, targets or classes)"""
        told = recording.told(piece.begin, piece.end)
        if recording.labels is not None:
            return np.asarray(np.eye(self.classes)[recording.labels[piece.begin : piece.end][told]])
        targets = recording.targets[piece.begin : piece.end].astype(np.float64)
        return np.asarray((targets - self.base(recording, piece))[told])

    def base(self, recording: Recording, piece: Piece) -> Array:
        """What the map's answer is added to."""
        width = recording.targets.shape[1] if recording.labels is None else self.classes
        if self.task == "denoise":
            return recording.features[piece.begin : piece.end, :width].astype(np.float64)
        return np.zeros((len(piece), width))


@dataclass(frozen=True, slots=True)
class Linear:
    """base + weights [1, z(t), z(t - 1), ... z(t - back)], where z are scaled features.

    Before a recording begins, its first row is repeated.
    """

    goal: Goal
    scaling: Scaling
    back: int
    weights: Array  # (1 + (1 + back) features, targets or classes)

    def __call__(self, recording: Recording, piece: Piece) -> Array:
        inputs = lagged(self.scaling, recording, piece, self.back)
        return np.asarray(self.goal.base(recording, piece) + self.weights[0] + inputs @ self.weights[1:])


@dataclass(frozen=True, slots=True)
class Fitted:
    """A linear map, and the root of its mean square error in training (targets or classes,)."""

    linear: Linear
    residual: Array
    spread: Spread  # of what the map was fitted to


def fit(goal: Goal, scaling: Scaling, back: int, *, training: Sequence[Recording], validation: Sequence[Recording]) -> Fitted:
    """The ridge regression on training, with the penalty that has the least error on validation."""
    of = spread(lambda: (goal(training[piece.recording], piece) for piece in blocks(training, most=MOST_FITTED)))
    sums = []
    for recordings in (training, validation):
        moments = Moments((1 + back) * len(scaling.mean), len(of.mean))
        for piece in pieces(recordings, most=MOST_FITTED):
            recording = recordings[piece.recording]
            told = recording.told(piece.begin, piece.end)
            moments.add(lagged(scaling, recording, piece, back)[told], (goal(recording, piece) - of.mean) / of.scale)
        sums.append(moments)
    weights = best(*sums)
    residual = np.sqrt(sums[0].errors(weights)) * of.scale
    weights = weights * of.scale
    weights[0] += of.mean
    return Fitted(Linear(goal, scaling, back, weights), residual, of)


def lagged(scaling: Scaling, recording: Recording, piece: Piece, back: int) -> Array:
    """The scaled features of each row of the piece and of those `back` rows before it: (rows, (1 + back) features)."""
    begin = max(0, piece.begin - back)
    scaled = scaling(recording.features[begin : piece.end])
    rows = np.arange(piece.begin, piece.end)[:, None] - np.arange(1 + back)
    return np.asarray(scaled[np.maximum(rows, 0) - begin].reshape(len(piece), -1))


def pieces(recordings: Sequence[Recording], *, most: int | None = None) -> Iterator[Piece]:
    """The rows of rows.blocks, in pieces so small that `lagged` may repeat the rows before each of them."""
    for block in blocks(recordings, most=most):
        for begin in range(block.begin, block.end, SMALLER):
            yield Piece(block.recording, begin, min(begin + SMALLER, block.end))
