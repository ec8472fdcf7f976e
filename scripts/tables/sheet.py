"""A file as a table: the columns that it has, and the reading of those that are asked for.

Owns which row of the file a value stands in, and that text and Parquet are read alike. Knows nothing of what columns are for.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from scripts.tables.cells import Kind
from scripts.tables.headers import Heading
from scripts.tables.recording import Column, DataError
from scripts.tables.wording import listed, meant


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a file before it is read: its heading, and what its first rows hold."""

    heading: Heading
    kind: Kind
    head: tuple[str, ...]  # its first cells, as text

    @property
    def column(self) -> Column:
        return self.heading.column

    @property
    def name(self) -> str:
        return self.heading.column.name


def by_name(fields: Iterable[Field]) -> dict[str, Field]:
    """The fields by name, in their order."""
    return {each.name: each for each in fields}


class Reader(Protocol):
    """How one kind of file is read."""

    def read(self, places: Sequence[int], texts: Collection[int]) -> pl.DataFrame:
        """The fields at these places, in this order: Float64, or String where asked for or where words stand between numbers."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A file whose header has been read."""

    path: Path
    label: str  # what to call it
    fields: dict[str, Field]  # by name, from left to right
    first_row: int  # where the data begin, counted from 1 as a spreadsheet does
    format: str  # `separated by commas`, for the user to read
    comma: bool  # whether the decimal mark is a comma
    reader: Reader
    notes: tuple[str, ...] = ()
    kept: NDArray[np.int64] | None = None  # which rows of data are used, where some are empty

    @property
    def names(self) -> list[str]:
        return list(self.fields)

    def find(self, asked: str, *, role: str) -> str:
        """The name of the column that was asked for, by its name or as the header spells it; DataError if there is none."""
        for same in (lambda text: text, str.casefold):
            found = [each.name for each in self.fields.values() if same(asked) in {same(each.name), same(each.heading.spelled)}]
            if len(found) == 1 or asked in found:
                return asked if asked in found else found[0]
        hint = meant(asked, self.names, mark="`")
        raise DataError(f"{self.label} has no column `{asked}` ({role}).{hint} It has {listed(self.names, limit=40)}.")

    def read(self, names: Sequence[str], *, texts: Collection[str] = ()) -> pl.DataFrame:
        """These columns of all rows, called by their names; `texts`: those that are wanted as the file spells them."""
        places = {name: place for place, name in enumerate(self.fields)}
        frame = self.reader.read([places[name] for name in names], {places[name] for name in texts})
        frame.columns = list(names)
        return frame

    def row(self, index: int) -> int:
        """The number of a row in the file, counted from 1 as a spreadsheet does; `index` counts the used rows from 0."""
        return self.first_row + (index if self.kept is None else int(self.kept[index]))

    def at(self, index: int, column: str = "") -> str:
        """Where something stands: `runs.csv, row 17, column `a``."""
        return f"{self.label}, row {self.row(index):,}" + (f", column `{column}`" if column else "")
