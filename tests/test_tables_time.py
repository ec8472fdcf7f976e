"""The time column: its formats, how it is found, and rows that are not evenly spaced."""

from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from scripts.tables import dates
from scripts.tables.recording import DataError, Dataset
from tests.tables import everything, hourly, names, noted, read, table, write

START = datetime(2020, 1, 30, 22, 0, tzinfo=UTC)
STAMPS = [START + timedelta(minutes=90 * k) for k in range(40)]
VALUES = [k + 0.5 for k in range(40)]


def write_times(folder: Path, cells: list[Any], name: str = "time") -> Path:
    return write(folder, table({name: [f'"{cell}"' for cell in cells], "a": [k + 0.25 for k in range(len(cells))]}))


def seconds_of(dataset: Dataset) -> list[float]:
    every = [each.seconds[each.lead :] for each in dataset.training + dataset.validation + dataset.test if each.seconds is not None]
    return [float(second) for second in np.concatenate(every)]


@pytest.mark.parametrize(
    "form",
    [
        "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%dT%H:%M:%S",
        "%Y-%m-%dT%H:%M:%SZ",
        "%Y-%m-%dT%H:%M:%S.%f",
        "%Y-%m-%d %H:%M:%S,%f",
        "%Y-%m-%dT%H:%M:%S+00:00",
        "%Y-%m-%d %H:%M:%S+0000",
        "%Y-%m-%d %H:%M:%S+00",
        "%Y-%m-%d %H:%M:%S UTC",
        "%Y-%m-%d %H:%M",
        "%Y/%m/%d %H:%M:%S",
        "%Y%m%dT%H%M%S",
        "%Y%m%d%H%M%S",
        "%d.%m.%Y %H:%M:%S",
        "%d.%m.%Y %H:%M",
        "%d/%m/%Y %H:%M:%S",
        "%m/%d/%Y %H:%M:%S",
        "%d-%m-%Y %H:%M",
        "%m/%d/%Y %I:%M:%S %p",
        "%m/%d/%Y %I:%M %p",
        "%d-%b-%Y %H:%M:%S",
        "%d %B %Y %H:%M:%S",
        "%b %-d, %Y %H:%M:%S",
        "%B-%d-%Y %H:%M",
        "%-m/%-d/%Y %-H:%M",
    ],
)
def test_times_in_each_format_are_those_of_python(tmp_path: Path, form: str) -> None:
    """The reference is datetime's own formatting."""
    dataset = read(write_times(tmp_path, [stamp.strftime(form) for stamp in STAMPS]))
    assert seconds_of(dataset) == [5400.0 * k for k in range(40)]
    assert dataset.period == 5400
    assert noted(dataset, "from 2020-01-30 22:00 to")


