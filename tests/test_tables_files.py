"""Files as users have them: separators, headers, encodings, globs and Parquet; and the errors for files that cannot be read."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from scripts.tables.recording import Column, DataError
from tests.tables import everything, hourly, names, noted, read, table, write

A = [round(0.5 * k + 0.25 + k % 3, 2) for k in range(20)]
B = [k * k for k in range(20)]
PLAIN = {"date": hourly(20), "a": A, "b": B}
TRUTH = np.array([A, B], dtype=np.float32).T


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"], ids=["comma", "semicolon", "tab", "bar"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"], ids=["unix", "windows", "old-mac"])
def test_any_separator_and_line_ending_is_told_from_the_file(tmp_path: Path, separator: str, ending: str) -> None:
    """Users should not have to say how their spreadsheet writes files."""
    dataset = read(write(tmp_path, table(PLAIN, separator).replace("\n", ending)))
    assert names(dataset) == ["a", "b"]
    np.testing.assert_array_equal(everything(dataset), TRUTH)
    assert dataset.period == 3600
    assert noted(dataset, "data.csv: 20 rows of 3 columns", "time in `date`, one row an hour")


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("utf-8", "data.csv"),
        ("utf-8-sig", "data.csv"),
        ("utf-16", "data.csv"),
        ("utf-16-le", "data.csv"),
        ("latin-1", "data.csv"),
        ("utf-8-sig", "data.csv.gz"),
        ("utf-16", "data.csv.gz"),
    ],
)
def test_encodings_are_told_from_the_file(tmp_path: Path, encoding: str, name: str) -> None:
    """Excel writes byte order marks, instruments write Latin-1, and the degree sign must survive both."""
    text = table({"date": hourly(20), "Temp (°C)": A, "Größe": B})
    dataset = read(write(tmp_path, text.encode(encoding), name))
    assert [(column.name, column.unit) for column in dataset.features] == [("Temp", "°C"), ("Größe", "")]
    np.testing.assert_array_equal(everything(dataset), TRUTH)


def test_a_byte_that_is_not_utf8_far_down_is_read_as_latin1(tmp_path: Path) -> None:
    """The beginning of a large file says nothing of its end."""
    lines = [f"{k},ok" for k in range(60_000)] + ["60000,gr\xfcn"]
    dataset = read(
        write(tmp_path, ("x,word\n" + "\n".join(lines)).encode("latin-1")),
        task="classify",
        targets=("word",),
        split=("1", "1", "1"),
    )
    assert dataset.classes == ("grün", "ok")


def test_columns_of_units_in_brackets_are_found_with_and_without_them(tmp_path: Path) -> None:
    """The unit belongs to the column, and users type either."""
    path = write(tmp_path, table({"t [ms]": range(0, 400, 20), '"gyro_x [deg/s]"': A, " Temp (degC) ": B}))
    for asked in ("gyro_x", "gyro_x [deg/s]", "GYRO_X"):
        dataset = read(path, features=(asked,))
        assert [(column.name, column.unit) for column in dataset.features] == [("gyro_x", "deg/s")]
    assert dataset.period == pytest.approx(0.02)
    assert [column.unit for column in read(path).features] == ["deg/s", "degC"]


def test_names_that_would_be_equal_without_units_keep_them(tmp_path: Path) -> None:
    """`T (K)` and `T (degC)` are different columns."""
    dataset = read(write(tmp_path, table({"date": hourly(20), "T (K)": A, "T (degC)": B})))
    assert names(dataset) == ["T (K)", "T (degC)"]


def test_a_second_header_row_holds_units(tmp_path: Path) -> None:
    """Loggers write names, then units; the row of units must not count as data or change the type of the columns."""
    lines = table(PLAIN).splitlines()
    dataset = read(write(tmp_path, "\n".join([lines[0], ",[m/s],kPa", *lines[1:]])))
    assert [(column.name, column.unit) for column in dataset.features] == [("a", "m/s"), ("b", "kPa")]
    np.testing.assert_array_equal(everything(dataset), TRUTH)


def test_rows_are_counted_as_in_the_file_below_a_preamble_and_two_header_rows(tmp_path: Path) -> None:
    """A row number that is off by three costs an hour of looking."""
    lines = table(PLAIN).splitlines()
    lines[5] = lines[5].rsplit(",", 1)[0] + ",oops"
    path = write(tmp_path, "\n".join(["# logger 7, site: north", "Serial;no 12", "", lines[0], ",m/s,kPa", *lines[1:]]))
    with pytest.raises(DataError, match=r"data\.csv, row 10, column `b` holds 'oops'"):
        read(path, features=("a", "b"))
    assert path.read_text().splitlines()[9].endswith("oops")


def test_a_commented_header_is_the_header(tmp_path: Path) -> None:
    """numpy.savetxt writes the names after a hash."""
    dataset = read(write(tmp_path, "# " + table(PLAIN)))
    assert names(dataset) == ["a", "b"]
    assert len(everything(dataset)) == 20


def test_trailing_separators_make_no_columns(tmp_path: Path) -> None:
    """Excel leaves separators behind when columns were deleted."""
    dataset = read(write(tmp_path, table(PLAIN).replace("\n", ",,\n")))
    assert names(dataset) == ["a", "b"]
    lines = table(PLAIN).splitlines()
    dataset = read(write(tmp_path, "\n".join([lines[0], *(line + "," for line in lines[1:])])))
    assert names(dataset) == ["a", "b"]


def test_columns_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    """The second must not replace the first in silence."""
    dataset = read(write(tmp_path, table(PLAIN).replace("date,a,b", "date,a,a")))
    assert names(dataset) == ["a", "a_2"]
    assert noted(dataset, "2 columns are called `a`", "`a_2`")
    np.testing.assert_array_equal(everything(dataset), TRUTH)


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_decimal_commas(tmp_path: Path, separator: str) -> None:
    """They are common in Europe."""
    dataset = read(write(tmp_path, table(PLAIN, separator).replace(".", ",")))
    np.testing.assert_array_equal(everything(dataset), TRUTH)
    assert noted(dataset, "decimal commas")


def test_quoted_decimal_commas_between_commas(tmp_path: Path) -> None:
    """This CSV is correct, if unusual."""
    dataset = read(write(tmp_path, table({"date": hourly(20), "a": [f'"{value}"'.replace(".", ",") for value in A], "b": B})))
    np.testing.assert_array_equal(everything(dataset), TRUTH)


@pytest.mark.parametrize(
    ("separator", "cell"),
    [(",", '"1,234.5"'), (",", '"12,345"'), (";", "1.234,5"), (";", "1.234.567"), (";", "1 234"), (",", "1'234")],
)
def test_thousands_separators_are_refused(tmp_path: Path, separator: str, cell: str) -> None:
    """1,234 read as 1.234 would be wrong by a factor of a thousand, and nobody would notice."""
    decimals = [f"{k},5" if separator == ";" else f"{k}.5" for k in range(20)]
    cells = [*(str(k) for k in range(17)), cell, cell, "5"]
    path = write(tmp_path, table({"date": hourly(20), "a": decimals, "b": cells}, separator))
    said = re.escape(repr(cell.strip('"')))
    with pytest.raises(DataError, match=rf"data\.csv, row 19, column `b`: {said} has its thousands parted"):
        read(path)


def test_a_column_of_parted_thousands_is_refused_even_when_nobody_asked(tmp_path: Path) -> None:
    """If it were left out as text, the user might never notice that it is missing."""
    path = write(tmp_path, table({**PLAIN, "volume": [f'"{k},000,000"' for k in range(1, 21)]}))
    with pytest.raises(DataError, match=r"row 2, column `volume`: '1,000,000' has its thousands parted"):
        read(path)
    assert names(read(path, features=("a",))) == ["a"]


def test_a_typeset_minus_is_a_minus(tmp_path: Path) -> None:
    """Word processors and some web pages write it."""
    dataset = read(write(tmp_path, table({**PLAIN, "a": [f"\N{MINUS SIGN}{value}" for value in A]})))
    np.testing.assert_array_equal(everything(dataset)[:, 0], -TRUTH[:, 0])


def test_without_a_header_columns_are_numbered(tmp_path: Path) -> None:
    """Then the first row is data, and must not be lost."""
    dataset = read(write(tmp_path, table(PLAIN).split("\n", 1)[1]))
    assert names(dataset) == ["column_2", "column_3"]
    assert dataset.period == 3600
    assert noted(dataset, "has no header", "`column_1`")
    np.testing.assert_array_equal(everything(dataset), TRUTH)


def test_a_header_that_counts_its_columns_is_a_header(tmp_path: Path) -> None:
    """pandas writes 0,1,2 if the columns have no names."""
    dataset = read(write(tmp_path, table({"0": A, "1": [k + 0.5 for k in B]})))
    assert names(dataset) == ["0", "1"]
    assert len(everything(dataset)) == 20


def test_a_column_that_counts_the_rows_is_no_feature(tmp_path: Path) -> None:
    """pandas writes its index under an empty name; from it, a network would learn the date."""
    dataset = read(write(tmp_path, table({"": range(20), "date": hourly(20), "a": A, "b": B})))
    assert names(dataset) == ["a", "b"]
    assert noted(dataset, "counts the rows", "`column_1`")
    assert names(read(tmp_path / "data.csv", features=("column_1", "a"))) == ["column_1", "a"]


def test_a_column_that_is_not_there_is_named_with_its_neighbours(tmp_path: Path) -> None:
    """A user should find a typing error at one glance."""
    path = write(tmp_path, table({"date": hourly(20), "pressure": A, "flow": B}))
    with pytest.raises(
        DataError, match=r"no column `presure` \(a feature\)\. Did you mean `pressure`\? It has `date`, `pressure`, `flow`"
    ):
        read(path, features=("presure",))


def test_blank_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    """They do not count as rows, but the row numbers still match those in an editor."""
    lines = table(PLAIN).splitlines()
    lines[8] = lines[8].rsplit(",", 1)[0] + ",oops"
    lines.insert(4, "")
    path = write(tmp_path, "\n".join(lines) + "\n\n\n")
    with pytest.raises(DataError, match=r"row 10, column `b`"):
        read(path, features=("b",))
    np.testing.assert_array_equal(everything(read(path, features=("a",))), TRUTH[:, :1])


def test_a_row_with_too_many_cells_is_named(tmp_path: Path) -> None:
    """Cutting the row short would shift values between columns."""
    lines = table({"a": [str(k) + ".5" for k in range(3000)], "b": range(3000)}).splitlines()
    lines[2000] += ",7"
    with pytest.raises(DataError, match=r"data\.csv, row 2,001: more cells than the 2 columns"):
        read(write(tmp_path, "\n".join(lines)))


def test_a_header_of_another_width_than_the_rows_is_refused(tmp_path: Path) -> None:
    """Nobody can tell which of the columns has no name."""
    with pytest.raises(DataError, match="row 1: it names 2 columns, and the rows below have 3"):
        read(write(tmp_path, "a,b\n" + "".join(f"{k},{k}.5,{k * k}\n" for k in range(20))))


def test_quoted_cells_may_hold_separators_and_line_ends(tmp_path: Path) -> None:
    """Free text in a column that nobody asked for must not disturb the others."""
    words = ['"a, ""b""\nand; more"'] * 20
    dataset = read(write(tmp_path, table({"date": hourly(20), "note": words, "a": A, "b": B})))
    np.testing.assert_array_equal(everything(dataset), TRUTH)
    assert noted(dataset, "hold text", "`note`")


def test_a_text_column_among_the_asked_is_an_error_and_otherwise_left_out(tmp_path: Path) -> None:
    """What the user asked for must not be dropped in silence."""
    path = write(tmp_path, table({**PLAIN, "state": ["on"] * 20}))
    assert names(read(path)) == ["a", "b"]
    with pytest.raises(DataError, match=r"data\.csv, row 2, column `state` holds 'on', which is no number"):
        read(path, features=("a", "state"))


def test_one_word_among_numbers_is_an_error_even_when_nobody_asked(tmp_path: Path) -> None:
    """To leave out a whole column for one broken cell would surprise users more than an error does."""
    cells = [str(k) + ".5" for k in range(5000)]
    cells[4321] = "broken"
    with pytest.raises(DataError, match=r"row 4,323, column `a` holds 'broken'"):
        read(write(tmp_path, table({"a": cells, "b": range(5000)})))


def test_a_column_that_turns_to_words_further_down_is_left_out_or_refused(tmp_path: Path) -> None:
    """The beginning of a file says nothing about its end; a column that is mostly words is text."""
    cells = ["" if k < 2000 else "word" for k in range(5000)]
    path = write(tmp_path, table({"a": cells, "b": [k + 0.5 for k in range(5000)]}))
    assert names(read(path)) == ["b"]
    with pytest.raises(DataError, match=r"row 2,002, column `a` holds 'word'.*2,999 other cells"):
        read(path, features=("a",))


def test_constant_columns_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    """They carry no information and scale badly, but a user who names one gets it."""
    path = write(tmp_path, table({**PLAIN, "fixed": [3.5] * 20}))
    dataset = read(path)
    assert names(dataset) == ["a", "b"]
    assert noted(dataset, "`fixed`", "same value")
    dataset = read(path, features=("a", "fixed"))
    assert names(dataset) == ["a", "fixed"]
    assert noted(dataset, "`fixed` is 3.5 in all rows")


def test_numbers_of_every_spelling_are_read_exactly(tmp_path: Path) -> None:
    """Programs write blanks, quotes, signs, exponents and numbers without a digit before or after the point."""
    cells = ["1", " 2.5", '"3.5"', "+4", "-5.", ".5", "6e1", "7E-1", "8 ", "0009", "-0", "1e+2"]
    dataset = read(write(tmp_path, table({"a": cells, "b": [k + 0.5 for k in range(12)]})), features=("a",))
    expected = [1, 2.5, 3.5, 4, -5, 0.5, 60, 0.7, 8, 9, 0, 100]
    np.testing.assert_array_equal(everything(dataset)[:, 0], np.array(expected, dtype=np.float32))


def test_booleans_are_numbers(tmp_path: Path) -> None:
    """Loggers write True and False for a valve or a motor."""
    dataset = read(write(tmp_path, table({"a": A, "on": ["True", "False"] * 10})))
    np.testing.assert_array_equal(everything(dataset)[:, 1], np.array([1, 0] * 10, dtype=np.float32))


@pytest.mark.parametrize("word", ["True", "false", "TRUE"])
def test_a_boolean_among_decimals_is_a_word(tmp_path: Path, word: str) -> None:
    """It is not a measurement, but would be read as 1."""
    cells = [f"{k * 7 % 11}.5" for k in range(40)]
    path = write(tmp_path, table({"a": [*cells[:17], word, *cells[17:]], "b": [k * 5 % 7 for k in range(41)]}))
    with pytest.raises(DataError, match=rf"row 19, column `a` holds '{word}', which is no number"):
        read(path)


def test_a_file_of_one_row_is_told_so(tmp_path: Path) -> None:
    """The error must not be that every feature has the same value in all rows."""
    with pytest.raises(DataError, match=r"data\.csv has one row of data"):
        read(write(tmp_path, "time,a,b\n2024-01-01 00:00,1.5,2\n"))


def test_a_target_of_zeros_and_ones_is_better_classified(tmp_path: Path) -> None:
    """For such a target, the error of a regression means little."""
    cells = {"a": [k * 7 % 11 for k in range(40)], "fail": [k * 3 % 5 % 2 for k in range(40)], "y": [k * 3 % 5 for k in range(40)]}
    path = write(tmp_path, table(cells))
    assert noted(read(path, task="regress", targets=("fail",)), "`fail` is 0 or 1 throughout", "--task classify")
    assert not noted(read(path, task="regress", targets=("y",)), "--task classify")


def test_values_beyond_float32_are_an_error_and_too_many_digits_a_note(tmp_path: Path) -> None:
    """Infinity would make training give NaN; lost digits look like steps."""
    with pytest.raises(DataError, match=r"row 8, column `a`: 1e\+39 is beyond"):
        read(write(tmp_path, table({"a": [*A[:6], 1e39, *A[7:]], "b": B})))
    dataset = read(write(tmp_path, table({"a": A, "stamp": [1.7e9 + k % 7 for k in range(20)]})))
    assert noted(dataset, "`stamp` has more digits")
    assert not noted(dataset, "`a` has more digits")


def test_suspicious_sentinels_are_noted(tmp_path: Path) -> None:
    """-999 among temperatures is a missing value that nobody declared; it is for the user to declare it."""
    cells = [-999 if k % 5 == 2 else 20 + k % 3 for k in range(40)]
    dataset = read(write(tmp_path, table({"a": cells, "b": [-200 + k for k in range(40)]})))
    assert noted(dataset, "`a` is -999 in 8 rows (first: row 4)")
    assert not noted(dataset, "`b` is -200")


def test_globs_are_sorted_naturally_and_each_file_is_a_recording(tmp_path: Path) -> None:
    """run10 comes after run2."""
    for number in (10, 2, 1):
        write(tmp_path, table({"date": hourly(20), "a": [number + 0.01 * k for k in range(20)]}), f"run{number}.csv")
    dataset = read(tmp_path / "run*.csv", tmp_path / "run2.csv")
    assert [each.name for each in dataset.training] == ["run1.csv", "run2.csv", "run10.csv"]
    assert [float(each.features[0, 0]) for each in dataset.training] == [1, 2, 10]
    assert [len(each.features) for each in dataset.test] == [3, 3, 3]


def test_a_file_that_is_not_there_is_answered_with_its_neighbours(tmp_path: Path) -> None:
    """Most often the file has a slightly different name."""
    write(tmp_path, "a\n1\n", "engine_1.csv")
    with pytest.raises(DataError, match=r"does not exist\. Did you mean engine_1\.csv\?"):
        read(tmp_path / "engine1.csv")
    with pytest.raises(DataError, match=r"matches no file.*holds `engine_1\.csv`"):
        read(tmp_path / "*.parquet")
    with pytest.raises(DataError, match="is a folder"):
        read(tmp_path)
    with pytest.raises(DataError, match="there is no folder"):
        read(tmp_path / "nowhere" / "*.csv")
    with pytest.raises(DataError, match="cannot be looked up: File name too long"):
        read(tmp_path / f"{'x' * 300}.csv")


def test_files_must_agree_on_columns_and_units(tmp_path: Path) -> None:
    """A column that mixes two temperature scales would make the model useless."""
    one = write(tmp_path, table({"date": hourly(20), "T (degC)": A, "b": B}), "one.csv")
    other = write(tmp_path, table({"date": hourly(20), "T (degF)": A, "b": B}), "two.csv")
    with pytest.raises(DataError, match=r"unit of `T` is degC in one\.csv and degF in two\.csv"):
        read(one, other)
    fewer = write(tmp_path, table({"date": hourly(20), "b": B}), "three.csv")
    dataset = read(one, fewer)
    assert names(dataset) == ["b"]
    assert noted(dataset, "not all files have them", "`T`")
    with pytest.raises(DataError, match=r"three\.csv has no column `T`"):
        read(one, fewer, features=("T",))


def test_parquet_is_read_like_text(tmp_path: Path) -> None:
    """Parquet's types say more than text, but the result is the same."""
    dates = pl.Series(hourly(20)).str.to_datetime()
    frame = pl.DataFrame({"date": dates, "a": A, "b": pl.Series(B, dtype=pl.UInt16), "word": ["x"] * 20})
    frame.write_parquet(tmp_path / "data.parquet")
    dataset = read(tmp_path / "data.parquet")
    assert names(dataset) == ["a", "b"]
    np.testing.assert_array_equal(everything(dataset), TRUTH)
    assert dataset.period == 3600
    assert noted(dataset, "in Parquet")


