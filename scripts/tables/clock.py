"""Converts the time column to nanoseconds.

Owns what numbers in it mean (epochs, seconds, dates without separators) and the refusal of what cannot be read.
Knows nothing of how regular the times are.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from scripts.tables import cells, dates, serial
from scripts.tables.recording import DataError
from scripts.tables.sheet import Sheet
from scripts.tables.time_column import TIME_UNITS
from scripts.tables.wording import NANOSECONDS, count, instant

# Seconds since 1970 of times between 1973 and 2100; below, numbers are taken as plain seconds.
_EPOCH = (1e8, 4.1e9)
_COUNTED = {"seconds": 1.0, "milliseconds": 1e-3, "microseconds": 1e-6, "nanoseconds": 1e-9}
_DOTTED = re.compile(r"(\d{1,2})\.(\d{2})\.(\d{2})")  # a time of day beside a column of dates
_LONGEST = 9.2e9  # seconds that fit into 64 bits of nanoseconds
_FORMATS = (
    "Times may be ISO 8601 (2020-01-31 12:00:00), DD.MM.YYYY HH:MM:SS, DD/MM/YYYY, MM/DD/YYYY, with the English name of a month (31"
    " Jan 2020, Jan 31, 2020), a month (2020-01, Jan 2020), a quarter (2020 Q1), seconds, or an epoch in s, ms, µs"
    f" or ns, of the years {dates.YEARS[0]} to {dates.YEARS[1]}."
)


@dataclass(frozen=True, slots=True)
class Times:
    """When each row of a file was taken."""

    nanoseconds: NDArray[np.int64]
    dated: bool  # whether they count from 1970; otherwise from an unknown moment
    notes: tuple[str, ...] = ()


def read_times(series: pl.Series, sheet: Sheet, column: str, clock: pl.Series | None = None) -> Times:
    """The times in a column of text, numbers or dates; `clock`: the times of day, as text. DataError names the unreadable row."""
    if series.dtype.is_temporal():
        return _typed(series, sheet, column)
    if series.dtype == pl.Float64:
        if not series.null_count() and series.is_finite().all():
            return _numbered(series.to_numpy(), sheet, column)
        series = series.cast(pl.String)
    texts = cells.stripped(series)
    if clock is not None:
        texts = texts + " " + _colons(cells.stripped(clock))
    missing = cells.is_missing(texts)
    if missing.any():
        row = int(missing.arg_max() or 0)
        raise DataError(
            f"{sheet.at(row, column)}: the time is missing ({count(int(missing.sum()), 'row')} without it). Remove such rows, or"
            " name another column with --time."
        )
    whole = texts.cast(pl.Int64, strict=False)
    if not whole.null_count():
        return _counted(whole, texts, sheet, column)
    if cells.kind_of(str(texts[0]), comma=sheet.comma) == "number":
        found = cells.numbers(texts, comma=sheet.comma)
        if found.words or np.isnan(found.values).any():
            row = found.first if found.words else int(np.isnan(found.values).argmax())
            raise DataError(f"{sheet.at(row, column)}: {texts[row]!r} is no number, as the times before it are.")
        return _numbered(found.values, sheet, column)
    if cells.kind_of(str(texts[0]), comma=sheet.comma) == "clock":
        if _DOTTED.fullmatch(str(texts[0])):
            raise DataError(
                f"{sheet.at(0, column)}: {texts[0]!r} may be a date or a time of day. Write the year of a date with four digits,"
                " and a time of day with colons."
            )
        day = _written("1970-01-01 " + texts, sheet, column)
        return Times(day.nanoseconds, dated=False, notes=(f"{sheet.label}: `{column}` is taken as the time of day.",))
    return _written(texts, sheet, column)


def _colons(clock: pl.Series) -> pl.Series:
    """18.30.00 as 18:30:00."""
    return clock.str.replace(rf"^{_DOTTED.pattern}$", "$1:$2:$3")


def _typed(series: pl.Series, sheet: Sheet, column: str) -> Times:
    if series.null_count():
        row = int(series.is_null().arg_max() or 0)
        raise DataError(f"{sheet.at(row, column)}: the time is missing ({count(series.null_count(), 'row')} without it).")
    if isinstance(series.dtype, pl.Time):
        return Times(series.cast(pl.Int64).to_numpy(), dated=False)
    found = dates.nanoseconds(series)
    if found.null_count():
        row = int(found.is_null().arg_max() or 0)
        raise DataError(f"{sheet.at(row, column)}: the time {series[row]} cannot be read. {_FORMATS}")
    elsewhere = getattr(series.dtype, "time_zone", None) not in (None, "UTC")
    notes = (_in_utc(sheet, column, series[0], found[0]),) if elsewhere else ()
    return Times(found.to_numpy(), dated=True, notes=notes)


def _written(texts: pl.Series, sheet: Sheet, column: str) -> Times:
    try:
        found = dates.parse(texts)
    except dates.UnclearDate as error:
        raise DataError(f"{sheet.label}, column `{column}`: {error}.") from error
    if found.nanoseconds.null_count():
        row = int(found.nanoseconds.is_null().arg_max() or 0)
        raise DataError(f"{sheet.at(row, column)}: the time {texts[row]!r} cannot be read. {_FORMATS}")
    notes = [f"{sheet.label}: dates in `{column}` are taken with the {found.order}."] if found.order else []
    if found.offset is not None:
        notes.append(_in_utc(sheet, column, texts[found.offset], found.nanoseconds[found.offset]))
    return Times(found.nanoseconds.to_numpy(), dated=True, notes=tuple(notes))


def _in_utc(sheet: Sheet, column: str, written: object, nanoseconds: int) -> str:
    """The note on times with an offset from UTC; its example is one of them, as written and as read."""
    told = f"{written} is {instant(nanoseconds, dated=True)}"
    return f"{sheet.label}: times in `{column}` have an offset from UTC, and are read, told and split (--split) in UTC: {told}."


def _counted(whole: pl.Series, texts: pl.Series, sheet: Sheet, column: str) -> Times:
    """The times of whole numbers as text: dates without separators, or what `_numbered` makes of them, without loss of digits."""
    digits = {len(str(texts[0])), len(str(texts[-1]))}
    if digits in ({8}, {14}) and str(texts[0])[:2] in {"19", "20"} and not dates.parse(texts).nanoseconds.null_count():
        return _written(texts, sheet, column)
    return _numbered(whole.to_numpy(), sheet, column)


def _numbered(values: NDArray[Any], sheet: Sheet, column: str) -> Times:
    low, high = float(values.min()), float(values.max())
    if "year" in column.casefold() and low >= dates.YEARS[0] and high <= dates.YEARS[1] and (values == np.rint(values)).all():
        years = (values.astype(np.int64) - 1970).astype("datetime64[Y]").astype("datetime64[ns]")
        return Times(years.astype(np.int64), dated=True, notes=(f"{sheet.label}: `{column}` is taken as years.",))
    size, words = _unit(max(-low, high), sheet, column)
    if words == "seconds" and _told(sheet, column) is None and serial.is_serial(values):
        date = serial.as_date(float(values[0]))
        raise DataError(
            f"{sheet.at(0, column)}: {values[0]:.12g} is the number that a spreadsheet has for {date}, in days, and would be read"
            " as seconds. Export the column with its dates written out (2024-01-31 12:00:00); or tell its unit in the header:"
            f" `{column} [d]`, or `{column} [s]` where it does hold seconds."
        )
    if max(-low, high) * size > _LONGEST:
        raise DataError(f"{sheet.label}, column `{column}`: {max(-low, high):g} is beyond all dates. {_FORMATS}")
    step = size * NANOSECONDS
    whole = values * round(step) if values.dtype == np.int64 else np.rint(values * step).astype(np.int64)
    return Times(whole, dated="1970" in words, notes=(f"{sheet.label}: `{column}` is taken as {words}.",))


def _told(sheet: Sheet, column: str) -> float | None:
    """Seconds in one unit of the column; None if its header names no unit."""
    suffix = column.casefold().rsplit("_", 1)[1] if "_" in column else ""
    return TIME_UNITS.get(sheet.fields[column].column.unit.casefold() or suffix)


def _unit(most: float, sheet: Sheet, column: str) -> tuple[float, str]:
    """Seconds in one unit of the column, and what the column counts, in words; `most`: the largest magnitude in it."""
    told = _told(sheet, column)
    for words, size in _COUNTED.items():
        if told in {None, size} and _EPOCH[0] <= most * size <= _EPOCH[1]:
            return size, f"{words} since 1970"
    if told is not None:
        words = next((words for words, size in _COUNTED.items() if size == told), f"units of {told:g} seconds")
        return told, words
    return 1.0, "seconds"
