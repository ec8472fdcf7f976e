"""Missing cells: which errors and notes they give, and what each choice of --missing does with them."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scripts.tables import gaps
from scripts.tables.reading import load
from scripts.tables.recording import DataError, Dataset, Wanted
from tests.tables import everything, hourly, noted, read, rows_of, table, write

HOLES = (3, 4, 11)


def write_holes(folder: Path, spelled: str = "") -> Path:
    """20 rows in which `a` is missing three times; `a` rises evenly, so tests must name it as a feature."""
    cells: list[Any] = [spelled if k in HOLES else k + 0.5 for k in range(20)]
    return write(folder, table({"date": hourly(20), "a": cells, "b": [k * k for k in range(20)]}))


def read_holes(folder: Path, spelled: str = "", **choices: Any) -> Dataset:
    return read(write_holes(folder, spelled), features=("a", "b"), **choices)


@pytest.mark.parametrize(
    "spelled", ["", "NA", "NaN", "nan", "null", "-", "inf", "-inf", "N/A", "?", '""', " ", "None", "#N/A", "1.#QNAN"]
)
def test_missing_cells_are_an_error_with_counts_and_the_first_place(tmp_path: Path, spelled: str) -> None:
    """This holds for every spelling, and the message names the choices."""
    if spelled == "1.#QNAN":
        with pytest.raises(DataError, match=r"row 5, column `a` holds '1\.#QNAN'"):
            read_holes(tmp_path, spelled)
        return
    with pytest.raises(
        DataError, match=r"3 cells of 40 are missing \(3 of `a`; first: data\.csv, row 5, column `a`\).*--missing.*`drop`"
    ):
        read_holes(tmp_path, spelled)


@pytest.mark.parametrize("cell", ["-999", "-999.0", "-9.99e2"])
@pytest.mark.parametrize("word", [False, True], ids=["numbers", "beside words"])
def test_numbers_that_mean_a_missing_value_are_missing(tmp_path: Path, cell: str, word: bool) -> None:
    """This holds for features and for truth, even in a column that spells missing cells as NA too."""
    a = [cell if k == 7 else "NA" if word and k == 9 else k * 7 % 11 for k in range(40)]
    path = write(tmp_path, table({"a": a, "y": [cell if k == 30 else k * 3 % 5 for k in range(40)]}))
    count = 3 if word else 2
    with pytest.raises(DataError, match=rf"{count} cells of 80 are missing \({count - 1} of `a`, 1 of `y`"):
        read(path, task="regress", targets=("y",), na=(-999.0,))
    assert everything(read(path, task="regress", targets=("y",), na=(-999.0,), missing="hold")).min() == 0
    assert not noted(read(path, na=(-999.0,), missing="hold"), "-999")


def test_a_number_that_means_a_missing_value_is_found_beside_true_and_false_and_in_float32(tmp_path: Path) -> None:
    switch = [-999 if k == 7 else ("false", "true")[k % 2] for k in range(40)]
    path = write(tmp_path, table({"a": [k * 7 % 11 for k in range(40)], "on": switch}))
    assert read(path, task="forecast", na=(-999.0,), missing="hold").features[1].name == "on"
    frame = pl.DataFrame({"a": pl.Series([-99.99 if k == 7 else k * 7 % 11 for k in range(40)], dtype=pl.Float32)})
    frame.write_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="1 cell of 40 is missing"):
        read(tmp_path / "a.parquet", na=(-99.99,))


def test_a_number_that_means_a_missing_value_is_no_label(tmp_path: Path) -> None:
    """Many tables use -1 for a row without a label."""
    path = write(tmp_path, table({"x": [k * 7 % 11 for k in range(60)], "state": [(-1, 0, 1)[k // 2 % 3] for k in range(60)]}))
    dataset = read(path, task="classify", targets=("state",), na=(-1.0,), missing="drop")
    assert dataset.classes == ("0", "1")


def test_where_truth_alone_is_missing_no_filling_is_offered(tmp_path: Path) -> None:
    """Truth is never filled in. A forecast reads its targets, too, so filling is offered there."""
    path = write(tmp_path, table({"a": [k * 7 % 11 for k in range(40)], "y": [k * 3 % 5 if k % 4 else "" for k in range(40)]}))
    with pytest.raises(DataError, match="truth, which is never filled in: with --missing drop such rows are read") as told:
        read(path, task="regress", targets=("y",))
    assert "Choose" not in str(told.value)
    with pytest.raises(DataError, match="Choose with --missing"):
        read(path, targets=("y",))


def test_missing_cells_of_columns_that_are_not_used_do_not_matter(tmp_path: Path) -> None:
    """Only the columns in use have to be complete."""
    assert len(everything(read(write_holes(tmp_path), features=("b",)))) == 20


def test_drop_cuts_the_recording_where_a_row_is_missing(tmp_path: Path) -> None:
    """A network must not read rows as neighbours that are not neighbours."""
    dataset = read_holes(tmp_path, missing="drop", split=("0.7", "0.1", "0.2"))
    assert [len(each.features) for each in dataset.training] == [3, 6, 2]
    assert noted(dataset, "3 cells of 40 are missing", "3 rows dropped, 3 pieces left")
    assert everything(dataset)[:, 0].tolist() == [k + 0.5 for k in range(20) if k not in HOLES]


def test_hold_carries_the_last_value_on(tmp_path: Path) -> None:
    """Sensors that report only changes expect this."""
    dataset = read_holes(tmp_path, missing="hold")
    expected = np.arange(20) + 0.5
    expected[[3, 4]], expected[11] = 2.5, 10.5
    assert everything(dataset)[:, 0].tolist() == expected.tolist()
    assert noted(dataset, "filled with the value before")


def test_interpolate_draws_a_straight_line(tmp_path: Path) -> None:
    """`a` rises evenly, so the line equals the truth."""
    dataset = read_holes(tmp_path, missing="interpolate")
    assert everything(dataset)[:, 0].tolist() == [k + 0.5 for k in range(20)]
    assert noted(dataset, "interpolated")


def test_interpolation_goes_by_time_where_rows_are_uneven(tmp_path: Path) -> None:
    """Halfway between rows is not halfway in time."""
    times = [0, 1, 2, 3, 6, 7, 8, 9, 10, 11]
    cells = ["" if k == 3 else float(each) for k, each in enumerate(times)]
    dataset = read(write(tmp_path, table({"time": times, "a": cells})), missing="interpolate", irregular="keep")
    assert everything(dataset)[:, 0].tolist() == [float(each) for each in times]


def test_missing_cells_are_counted_before_rows_are_resampled(tmp_path: Path) -> None:
    """The counts are those of the file, not of the grid; holes are filled after resampling."""
    times = [k + 0.3 * (k % 2) for k in range(40)]
    path = write(tmp_path, table({"time": times, "a": ["" if k == 7 else times[k] for k in range(40)]}))
    with pytest.raises(DataError, match=r"1 cell of 40 is missing \(1 of `a`; first: data\.csv, row 9, column `a`\)"):
        read(path, irregular="resample", period=1)
    dataset = read(path, irregular="resample", period=1, missing="interpolate")
    np.testing.assert_allclose(everything(dataset)[:, 0], np.arange(40), atol=1e-5)


@pytest.mark.parametrize(("missing", "kept"), [("hold", range(2, 20)), ("interpolate", range(2, 17))])
def test_ends_that_cannot_be_filled_are_dropped(tmp_path: Path, missing: str, kept: range) -> None:
    """There is nothing before the first value to hold, and no line goes beyond the ends."""
    cells = [k + 0.5 if 2 <= k < 17 else "" for k in range(20)]
    path = write(tmp_path, table({"a": cells, "b": [k * k for k in range(20)]}))
    dataset = read(path, missing=missing, features=("a", "b"), split=("0.5", "0.25", "0.25"))
    assert everything(dataset)[:, 1].tolist() == [k * k for k in kept]
    assert noted(dataset, f"{20 - len(kept)} rows dropped")


def test_a_column_without_a_value_is_left_out_or_refused(tmp_path: Path) -> None:
    """Dropping its rows would drop every row."""
    path = write(tmp_path, table({"a": ["NA"] * 20, "b": [k * k for k in range(20)]}))
    assert noted(read(path), "`a`", "no value at all")
    with pytest.raises(DataError, match="`a` holds no value at all"):
        read(path, features=("a", "b"), missing="drop")


def test_dropping_every_row_is_an_error(tmp_path: Path) -> None:
    """The two columns are never measured together."""
    apart = {"a": [k if k % 2 else "" for k in range(20)], "b": ["" if k % 2 else k for k in range(20)]}
    path = write(tmp_path, table(apart))
    with pytest.raises(DataError, match=r"no row is left. `a` has most of them: leave it out, or choose another --missing\.$"):
        read(path, missing="drop")
    path = write(tmp_path, table({**apart, "x": [k * k % 17 for k in range(20)]}))
    with pytest.raises(DataError, match="targets that stand in different rows take a model each"):
        read(path, task="regress", targets=("a", "b"), missing="drop")


@pytest.mark.parametrize("missing", ["drop", "hold", "interpolate"])
def test_a_row_whose_label_is_missing_is_read_and_marked(tmp_path: Path, missing: str) -> None:
    """A missing label must not be learned or scored as if it were one; `none` is a label. The row's features are still read."""
    cells = ["none", "none", "", "on", "on"] * 4
    path = write(tmp_path, table({"x": range(20), "state": cells}))
    with pytest.raises(DataError, match=r"4 cells of 40 are missing \(4 of `state`; first: data\.csv, row 4, column `state`"):
        read(path, task="classify", targets=("state",))
    dataset = read(path, task="classify", targets=("state",), missing=missing, split=("0.5", "0.25", "0.25"))
    every = dataset.training + dataset.validation + dataset.test
    labels = np.concatenate([each.labels for each in every if each.labels is not None])
    assert [dataset.classes[label] if label >= 0 else "" for label in labels] == cells
    assert np.concatenate([each.told() for each in every]).tolist() == [label != "" for label in cells]
    assert everything(dataset)[:, 0].tolist() == list(range(20))
    assert [len(each.features) for each in dataset.training] == [10]
    assert noted(dataset, "4 rows are read, and neither learned from nor scored")
    assert noted(dataset, "Training: 10 rows, 8 with a truth,")