def test_parquet_of_zones_decimals_booleans_and_nulls(tmp_path: Path) -> None:
    """These are all the numeric types that a data frame may hold."""
    dates = pl.Series(hourly(20)).str.to_datetime().dt.replace_time_zone("Europe/Berlin")
    gaps = [None if k in (3, 4) else float(k % 9) for k in range(20)]
    frame = pl.DataFrame(
        {"date": dates, "a": pl.Series(A).cast(pl.Decimal(10, 2)), "on": [k % 2 == 0 for k in range(20)], "gap": gaps}
    )
    frame.write_parquet(tmp_path / "data.parquet")
    with pytest.raises(DataError, match=r"2 cells of 60 are missing \(2 of `gap`; first: data\.parquet, row 4, column `gap`\)"):
        read(tmp_path / "data.parquet")
    dataset = read(tmp_path / "data.parquet", missing="interpolate")
    np.testing.assert_array_equal(everything(dataset)[:, 2], np.arange(20, dtype=np.float32) % 9)
    assert noted(dataset, "in UTC: 2020-01-01 00:00:00+01:00 is 2019-12-31 23:00.")


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf\r\n \r\n", "is empty"),
        (b"a,b\n", "a header and no rows"),
        (b"PK\x03\x04rest of a workbook", "Excel workbook"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b'[{"a": 1}, {"a": 2}]', "is JSON"),
        (bytes(range(256)) * 40, "is not text"),
        (b"PAR1 and then nothing", "cannot be read as Parquet"),
        (b"1.0 2.0 3.0\n2.0 3.0 4.0\n", "parted by blanks"),
        (b"word,other\nx,y\nz,w\n", "no column of numbers"),
    ],
    ids=["empty", "only-a-mark", "only-a-header", "workbook", "web-page", "json", "binary", "damaged-parquet", "blanks", "words"],
)
def test_what_is_no_table_is_refused_with_the_reason(tmp_path: Path, raw: bytes, why: str) -> None:
    """Users have passed each of these to a trainer."""
    with pytest.raises(DataError, match=why):
        read(write(tmp_path, raw))


