"""Scores answers as training does, on other data, beside simple methods.

Owns which simple methods a model is compared with here: those that need no training part. Knows nothing of where answers come
from.
"""

from collections.abc import Mapping, Sequence
from math import isfinite, nan

import numpy as np
from numpy.typing import NDArray

from app.tensors import Array
from scripts.evaluation.card import Card, WrongUse
from scripts.streaming.metrics import STANDARDISED, Confusion, Errors, Ruler, decibels
from scripts.tables.recording import Column, Task
from scripts.tables.wording import listed, meant
from scripts.training.scores import Metric, Row, Scores

RAW = "raw signal"
MODEL = "the model"


def deviations_of(card: Card, truth: Sequence[Array]) -> tuple[NDArray[np.float64], str]:
    """Standard deviations (targets,), those of training if they are known, else those of these data; and in words which.

    truth: all of it, in any number of arrays (rows, targets).
    """
    if len(card.deviations) == truth[0].shape[1] and all(isfinite(each) and each > 0 for each in card.deviations):
        return np.array(card.deviations), "in training"
    found = np.concatenate([*truth]).astype(np.float64).std(axis=0)
    return np.where(found > 0, found, 1.0), "in these data: training's is not told, and its scores have another"


class OfNumbers:
    """Scores answers (rows, targets) of one task. deviations: of each target, the units if the targets share no unit."""

    def __init__(
        self, task: Task, targets: tuple[Column, ...], deviations: NDArray[np.float64], *, methods: Sequence[str] = ()
    ) -> None:
        self._task = task
        self._ruler = Ruler.of(targets, deviations)
        self._errors = {name: Errors(len(targets)) for name in (*methods, "")}

    def add(self, answers: Array, truth: Array, others: Mapping[str, Array]) -> None:
        """Rows, one or more; others: what the simple methods answer to the same."""
        for name, given in {**others, "": answers}.items():
            self._errors[name].add(given, truth)

    @property
    def standardised(self) -> bool:
        """Whether errors are in units of the deviations."""
        return self._ruler.unit == STANDARDISED

    def scores(self, data: str) -> Scores:
        scale, unit = self._ruler.scale, self._ruler.unit
        metrics = [Metric("RMSE", unit), Metric("MAE", unit)]
        if self._task == "denoise":
            metrics.append(Metric("noise reduction", "dB", higher=True))
        if self._task == "regress":
            metrics.append(Metric("R2", higher=True))
        rows = []
        for method, errors in self._errors.items():
            values = [errors.rmse(scale), errors.mae(scale)]
            if self._task == "denoise":
                raw = self._errors[RAW].rmse(scale) if RAW in self._errors else nan
                values.append(decibels(raw, errors.rmse(scale)))
            if self._task == "regress":
                values.append(errors.r2())
            rows.append(Row(method or MODEL, tuple(values)))
        return Scores(data, tuple(metrics), tuple(rows))


class OfClasses(Confusion):
    """Scores probabilities (rows, classes) by labels (rows,)."""

    def scores(self, data: str) -> Scores:
        """The model's scores, beside those of always answering with the frequencies that the classes have here."""
        present = self.counts.sum(axis=1)
        majority = Confusion(len(present))
        alike = np.broadcast_to(present / present.sum(), (int(present.sum()), len(present)))  # no copy for each row
        majority.add(alike, np.repeat(np.arange(len(present)), present))
        rows = [_row("majority class of these rows", majority), _row(MODEL, self)]
        return Scores(data, (Metric("accuracy", higher=True), Metric("macro F1", higher=True), Metric("log loss")), tuple(rows))


def _row(name: str, confusion: Confusion) -> Row:
    return Row(name, (confusion.accuracy, confusion.macro_f1, confusion.log_loss))


def places_of(classes: Sequence[str], known: Sequence[str], column: str) -> NDArray[np.int64]:
    """The index of each class of the data among those that the model knows; WrongUse names one that it does not know."""
    for name in classes:
        if name not in known:
            knows = f"the model knows {listed(known)} only.{meant(name, known)}"
            raise WrongUse(f"The column {column} holds the class {name!r}, and {knows}")
    return np.array([known.index(name) for name in classes], np.int64)
