"""How counts, spans of time, names and lists are put into words.

Owns the spelling. Knows nothing of files or recordings.
"""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

import numpy as np

NANOSECONDS = 1_000_000_000
_ALIKE = 24  # characters that two notes of one kind have in common at their beginning
# Days between rows: the least and the most, as the median of calendar steps comes out
_CALENDAR = (((30.2, 31), "one row a month"), ((90, 92), "one row a quarter"), ((365, 366), "one row a year"))
_UNITS = ((86_400.0, "day"), (3600.0, "hour"), (60.0, "minute"), (1.0, "second"))


def count(number: int, noun: str) -> str:
    """`1 row`, `17,420 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(names: Iterable[str], *, limit: int = 12) -> str:
    """`a`, `b` and 3 more."""
    every = list(names)
    shown = ", ".join(f"`{name}`" for name in every[:limit])
    return shown if len(every) <= limit else f"{shown} and {len(every) - limit:,} more"


def natural(text: str) -> list[tuple[int, int, str]]:
    """A key that puts `run2` before `run10`, and numbers before words."""
    parts = re.split(r"(\d+)", text)
    return [(0, int(part), "") if part.isdigit() and part.isascii() else (1, 0, part.casefold()) for part in parts if part]


def meant(asked: str, names: Sequence[str], *, mark: str = "") -> str:
    """` Did you mean run1 or run2?`, up to three of the names, each between two of `mark`; empty if none is near."""
    folded = {name.casefold(): name for name in reversed(names)}
    near = get_close_matches(asked.casefold(), list(folded), n=3, cutoff=0.6)
    within = [name for name in folded if asked.casefold() in name] if asked else []
    found = [f"{mark}{folded[name]}{mark}" for name in dict.fromkeys([*near, *within])][:3]
    return f" Did you mean {' or '.join(found)}?" if found else ""


def few(notes: Iterable[str], *, limit: int = 3) -> list[str]:
    """Of notes that differ in their recordings and numbers only, the first few, and how many more there are."""
    kinds: dict[str, list[str]] = {}
    for note in notes:
        kind = re.sub(r"\d[\d,.:]*", "#", note.split(": ", 1)[-1])
        kinds.setdefault(re.sub(r"s\b", "", kind)[:_ALIKE], []).append(note)
    told = []
    for alike in kinds.values():
        told += alike[:limit]
        if (more := len(alike) - limit) > 0:
            told.append(f"It is so with {count(more, 'more recording')}.")
    return told


def seconds(value: float) -> str:
    """A span of time in the unit that suits it: `1 hour`, `20 ms`, `2.5 days`."""
    for size, noun in _UNITS:
        if value >= size:
            amount = value / size
            return f"{amount:.6g} {noun}{'' if f'{amount:.6g}' == '1' else 's'}"
    for size, noun in ((1e-3, "ms"), (1e-6, "µs")):
        if value >= size:
            return f"{value / size:.6g} {noun}"
    return f"{value / 1e-9:.6g} ns"


def axis(span: float) -> tuple[float, str]:
    """The unit for an axis that shows `span` seconds: its length in seconds, and its name."""
    size, noun = next((each for each in _UNITS if span >= 3 * each[0]), _UNITS[-1])
    return size, f"{noun}s"


def every(period: float, *, days: bool = False) -> str:
    """How often rows come: `one row an hour`, `one row a month`, `one row every 20 ms (50 Hz)`; days: `one row every 31 days`."""
    for (least, most), words in () if days else _CALENDAR:
        if least <= period / 86_400.0 <= most:
            return words
    for size, noun in _UNITS:
        if abs(period - size) < 1e-6 * size:
            return f"one row {'an' if noun == 'hour' else 'a'} {noun}"
    rate = f" ({1 / period:.6g} Hz)" if period < 1 else ""
    return f"one row every {seconds(period)}{rate}"


def instant(nanoseconds: int, *, dated: bool) -> str:
    """A point in time: a date where it is one, else seconds."""
    if not dated:
        return f"{nanoseconds / NANOSECONDS:.9g} s"
    text = str(np.datetime64(nanoseconds, "ns")).replace("T", " ").rstrip("0").rstrip(".")
    return text.removesuffix(":00")