def test_a_logger_with_four_header_rows(tmp_path: Path) -> None:
    """Campbell's TOA5 has rows for the file, names, units and kinds of value; its first row has as many cells as the data."""
    lines = [f'"{date}",{k * k},{a},{b}' for k, (date, a, b) in enumerate(zip(hourly(20), A, B, strict=True))]
    header = ['"TOA5","CR1000","CR1000","7"', '"TIMESTAMP","RECORD","AirT","RH"', '"TS","RN","Deg C","%"', '"","","Avg","Smp"']
    dataset = read(write(tmp_path, "\n".join([*header, *lines])))
    assert [(column.name, column.unit) for column in dataset.features] == [("RECORD", "RN"), ("AirT", "Deg C"), ("RH", "%")]
    assert dataset.period == 3600
    assert noted(dataset, "4 rows before the data", "`TIMESTAMP`")


@pytest.mark.parametrize("between", ["", "\n"], ids=["close", "parted"])
def test_a_preamble_with_as_many_cells_as_the_data_is_no_header(tmp_path: Path, between: str) -> None:
    """The preamble has settings, one in each row, above the names."""
    preamble = "".join(f"Setting {k},value {k},note\n" for k in range(9))
    dataset = read(write(tmp_path, preamble + between + table(PLAIN)))
    assert names(dataset) == ["a", "b"]
    assert len(everything(dataset)) == 20


