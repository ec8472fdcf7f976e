"""Converts a column's values to float32, and notes what is odd about them.

Owns the checks of single columns over all files. Knows nothing of time, recordings or splits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from scripts.tables import cells
from scripts.tables.recording import DataError
from scripts.tables.sheet import Sheet
from scripts.tables.wording import count

# Numbers that often stand for a missing value.
_SENTINELS = (-99.0, -999.0, -999.9, -999.25, -9999.0, -99999.0, -200.0, 999.0, 9999.0, 99999.0, -32768.0, 32767.0, 65535.0)
_OFTEN = 3  # times that it has to occur
_FAR = 2.0  # how far it has to be from all other values, in widths of their range
_EPSILON = 2.0**-24  # the relative error of rounding to float32
_DIGITS = 1e-3  # of a standard deviation: the largest change by rounding to float32 that does not matter


@dataclass(frozen=True, slots=True)
class Values:
    """The values of one column in one file."""

    array: NDArray[np.float32]  # NaN where missing
    low: float  # NaN if all values are missing
    high: float
    rounding: float  # the largest change by rounding to float32; 0 if it cannot matter
    spread: float  # the standard deviation
    note: str = ""


def values(series: pl.Series, sheet: Sheet, name: str, *, named: bool, na: Sequence[float] = ()) -> Values | None:
    """The numbers of a column; None if it holds text and was not asked for by name. na: numbers that mean a missing value.

    DataError names the first cell that is not a number, in a column that was asked for by name or that holds mostly numbers.
    """
    if series.dtype == pl.String:
        found = cells.numbers(series, comma=sheet.comma, na=na)
        if found.words:
            numeric = int(np.isfinite(found.values).sum())
            if cells.is_grouped(found.word):
                raise grouped(found.word, found.first, sheet, name)
            if named or numeric > found.words:
                also = f" So do {count(found.words - 1, 'other cell')} of the column." if found.words > 1 else ""
                raise DataError(
                    f"{sheet.at(found.first, name)} holds {_short(found.word)}, which is no number.{also} Mend the file,"
                    " or leave the column out of --features and --targets."
                )
            return None
        raw = found.values
    else:
        raw = series.to_numpy(writable=True)
    if na:
        raw[np.isin(raw, [*na, *np.asarray(na, np.float32)])] = np.nan
    return _rounded(raw, sheet, name)


def grouped(word: str, row: int, sheet: Sheet, name: str) -> DataError:
    """The error for a number with separators of thousands."""
    return DataError(
        f"{sheet.at(row, name)}: {word!r} has its thousands parted: export the file without separators of thousands, since they"
        " cannot be told from decimals, or name the columns to use with --features."
    )


def _short(word: str) -> str:
    return repr(word if len(word) <= 60 else word[:57] + "...")


def _rounded(raw: NDArray[np.float64], sheet: Sheet, name: str) -> Values:
    """A column in float32, with its range, rounding and spread; infinities count as missing."""
    low, high = (float(raw.min()), float(raw.max())) if len(raw) else (np.nan, np.nan)
    present = raw
    if not (np.isfinite(low) and np.isfinite(high)):
        raw[np.isinf(raw)] = np.nan
        present = raw[~np.isnan(raw)]
        if not len(present):
            return Values(raw.astype(np.float32), np.nan, np.nan, 0.0, 0.0)
        low, high = float(present.min()), float(present.max())
    if max(-low, high) > float(np.finfo(np.float32).max):
        row = int(np.nanargmax(np.abs(raw)))
        raise DataError(f"{sheet.at(row, name)}: {raw[row]:g} is beyond what 32-bit floats hold (3.4e38): rescale the column.")
    spread = float(pl.Series(values=present).std(ddof=0) or 0.0)  # type: ignore[arg-type]  # of numbers it is one
    rounding = 0.0
    if max(-low, high) * _EPSILON > _DIGITS * spread:  # only then can it matter
        rounding = float(np.abs(present.astype(np.float32) - present).max())
    note = _sentinel(raw, present, low, high, sheet=sheet, name=name)
    return Values(raw.astype(np.float32), low, high, rounding, spread, note)


def _sentinel(raw: NDArray[np.float64], present: NDArray[np.float64], low: float, high: float, *, sheet: Sheet, name: str) -> str:
    """A note if a number far from all others occurs repeatedly; otherwise empty."""
    for suspect in {low, high} & set(_SENTINELS):
        times = int((present == suspect).sum())
        others = present[present != suspect]
        if times < _OFTEN or not len(others):
            continue
        width = float(others.max() - others.min())
        if min(abs(suspect - others.min()), abs(suspect - others.max())) > _FAR * width:
            row = int((raw == suspect).argmax())
            return (
                f"{sheet.label}: `{name}` is {suspect:g} in {count(times, 'row')} (first: row {sheet.row(row):,}), far from all its"
                f" other values: if that stands for a missing value, add --na={suspect:.15g}."
            )
    return ""


def constant(every: Sequence[Values]) -> float | None:
    """The one value that a column has in all files; None where it has several."""
    told = [each for each in every if not np.isnan(each.low)]
    low, high = min(each.low for each in told), max(each.high for each in told)
    return low if low == high else None


def digits(name: str, every: Sequence[Values]) -> str:
    """A note where float32 has too few digits for a column."""
    worst = max((each.rounding / each.spread for each in every if each.spread > 0), default=0.0)
    if worst <= _DIGITS:
        return ""
    return (
        f"`{name}` has more digits than 32-bit floats hold: rounding changes it by up to {worst:.1%} of its standard deviation."
        " Subtract a constant from it, or leave it out."
    )
