"""The result of reading tables: recordings of features and targets, split into training, validation and test.

Owns the shapes. Knows nothing of files or of what is learned.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Task = Literal["denoise", "regress", "classify", "forecast"]
Missing = Literal["error", "drop", "hold", "interpolate"]
Irregular = Literal["error", "keep", "resample"]


class DataError(ValueError):
    """Data that cannot be used as they are; the text says what, in which file, row and column, and what to do about it."""


class NoTruth(DataError):
    """A column of targets or labels that has no value at all."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to read, and what to do about what is wrong with it. What is empty is decided from the data."""

    task: Task
    data: tuple[str, ...]  # files or globs, CSV and its kin or Parquet
    time: str = ""  # a column
    features: tuple[str, ...] = ()  # columns; by default all numeric ones without another role
    targets: tuple[str, ...] = ()  # columns; by default, for a forecast, the features
    group: str = ""  # the column that tells recordings apart; otherwise each file is one
    split: tuple[str, ...] = ("0.7", "0.15", "0.15")  # of training, validation, test: fractions, rows, or dates on which each ends
    missing: Missing = "error"  # empty cells and NaN of features; drop: the recording is cut there
    na: tuple[float, ...] = ()  # numbers that mean a missing value
    irregular: Irregular = "error"  # rows that are not evenly spaced in time
    period: float = 0.0  # seconds between rows after resampling; 0: the median of what was found
    lead: int = 0  # rows before their own that validation and test may read
    horizon: int = 0  # rows that a forecast tells, where windows are drawn from what is read

    @property
    def needed(self) -> int:
        """Rows before its own that a prediction cannot do without."""
        return self.lead if self.task == "forecast" else 0


@dataclass(frozen=True, slots=True)
class Column:
    """A column as its file names it, and its unit if the file gives one."""

    name: str
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.name}, {self.unit}" if self.unit else self.name


def unit_of(columns: Sequence[Column]) -> str | None:
    """The unit that all columns share; None if there is none."""
    units = {column.unit for column in columns}
    return units.pop() if len(units) == 1 and (len(columns) == 1 or "" not in units) else None


@dataclass(frozen=True, slots=True)
class Recording:
    """An uninterrupted piece of signal, in raw units and in the order of time. Its features have no NaN.

    The first `lead` rows belong to an earlier part: they may be read (a forecast's context, or a stream, begins there), and are not
    predicted.
    For a forecast, a row is `filled` if one of its targets was missing and was filled in, or if the row before was drawn from it;
    a window with such a row in its horizon is not predicted either. For the other tasks, a row is `filled` if it misses a target
    (NaN) or its label (-1), which are not filled in: it is read, and neither learned from nor scored.
    """

    name: str  # of its file, and of its group
    features: NDArray[np.float32]  # (rows, features)
    targets: NDArray[np.float32]  # (rows, targets); (rows, 0) where there are classes
    labels: NDArray[np.int64] | None = None  # (rows,), which of the classes; the same in all rows where the recording has one
    seconds: NDArray[np.float64] | None = None  # (rows,), since the first row of the file, where there is a column of time
    lead: int = 0
    filled: NDArray[np.bool_] | None = None  # (rows,), rows that may be read and are no truth; None if there are none

    def told(self, begin: int = 0, end: int | None = None) -> NDArray[np.bool_]:
        """Which of these rows have a truth to be predicted: neither those of the lead nor those that are `filled`."""
        end = len(self.features) if end is None else end
        found = np.arange(begin, end) >= self.lead
        return found if self.filled is None else found & ~self.filled[begin:end]

    @property
    def measured(self) -> "Recording":
        """The recording without its `filled` rows."""
        if self.filled is None:
            return self
        kept = ~self.filled
        return replace(
            self,
            features=self.features[kept],
            targets=self.targets[kept],
            labels=None if self.labels is None else self.labels[kept],
            seconds=None if self.seconds is None else self.seconds[kept],
            lead=int(kept[: self.lead].sum()),
            filled=None,
        )


@dataclass(frozen=True, slots=True)
class Dataset:
    """All that a run learns from. Nothing of validation and test is in training."""

    task: Task
    features: tuple[Column, ...]
    targets: tuple[Column, ...]  # the label's column where there are classes
    classes: tuple[str, ...]  # names, in the order of their labels; empty where the targets are numbers
    label_per_recording: bool  # whether every recording has one label
    period: float | None  # seconds from one row to the next, where that is known
    training: tuple[Recording, ...]
    validation: tuple[Recording, ...]
    test: tuple[Recording, ...]
    notes: tuple[str, ...] = ()  # what was found and decided, a sentence each, for the user to read

    def digest(self) -> str:
        """A hash that changes when the data or their split change."""
        digest = sha256(repr((self.task, self.features, self.targets, self.classes, self.period)).encode())
        parts = {"training": self.training, "validation": self.validation, "test": self.test}
        for part, recording in ((part, each) for part, recordings in parts.items() for each in recordings):
            digest.update(part.encode())
            arrays = (recording.features, recording.targets, recording.labels, recording.seconds, recording.filled)
            for array in arrays:
                if array is not None:
                    digest.update(f"{recording.lead} {array.shape} {array.dtype}".encode())
                    digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()
