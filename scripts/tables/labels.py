"""The classes of a column of labels.

Owns how labels are spelled and ordered. Knows nothing of recordings.
"""

import re
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from scripts.tables import cells
from scripts.tables.recording import DataError, NoTruth
from scripts.tables.sheet import Sheet
from scripts.tables.wording import listed, natural

MOST_CLASSES = 1000


def read_labels(
    series: Sequence[pl.Series], sheets: Sequence[Sheet], column: str
) -> tuple[tuple[str, ...], list[NDArray[np.int64]]]:
    """The classes in natural order, and for each file the class of each row, -1 where it is missing.

    DataError where there is no class at all, or where the column holds measurements.
    """
    spelled = [_spelled(each) for each in series]
    every = pl.concat([each.drop_nulls().unique() for each in spelled]).unique().to_list()
    _check_whole(every, spelled, sheets, column)
    if not every:
        raise NoTruth(f"`{column}` holds no label at all, in {listed([sheet.label for sheet in sheets], limit=3)}.")
    if len(every) > MOST_CLASSES:
        raise DataError(
            f"`{column}` holds {len(every):,} different labels ({listed(sorted(every, key=natural), limit=3)}), and there may be"
            f" {MOST_CLASSES:,} classes at most. Numbers are learned with --task regress."
        )
    classes = tuple(sorted(every, key=_order))
    places = {label: index for index, label in enumerate(classes)}
    codes = [
        each.replace_strict(places, default=-1, return_dtype=pl.Int64).fill_null(-1).to_numpy(writable=True) for each in spelled
    ]
    return classes, codes


def check_several(classes: Sequence[str], column: str) -> None:
    """DataError if there are too few classes to learn from; to evaluate, one is enough."""
    if len(classes) < 2:
        raise DataError(f"To classify takes two classes or more, and `{column}` holds only {classes[0]!r}.")


def _spelled(series: pl.Series) -> pl.Series:
    """Each label in one spelling, null where it is missing; 1.0 is 1."""
    texts = cells.stripped(series.cast(pl.String))
    texts = pl.select(pl.when(~cells.is_missing(texts, label=True)).then(texts)).to_series()
    return texts.str.replace(r"^([+-]?\d+)\.0*$", "$1")


def _order(label: str) -> tuple[int, float, list[tuple[int, int, str]]]:
    return (0, float(label), []) if re.fullmatch(r"[+-]?\d+", label) else (1, 0.0, natural(label))


def _check_whole(every: Sequence[str], spelled: Sequence[pl.Series], sheets: Sequence[Sheet], column: str) -> None:
    broken = {label for label in every if cells.kind_of(label, comma=False) == "number" and not label.lstrip("+-").isalnum()}
    if not broken or len(broken) < len(every) / 2:
        return
    for texts, sheet in zip(spelled, sheets, strict=True):
        odd = texts.is_in(list(broken)).fill_null(value=False)
        if odd.any():
            row = int(odd.arg_max() or 0)
            raise DataError(
                f"{sheet.at(row, column)}: {texts[row]!r} is a measurement and no label. Classes are text or whole numbers;"
                " numbers are learned with --task regress."
            )
