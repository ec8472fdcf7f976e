"""How often a network names the right class, and how often simpler methods do.

Owns which part of the data each is measured on: simpler methods are fitted to training, the penalty of a linear fit chosen on
validation, and all are compared on the test part. If a recording has one label, only the answer after its last row counts.
Knows nothing of training.
"""

from collections.abc import Iterator
from functools import cached_property
from math import nan

import numpy as np
import torch
from numpy.typing import NDArray

from scripts.streaming import linear
from scripts.streaming.evaluate import follow
from scripts.streaming.linear import Goal, Scaling
from scripts.streaming.methods import Always, Method, Nearest, class_means
from scripts.streaming.metrics import Confusion
from scripts.streaming.network import Network
from scripts.streaming.points import LinearPoint, NearestPoint, Points, labels_of
from scripts.streaming.rows import Piece
from scripts.streaming.targets import BACK, MOST_INPUTS
from scripts.tables.recording import Dataset, Recording
from scripts.tables.wording import count
from scripts.training.scores import Metric, Row, Scores


class Classes:
    """What is known of a dataset before anything is trained on it, and how answers to it are scored."""

    def __init__(self, dataset: Dataset) -> None:
        self._data = dataset
        self._count = len(dataset.classes)

    @cached_property
    def scaling(self) -> Scaling:
        return Scaling.of(self._data.training)

    @cached_property
    def frequencies(self) -> NDArray[np.float64]:
        """The frequency of each class in training (classes,), with one more of each counted, so that none is 0."""
        recordings = self._data.training
        if self._data.label_per_recording:
            labels = [labels_of(recordings)]
        else:
            labels = [each.labels[each.told()] for each in recordings if each.labels is not None]
        counts = np.sum([np.bincount(own, minlength=self._count) for own in labels], axis=0)
        return np.asarray((counts + 1) / (counts + 1).sum())

    @property
    def deviations(self) -> list[float]:
        """Empty: classes have no standard deviation."""
        return []

    def begin(self, network: Network) -> None:
        """Set the parts of the network that are not trained."""
        network.scale_by(self.scaling)
        network.offset.copy_(torch.from_numpy(np.log(self.frequencies)))

    def validate(self, network: Network, device: str) -> dict[str, float]:
        """The log loss, accuracy and macro F1."""
        found = self.confusion(network, self._data.validation, device, what="validation")
        return {"loss": found.log_loss, "accuracy": found.accuracy, "macro_f1": found.macro_f1}

    def scores(self, network: Network, device: str) -> Scores:
        test = self._data.test
        rows = []
        for method in self._methods():
            confusion = Confusion(self._count)
            for piece in self._judged(test):
                recording = test[piece.recording]
                self._add(confusion, recording, piece, method.predict(recording, piece))
            rows.append(_row(method.name, confusion, probabilities=method.probabilities))
        own = self.confusion(network, test, device, what="test")
        rows.append(_row("the model", own, probabilities=True))
        metrics = Metric("accuracy", higher=True), Metric("macro F1", higher=True), Metric("log loss")
        judged = int(own.counts.sum())
        told = count(judged, "recording" if self._data.label_per_recording else "row")
        return Scores(f"the test part, {told}", metrics, tuple(rows), judged)

    def confusion(self, network: Network, recordings: tuple[Recording, ...], device: str, *, what: str) -> Confusion:
        """The confusion of the network's answers to these recordings; `what` is the name of the progress bar."""
        found = Confusion(self._count)
        for answers in follow(network, recordings, device, what=what):
            recording, piece, values = recordings[answers.piece.recording], answers.piece, answers.values
            if self._data.label_per_recording:
                if piece.end < len(recording.features):
                    continue
                piece, values = Piece(piece.recording, piece.end - 1, piece.end), values[-1:]
            self._add(found, recording, piece, values)
        return found

    def _methods(self) -> Iterator[Method]:
        """The simple methods, from the weakest to the strongest."""
        data, count = self._data, self._count
        yield Method("most frequent class", Always(self.frequencies), probabilities=True)
        if data.label_per_recording:
            points = Points.of(self.scaling, data.training)
            yield Method("nearest class mean", NearestPoint.of(points, data.training, count))
            yield Method("linear fit of statistics", LinearPoint.of(points, data.training, data.validation, count))
            return
        yield Method("nearest class mean", Nearest(self.scaling, class_means(self.scaling, data.training, count)))
        goal = Goal(data.task, count)
        for back in sorted({0, max(0, min(BACK, MOST_INPUTS // len(data.features) - 1))}):  # only one with many features
            fitted = linear.fit(goal, self.scaling, back, training=data.training, validation=data.validation)
            yield Method("linear fit of the row" if not back else f"linear fit of the last {1 + back} rows", fitted.linear)

    def _judged(self, recordings: tuple[Recording, ...]) -> Iterator[Piece]:
        """The rows whose answers count."""
        if not self._data.label_per_recording:
            yield from linear.pieces(recordings)
            return
        for index, recording in enumerate(recordings):
            yield Piece(index, len(recording.features) - 1, len(recording.features))

    @staticmethod
    def _add(confusion: Confusion, recording: Recording, piece: Piece, values: NDArray[np.floating]) -> None:
        assert recording.labels is not None
        told = recording.told(piece.begin, piece.end)
        confusion.add(values[told], recording.labels[piece.begin : piece.end][told])


def _row(name: str, found: Confusion, *, probabilities: bool) -> Row:
    return Row(name, (found.accuracy, found.macro_f1, found.log_loss if probabilities else nan))