def test_an_empty_row_below_the_header_is_skipped(tmp_path: Path) -> None:
    """The names above the empty row are still the header."""
    dataset = read(write(tmp_path, table(PLAIN).replace("\n", "\n\n", 1)))
    assert names(dataset) == ["a", "b"]
    assert len(everything(dataset)) == 20


def test_the_separator_that_a_spreadsheet_announces_is_no_row(tmp_path: Path) -> None:
    """Excel writes `sep=;` as the first line."""
    dataset = read(write(tmp_path, "sep=;\n" + table(PLAIN, ";").replace(".", ",")))
    np.testing.assert_array_equal(everything(dataset), TRUTH)


@pytest.mark.parametrize("at", [3, 4000], ids=["early", "late"])
def test_a_quote_that_is_never_closed_is_an_error(tmp_path: Path, at: int) -> None:
    """Such a quote swallows the rest of the file, as if the file ended there."""
    lines = table({"a": range(5000), "b": [k + 0.5 for k in range(5000)]}).splitlines()
    lines[at] = '7,"8'
    with pytest.raises(DataError, match=r"data\.csv.* a quote is opened and never closed"):
        read(write(tmp_path, "\n".join(lines)))


def test_a_header_longer_than_most_files_is_read_whole(tmp_path: Path) -> None:
    """A file may have thousands of channels, and must be read in a short time."""
    columns = {f"a channel with a long name {k}": [(k * j) % 11 for j in range(6)] for k in range(1, 3001)}
    assert len(names(read(write(tmp_path, table(columns)), split=("0.5", "0.25", "0.25")))) > 2500


