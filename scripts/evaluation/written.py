"""Writes predictions beside the truth to a file, CSV or Parquet.

Owns the file, and how empty cells are written. CSV is written as the answers come, Parquet when all are there; an earlier file
is kept until the new one is complete. Knows nothing of what the columns mean.
"""

import os
from pathlib import Path
from typing import Any, Self

import polars as pl
from polars.exceptions import PolarsError

from scripts.evaluation.card import EvaluationError, WrongUse
from scripts.tables.headers import distinct

Columns = list[tuple[str, Any]]  # names, and the values below each

SUFFIXES = (".csv", ".parquet")
FLUSHED = 100_000  # rows of CSV that wait in memory


class Table:
    """A file that grows, CSV or Parquet by its name; every addition has the same columns. NaN is an empty cell.

    With None as its path, nothing is written. WrongUse if the file cannot be written.
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
        """Put the file in its place; after an exception, delete what was written."""
        if self._file is None or self._path is None or self._begun_as is None:
            return
        try:
            with self._file:
                if kind is None:
                    self._flush()
            if kind is None:
                os.replace(self._begun_as, self._path)
        finally:
            self._begun_as.unlink(missing_ok=True)

    def add(self, columns: Columns) -> None:
        """Add rows: columns of one length, or single values that are the same in all of these rows.

        A column that is called as one before it, as a file's `load_predicted` is beside the forecast of `load`, gets a number.
        """
        if self._file is None:
            return
        names = distinct([name for name, _ in columns])
        frame = pl.DataFrame({name: values for name, (_, values) in zip(names, columns, strict=True)}, strict=False)
        self._waiting.append(frame)
        self._rows += len(frame)
        if self._rows >= FLUSHED and not self._parquet:
            self._flush()

    def _flush(self) -> None:
        """Write what waits; EvaluationError with the reason if that fails."""
        assert self._file is not None
        if self._waiting:
            frame = pl.concat(self._waiting, how="vertical_relaxed").fill_nan(None)
            try:
                if self._parquet:
                    frame.write_parquet(self._file)
                else:
                    frame.write_csv(self._file, include_header=not self._begun)
            except (OSError, PolarsError) as error:
                raise EvaluationError(f"{self._path} cannot be written: {str(error).rstrip('.')}.") from error
            self._begun = True
        self._waiting.clear()
        self._rows = 0