@pytest.mark.parametrize(("unit", "scale"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_epochs_are_told_by_their_size(tmp_path: Path, unit: str, scale: int) -> None:
    """Recordings are dated neither in 1970 nor in the year 50,000. Whole nanoseconds must not lose digits."""
    dataset = read(
        write_times(tmp_path, [int(stamp.timestamp()) * scale + (k if unit == "ns" else 0) for k, stamp in enumerate(STAMPS)])
    )
    extra = 1e-9 if unit == "ns" else 0.0
    assert seconds_of(dataset) == [5400.0 * k + extra * k for k in range(40)]
    assert noted(dataset, "since 1970")


@pytest.mark.parametrize(
    ("name", "period"),
    [("time", 20.0), ("time_ms", 0.02), ("t [us]", 20e-6), ("time (min)", 1200.0)],
    ids=["bare", "suffix", "unit", "minutes"],
)
def test_plain_numbers_are_seconds_unless_the_header_tells_otherwise(tmp_path: Path, name: str, period: float) -> None:
    """For example, the name of a counter may say that it counts milliseconds."""
    dataset = read(write_times(tmp_path, [20 * k for k in range(40)], name))
    assert dataset.period == pytest.approx(period)
    assert seconds_of(dataset)[3] == pytest.approx(3 * period)


@pytest.mark.parametrize(
    ("minutes", "digits"), [*product([1, 5, 15, 30, 60, 120], [5, 6, 10]), *product([5, 10, 15, 30, 60, 120], [4])]
)
def test_days_as_a_spreadsheet_counts_them_are_refused(tmp_path: Path, minutes: int, digits: int) -> None:
    """Read as seconds, hourly rows would be 0.0417 seconds apart, and a day of 24 of them would last one second."""
    cells = [f"{45292 + k * minutes / 1440:.{digits}f}" for k in range(1, 41)]
    with pytest.raises(DataError, match=r"row 2, column `time`: 45292\.\d+ is the number that a spreadsheet has for 2024-01-01 0"):
        read(write_times(tmp_path, cells))
    assert read(write_times(tmp_path, cells, "time [d]")).period == pytest.approx(60 * minutes, rel=0.02)
    assert read(write_times(tmp_path, cells, "time [s]"), irregular="keep").period < 1  # a unit in the header is trusted


@pytest.mark.parametrize("step", [1, 2, 0.1, 0.5, 0.25, 0.125, 0.02, 0.001])
def test_seconds_of_that_size_are_seconds(tmp_path: Path, step: float) -> None:
    """It may be a counter that has run for six hours."""
    assert read(
        write_times(tmp_path, [f"{20000 + k * step:.6g}" if step >= 1 else f"{20000 + k * step:.4f}" for k in range(40)])
    ).period == pytest.approx(step)


def test_seconds_of_that_size_with_uneven_steps_are_seconds(tmp_path: Path) -> None:
    """With steps of 1 and 2 there is no step in between."""
    cells = [str(20000 + k + k // 2) for k in range(41)]
    assert read(write_times(tmp_path, cells), irregular="keep").period == pytest.approx(1.5, abs=0.5)


def test_fractions_of_seconds_keep_their_digits(tmp_path: Path) -> None:
    """At 8 kHz, rows are 125 µs apart."""
    start = np.datetime64("2020-01-01T00:00:00", "ns")
    cells = [str(start + np.timedelta64(125_000 * k, "ns")).replace("T", " ") for k in range(40)]
    assert read(write_times(tmp_path, cells)).period == pytest.approx(125e-6, rel=1e-9)


def test_midnight_without_a_clock_is_midnight(tmp_path: Path) -> None:
    """pandas and Excel leave out a time of day that is zero."""
    cells = [text.removesuffix(" 00:00:00") for text in hourly(40)]
    assert cells[24] == "2020-01-02"
    assert seconds_of(read(write_times(tmp_path, cells))) == [3600.0 * k for k in range(40)]


def test_zones_are_brought_to_utc(tmp_path: Path) -> None:
    """With zones, the clock does not go back at the end of daylight saving time."""
    cells = [f"2020-10-25T{2 if k == 0 else 1 + k:02d}:00:00{'+02:00' if k == 0 else '+01:00'}" for k in range(20)]
    assert read(write_times(tmp_path, cells)).period == 3600


def test_times_with_an_offset_are_told_and_split_in_utc_and_that_is_said(tmp_path: Path) -> None:
    """Users who read or set the bounds of parts must know which clock these use; for times in UTC, no note is needed."""
    ahead = write_times(tmp_path, [f"{text}+02:00" for text in hourly(96)])
    said = "and are read, told and split (--split) in UTC: 2020-01-01 00:00:00+02:00 is 2019-12-31 22:00."
    for split in ("2020-01-03", "2020-01-04", "2020-01-05"), tuple(f"2020-01-0{day}T02:00+02:00" for day in (3, 4, 5)):
        dataset = read(ahead, split=split)
        assert noted(dataset, said)
        assert noted(dataset, "Validation: 24 rows", "from 2020-01-03 00:00 to 2020-01-03 23:00")
    assert not noted(read(write_times(tmp_path, [f"{text}Z" for text in hourly(96)])), "offset")


def test_times_with_and_without_zone_are_refused_together(tmp_path: Path) -> None:
    """The distance between them cannot be known."""
    cells = [text + ("Z" if k % 2 else "") for k, text in enumerate(hourly(20))]
    with pytest.raises(DataError, match="some of its times tell their zone and others do not"):
        read(write_times(tmp_path, cells))


def test_day_and_month_are_told_apart_by_the_data(tmp_path: Path) -> None:
    """A 13 can only be a day; otherwise the reading in which time runs forward is used, if only one does."""
    first = read(write_times(tmp_path, [stamp.strftime("%d/%m/%Y %H:%M") for stamp in STAMPS]))
    assert noted(first, "with the day first")
    second = read(write_times(tmp_path, [stamp.strftime("%m/%d/%Y %H:%M") for stamp in STAMPS]))
    assert noted(second, "with the month first")
    assert seconds_of(first) == seconds_of(second)
    monthly = [f"01/{month:02d}/{year}" for year in (2019, 2020) for month in range(1, 13)]
    third = read(write_times(tmp_path, monthly), irregular="keep")
    assert noted(third, "from 2019-01-01 00:00")


@pytest.mark.parametrize("name", ["date", "time"])
def test_two_digits_may_be_a_year_or_a_second(name: str, tmp_path: Path) -> None:
    """`01.01.20` used to be read as a time of day, and so every day as an hour."""
    with pytest.raises(DataError, match=rf"row 2, column `{name}`: '01\.01\.20' may be a date or a time of day"):
        read(write_times(tmp_path, [f"{day:02d}.01.20" for day in range(1, 21)], name=name))


def test_dates_that_could_be_either_are_an_error_that_tells_the_remedy(tmp_path: Path) -> None:
    """A guess would be wrong for half of the users."""
    with pytest.raises(DataError, match=r"'03/04/2020 00:00' may have the day or the month first.*YYYY-MM-DD"):
        read(write_times(tmp_path, [f"03/04/2020 {hour:02d}:00" for hour in range(20)]))
    mixed = ["13/04/2020", "14/04/2020", "04/15/2020", "04/16/2020"]
    with pytest.raises(DataError, match="some of its dates have the day first and others the month"):
        read(write_times(tmp_path, mixed))


@pytest.mark.parametrize(
    "cell",
    [
        "soon",
        "9999-12-31 05:00:00",
        "1650-01-01 05:00:00",
        "9999-12-31",
        "2020-02-30 05:00:00",
        "2020-01-01 25:00:00",
        "2020-01-01 05:00:00 CET",
    ],
)
def test_a_time_that_cannot_be_read_is_named(tmp_path: Path, cell: str) -> None:
    """The error names its row and the formats that can be read."""
    cells = hourly(20)
    cells[5] = cell
    with pytest.raises(
        DataError, match=rf"data\.csv, row 7, column `time`: the time '{cell}' cannot be read\. Times may be ISO 8601"
    ):
        read(write_times(tmp_path, cells), time="time")


@pytest.mark.parametrize("cells", [hourly(20), [float(k) for k in range(20)], list(range(20))], ids=["dates", "seconds", "whole"])
def test_a_missing_time_is_named(tmp_path: Path, cells: list[Any]) -> None:
    """The place of such a row in time must not be made up."""
    path = write_times(tmp_path, [*cells[:5], "", *cells[6:]])
    with pytest.raises(DataError, match=r"data\.csv, row 7, column `time`"):
        read(path, time="time")


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"a": VALUES, "When": hourly(40)}, "When"),
        ({"stamp": hourly(40), "Time": hourly(40)}, "Time"),
        ({"timestamp": range(40), "a": VALUES}, "timestamp"),
        ({"month": ["Jan 2020"] * 20 + ["Feb 2020"] * 20, "t": range(40), "a": VALUES}, "t"),
        ({"T": [20 - k for k in range(40)], "a": VALUES}, ""),
        ({"t": [k % 7 for k in range(40)], "a": VALUES}, ""),
        ({"T (degC)": range(40), "a": VALUES}, ""),
        ({"lifetime": range(40), "a": VALUES}, ""),
    ],
    ids=["dates", "usual-name", "counter", "beside-its-month", "temperature", "no-order", "degrees", "another-word"],
)
def test_the_time_is_found_where_nobody_named_it(tmp_path: Path, columns: dict[str, Any], found: str) -> None:
    """Name and content decide; a note says which column is used, and a temperature is not taken for the time."""
    dataset = read(write(tmp_path, table({**columns, "a": VALUES})))
    assert noted(dataset, f"The time is taken from `{found}`") == bool(found)
    assert (dataset.period is not None) == bool(found)


