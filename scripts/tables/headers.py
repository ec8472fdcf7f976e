"""Turns the header's cells into the columns' names and units.

Owns how names are cleaned and made unique, and where units are found. Knows nothing of files.
"""

import re
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass

from scripts.tables.recording import Column

_BRACKETED = re.compile(r"(?P<name>.*\S)\s*(\((?P<round>[^()]*)\)|\[(?P<square>[^\[\]]*)\])")


@dataclass(frozen=True, slots=True)
class Heading:
    """A column as it will be called, and as the file spells it."""

    column: Column
    spelled: str  # the header's cell; empty where it has none


def headings(names: Sequence[str], units: Sequence[str] = ()) -> tuple[Heading, ...]:
    """Give every column its own name, and its unit: from the row of units, or from brackets behind the name."""
    spelled = [_tidy(name) for name in names]
    parts = [_parted(name) for name in spelled]
    if units:
        parts = [(name, _bare(_tidy(unit)) or unit_there) for (name, unit_there), unit in zip(parts, units, strict=True)]
    # brackets stay in the names of columns that would have the same name without them
    alone = Counter(name for name, _ in parts)
    short = [name if alone[name] == 1 else whole for (name, _), whole in zip(parts, spelled, strict=True)]
    called = distinct([name or f"column_{index + 1}" for index, name in enumerate(short)], beside=alone)
    return tuple(Heading(Column(name, unit), whole) for name, (_, unit), whole in zip(called, parts, spelled, strict=True))


def distinct(names: Sequence[str], *, beside: Container[str] = ()) -> list[str]:
    """The names; one that was there before gets a number, by which it differs from all of them and from those in `beside`."""
    given = frozenset(names)
    found: dict[str, None] = {}
    for name in names:
        candidate, again = name, 2
        while candidate in found or (candidate != name and (candidate in given or candidate in beside)):
            candidate, again = f"{name}_{again}", again + 1
        found[candidate] = None
    return list(found)


def renamed(found: Sequence[Heading]) -> list[str]:
    """Notes on columns that had the same name."""
    names = Counter(each.spelled for each in found if each.spelled)
    twice = [name for name, times in names.items() if times > 1]
    return [
        f"{names[name]} columns are called `{name}`: from left to right they are taken as "
        + ", ".join(f"`{each.column.name}`" for each in found if each.spelled == name)
        + "."
        for name in twice
    ]


def _tidy(cell: str) -> str:
    return " ".join(cell.replace("\ufeff", "").split()).strip("\"' ")


def _bare(unit: str) -> str:
    """`[deg/s]` and `(deg/s)` as `deg/s`; a dash is no unit."""
    inside = re.fullmatch(r"\((.*)\)|\[(.*)\]", unit)
    bare = (inside[1] or inside[2] or "").strip() if inside else unit
    return "" if bare in {"-", "--", "1", "none", "None"} else bare


def _parted(name: str) -> tuple[str, str]:
    """Name and unit; brackets that hold a number are part of the name."""
    match = _BRACKETED.fullmatch(name)
    if match is None:
        return name, ""
    unit = (match["round"] or match["square"] or "").strip()
    if re.fullmatch(r"[\d\s.,;:+]*", unit) and unit:
        return name, ""
    return match["name"], _bare(unit)