def test_a_damaged_gzip_file_is_refused(tmp_path: Path) -> None:
    """An interrupted download leaves half a file."""
    path = write(tmp_path, table({"a": range(5000), "b": range(5000)}), "data.csv.gz")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="is damaged"):
        read(path)


@pytest.mark.parametrize(
    ("cells", "names_"),
    [
        (pl.Series(["2020-01-01", "2020-01-02"]).str.to_date(), ["2020-01-01", "2020-01-02"]),
        (pl.Series(["2020-01-01 07:00", "2020-01-02 08:30"]).str.to_datetime(), ["2020-01-01 07:00:00", "2020-01-02 08:30:00"]),
        (pl.Series(["07:00:00", "08:30:00"]).str.to_time(), ["07:00:00", "08:30:00"]),
        (pl.Series(["1.50", "2.25"]).cast(pl.Decimal(10, 2)), ["1.50", "2.25"]),
        (pl.Series(["left", "right"]).cast(pl.Categorical), ["left", "right"]),
        (pl.Series(["left", "right"]).cast(pl.Enum(["left", "right"])), ["left", "right"]),
        (pl.Series([True, False]), ["true", "false"]),
        (pl.Series([7, 8], dtype=pl.UInt8), ["7", "8"]),
        (pl.Series([0.5, 1.5]), ["0.5", "1.5"]),
        (pl.Series([500, 1500]).cast(pl.Duration("ms")), ["0.5", "1.5"]),
        (pl.Series([" a", "b"]), ["a", "b"]),
    ],
    ids=["dates", "datetimes", "times", "decimals", "categories", "enum", "booleans", "whole", "floats", "durations", "text"],
)
def test_groups_in_parquet_may_be_of_any_type(tmp_path: Path, cells: pl.Series, names_: list[str]) -> None:
    """Runs are identified by day as often as by name; the recording's name is the text of the value."""
    half = pl.Series([0] * 20 + [1] * 20)
    columns = {"group": cells.gather(half), "a": A * 2, "b": B * 2}
    pl.DataFrame(columns).write_parquet(tmp_path / "data.parquet")
    dataset = read(tmp_path / "data.parquet", group="group")
    assert [each.name for each in dataset.training] == [f"data.parquet, {name}" for name in names_]
    assert [len(each.features) for each in dataset.training] == [14, 14]
    holes = pl.DataFrame(columns).with_columns(pl.when(pl.int_range(40) != 12).then(pl.col("group")).alias("group"))
    holes.write_parquet(tmp_path / "holes.parquet")
    with pytest.raises(DataError, match=r"holes\.parquet, row 13, column `group`: the group is missing"):
        read(tmp_path / "holes.parquet", group="group")