def test_a_column_that_is_called_a_time_and_is_none_is_noted(tmp_path: Path) -> None:
    """Gaps in it are not noticed, and nothing else says so."""
    path = write(tmp_path, table({"time": [f"2020-01-01T{k:02d}" for k in range(20)], "a": [k * k % 7 for k in range(20)]}))
    assert noted(
        read(path), "`time` is not read as a time, since it holds '2020-01-01T00': rows are taken as even. Written as 2020-01-31"
    )


def test_a_clock_beside_a_column_of_days_is_used(tmp_path: Path) -> None:
    """Power meters write `Date;Time`; the days alone would all be duplicates."""
    days, clocks = zip(*(stamp.strftime("%d/%m/%Y %H:%M:%S").split() for stamp in STAMPS), strict=True)
    for asked in ("", "Date"):
        dataset = read(write(tmp_path, table({"Date": days, "Time": clocks, "a": VALUES}, ";")), time=asked)
        assert dataset.period == 5400
        assert noted(dataset, "`Date`", "`Time`")
        assert names(dataset) == ["a"]


def test_a_clock_with_points_is_read_beside_its_days(tmp_path: Path) -> None:
    """Exports of some sensors write 18.00.00, and have empty rows at the end."""
    days, clocks = zip(*(stamp.strftime("%d/%m/%Y %H.%M.%S").split() for stamp in STAMPS), strict=True)
    text = table({"Date": days, "Time": clocks, "a": [str(value).replace(".", ",") for value in VALUES], "": [""] * 40}, ";")
    dataset = read(write(tmp_path, text + ";;;\n" * 5))
    assert dataset.period == 5400
    assert len(everything(dataset)) == 40


def test_times_of_day_alone_are_enough(tmp_path: Path) -> None:
    """A recording of an hour needs no date. In one that passes midnight the time goes back, which is an error."""
    cells = [f"{12 + k // 60:02d}:{k % 60:02d}:00" for k in range(40)]
    dataset = read(write_times(tmp_path, cells))
    assert dataset.period == 60
    assert noted(dataset, "time of day")
    with pytest.raises(DataError, match="the time goes back"):
        read(write_times(tmp_path, [f"{(22 + k // 10) % 24:02d}:{k % 10:02d}:00" for k in range(40)]), irregular="keep")


