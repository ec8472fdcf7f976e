"""How near the answers of a network and of simpler methods are to the targets, in denoising and regression.

Owns which part of the data each is measured on: simpler methods are fitted to training, as is the width of the moving average; the
penalty of a linear fit is chosen on validation, and all are compared on the test part. Knows nothing of training.
"""

from collections.abc import Iterable, Iterator
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from scripts.streaming import linear
from scripts.streaming.evaluate import follow
from scripts.streaming.linear import Fitted, Goal, Predict, Scaling
from scripts.streaming.methods import Always, Average, Method, tuned_average
from scripts.streaming.metrics import Errors, Ruler, decibels
from scripts.streaming.moments import Spread, spread
from scripts.streaming.network import Network
from scripts.streaming.rows import Piece, blocks
from scripts.tables.recording import Dataset, Recording
from scripts.tables.wording import count
from scripts.training.scores import Metric, Row, Scores

BACK = 16  # rows before the current one that the longer linear map reads
MOST_INPUTS = 1024  # of a linear map: with many features it reads fewer rows

Found = Iterable[tuple[Piece, NDArray[np.floating]]]


class Targets:
    """What is known of a dataset before anything is trained on it, and how answers to it are scored."""

    def __init__(self, dataset: Dataset) -> None:
        self._data = dataset
        self._goal = Goal(dataset.task)

    @cached_property
    def scaling(self) -> Scaling:
        return Scaling.of(self._data.training)

    @cached_property
    def linear(self) -> Fitted:
        """The best linear answer to the current row."""
        return self._fit(0)

    @cached_property
    def ruler(self) -> Ruler:
        return Ruler.of(self._data.targets, self._of_training.scale)

    @cached_property
    def _of_training(self) -> Spread:
        recordings = self._data.training
        return spread(
            lambda: (
                recordings[p.recording].targets[p.begin : p.end][recordings[p.recording].told(p.begin, p.end)].astype(np.float64)
                for p in blocks(recordings)
            )
        )

    @property
    def deviations(self) -> list[float]:
        """The standard deviation of each target in training, in its unit."""
        return [float(each) for each in self._of_training.scale]

    def begin(self, network: Network) -> None:
        """Set the parts of the network that are not trained."""
        network.scale_by(self.scaling)
        network.begin_at(self.linear)

    def validate(self, network: Network, device: str) -> dict[str, float]:
        """The loss, and the RMSE in the ruler's unit."""
        errors = self._errors(self._data.validation, _by(network, self._data.validation, device, "validation"))
        return {"loss": errors.mean_square(network.gain.cpu().double().numpy()), "rmse": errors.rmse(self.ruler.scale)}

    def scores(self, network: Network, device: str) -> Scores:
        test, unit = self._data.test, self.ruler.unit
        denoises = self._data.task == "denoise"
        last = Metric("noise reduction", "dB", higher=True) if denoises else Metric("R2", higher=True)
        found = [(each.name, self._errors(test, _of(each.predict, test))) for each in self._methods()]
        found.append(("the model", self._errors(test, _by(network, test, device, "test"))))
        scale = self.ruler.scale
        raw = found[0][1].rmse(scale)
        rows = [
            Row(name, (errors.rmse(scale), errors.mae(scale), decibels(raw, errors.rmse(scale)) if denoises else errors.r2()))
            for name, errors in found
        ]
        judged = found[-1][1].count
        return Scores(
            f"the test part, {count(judged, 'row')}", (Metric("RMSE", unit), Metric("MAE", unit), last), tuple(rows), judged
        )

    def _methods(self) -> Iterator[Method]:
        """The simple methods, from the weakest to the strongest."""
        if self._data.task == "denoise":
            yield Method("raw signal", Average(1, len(self._data.targets)))
            average = tuned_average(self._data.training)
            yield Method(f"moving average of {average.width} rows", average)
        else:
            yield Method("mean of training", Always(self._of_training.mean))
        yield Method("linear fit of the row", self.linear.linear)
        back = min(BACK, MOST_INPUTS // len(self._data.features) - 1)
        if back > 0:
            yield Method(f"linear fit of the last {1 + back} rows", self._fit(back).linear)

    def _fit(self, back: int) -> Fitted:
        data = self._data
        return linear.fit(self._goal, self.scaling, back, training=data.training, validation=data.validation)

    def _errors(self, recordings: tuple[Recording, ...], answers: Found) -> Errors:
        errors = Errors(len(self._data.targets))
        for piece, values in answers:
            told = recordings[piece.recording].told(piece.begin, piece.end)
            if told.any():
                errors.add(values[told], recordings[piece.recording].targets[piece.begin : piece.end][told])
        return errors


def _of(predict: Predict, recordings: tuple[Recording, ...]) -> Found:
    return ((piece, predict(recordings[piece.recording], piece)) for piece in linear.pieces(recordings))


def _by(network: Network, recordings: tuple[Recording, ...], device: str, what: str) -> Found:
    return ((answers.piece, answers.values) for answers in follow(network, recordings, device, what=what))
