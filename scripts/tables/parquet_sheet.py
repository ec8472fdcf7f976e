"""Parquet files as sheets. Owns which of their types can be used, and as what. Knows nothing of text files."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from scripts.tables.cells import Kind
from scripts.tables.headers import headings
from scripts.tables.recording import DataError
from scripts.tables.sheet import Field, Sheet, by_name

_MAGIC = b"PAR1"
_LOOKED_AT = 1000


def is_parquet(path: Path) -> bool:
    """Whether a file is Parquet, by its first bytes, whatever its name."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def open_parquet(path: Path, label: str) -> Sheet:
    """A Parquet file; DataError where it is damaged or empty."""
    try:
        head = pl.read_parquet(path, n_rows=_LOOKED_AT)
    except (OSError, PolarsError) as error:
        raise DataError(f"{label} cannot be read as Parquet: {str(error).splitlines()[0]}.") from error
    if head.is_empty():
        raise DataError(f"{label} has no rows.")
    units = ["s" if isinstance(dtype, pl.Duration) else "" for dtype in head.dtypes]  # in whatever unit it is stored
    fields = by_name(
        Field(heading, _kind(series.dtype), tuple("" if value is None else str(value) for value in series))
        for heading, series in zip(headings(head.columns, units), head.get_columns(), strict=True)
    )
    return Sheet(
        path, label, fields, first_row=1, format="in Parquet", comma=False, reader=Parquet(path, tuple(head.columns), label)
    )


@dataclass(frozen=True, slots=True)
class Parquet:
    """Reads columns of one file."""

    path: Path
    columns: tuple[str, ...]
    label: str

    def read(self, places: Sequence[int], texts: Collection[int]) -> pl.DataFrame:
        """Read the columns. Times keep their type; whole numbers that are wanted as text keep all their digits."""
        wanted = [self.columns[place] for place in places]
        try:
            frame = pl.read_parquet(self.path, columns=wanted)
        except (OSError, PolarsError) as error:
            raise DataError(f"{self.label} cannot be read as Parquet: {str(error).splitlines()[0]}.") from error
        for name, place in zip(wanted, places, strict=True):
            if place in texts and _is_opaque(frame[name].dtype):
                raise DataError(f"{self.label}, column `{name}`: its values are of the type {frame[name].dtype}, which is no text.")
        return pl.DataFrame(
            [_usable(frame[name], text=place in texts).alias(str(place)) for name, place in zip(wanted, places, strict=True)]
        )


def _usable(series: pl.Series, *, text: bool) -> pl.Series:
    dtype = series.dtype
    if isinstance(dtype, pl.Duration):
        return series.dt.total_nanoseconds() / 1e9
    if dtype.is_temporal():
        return series
    if _kind(dtype) == "number" and not text:
        return series.cast(pl.Float64)
    if _is_opaque(dtype):
        return pl.Series(values=["a value of the type " + str(dtype)] * len(series), dtype=pl.String)
    return series.cast(pl.String)


def _is_opaque(dtype: pl.DataType) -> bool:
    return dtype.is_nested() or isinstance(dtype, pl.Binary | pl.Object)


def _kind(dtype: pl.DataType) -> Kind:
    if isinstance(dtype, pl.Datetime | pl.Date):
        return "time"
    if isinstance(dtype, pl.Duration | pl.Boolean) or dtype.is_numeric():
        return "number"
    return "empty" if isinstance(dtype, pl.Null) else "text"