@pytest.mark.parametrize("missing", ["drop", "hold"])
def test_the_one_label_of_a_recording_holds_for_all_of_its_rows(tmp_path: Path, missing: str) -> None:
    """The label may be in any row, even one without the feature; a recording without any label is left out."""
    columns = {
        "run": [run for run in range(9) for _ in range(5)],
        "x": ["" if k == 30 else float(k * k % 17) for k in range(45)],
        "state": [["ok", "bad"][run % 2] if run < 8 and k == run // 2 % 5 else "" for run in range(9) for k in range(5)],
    }
    columns["state"][30] = "ok"
    columns["state"][33] = ""
    dataset = read(write(tmp_path, table(columns)), task="classify", targets=("state",), group="run", missing=missing)
    assert dataset.label_per_recording
    every = dataset.training + dataset.validation + dataset.test
    lengths = {each.name.split()[-1]: len(each.features) for each in every}
    assert lengths == {str(run): 4 if run == 6 else 5 for run in range(8)}
    for each in every:
        assert each.labels is not None
        assert {dataset.classes[label] for label in each.labels} == {["ok", "bad"][int(each.name.split()[-1]) % 2]}
        assert each.told().all()
    assert noted(dataset, "Nothing is left of `data.csv, 8`")


def test_a_piece_without_a_truth_is_not_learned_from(tmp_path: Path) -> None:
    """A piece between two holes of a feature may have no truth; the whole part needs some."""
    cells = {
        "x": ["" if k in (10, 20) else float(k * k % 17) for k in range(60)],
        "y": [k % 7 if k > 20 else "" for k in range(60)],
    }
    cells["y"][0] = 1
    dataset = read(write(tmp_path, table(cells)), task="regress", targets=("y",), missing="drop")
    assert [len(each.features) for each in dataset.training] == [10, 21]
    assert noted(dataset, "9 rows of the training part left out: in pieces without any truth.")
    late = {"x": [float(k * k % 17) for k in range(60)], "y": [k % 7 if k > 50 else "" for k in range(60)]}
    with pytest.raises(DataError, match="The training part has 42 rows, and none with a truth"):
        read(write(tmp_path, table(late)), task="regress", targets=("y",), missing="drop")


def test_truth_that_stands_in_rows_of_its_own_takes_hold(tmp_path: Path) -> None:
    """Sensor and laboratory in separate rows: if each laboratory row is dropped, no part has a truth, however the table is cut."""
    cells = {
        "x": ["" if k % 5 == 4 else float(k * k % 17) for k in range(100)],
        "y": [k % 7 if k % 5 == 4 else "" for k in range(100)],
    }
    path = write(tmp_path, table(cells))
    with pytest.raises(DataError, match="and none with a truth: choose --missing hold where features and truth stand"):
        read(path, task="regress", targets=("y",), missing="drop")
    dataset = read(path, task="regress", targets=("y",), missing="hold")
    assert sum(int(each.told().sum()) for each in dataset.training) == 14


@pytest.mark.parametrize("missing", ["hold", "interpolate"])
@pytest.mark.parametrize("task", ["denoise", "regress"])
def test_targets_are_never_filled(tmp_path: Path, task: str, missing: str) -> None:
    """Features are filled; a row whose target is missing is read, but marked as without truth."""
    x, y = [float(k * k) for k in range(40)], [float(k % 7) for k in range(40)]
    cells = {"x": ["" if k == 5 else x[k] for k in range(40)], "y": ["" if k in (10, 11, 33) else y[k] for k in range(40)]}
    path = write(tmp_path, table(cells))
    dataset = read(path, task=task, targets=("y",), missing=missing)
    every = dataset.training + dataset.validation + dataset.test
    expected = np.array([np.nan if k in (10, 11, 33) else y[k] for k in range(40)], np.float32)
    np.testing.assert_array_equal(np.concatenate([each.targets for each in every])[:, 0], expected)
    assert [len(each.targets) for each in every] == [28, 6, 6]
    assert dataset.training[0].features[5, 0] == (16.0 if missing == "hold" else 26.0)
    assert np.flatnonzero(np.concatenate([~each.told() for each in every])).tolist() == [10, 11, 33]
    assert noted(dataset, "3 rows are read, and neither learned from nor scored", "which is never made up")


@pytest.mark.parametrize(("missing", "untrue"), [("hold", {20, 21, 26}), ("interpolate", {20, 21, 22, 26, 27, 31})])
def test_a_forecast_knows_which_rows_were_filled(tmp_path: Path, missing: str, untrue: set[int]) -> None:
    """Filled rows are read but are no truth; nor is the row after them, from which an interpolated line was drawn."""
    cells = {
        "x": ["" if k == 30 else float(k * k) for k in range(100)],
        "y": ["" if k in (20, 21, 26) else float(k % 7) for k in range(100)],
    }
    dataset = read(write(tmp_path, table(cells)), targets=("y",), missing=missing, split=("0.5", "0.25", "0.25"), lead=24)
    (training,), (validation,) = dataset.training, dataset.validation
    assert training.filled is not None
    assert set(np.flatnonzero(training.filled)) == untrue
    assert validation.filled is not None
    assert set(np.flatnonzero(validation.filled) + 50 - 24) == {row for row in untrue if row >= 26}
    assert dataset.test[0].filled is None
    assert np.isfinite(training.features).all()
    assert np.isfinite(training.targets).all()
    assert noted(dataset, f"{len(untrue)} rows are read and never forecast")


def test_the_digest_covers_which_rows_were_filled(tmp_path: Path) -> None:
    """A run that is resumed with other truth would be another run."""
    dataset = read_holes(tmp_path, missing="hold")
    (training,) = dataset.training
    assert training.filled is not None
    assert replace(dataset, training=(replace(training, filled=None),)).digest() != dataset.digest()
    assert replace(dataset, training=(replace(training, filled=~training.filled),)).digest() != dataset.digest()
    assert read_holes(tmp_path, missing="hold").digest() == dataset.digest()


def test_recordings_without_anything_to_fill_with_are_left_out_by_name(tmp_path: Path) -> None:
    """This happens when a sensor was not plugged in; the other recordings of the class are split without it."""
    states, runs = ["ok", "bad"] * 4, range(8)
    columns = {
        "run": [run for run in runs for _ in range(5)],
        "x": ["" if run == 7 else float(k * k) for run in runs for k in range(5)],
        "state": [states[run] for run in runs for _ in range(5)],
    }
    dataset = read(write(tmp_path, table(columns)), task="classify", targets=("state",), group="run", missing="hold")
    assert noted(dataset, "Nothing is left of `data.csv, 7`")
    assert [len(part) for part in (dataset.training, dataset.validation, dataset.test)] == [3, 2, 2]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(missing=arrays(np.bool_, st.tuples(st.integers(6, 40), st.integers(1, 3))))
def test_cutting_loses_no_good_row_and_keeps_no_bad_one(tmp_path: Path, missing: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
    """Whatever the pattern: all complete rows are kept, in order, and each piece is contiguous."""
    rows, width = missing.shape
    columns = {f"c{i}": ["" if missing[k, i] else k + 0.25 * i for k in range(rows)] for i in range(width)}
    path = write(tmp_path, table({"row": range(rows), **columns}))
    good = np.flatnonzero(~missing.any(axis=1))
    wanted = Wanted("forecast", (str(path),), features=("row", *columns), missing="drop", split=("0.4", "0.3", "0.3"))
    try:
        dataset = load(wanted)
    except DataError as error:
        thirds = [0, int(rows * 0.4 + 1e-6), int(rows * 0.7 + 1e-6), rows]
        empty = any(not ((good >= start) & (good < stop)).any() for start, stop in pairwise(thirds))
        assert empty or missing.all(axis=0).any(), str(error)  # noqa: PT017  # few rows with many holes leave a part empty
        return
    assert everything(dataset)[:, 0].tolist() == good.tolist()
    for piece in dataset.training + dataset.validation + dataset.test:
        assert np.all(np.diff(piece.features[:, 0]) == 1)


@settings(max_examples=60)
@given(missing=arrays(np.bool_, st.integers(3, 40)), times=st.integers(0, 2**32))
def test_filling_equals_the_slow_way(missing: np.ndarray[Any, np.dtype[np.bool_]], times: int) -> None:
    """The slow way goes row by row, in Python."""
    rng = np.random.default_rng(times)
    where = np.cumsum(rng.integers(1, 9, len(missing)))
    column = rng.normal(size=len(missing)).astype(np.float32)
    column[missing] = np.nan
    if missing.all():
        return
    held, drawn = gaps._held(column, ~missing), gaps._drawn(column, ~missing, where)
    for k in range(len(column)):
        before = [j for j in range(k + 1) if not missing[j]]
        after = [j for j in range(k, len(column)) if not missing[j]]
        assert np.array_equal(held[k], column[before[-1]] if before else np.float32(np.nan), equal_nan=True)
        if before and after:
            i, j = before[-1], after[0]
            part = (where[k] - where[i]) / (where[j] - where[i]) if i != j else 0.0
            assert drawn[k] == pytest.approx(column[i] + part * (column[j] - column[i]), abs=1e-5)
        else:
            assert np.isnan(drawn[k])


def test_filling_does_not_touch_what_was_there(tmp_path: Path) -> None:
    """The file is large, with holes in a tenth of its cells."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5000, 3)).round(4)
    holes = rng.random(values.shape) < 0.1
    holes[[0, 3499, 4249, -1]] = False  # no line is drawn across the end of a part
    cells = {f"c{i}": ["NA" if holes[k, i] else values[k, i] for k in range(5000)] for i in range(3)}
    path = write(tmp_path, table(cells))
    for missing in ("hold", "interpolate"):
        found = everything(read(path, missing=missing))
        assert found.shape == values.shape
        np.testing.assert_array_equal(found[~holes], values.astype(np.float32)[~holes])
        assert np.isfinite(found).all()
    assert len(rows_of(read(path, missing="drop").training)) == int((~holes[:3500].any(axis=1)).sum())
