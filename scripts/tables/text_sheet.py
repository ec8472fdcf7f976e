"""Files of separated values as sheets.

Owns the fast way of reading numbers and the exact way for columns that hold anything else. Knows nothing of Parquet.
"""

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from scripts.tables.encoding import Text, as_western, open_text
from scripts.tables.recording import DataError
from scripts.tables.sheet import Field, Sheet, by_name
from scripts.tables.sniffing import SEPARATORS, Layout, sniff
from scripts.tables.wording import count


def open_separated(path: Path, label: str) -> Sheet:
    """Open a file of separated values; DataError if it is not one."""
    text = open_text(path)
    layout = sniff(text.sample, whole=text.whole, file=label)
    parts = zip(layout.headings, layout.kinds, layout.heads, strict=True)
    notes = list(layout.notes)
    if text.encoding == "latin-1":
        notes.append(f"{label} is not UTF-8: it is read as Latin-1.")
    return Sheet(
        path=path,
        label=label,
        fields=by_name(Field(heading, kind, head) for heading, kind, head in parts),
        first_row=layout.row,
        format=f"separated by {SEPARATORS[layout.separator]}" + (", with decimal commas" if layout.comma else ""),
        comma=layout.comma,
        reader=Separated(text, layout, label),
        notes=tuple(notes),
    )


@dataclass(frozen=True, slots=True)
class Separated:
    """Reads the rows below the header of one file."""

    text: Text
    layout: Layout
    label: str

    def read(self, places: Sequence[int], texts: Collection[int]) -> pl.DataFrame:
        """Read columns of numbers as numbers first; a column with cells that are not numbers is read again as text."""
        kinds = self.layout.kinds
        fast = {place for place in places if kinds[place] in {"number", "empty"} and place not in texts and not self.layout.comma}
        frame = self._parsed(places, fast)
        holes = [place for place in places if place in fast and frame[str(place)].null_count()]
        if holes:
            again = self._parsed(holes, set())
            frame = frame.with_columns(again.get_columns())
        return frame

    def _parsed(self, places: Sequence[int], fast: set[int]) -> pl.DataFrame:
        """One column for each place, named after it; the fast ones as numbers, with null where a cell is not a number."""
        width = self.layout.width
        names = {place: f"column_{self.layout.places[place] + 1}" for place in places}
        beyond = f"column_{width + 1}"  # holds something only where a row has too many cells
        schema: dict[str, type[pl.DataType]] = {f"column_{index + 1}": pl.String for index in range(width + 1)}
        schema |= {names[place]: pl.Float64 for place in fast}
        try:
            frame = self._frame(self.text, schema, [*names.values(), beyond])
        except PolarsError as error:
            if "utf-8" not in str(error):
                raise DataError(self._unreadable(error)) from error
            frame = self._frame(as_western(self.text), schema, [*names.values(), beyond])
        if frame[beyond].null_count() < len(frame):
            row = int(frame[beyond].is_not_null().arg_max() or 0)
            raise DataError(
                f"{self.label}, row {row + self.layout.row:,}: more cells than the {count(width, 'column')} that the"
                " rows before it have. Put cells that hold the separator into quotes."
            )
        return frame.select(pl.col(name).alias(str(place)) for place, name in names.items())

    def _frame(self, text: Text, schema: dict[str, type[pl.DataType]], columns: list[str]) -> pl.DataFrame:
        source = text.source()
        with warnings.catch_warnings(record=True) as said:  # the reader warns where a quote swallows the rest of the file
            warnings.simplefilter("always")
            frame = pl.read_csv(
                BytesIO(source) if isinstance(source, bytes) else source,
                has_header=False,
                skip_lines=self.layout.lines,
                separator=self.layout.separator,
                schema=schema,
                columns=columns,
                missing_columns="insert",
                truncate_ragged_lines=True,
                ignore_errors=True,
            )
        if any("malformed" in str(warning.message) for warning in said):
            row = max(len(frame) - 1, 0) + self.layout.row
            raise DataError(f"{self.label}: a quote is opened and never closed; the last row that can be read is {row:,}.")
        return frame

    def _unreadable(self, error: PolarsError) -> str:
        if "not properly escaped" in str(error) or "could not parse" in str(error):
            return f"{self.label} cannot be read as a table: a quote is opened and never closed."
        return f"{self.label} cannot be read as a table: {str(error).splitlines()[0][:200]}."
