"""Reads one file: its columns as numbers, times or labels, and which rows belong to which recording.

Owns which of its columns are read, and as what. Knows nothing of other files.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from scripts.tables import columns
from scripts.tables.clock import Times, read_times
from scripts.tables.columns import Values
from scripts.tables.recording import DataError, Wanted
from scripts.tables.roles import Roles
from scripts.tables.sheet import Field, Sheet


@dataclass(frozen=True, slots=True)
class Content:
    """What was read of one file; a column that turned out to hold text is None."""

    sheet: Sheet
    rows: int
    values: dict[str, Values | None]
    times: Times | None
    groups: pl.Series | None
    pieces: list[NDArray[np.int64]] | None  # the rows of each group
    labels: pl.Series | None

    def recordings(self, name: str, most: int | None = None) -> Iterator[NDArray[np.float32]]:
        """The values (rows,) of a numeric column, recording by recording; at most `most` rows of each."""
        column = self.values[name]
        assert column is not None
        if self.pieces is None:
            yield column.array[:most]
            return
        for piece in self.pieces:
            yield column.array[piece[:most]]


def read(sheet: Sheet, roles: Roles, wanted: Wanted) -> Content:
    """Read all columns that are asked for; DataError names the row and column of what cannot be used."""
    label = roles.targets[0] if wanted.task == "classify" else ""
    numeric = list(dict.fromkeys([*roles.features, *(() if label else roles.targets)]))
    texts = [name for name in (roles.clock, roles.group, label) if name]
    if roles.time and not _plain(sheet.fields[roles.time]):
        texts.append(roles.time)
    frame = sheet.read(list(dict.fromkeys([*texts, *([roles.time] if roles.time else []), *numeric])), texts=texts)
    frame, sheet = _without_blanks(frame, sheet, timed=bool(roles.time))
    if frame.is_empty():
        raise DataError(f"{sheet.label} has no rows of data.")
    times = None
    if roles.time:
        times = read_times(frame[roles.time], sheet, roles.time, frame[roles.clock] if roles.clock else None)
    groups = _texts(frame[roles.group]) if roles.group else None
    if groups is not None and (groups.is_null() | (groups == "")).any():
        row = int((groups.is_null() | (groups == "")).arg_max() or 0)
        raise DataError(
            f"{sheet.at(row, roles.group)}: the group is missing. Name the recording that the row is of, or remove the row."
        )
    found = {name: columns.values(frame[name], sheet, name, named=name in roles.named, na=wanted.na) for name in numeric}
    pieces = None if groups is None else _pieces(groups)
    return Content(sheet, len(frame), found, times, groups, pieces, _labels(frame[label], wanted.na) if label else None)


def _labels(series: pl.Series, na: Sequence[float]) -> pl.Series:
    """The labels, with null for numbers that mean a missing value."""
    if not na:
        return series
    nothing = series.cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False).is_in(list(na)).fill_null(value=False)
    return pl.select(pl.when(nothing).then(None).otherwise(series)).to_series()


def _texts(series: pl.Series) -> pl.Series:
    """The names of the groups as text, whatever their type; times without fractions of a second that are zero."""
    if series.dtype.is_float():
        series = series.fill_nan(None)
    if isinstance(series.dtype, pl.Datetime | pl.Time):
        return series.cast(pl.String).str.replace(r"\.0+\b", "")
    return series.cast(pl.String).str.strip_chars()


def _pieces(groups: pl.Series) -> list[NDArray[np.int64]]:
    """The rows of each group, in the order in which groups first appear."""
    numbered = groups.rank("dense").cast(pl.Int64).to_numpy()
    order = np.argsort(numbered, kind="stable")
    pieces = np.split(order, np.flatnonzero(np.diff(numbered[order])) + 1)
    return sorted(pieces, key=lambda piece: int(piece[0]))


def _plain(field: Field) -> bool:
    """Whether a column of time holds numbers that 64-bit floats hold exactly, and no dates without separators."""
    whole = [cell.strip() for cell in field.head if cell.strip().isdecimal()]
    return field.kind == "number" and all(len(cell) < 16 and len(cell) not in {8, 14} for cell in whole)


def _without_blanks(frame: pl.DataFrame, sheet: Sheet, *, timed: bool) -> tuple[pl.DataFrame, Sheet]:
    """Drop the empty rows at the end; with a time column (`timed`), those in between too, since it tells how rows follow."""
    blank = frame.select(pl.all_horizontal(pl.all().is_null())).to_series()
    if not blank.any():
        return frame, sheet
    full = (~blank).arg_true().to_numpy().astype(np.int64)
    if timed:
        return frame.filter(~blank), replace(sheet, kept=full)
    return frame[: int(full[-1]) + 1 if len(full) else 0], sheet
