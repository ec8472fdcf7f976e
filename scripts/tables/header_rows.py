"""Finds which of a file's first rows are its header.

Owns how names are distinguished from data and from a preamble above them. Knows nothing of separators or of what names mean.
"""

from collections.abc import Sequence

from scripts.tables.cells import Kind, kind_of
from scripts.tables.recording import DataError

_COMMENTS = ("#", "%", "//")
_MOST_ROWS = 4  # of a header


def find_header(
    records: Sequence[list[str]], kinds: Sequence[Kind], used: int, *, comma: bool, file: str
) -> tuple[int, list[list[str]]]:
    """The index of the first record of data, and the rows of the header before it: an empty list if there is no header.

    kinds: what each column mostly holds. used: how many columns hold anything. DataError if there are no data, or if the header
    has another number of cells than the data.
    """
    block: list[list[str]] = []
    commented: list[str] = []
    parted = False
    odd: tuple[int, list[str]] | None = None  # the last row that has several cells, but not one for each column
    for index, cells in enumerate(records):
        if not any(cell.strip() for cell in cells):
            parted = True
            continue
        if cells[0].lstrip().startswith(_COMMENTS) and not block:
            first = cells[0].lstrip().lstrip("#%/").strip()
            commented = [first, *cells[1:]] if len(cells) >= used and (first or len(cells) > 1) else []
            continue
        if len(cells) < used:
            odd = (index, cells) if len([cell for cell in cells if cell.strip()]) > 1 else None
            continue
        if not _is_header(cells, kinds, comma=comma, first=not block):
            break
        block = [cells] if parted else [*block, cells]  # what stands above an empty row and another header is a preamble
        parted = False
        if all(kind in {"text", "empty"} for kind in kinds):  # names look like the data: take one row
            index += 1
            break
    else:
        raise DataError(f"{file} has a header and no rows of data.")
    if not block and commented:
        block = [commented]
    if not block and odd is not None:
        raise DataError(f"{file}, row {odd[0] + 1}: it names {len(odd[1])} columns, and the rows below have {used}.")
    return index, block


def names_and_units(block: list[list[str]]) -> list[list[str]]:
    """The rows of names and units, out of more than two rows.

    Names differ from each other. If there are many rows, those before the last are a preamble with as many cells.
    """
    if len(block) > _MOST_ROWS:
        return block[-1:]
    full = [index for index, cells in enumerate(block) if all(cells) and len(set(cells)) == len(cells)]
    first = full[0] if full else 0
    return block[first : first + 2]


def _is_header(cells: Sequence[str], kinds: Sequence[Kind], *, comma: bool, first: bool) -> bool:
    """Whether a row is part of the header: words stand where the column holds numbers or times."""
    told = [(kind, kind_of(cell, comma=comma)) for kind, cell in zip(kinds, cells, strict=False) if kind not in {"text", "empty"}]
    if not told:
        return first
    words = sum(found == "text" for _, found in told)
    timed = any(kind in {"time", "clock"} and found == kind for kind, found in told)
    if first and [cell.strip() for cell in cells] == [str(index) for index in range(len(cells))] and len(cells) > 1:
        return True  # columns that were never named are often counted from 0
    numbers = sum(kind == "number" and found == "number" for kind, found in told)
    return words > 0 and not timed and (first or words > numbers)