def test_times_with_too_few_digits_are_recognised(tmp_path: Path) -> None:
    """Spreadsheets write milliseconds since 1970 as 1.600000e+12."""
    with pytest.raises(DataError, match="write the times with more digits"):
        read(write_times(tmp_path, [f"{1.6e12 + 20 * k:.6e}" for k in range(40)]))


def test_a_row_a_month_is_even(tmp_path: Path) -> None:
    """February is shorter, but no row is missing."""
    cells = [f"{year}-{month:02d}" for year in range(1949, 1953) for month in range(1, 13)]
    dataset = read(write_times(tmp_path, cells, "Month"), time="Month")
    assert dataset.period == pytest.approx(30.5 * 86400, rel=0.02)
    assert noted(dataset, "time in `Month`, one row a month.")


def test_a_week_of_working_days_is_told(tmp_path: Path) -> None:
    """Of daily rows a season is 7 rows: without weekends that is no week."""
    days = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=k) for k in range(70)]
    cells = [day.strftime("%Y-%m-%d") for day in days if day.weekday() < 5]
    told = "Rows are of 5 days of the week: --season 5 repeats the week before."
    assert noted(read(write_times(tmp_path, cells), irregular="keep"), told)
    every = [day.strftime("%Y-%m-%d") for day in days if day.day != 20]
    assert not noted(read(write_times(tmp_path, every), irregular="keep"), "days of the week")


@pytest.mark.parametrize("order", [1, -1], ids=["first", "last"])
def test_a_working_day_of_each_month_is_even(tmp_path: Path, order: int) -> None:
    """Prices are often of a month's last trading day, 26 to 33 days after the one before."""
    days = [datetime(2005, 1, 1, tzinfo=UTC) + timedelta(days=k) for k in range(3652)]
    found = {(day.year, day.month): day for day in days[::-order] if day.weekday() < 5}
    cells = sorted(day.strftime("%Y-%m-%d") for day in found.values())
    assert len(cells) == 120
    assert noted(read(write_times(tmp_path, cells)), "one row a month.")
    with pytest.raises(DataError, match="1 gap"):
        read(write_times(tmp_path, cells[:30] + cells[31:]))


MONTHS = [datetime(year, month, 1, tzinfo=UTC) for year in range(1995, 2000) for month in range(1, 13)]


@pytest.mark.parametrize("form", ["%Y-%b", "%Y %b", "%b %Y", "%B-%Y", "%b %-d %Y", "%b-%d-%Y", "%-d-%b-%Y"])
def test_months_with_names_are_months(tmp_path: Path, form: str) -> None:
    """Statistical offices write `1977-Jan`, `Jan 1977` or `Jan 1 1977`: without the time no season is found, and no gap."""
    dataset = read(write_times(tmp_path, [month.strftime(form) for month in MONTHS], "Month"))
    assert noted(dataset, "The time is taken from `Month`")
    assert seconds_of(dataset) == [(month - MONTHS[0]).total_seconds() for month in MONTHS]


