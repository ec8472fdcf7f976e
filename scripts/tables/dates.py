"""Dates and times as text: which format they are in, and their nanoseconds since 1970.

Owns the formats and the choice between day-first and month-first. Knows nothing of files.
"""

import re
from dataclasses import dataclass

import polars as pl

from scripts.tables.cells import MONTH

YEARS = (1678, 2261)  # in which every moment fits into 64 bits of nanoseconds
_AMBIGUOUS = "{first}{sep}{second}"
_REST = (
    r"(?P<gap>T|[ ,]+)?"
    r"((?P<clock>\d{1,2}:\d{2})(?P<second>:\d{2})?(?P<fraction>[.,]\d+)?(?P<half> ?[AaPp][Mm])?|(?P<packed>\d{6}))?"
    r"(?P<zone> ?(Z|UTC|GMT|[+-]\d{2}(:?\d{2})?))?"
)
_DATES = (
    (re.compile(r"\d{4}(?P<sep>[-/.])\d{1,2}(?P=sep)\d{1,2}" + _REST), "%Y{sep}%m{sep}%d"),
    (re.compile(r"\d{1,2}(?P<sep>[-/.])\d{1,2}(?P=sep)\d{4}" + _REST), _AMBIGUOUS + "{sep}%Y"),
    (re.compile(r"\d{1,2}(?P<sep>[- /])[A-Za-z]{3,9}(?P=sep)\d{4}" + _REST), "%d{sep}%B{sep}%Y"),
    (re.compile(r"\d{8}(?P<sep>)(?=T|$)" + _REST), "%Y%m%d"),
    (re.compile(r"\d{14}(?P<sep>)(?P<gap>)(?P<clock>)(?P<second>)(?P<fraction>)(?P<half>)(?P<packed>)(?P<zone>)"), "%Y%m%d%H%M%S"),
)
# Dates that tell the first day of a month or of a quarter, or the month before the day; and how they are read: as one of `_DATES`
_WHOLE = (
    (r"^(\d{4}-\d{2})$", "${1}-01"),
    *((rf"^(\d{{4}})[- ]?[Qq]{quarter}$", f"${{1}}-{3 * quarter - 2:02}-01") for quarter in (1, 2, 3, 4)),
    (rf"^(\d{{4}})[- ]({MONTH})$", "1 ${2} ${1}"),
    (rf"^({MONTH})[- ](\d{{4}})$", "1 ${1} ${2}"),
    (rf"^({MONTH})[- ](\d{{1,2}})(?:, ?|[- ])(\d{{4}})\b", "${2} ${1} ${3}"),
)
_UTC = r"(Z|UTC|GMT|[+-]00(:?00)?)$"
_EVEN = 1.2  # the longest step divided by the shortest, up to which steps count as even: months do
_ROUNDS = 8  # formats that one column may mix


class UnclearDate(ValueError):
    """A date that may be read in two ways; the text says which."""


@dataclass(frozen=True, slots=True)
class Dates:
    """Nanoseconds since 1970 in UTC or local time; null where nothing could be read."""

    nanoseconds: pl.Series  # Int64
    order: str  # `day first` or `month first` where that had to be decided
    offset: int | None = None  # the first row whose text has an offset from UTC


def parse(texts: pl.Series) -> Dates:
    """Read a column of stripped texts, null where missing; UnclearDate if day and month, or zones, are ambiguous."""
    found = pl.Series(values=[None] * len(texts), dtype=pl.Int64)
    order, zoned, local = "", False, False
    for _ in range(_ROUNDS):
        open_ = found.is_null() & texts.is_not_null()
        if not open_.any():
            break
        rest = texts if open_.all() else texts.filter(open_)
        text = str(rest[0])
        match, template = _shape(text)
        if match is None:
            break
        if _AMBIGUOUS in template:
            order = order or _order(texts, match["sep"])
        parsed = _parsed(rest, match, template, order)
        if parsed[0] is None:
            break
        zoned, local = zoned or bool(match["zone"]), local or not match["zone"]
        found = parsed if open_.all() else _filled(found, open_, parsed)
    if zoned and local:
        raise UnclearDate("some of its times tell their zone and others do not: write all of them with it, or none")
    offset = None
    if zoned and (ahead := ~texts.str.contains(_UTC)).any():
        offset = int(ahead.arg_max() or 0)
    return Dates(found, order, offset)


