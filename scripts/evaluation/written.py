"""Predictions beside the truth in a CSV file.

Owns the file, written as the answers come, and how empty cells are told. Knows nothing of what the columns mean.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import polars as pl

FLUSHED = 100_000  # rows that wait in memory


class Table:
    """A CSV file that grows; every addition has the same columns. NaN is an empty cell. None as its path: nothing is written."""

    def __init__(self, path: Path | None) -> None:
        self._file = None if path is None else path.open("wb")
        self._waiting: list[pl.DataFrame] = []
        self._rows = 0
        self._begun = False

    def __bool__(self) -> bool:
        """Whether anything is written at all."""
        return self._file is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._flush()
            self._file.close()

    def add(self, columns: Mapping[str, Sequence[Any] | Any]) -> None:
        """Rows: columns of one length, or single values that stand in all of these rows."""
        if self._file is None:
            return
        frame = pl.DataFrame(columns, strict=False)
        self._waiting.append(frame)
        self._rows += len(frame)
        if self._rows >= FLUSHED:
            self._flush()

    def _flush(self) -> None:
        assert self._file is not None
        if self._waiting:
            frame = pl.concat(self._waiting, how="vertical_relaxed").fill_nan(None)
            frame.write_csv(self._file, include_header=not self._begun)
            self._begun = True
        self._waiting.clear()
        self._rows = 0
