"""Writes parts of Markdown: paragraphs of a fixed width, and tables with aligned columns.

Knows nothing of what is said.
"""

from collections.abc import Sequence
from textwrap import fill

WIDTH = 132


def paragraph(*sentences: str, hang: bool = False) -> str:
    """The sentences as one paragraph; `hang`: the lines after the first are indented, as in a list."""
    indent = "  " if hang else ""
    return fill(" ".join(sentences), WIDTH, break_long_words=False, break_on_hyphens=False, subsequent_indent=indent)


def table(lines: Sequence[Sequence[str]], *, left: int) -> str:
    """A table whose first line is the heading; the first `left` columns are aligned left, the others right."""
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(lines[0]))]
    rule = ["-" * width if i < left else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return "\n".join(
        f"| {' | '.join(f'{c:<{w}}' if i < left else f'{c:>{w}}' for i, (c, w) in enumerate(zip(line, widths, strict=True)))} |"
        for line in [lines[0], rule, *lines[1:]]
    )
