"""A table as people read it, in a terminal and in Markdown: the same text.

Owns the layout. Knows nothing of what stands in it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap

WIDTH = 120


@dataclass(frozen=True, slots=True)
class Table:
    """`says`: sentences above the table; without a head there are only these."""

    title: str
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    says: Sequence[str] = ()

    def lines(self, note: str = "") -> Iterator[str]:
        """The table in Markdown, with `note` above its sentences."""
        yield from (f"## {self.title}", "")
        for text in (f"**{note}**" if note else "", " ".join(self.says)):
            if text:
                yield from (*wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False), "")
        if self.head:
            cells = [[cell.replace("|", "\\|") for cell in row] for row in (self.head, *self.rows)]
            widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
            head, *rows = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in cells]
            yield from (head, "|" + "|".join("-" * (width + 2) for width in widths) + "|", *rows, "")


def milliseconds(seconds: float | None) -> str:
    """Three digits."""
    return "-" if seconds is None else _three(1e3 * seconds)


def rate(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{_three(100 * share)} %"


def _three(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
