"""Finds the column that holds the time, if the user has named none.

Owns what such columns are called and look like. Knows nothing of how times are parsed.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise, zip_longest

from scripts.tables.sheet import Field, Sheet

_NAMED = re.compile(
    r"(date|time|timestamp|datetime|date_?time|time_?stamp|date_?and_?time|t|ts|epoch|unix_?time|datum|zeit|zeitstempel|local_?time|uhrzeit|heure|hora|fecha)"
    r"(_?(s|ms|us|ns|sec|secs|seconds|utc|gmt|local))?",
    re.IGNORECASE,
)
TIME_UNITS = {
    "s": 1.0,
    "sec": 1.0,
    "secs": 1.0,
    "second": 1.0,
    "seconds": 1.0,
    "ms": 1e-3,
    "msec": 1e-3,
    "milliseconds": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "microseconds": 1e-6,
    "ns": 1e-9,
    "nanoseconds": 1e-9,
    "min": 60.0,
    "minutes": 60.0,
    "h": 3600.0,
    "hours": 3600.0,
    "d": 86_400.0,
    "days": 86_400.0,
}
_FORWARD = 0.98  # share of the steps that go forward in a column of plain numbers that is the time


def find_time(sheet: Sheet, taken: set[str], group: str = "") -> str:
    """The column's name, or an empty one: dates with a usual name, then other dates, numbers or times of day with a usual name.

    Other dates that repeat from row to row, as the month beside a clock does, come after the numbers.
    group: the column that tells recordings apart; numbers may begin anew in each.
    """
    free = [each for each in sheet.fields.values() if each.name not in taken]
    dates = [each for each in free if each.kind == "time"]
    named = [each for each in dates if _is_named(each.name)]
    groups = sheet.fields[group].head if group else ()
    numbers = [each for each in free if each.kind == "number" and _is_named(each.name) and _unit_fits(each)]
    rising = [each for each in numbers if _rises(each.head, groups, comma=sheet.comma)]
    clocks = [each for each in free if each.kind == "clock" and _is_named(each.name)]
    single = [each for each in dates if all(one != other for one, other in pairwise(each.head))]
    return next((each.name for each in (*named, *single, *rising, *dates, *clocks)), "")


def unread(sheet: Sheet, taken: set[str]) -> list[str]:
    """Notes on columns that have the name of a time, but hold none."""
    found = [each for each in sheet.fields.values() if each.name not in taken and each.kind == "text" and _is_named(each.name)]
    return [
        f"`{each.name}` is not read as a time, since it holds {next(filter(None, each.head))!r}: rows are taken as even."
        " Written as 2020-01-31 or 2020-01-31 12:00:00 it would be."
        for each in found
    ]


def find_clock(sheet: Sheet, time: str) -> str:
    """The column with the time of day that belongs to a column with only days; empty if there is none."""
    if any(":" in cell for cell in sheet.fields[time].head):
        return ""
    return next(
        (
            each.name
            for each in sheet.fields.values()
            if each.kind == "clock" and each.name != time and re.search(r"time|zeit|hour|clock|heure|hora", each.name.casefold())
        ),
        "",
    )


def _is_named(name: str) -> bool:
    return name != "T" and _NAMED.fullmatch(name.strip().replace(" ", "_")) is not None  # T is a temperature


def _unit_fits(field: Field) -> bool:
    return not field.column.unit or field.column.unit.casefold() in TIME_UNITS or "utc" in field.column.unit.casefold()


def _rises(cells: Sequence[str], groups: Sequence[str], *, comma: bool) -> bool:
    """Whether almost all steps go forward, or all go back. groups: the recording of each cell, if there are several."""
    values: dict[str, list[float]] = defaultdict(list)
    for cell, group in zip_longest(cells, groups[: len(cells)], fillvalue=""):
        try:
            values[group].append(float(cell.replace(",", ".") if comma else cell))
        except ValueError:
            continue
    steps = [later - earlier for each in values.values() for earlier, later in pairwise(each)]
    return bool(steps) and (sum(step >= 0 for step in steps) >= _FORWARD * len(steps) or all(step <= 0 for step in steps))
