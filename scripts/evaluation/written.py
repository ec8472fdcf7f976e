"""Predictions beside the truth in a file, CSV or Parquet.

Owns the file, and how empty cells are told: CSV is written as the answers come, Parquet when all are there, and an earlier file
stands until then. Knows nothing of what the columns mean.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import polars as pl

from scripts.evaluation.card import WrongUse

SUFFIXES = (".csv", ".parquet")
FLUSHED = 100_000  # rows of CSV that wait in memory


class Table:
    """A file that grows, of the kind that its name tells; every addition has the same columns. NaN is an empty cell.

    None as its path: nothing is written. WrongUse where nothing can be.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._begun_as = None if path is None else path.with_name(f".{path.name}.part")
        try:
            self._file = None if self._begun_as is None else self._begun_as.open("wb")
        except OSError as error:
            raise WrongUse(f"{path} cannot be written: {error.strerror or error}.") from error
        self._parquet = path is not None and path.suffix.lower() == ".parquet"
        self._waiting: list[pl.DataFrame] = []
        self._rows = 0
        self._begun = False

    def __bool__(self) -> bool:
        """Whether anything is written at all."""
        return self._file is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """What was not finished is not kept."""
        if self._file is None or self._path is None or self._begun_as is None:
            return
        with self._file:
            if kind is None:
                self._flush()
        if kind is None:
            os.replace(self._begun_as, self._path)
        else:
            self._begun_as.unlink()

    def add(self, columns: Mapping[str, Sequence[Any] | Any]) -> None:
        """Rows: columns of one length, or single values that stand in all of these rows."""
        if self._file is None:
            return
        frame = pl.DataFrame(columns, strict=False)
        self._waiting.append(frame)
        self._rows += len(frame)
        if self._rows >= FLUSHED and not self._parquet:
            self._flush()

    def _flush(self) -> None:
        assert self._file is not None
        if self._waiting:
            frame = pl.concat(self._waiting, how="vertical_relaxed").fill_nan(None)
            if self._parquet:
                frame.write_parquet(self._file)
            else:
                frame.write_csv(self._file, include_header=not self._begun)
            self._begun = True
        self._waiting.clear()
        self._rows = 0
