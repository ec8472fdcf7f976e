"""What single cells of text are: numbers, times, missing, or words.

Owns the spellings. Knows nothing of columns' roles or of files.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

Kind = Literal["number", "time", "clock", "text", "empty"]

# Spellings of a missing value, in lower case. Fewer of them count among labels, since a label may be called "none" or "-".
MISSING_LABELS = ("", "na", "n/a", "#n/a", "nan", "null", "<na>")
MISSING = (*MISSING_LABELS, "-", "--", "?", "none", "nat", "missing", "-nan", "nan(ind)", "-nan(ind)")
INFINITE = ("inf", "+inf", "-inf", "infinity", "+infinity", "-infinity", "∞", "-∞")
_NOTHING = frozenset((*MISSING, *INFINITE))
_BOOLEANS = ("true", "false")

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_COMMA = re.compile(r"[+-]?(\d+,\d*|,\d+|\d+)([eE][+-]?\d+)?")
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:(,\d{3})+(\.\d+)?|(\.\d{3})+(,\d+)?|([' \u00a0\u202f\u2019]\d{3})+([.,]\d+)?)")
MONTH = (  # in English; Polars reads these and, other than Python, no "Sept"
    r"(?i:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:tember)?|oct(?:ober)?|nov(?:ember)?"
    r"|dec(?:ember)?)"
)
_DATE = (
    r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{4}-\d{2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}|\d{1,2}[- /][A-Za-z]{3}[- /]\d{4}|\d{8}(?=T)"
    rf"|\d{{1,2}}[- /]{MONTH}[- /]\d{{4}}|{MONTH}[- ]\d{{1,2}}(, ?|[- ])\d{{4}}|\d{{4}}[- ]{MONTH}|{MONTH}[- ]\d{{4}}"
    r"|\d{4}[- ]?[Qq][1-4])"
)
_CLOCK = r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?( ?[AaPp][Mm])?"
_TIME = re.compile(_DATE + r"([T ,]+(" + _CLOCK + r"|\d{6}) ?(Z|UTC|GMT|[+-]\d{2}(:?\d{2})?)?)?")
_ONLY_CLOCK = re.compile(_CLOCK + r"|\d{1,2}\.\d{2}\.\d{2}")
_MINUS = "\u2212"  # the typographic minus sign
_AROUND = " \t\"'\u00a0"


@dataclass(frozen=True, slots=True)
class Numbers:
    """A column as numbers: NaN where a cell is missing, or holds a word; words are counted."""

    values: NDArray[np.float64]
    words: int  # cells that are neither a number nor missing
    first: int  # the first such cell
    word: str  # what it says


def kind_of(cell: str, *, comma: bool) -> Kind:
    """What one cell is; `comma`: the decimal mark is a comma."""
    text = cell.strip(_AROUND).replace(_MINUS, "-")
    folded = text.casefold()
    if folded in _NOTHING:
        return "empty"
    if (_COMMA if comma else _NUMBER).fullmatch(text) or folded in _BOOLEANS:
        return "number"
    if _TIME.fullmatch(text):
        return "time"
    return "clock" if _ONLY_CLOCK.fullmatch(text) else "text"


def is_grouped(cell: str) -> bool:
    """Whether the cell is a number with separators of thousands: 1,234.5 or 1.234,5 or 1 234."""
    return _GROUPED.fullmatch(cell.strip(_AROUND)) is not None


def stripped(texts: pl.Series) -> pl.Series:
    """The texts without the blanks and quotes around them."""
    return texts.str.strip_chars(_AROUND)


def is_missing(texts: pl.Series, *, label: bool = False) -> pl.Series:
    """Which of these stripped cells are missing; `label`: they are labels."""
    return texts.is_null() | texts.str.to_lowercase().is_in(list(MISSING_LABELS if label else _NOTHING))


def numbers(texts: pl.Series, *, comma: bool, na: Sequence[float] = ()) -> Numbers:
    """The numbers of a column of text; `na`: numbers that mean a missing value, which are not replaced here."""
    switch = [0.0, 1.0, *na]
    if comma:
        return _numbers(texts, comma=True, switch=switch)
    plain = texts.cast(pl.Float64, strict=False)
    odd = plain.is_null()
    others = bool((plain.is_not_null() & plain.is_finite() & ~plain.is_in(switch)).any())
    found = _numbers(texts.filter(odd), comma=False, switch=switch, others=others)  # only the odd cells: this is the slowest step
    array = plain.to_numpy().astype(np.float64)
    array[odd.to_numpy()] = found.values
    array[~np.isfinite(array)] = np.nan
    return Numbers(array, found.words, int(odd.arg_true()[found.first]) if found.words else -1, found.word)


def _numbers(texts: pl.Series, *, comma: bool, switch: Sequence[float], others: bool = False) -> Numbers:
    """Read all spellings of numbers; `others`: the column has numbers that are not in `switch`, so true and false are words."""
    texts = stripped(texts)
    missing = is_missing(texts)
    plain = texts.str.replace(_MINUS, "-", literal=True)
    if comma:  # a point would separate thousands, and must not be read as the decimal mark
        plain = pl.select(pl.when(plain.str.contains(".", literal=True)).then(None).otherwise(plain)).to_series()
        plain = plain.str.replace(",", ".", literal=True)
    plain = plain.str.strip_suffix(".")
    values = plain.cast(pl.Float64, strict=False)
    if (words := values.is_null() & ~missing).any():
        folded = plain.str.to_lowercase()
        truth = folded.replace_strict({"true": 1.0, "false": 0.0}, default=None, return_dtype=pl.Float64)
        if not others and not (values.is_not_null() & ~values.is_in(switch)).any():  # beside other numbers they are words
            values = pl.select(pl.coalesce(values, truth)).to_series()
        words = values.is_null() & ~missing
    total = int(words.sum())
    first = int(words.arg_max() or 0) if total else -1
    array = values.to_numpy().astype(np.float64)  # null becomes NaN
    array[~np.isfinite(array)] = np.nan
    return Numbers(array, total, first, str(texts[first]) if total else "")