@pytest.mark.parametrize("form", ["{} Q{}", "{}Q{}", "{}-Q{}", "{}q{}"])
def test_quarters_are_quarters(tmp_path: Path, form: str) -> None:
    """A quarter begins with its first day, as a month does."""
    quarters = MONTHS[::3]
    dataset = read(write_times(tmp_path, [form.format(each.year, each.month // 3 + 1) for each in quarters], "period"))
    assert noted(dataset, "The time is taken from `period`")
    assert seconds_of(dataset) == [(each - quarters[0]).total_seconds() for each in quarters]
    assert noted(dataset, "time in `period`, one row a quarter.")


def by_calendar(months: int, *, day: int) -> list[datetime]:
    """Sixty times so many months apart, on this day of the month or, if it is 0, on its last."""
    begins = [datetime(1990 + k * months // 12, k * months % 12 + 1, 1, tzinfo=UTC) for k in range(61)]
    return [begin + timedelta(days=day - 1) for begin in (begins[1:] if day == 0 and months == 1 else begins[:60])]


@pytest.mark.parametrize(("months", "words"), [(1, "month"), (3, "quarter"), (12, "year")])
@pytest.mark.parametrize("day", [1, 15, 0], ids=["first", "fifteenth", "last"])
def test_a_missing_month_is_drawn_in_its_place(tmp_path: Path, months: int, words: str, day: int) -> None:
    """Months are of 28 to 31 days: on a grid of 31 days each row would be mixed with the next, more with every year."""
    stamps = by_calendar(months, day=day)
    cells = [stamp.strftime("%Y-%m-%d") for stamp in stamps]
    values = [k * k % 97 for k in range(60)]
    path = write(tmp_path, table({"date": cells[:20] + cells[21:], "a": values[:20] + values[21:]}))
    with pytest.raises(DataError, match=rf"there is one row a {words}, but 1 gap \(1 row missing\); first at data\.csv, row 22"):
        read(path)
    dataset = read(path, irregular="resample")
    assert noted(dataset, f"Resampled to one row a {words}: 59 rows became 60.")
    assert seconds_of(dataset) == [(stamp - stamps[0]).total_seconds() for stamp in stamps]
    expected = [*values[:20], (values[19] + values[21]) / 2, *values[21:]]
    np.testing.assert_array_equal(everything(dataset)[:, 0], np.float32(expected))


def test_months_on_a_grid_of_days_are_told_as_days(tmp_path: Path) -> None:
    """Who asks for 30 days gets them; so does who has rows on no fixed day."""
    cells = [stamp.strftime("%Y-%m-%d") for stamp in by_calendar(1, day=1)]
    dataset = read(write_times(tmp_path, cells), irregular="resample", period=30 * 86400.0)
    assert noted(dataset, "Resampled to one row every 30 days")
    odd = [stamp.strftime("%Y-%m-%d") for k, stamp in enumerate(by_calendar(1, day=3)) if k != 20]
    odd[5] = odd[5][:-2] + "08"
    assert noted(read(write_times(tmp_path, odd), irregular="resample"), "Resampled to one row every 31 days")


def test_years_are_years(tmp_path: Path) -> None:
    """1700 must not be read as a number of seconds."""
    dataset = read(write_times(tmp_path, list(range(1700, 1760)), "Year"), time="Year")
    assert dataset.period == pytest.approx(365 * 86400, rel=0.01)


def test_newest_first_is_turned_round(tmp_path: Path) -> None:
    """Exported logs often begin with today; only their order is wrong."""
    dataset = read(write_times(tmp_path, hourly(20)[::-1]))
    np.testing.assert_array_equal(everything(dataset)[:, 0], np.arange(20)[::-1] + 0.25)
    assert noted(dataset, "newest row comes first")
    assert seconds_of(dataset) == [3600.0 * k for k in range(20)]


def test_the_end_of_daylight_saving_time_is_recognised(tmp_path: Path) -> None:
    """The clock goes back by an hour: an error that names the row and the reason, even with --irregular keep."""
    cells = [f"2020-10-25 {hour:02d}:{minute:02d}:00" for hour in (0, 1, 2, 2, 3, 4, 5) for minute in (0, 30)]
    path = write_times(tmp_path, cells)
    for choice in ("error", "keep", "resample"):
        with pytest.raises(
            DataError, match=r"data\.csv, row 8: the time goes back from 2020-10-25 02:30 to 2020-10-25 02:00.*daylight"
        ):
            read(path, irregular=choice)


@pytest.mark.parametrize("minutes", [15, 60])
@pytest.mark.parametrize("sort", [False, True], ids=["as logged", "sorted"])
def test_a_clock_put_back_each_year_is_daylight_saving_time(tmp_path: Path, minutes: int, sort: bool) -> None:
    """This holds for two years of local times, whether or not the repeated hour was sorted."""
    cells = []
    for year, last in ((2022, 30), (2023, 29)):
        start = np.datetime64(f"{year}-10-{last}T00:00", "s")
        steps = np.arange(0, 180, minutes).tolist() + np.arange(120, 240, minutes).tolist()
        cells += [str(start + 60 * np.timedelta64(step, "s")).replace("T", " ") for step in (sorted(steps) if sort else steps)]
    with pytest.raises(DataError, match="daylight saving time"):
        read(write_times(tmp_path, cells), irregular="keep")


@pytest.mark.parametrize("irregular", ["error", "keep"])
def test_interleaved_machines_are_told_apart_and_no_clock_put_back(tmp_path: Path, irregular: str) -> None:
    """Some of their rows fall on the same second; resampled, they would be a signal that no machine gave."""
    times = sorted((60 * k + offset + (k == 30 and offset == 7) * 6, f"M{offset}") for k in range(60) for offset in (0, 7, 13))
    at = [str(np.datetime64("2024-01-01T00:00:00") + np.timedelta64(time, "s")).replace("T", " ") for time, _ in times]
    cells = {"time": at, "machine": [name for _, name in times], "x": [round(0.1 * (k * 7 % 11), 1) for k in range(180)]}
    path = write(tmp_path, table(cells))
    with pytest.raises(DataError, match="--group: `machine` may name them") as told:
        read(path, irregular=irregular)
    assert not any(words in str(told.value) for words in ("daylight", "keeps the first"))
    assert noted(read(path, irregular="resample"), "left out", "--group: `machine` may name them")


def test_rows_that_are_hardly_ever_even_may_be_of_several_machines(tmp_path: Path) -> None:
    """This holds even if no two rows fall on the same second."""
    at = [
        str(np.datetime64("2024-01-01T00:00:00") + np.timedelta64(60 * (k // 3) + (0, 7, 13)[k % 3], "s")).replace("T", " ")
        for k in range(60)
    ]
    path = write(tmp_path, table({"time": at, "machine": ["a", "b", "c"] * 20, "x": [k * 7 % 11 for k in range(60)]}))
    with pytest.raises(DataError, match=r"not even in time.*--group: `machine` may name them.*Choose with --irregular"):
        read(path)


def test_times_out_of_order_are_an_error(tmp_path: Path) -> None:
    """A file with the rows of several machines looks like this."""
    cells = hourly(20) + hourly(20)
    with pytest.raises(
        DataError, match=r"row 22: the time goes back from 2020-01-01 19:00 to 2020-01-01 00:00 \(1 such step.*--group"
    ):
        read(write_times(tmp_path, cells), irregular="keep")


def test_duplicate_times_are_an_error_and_resampling_keeps_the_first(tmp_path: Path) -> None:
    """The trainer must not decide which of two values is right, unless asked to."""
    cells = hourly(20)
    path = write_times(tmp_path, [*cells[:8], cells[7], *cells[8:]])
    with pytest.raises(DataError, match=r"row 10: the time 2020-01-01 07:00 stands in the row before too \(1 such row"):
        read(path, irregular="keep")
    dataset = read(path, irregular="resample")
    assert seconds_of(dataset) == [3600.0 * k for k in range(20)]
    assert everything(dataset)[7, 0] == 7.25
    assert noted(dataset, "1 row at a time that the row before has too")


@pytest.mark.parametrize("irregular", ["error", "keep", "resample"])
def test_rows_of_one_time_that_do_not_contradict_each_other_are_one(tmp_path: Path, irregular: str) -> None:
    """A laboratory's row beside the sensor's, in either order: its value used to be left out with the row."""
    rows = [(hour, (k * k % 17, "", ("on", "off")[k % 2])) for k, hour in enumerate(hourly(40))]
    for k in range(35, 0, -5):
        rows.insert(k + k % 2, (rows[k][0], ("", k, "")))
    times, cells = zip(*rows, strict=True)
    x, y, state = zip(*cells, strict=True)
    path = write(tmp_path, table({"time": [*times], "x": [*x], "y": [*y], "state": [*state]}))
    wanted: dict[str, Any] = {"irregular": irregular, "features": ("x",), "split": ("0.5", "0.25", "0.25")}
    with pytest.raises(DataError, match=r"33 cells of 80 are missing \(33 of `y`; first: data\.csv, row 2, column `y`\)"):
        read(path, task="regress", targets=("y",), **wanted)
    dataset = read(path, task="regress", targets=("y",), missing="drop", **wanted)
    assert everything(dataset)[:, 0].tolist() == [k * k % 17 for k in range(40)]
    truth = np.concatenate([each.targets[:, 0] for each in dataset.training + dataset.validation + dataset.test])
    assert {int(k): int(truth[k]) for k in np.flatnonzero(~np.isnan(truth))} == {k: k for k in range(5, 40, 5)}
    assert noted(dataset, "7 rows joined with the row before, of the same time", "first: data.csv, row 8")
    named = read(path, task="classify", targets=("state",), **wanted)
    labels = [each.labels.tolist() for each in named.training if each.labels is not None]
    assert labels == [[1 - k % 2 for k in range(20)]]


def test_a_row_that_contradicts_another_of_its_time_is_joined_with_none(tmp_path: Path) -> None:
    """Two rows contradict each other in one column, so nobody knows to which of them a third one belongs."""
    columns = {"time": [0, 1, 2, 2, 2, *range(3, 30)], "x": [4, 1, 3, 5, "", *range(3, 30)], "y": [1, 0, "", "", 7, *range(3, 30)]}
    path = write(tmp_path, table(columns))
    with pytest.raises(DataError, match="stands in the row before too"):
        read(path, missing="hold", features=("x", "y"))
    dataset = read(path, missing="hold", features=("x", "y"), irregular="resample")
    assert everything(dataset)[2].tolist() == [3, 0]
    assert not noted(dataset, "joined")


def test_small_jitter_is_a_note_and_large_jitter_an_error(tmp_path: Path) -> None:
    """Every real clock wavers, but rows that are late by a good part of a period are a mistake."""
    small = [k + 0.01 * (k % 3 == 1) for k in range(40)]
    assert noted(read(write_times(tmp_path, small)), "waver by up to 1.0% of the period")
    large = list(map(float, range(40)))
    large[17] += 0.3
    path = write_times(tmp_path, large)
    with pytest.raises(
        DataError, match=r"one row a second, but 2 steps of another length; first at data\.csv, row 19: 1\.3 seconds"
    ):
        read(path)
    dataset = read(path, irregular="keep")
    assert seconds_of(dataset)[17] == 17.3
    assert noted(dataset, "They are kept as they are")


@pytest.mark.parametrize(("rate", "told"), [(64, "15.625 ms (64 Hz)"), (60, "16.6667 ms (60 Hz)")])
def test_rates_of_times_in_whole_milliseconds_are_the_true_ones(tmp_path: Path, rate: int, told: str) -> None:
    """Steps of 15 and 16 ms are 64 Hz in rounded times, not an uneven 62.5 Hz."""
    times = [f"1970-01-01 00:00:{round(1000 * k / rate) / 1000:06.3f}" for k in range(10 * rate + 1)]
    dataset = read(write_times(tmp_path, times))
    assert dataset.period == pytest.approx(1 / rate, rel=1e-3)
    assert noted(dataset, f"one row every {told}")


def test_many_uneven_recordings_are_summed_up(tmp_path: Path) -> None:
    """Thirty notes of one kind would hide the one of another kind."""
    names_ = [f"M{machine}" for machine in range(9) for _ in range(20)]
    at = [
        str(np.datetime64("2024-01-01T00:00:00") + np.timedelta64(60 * k + 20 * (k == 7), "s")).replace("T", " ")
        for _ in range(9)
        for k in range(20)
    ]
    cells = {"time": at, "machine": names_, "x": [k * 7 % 11 for k in range(180)]}
    dataset = read(write(tmp_path, table(cells)), group="machine", irregular="keep")
    assert sum("kept as they are" in note for note in dataset.notes) == 3
    assert noted(dataset, "It is so with 6 more recordings.")


def test_missing_rows_are_counted_and_located(tmp_path: Path) -> None:
    """The message gives the first place and the total, so that the user can judge."""
    cells = [text for k, text in enumerate(hourly(60)) if k not in {10, 30, 31, 32}]
    path = write_times(tmp_path, cells)
    with pytest.raises(
        DataError, match=r"2 gaps \(4 rows missing\); first at data\.csv, row 12: 2 hours from 2020-01-01 09:00 to 2020-01-01 11:00"
    ):
        read(path)
    assert len(everything(read(path, irregular="keep"))) == 56


def test_resampling_draws_straight_lines_and_cuts_at_long_gaps(tmp_path: Path) -> None:
    """Values equal numpy.interp's within pieces, and nothing is made up across a long gap."""
    rng = np.random.default_rng(0)
    times = np.sort(np.concatenate([rng.uniform(0, 100, 150), rng.uniform(120, 200, 150)]))
    times[0], period = 0.0, 0.5
    values = rng.normal(size=300)
    path = write(tmp_path, table({"time": [f"{each:.9f}" for each in times], "a": [f"{each:.9f}" for each in values]}))
    dataset = read(path, irregular="resample", period=period, split=("0.6", "0.2", "0.2"))
    at = np.array(seconds_of(dataset))
    np.testing.assert_allclose(at / period, np.rint(at / period), atol=1e-9)
    np.testing.assert_allclose(everything(dataset)[:, 0], np.interp(at, times, values), atol=2e-6)
    before, after = times[times < 110].max(), times[times > 110].min()
    assert not ((at > before) & (at < after)).any()
    inside = np.arange(0, 200, period)
    kept = inside[((inside <= before) | (inside >= after)) & (inside <= times[-1])]
    assert len(at) >= len(kept) - 2 * int((np.diff(times) > 2).sum()) * 8
    assert noted(dataset, "Cut at", "too long to interpolate across")


def test_resampled_labels_are_those_of_the_nearest_row(tmp_path: Path) -> None:
    """No state is halfway between on and off."""
    times = [0, 1, 2, 3.4, 4, 5, 6, 7, 8, 9, 10, 11]
    state = ["a", "a", "b", "a", "b", "a", "b", "a", "b", "a", "b", "a"]
    path = write(tmp_path, table({"time": times, "x": times, "state": state}))
    dataset = read(path, task="classify", targets=("state",), irregular="resample", split=("0.6", "0.2", "0.2"))
    labels = [
        int(label)
        for each in dataset.training + dataset.validation + dataset.test
        if each.labels is not None
        for label in each.labels
    ]
    assert labels == [0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0]
    np.testing.assert_allclose(everything(dataset)[:, 0], np.arange(12), atol=1e-6)


@pytest.mark.parametrize("period", [1.0, 0.7, 4.0])
def test_what_is_measured_now_and_then_is_kept_when_rows_are_resampled(tmp_path: Path, period: float) -> None:
    """Each value is kept once, as measured, within half a period of its time, and in no part before its own."""
    rng = np.random.default_rng(0)
    times = np.arange(400) + rng.uniform(-0.3, 0.3, 400)
    times[0] = 0
    told = [k for k in range(400) if k % 10 == 5]
    columns = {"time": [f"{each:.6f}" for each in times], "x": range(400)}
    sparse = {"y": [k if k in told else "" for k in range(400)], "state": [f"s{k % 3}" if k in told else "" for k in range(400)]}
    wanted: dict[str, Any] = {"irregular": "resample", "period": period, "missing": "drop", "split": ("0.5", "0.25", "0.25")}
    values = read(write(tmp_path, table({**columns, "y": sparse["y"]})), task="regress", targets=("y",), **wanted)
    labels = read(write(tmp_path, table({**columns, "state": sparse["state"]})), task="classify", targets=("state",), **wanted)
    found = []
    for own, other, last in zip(
        (values.training, values.validation, values.test),
        (labels.training, labels.validation, labels.test),
        (200, 300, 400),
        strict=True,
    ):
        (piece,), (named,) = own, other
        assert piece.seconds is not None
        assert named.labels is not None
        for row in np.flatnonzero(piece.told()):
            value = int(piece.targets[row, 0])
            assert value in told
            assert last - 100 - 100 * (last == 200) - 2 <= value < last
            assert abs(piece.seconds[row] - times[value]) <= period / 2
            found.append(value)
        near = np.abs(piece.seconds[:, None] - times).argmin(axis=1)
        assert [k for k in near[named.told()] if k not in told and period == 1.0] == []
    assert len(set(found)) == len(found) >= len(told) - 2
    if period == 4.0:
        every = labels.training + labels.validation + labels.test
        assert sum(int(each.told().sum()) for each in every) >= len(told) - 2


def test_what_is_read_now_and_then_stands_in_no_row_before_its_time(tmp_path: Path) -> None:
    """Earlier rows would show a model what a live stream has not received yet. Truth is not read, so it goes to the nearest row."""
    times = [0.25 * k for k in range(400)]
    told = [k for k in range(400) if k % 40 in (1, 13, 24)]
    sparse = [k if k in told else "" for k in range(400)]
    path = write(tmp_path, table({"time": times, "x": [k * k % 17 for k in range(400)], "s": sparse, "y": sparse}))
    wanted: dict[str, Any] = {"irregular": "resample", "period": 2.5, "missing": "hold", "split": ("0.5", "0.25", "0.25")}
    dataset = read(path, task="regress", features=("x", "s"), targets=("y",), **wanted)
    late, off = set(), set()
    for each in dataset.training + dataset.validation + dataset.test:
        assert each.seconds is not None
        since = each.seconds - each.features[:, 1] / 4
        late |= {float(since[row]) for row in np.flatnonzero(np.diff(each.features[:, 1], prepend=np.nan))}
        off |= set((each.seconds - each.targets[:, 0] / 4)[each.told()].tolist())
    assert min(late) >= 0
    assert {value for value in late if value < 2.5} == {2.25, 1.75, 1.5}
    assert off == {-0.25, -0.75, -1.0}
    assert noted(dataset, "in the next row, less than 2.5 seconds later; one of truth in the nearest, up to 1.25 seconds before or")


def test_resampling_to_a_far_too_short_period_is_refused(tmp_path: Path) -> None:
    """A row each millisecond, where rows were an hour apart, would fill the memory with made-up values."""
    with pytest.raises(DataError, match="choose a longer --period"):
        read(write_times(tmp_path, hourly(200)), irregular="resample", period=0.001)


def test_another_period_than_the_rows_have_asks_for_resampling(tmp_path: Path) -> None:
    """The user's choice must not be ignored in silence."""
    with pytest.raises(
        DataError, match="The rows are 1 hour apart, and a period of 1 minute is asked for: add --irregular resample"
    ):
        read(write_times(tmp_path, hourly(20)), period=60)
    assert read(write_times(tmp_path, hourly(20)), period=7200, irregular="resample").period == 7200


def test_recordings_of_different_periods_are_found(tmp_path: Path) -> None:
    """Each recording is evenly spaced, but one network cannot serve both periods."""
    slow = write(tmp_path, table({"time": range(0, 80, 2), "a": VALUES}), "slow.csv")
    fast = [write(tmp_path, table({"time": range(40), "a": VALUES}), f"fast{k}.csv") for k in range(2)]
    with pytest.raises(DataError, match=r"slow\.csv has one row every 2 seconds, and recordings have one row a second otherwise"):
        read(*fast, slow)
    dataset = read(*fast, slow, irregular="resample")
    assert dataset.period == 1
    assert sum(len(each.features) for each in dataset.training + dataset.validation + dataset.test) == 40 + 40 + 79


def test_without_a_time_the_period_is_what_the_user_says(tmp_path: Path) -> None:
    """Many files have no times, though the sample rate is known."""
    path = write(tmp_path, table({"a": VALUES, "b": [k * k for k in range(40)]}))
    assert read(path).period is None
    assert read(path, period=0.02).period == 0.02
    assert read(path).training[0].seconds is None
    with pytest.raises(DataError, match="takes a column of time"):
        read(path, irregular="resample")


def test_parsing_is_exact_for_every_second_of_a_leap_day() -> None:
    """The reference is datetime; a whole column is parsed at once."""
    stamps = [datetime(2020, 2, 28, 23, 59, tzinfo=UTC) + timedelta(seconds=61 * k) for k in range(1500)]
    found = dates.parse(pl.Series([stamp.strftime("%Y-%m-%d %H:%M:%S") for stamp in stamps])).nanoseconds
    assert found.to_list() == [int(stamp.timestamp()) * 10**9 for stamp in stamps]