@pytest.mark.parametrize("name", ["run", "run [ms]"])
def test_durations_are_seconds_whatever_they_are_kept_in(tmp_path: Path, name: str) -> None:
    """The unit must be shown as seconds, since clients of the model must send seconds."""
    cells = pl.Series([k * k % 17 * 250 for k in range(20)]).cast(pl.Duration("ms"))
    pl.DataFrame({name: cells, "a": A}).write_parquet(tmp_path / "data.parquet")
    dataset = read(tmp_path / "data.parquet")
    assert dataset.features[0] == Column("run", "s")
    assert everything(dataset)[:3, 0].tolist() == [0, 0.25, 1]


def test_a_feature_that_gives_the_target_away_is_noted(tmp_path: Path) -> None:
    """A column derived from the target makes every score good, but does not exist in use."""
    x, y = [k * k % 17 for k in range(60)], [k * k * k % 23 for k in range(60)]
    columns = {
        "x": x,
        "y": y,
        "scaled": [7.5 - each / 9 for each in y],
        "near": [each + a / 50 for a, each in zip(x, y, strict=True)],
    }
    dataset = read(write(tmp_path, table(columns)), task="regress", targets=("y",))
    assert [note.split(",")[0] for note in dataset.notes if "straight line" in note] == ["`scaled` tells `y` to a thousandth"]