def _shape(text: str) -> tuple[re.Match[str] | None, str]:
    text = str(_whole(pl.Series([text]))[0])
    for pattern, template in _DATES:
        if match := pattern.fullmatch(text):
            return match, template
    return None, ""


def _whole(texts: pl.Series) -> pl.Series:
    """The texts, with those in a format of `_WHOLE` as dates of day, month and year."""
    for pattern, date in _WHOLE:
        texts = texts.str.replace(pattern, date)
    return texts


def _parsed(texts: pl.Series, match: re.Match[str], template: str, order: str) -> pl.Series:
    """All texts that have the format of the match, in nanoseconds; null where they have another."""
    first, second = ("%m", "%d") if order == "month first" else ("%d", "%m")
    form = template.format(first=first, second=second, sep=match["sep"])
    if _whole(texts[:1])[0] != texts[0]:
        texts = _whole(texts)
    if not (match["clock"] or match["packed"]):
        if form == "%Y%m%d%H%M%S":
            return _instants(texts, form)
        return nanoseconds(texts.str.to_date(form, strict=False))
    form += match["gap"] or ""
    if match["packed"]:
        form += "%H%M%S"
    else:
        form += "%I:%M" if match["half"] else "%H:%M"
        form += ":%S%.f" if match["second"] else ""
        form += match["half"][:-2] + "%p" if match["half"] else ""
    if match["fraction"] and match["fraction"][0] == ",":
        texts = texts.str.replace(r"(:\d{2}),(\d)", "$1.$2")
    if match["zone"]:
        texts = texts.str.replace(r" ?(Z|UTC|GMT)$", "+00:00").str.replace(r" ([+-]\d{2}:?\d{0,2})$", "$1")
        texts = texts.str.replace(r"(:\d{2}(\.\d+)?|T\d{6})([+-]\d{2})$", "$1$3:00")
        form += "%z"
    return _instants(texts, form)


def _instants(texts: pl.Series, form: str) -> pl.Series:
    """The texts in nanoseconds; null where one has another form, or a year not in `YEARS`, which Polars would take for another."""
    rough, found = (texts.str.to_datetime(form, time_unit=unit, strict=False) for unit in ("us", "ns"))
    return pl.select(pl.when(rough.dt.year().is_between(*YEARS)).then(found.cast(pl.Int64))).to_series()


def nanoseconds(instants: pl.Series) -> pl.Series:
    """A series of dates or times in nanoseconds since 1970; null where the year is out of range."""
    return instants.cast(pl.Datetime("ns"), strict=False).cast(pl.Int64)


def _filled(found: pl.Series, open_: pl.Series, parsed: pl.Series) -> pl.Series:
    """`found`, with the parsed values put in turn into the rows that are `open_`."""
    indices = open_.arg_true()
    return found.scatter(indices, parsed)


def _order(texts: pl.Series, separator: str) -> str:
    """Whether the day or the month comes first in dates such as 3/4/2020, judged by the data."""
    if separator == ".":
        return "day first"  # dots are written where the day comes first
    parts = texts.str.extract_groups(r"^(\d{1,2})[-/](\d{1,2})[-/]\d{4}").struct
    first, second = (parts.field(name).cast(pl.Int64) for name in ("1", "2"))
    most = [int(each.max() or 0) for each in (first, second)]  # type: ignore[arg-type]  # a maximum may be of any type
    if most[0] > 12 and most[1] > 12:
        row = int((second > 12).arg_max() or 0)
        raise UnclearDate(
            f"some of its dates have the day first and others the month (such as {texts[row]!r}): write them as YYYY-MM-DD"
        )
    if most[0] > 12 or most[1] > 12:
        return "day first" if most[0] > 12 else "month first"
    match, template = _shape(str(texts.drop_nulls()[0]))
    assert match is not None
    parses = {order: _parsed(texts, match, template, order) for order in ("day first", "month first")}
    whole = {order: each.diff().drop_nulls() for order, each in parses.items() if each.null_count() == texts.null_count()}
    rising = [order for order, steps in whole.items() if len(steps) and (steps >= 0).all()]
    # monthly rows that are misread as daily ones are even for twelve rows, and then leap to the next year
    even = [order for order in rising if whole[order].max() <= _EVEN * whole[order].min()]  # type: ignore[operator]  # of numbers
    for found in (rising, even):
        if len(found) == 1:
            return found[0]
    sample = str(texts.drop_nulls()[0])
    raise UnclearDate(
        f"{sample!r} may have the day or the month first, and nothing in the column tells which: write dates as YYYY-MM-DD"
    )
