"""Finds out how a file of separated values is laid out, from its beginning.

Owns the choice of the separator and of the decimal mark. Knows nothing of what columns are for.
"""

import csv
from collections import Counter
from dataclasses import dataclass

from scripts.tables.cells import Kind, is_grouped, kind_of
from scripts.tables.header_rows import find_header, names_and_units
from scripts.tables.headers import Heading, headings, renamed
from scripts.tables.recording import DataError
from scripts.tables.wording import count, listed

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_LOOKED_AT = 1000  # records
_LOOKED_AT_CELLS = 200_000

Record = tuple[int, list[str]]  # lines of the file up to the end of the record; its cells


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the data begin in a text file, and what its columns are."""

    separator: str
    comma: bool  # whether the decimal mark is a comma
    width: int  # cells of a row
    lines: int  # before the first row of data
    row: int  # of the first row of data, as a spreadsheet counts: from 1
    headings: tuple[Heading, ...]  # of the columns that are not nameless and empty
    places: tuple[int, ...]  # where those columns are in a row
    kinds: tuple[Kind, ...]
    heads: tuple[tuple[str, ...], ...]  # the first cells of each column
    notes: tuple[str, ...]


def sniff(sample: str, *, whole: bool, file: str) -> Layout:
    """The layout of the file that begins with `sample`; `whole`: the sample is all of it. DataError if it is not a table."""
    lines = sample.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if not whole and len(lines) > 1:
        lines.pop()  # the last line may be cut off
    choices = {separator: _records(lines, separator) for separator in SEPARATORS}
    separator = max(SEPARATORS, key=lambda each: _merit(choices[each], each))
    if _merit(choices[separator], separator) == (0.0, 0):
        separator = ","
    width = _width(choices[separator])
    records = choices[separator][: max(_LOOKED_AT_CELLS // width, 100)]
    if width == 1:
        _refuse_blanks(records, file)
    comma = _decimals(records, width, separator)
    kinds = _kinds([cells for _, cells in records[len(records) // 2 :] if len(cells) == width] or [records[-1][1]], width, comma)
    used = max((index + 1 for index, kind in enumerate(kinds) if kind != "empty"), default=width)
    begin, block = find_header([cells for _, cells in records], kinds, used, comma=comma, file=file)
    width = max(width, *(len(cells) for cells in block), 1)
    body = [cells for _, cells in records[begin:] if any(cell.strip() for cell in cells)]
    if not body:
        raise DataError(f"{file} has a header and no rows of data.")
    kinds = _kinds(body, width, comma)
    block = [cells + [""] * (width - len(cells)) for cells in block]
    notes: list[str] = []
    if len(block) > 2:
        block = names_and_units(block)
        notes.append(f"{file}: of the {begin} rows before the data, the names are {listed(block[0], limit=3)}.")
    found = headings(block[0], block[1] if len(block) > 1 else ()) if block else headings([""] * width)
    # nameless columns without a value are left out: they come from separators at the end of every row
    places = tuple(index for index in range(width) if found[index].spelled or kinds[index] != "empty")
    notes += renamed(found)
    if not block:
        called = listed([found[place].column.name for place in places], limit=3)
        notes.append(f"{file} has no header: its columns are called {called}.")
    return Layout(
        separator=separator,
        comma=comma,
        width=width,
        lines=records[begin - 1][0] if begin else 0,
        row=begin + 1,
        headings=tuple(found[index] for index in places),
        places=places,
        kinds=tuple(kinds[index] for index in places),
        heads=tuple(tuple(cells[index] if index < len(cells) else "" for cells in body) for index in places),
        notes=tuple(notes),
    )


def _records(lines: list[str], separator: str) -> list[Record]:
    reader = csv.reader((line + "\n" for line in lines), delimiter=separator)
    records: list[Record] = []
    try:
        for cells in reader:
            records.append((reader.line_num, cells))
            if len(records) == _LOOKED_AT:
                break
    except csv.Error:  # a quote that is never closed: another separator may do better
        pass
    while records and not any(cell.strip() for cell in records[-1][1]):
        records.pop()
    return records or [(1, [""])]


def _width(records: list[Record]) -> int:
    """The usual number of cells in a row; the first fifth of the rows does not count, since it may be a preamble."""
    later = [len(cells) for _, cells in records[len(records) // 5 :] if cells]
    return Counter(later).most_common(1)[0][0] if later else 1


def _merit(records: list[Record], separator: str) -> tuple[float, int]:
    """How well a separator fits: cells should hold no other separator, and all rows should be as long; and the width."""
    width = _width(records)
    if width == 1:
        return 0.0, 0
    rows = [cells for _, cells in records if cells]
    even = [cells for cells in rows if len(cells) == width]
    others = [each for each in SEPARATORS if each != separator]
    cells = [cell for row in even[-200:] for cell in row]
    clean = sum(not any(other in cell for other in others) or _is_value(cell) for cell in cells) / len(cells)
    return round(clean * len(even) / len(rows), 2), width


def _is_value(cell: str) -> bool:
    return kind_of(cell, comma=True) != "text" or is_grouped(cell)


def _refuse_blanks(records: list[Record], file: str) -> None:
    parts = records[-1][1][0].split() if records[-1][1] else []
    if (
        len(parts) > 1
        and all(kind_of(part, comma=False) != "text" for part in parts)
        and kind_of(" ".join(parts), comma=False) == "text"
    ):
        raise DataError(
            f"{file}: its {count(len(parts), 'column')} are parted by blanks; separate them by commas, semicolons, tabs or bars"
            f" (for example: tr -s ' ' ',' < {file} > new.csv)."
        )


def _decimals(records: list[Record], width: int, separator: str) -> bool:
    """Whether the decimal mark is a comma; False if commas seem to separate thousands."""
    cells = [cell.strip() for _, row in records if len(row) == width for cell in row if "," in cell]
    behind = [cell for cell in cells if kind_of(cell, comma=True) == "number"]
    return bool(behind) and (
        separator != "," or not all(is_grouped(cell) and not cell.lstrip("+-").startswith("0") for cell in behind)
    )


def _kinds(rows: list[list[str]], width: int, comma: bool) -> list[Kind]:
    """What most of the cells of each column are."""
    kinds: list[Kind] = []
    for index in range(width):
        found = Counter(kind_of(cells[index], comma=comma) for cells in rows if index < len(cells))
        del found["empty"]
        kinds.append(found.most_common(1)[0][0] if found else "empty")
    return kinds