def test_a_feature_that_is_a_copy_in_the_first_of_long_recordings_alone_is_not_noted(tmp_path: Path) -> None:
    """A rig that was calibrated for an hour says nothing about the hours after it."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=220_000)
    x = np.where(np.arange(len(y)) < 150_000, y, rng.normal(size=len(y)))
    path = tmp_path / "long.parquet"
    pl.DataFrame({"run": np.arange(len(y)) // 150_000, "x": x, "copy": 2 * y, "y": y}).write_parquet(path)
    dataset = read(path, task="regress", targets=("y",), group="run")
    assert [note.split(",")[0] for note in dataset.notes if "straight line" in note] == ["`copy` tells `y` to a thousandth"]


def test_groups_that_have_no_text_are_refused(tmp_path: Path) -> None:
    """Otherwise all rows would be one recording."""
    pl.DataFrame({"group": [[k // 10] for k in range(20)], "a": A, "b": B}).write_parquet(tmp_path / "data.parquet")
    with pytest.raises(DataError, match=r"data\.parquet, column `group`: its values are of the type List\(Int64\)"):
        read(tmp_path / "data.parquet", group="group")


# -- columns that rise evenly -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cells",
    [
        range(20),
        range(20, 0, -1),
        [round(0.02 * k, 2) for k in range(20)],
        [16_000_000 + k for k in range(20)],
        [1e9 + 60.0 * k for k in range(20)],
        ["" if k == 7 else 3 * k for k in range(20)],
    ],
    ids=["index", "countdown", "seconds", "many-digits", "rounded", "with-a-hole"],
)
def test_a_column_that_rises_evenly_is_no_feature_unless_named(tmp_path: Path, cells: Any) -> None:
    """It shows when a row was taken, which says nothing about later rows. A note says what it may be and which options to pass."""
    path = write(tmp_path, table({"elapsed": cells, "a": A, "b": B}))
    dataset = read(path)
    assert names(dataset) == ["a", "b"]
    assert noted(dataset, "rise evenly, as a clock", "`elapsed`", "--time NAME", "--features")
    dataset = read(path, features=("elapsed", "a"), missing="drop", split=("0.5", "0.25", "0.25"))
    assert names(dataset) == ["elapsed", "a"]
    assert not noted(dataset, "rise evenly")


def test_a_named_time_makes_other_clocks_no_question(tmp_path: Path) -> None:
    """A user must not be asked for what is already known."""
    dataset = read(write(tmp_path, table({**PLAIN, "record": range(100, 120)})))
    assert names(dataset) == ["a", "b"]
    assert noted(dataset, "rise evenly", "`record`")
    assert not noted(dataset, "--time NAME")


def test_where_all_columns_rise_evenly_they_are_learned_from_and_said(tmp_path: Path) -> None:
    """There is nothing else to learn from, and a file with a single ramp is a typical first try."""
    dataset = read(write(tmp_path, table({"a": range(20), "b": range(0, 40, 2)})))
    assert names(dataset) == ["a", "b"]
    assert noted(dataset, "All that is learned from rises evenly", "`a`, `b`")


@pytest.mark.parametrize(
    "cells",
    [A, B, [k // 2 for k in range(20)], [k % 10 for k in range(20)], [*range(10), *range(11, 21, 2), *range(22, 27)]],
    ids=["wavers", "faster", "stairs", "saw", "uneven"],
)
def test_a_column_that_does_not_rise_evenly_is_measured(tmp_path: Path, cells: list[float]) -> None:
    """A measured column, such as an energy counter, may rise too, but not evenly."""
    assert names(read(write(tmp_path, table({"x": cells, "other": [k * 7 % 5 for k in range(20)]})))) == ["x", "other"]


def test_a_clock_that_begins_anew_in_each_group_is_the_time(tmp_path: Path) -> None:
    """If every recording begins at zero, the column falls where a new one begins, and rises within each of them."""
    runs = [k // 10 for k in range(60)]
    columns = {"run": runs, "t": [0.5 * (k % 10) for k in range(60)], "i": [k % 10 for k in range(60)], "a": A * 3}
    dataset = read(write(tmp_path, table(columns)), group="run")
    assert dataset.period == 0.5
    assert names(dataset) == ["a"]
    assert noted(dataset, "The time is taken from `t`")
    assert noted(dataset, "rise evenly", "`i`")
