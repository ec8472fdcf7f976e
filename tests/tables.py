"""Helpers of the tests of tables: write files from text, load them, and look into what was loaded."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.tables.reading import load
from scripts.tables.recording import Dataset, Recording, Wanted


def write(folder: Path, text: str | bytes, name: str = "data.csv") -> Path:
    """Write a file of exactly these characters; compressed if its name ends in .gz."""
    path = folder / name
    raw = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return path


def read(*paths: Path | str, **changes: Any) -> Dataset:
    """Load the data of a forecast, unless `changes` ask for something else."""
    wanted: dict[str, Any] = {"task": "forecast", "data": tuple(map(str, paths)), **changes}
    return load(Wanted(**wanted))


def rows_of(recordings: tuple[Recording, ...]) -> NDArray[np.float32]:
    """All features of a part, without its lead rows, which belong to the part before."""
    return np.concatenate([each.features[each.lead :] for each in recordings])


def everything(dataset: Dataset) -> NDArray[np.float32]:
    """All features, from the first row of training to the last of test."""
    return rows_of(dataset.training + dataset.validation + dataset.test)


def names(dataset: Dataset) -> list[str]:
    return [column.name for column in dataset.features]


def noted(dataset: Dataset, *words: str) -> bool:
    """Whether one of the notes contains all of the words."""
    return any(all(word in note for word in words) for note in dataset.notes)


def hourly(count: int, *, start: str = "2020-01-01T00:00") -> list[str]:
    """`count` timestamps, an hour apart."""
    times = np.datetime64(start, "s") + np.arange(count) * np.timedelta64(3600, "s")
    return [str(time).replace("T", " ") for time in times]


def table(columns: dict[str, list[Any]], separator: str = ",") -> str:
    """Columns as text with a header."""
    lines = [separator.join(columns), *(separator.join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    return "\n".join(lines) + "\n"
