"""Roles and parts: the role of each column, the rows of training, validation and test, and that no row is in two of them."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scripts.forecasting.windows import Windows
from scripts.tables.dealing import deal
from scripts.tables.recording import DataError, Dataset
from tests.tables import everything, hourly, names, noted, read, rows_of, table, write


def write_rows(folder: Path, count: int = 100, name: str = "data.csv") -> Path:
    """`row` counts from 0, so that it shows where a row came from; not evenly, or it would be taken for a clock."""
    rows = [k + 0.5 * (k % 2) for k in range(count)]
    return write(folder, table({"date": hourly(count), "row": rows, "b": [k % 7 for k in range(count)]}), name)


def parts(dataset: Dataset) -> list[list[int]]:
    return [[int(row) for row in rows_of(part)[:, 0]] for part in (dataset.training, dataset.validation, dataset.test)]


def test_fractions_cut_in_the_order_of_time(tmp_path: Path) -> None:
    """A model is never trained on the future."""
    dataset = read(write_rows(tmp_path), split=("0.6", "0.2", "0.2"))
    assert parts(dataset) == [list(range(60)), list(range(60, 80)), list(range(80, 100))]
    assert noted(dataset, "Training: 60 rows of data.csv, from 2020-01-01 00:00 to 2020-01-03 11:00")


def test_row_counts_are_taken_literally(tmp_path: Path) -> None:
    """Published splits are given in rows. Rows left over at the end are not used, and a note says so."""
    dataset = read(write_rows(tmp_path), split=("50", "20", "10"))
    assert parts(dataset) == [list(range(50)), list(range(50, 70)), list(range(70, 80))]
    assert noted(dataset, "20 rows after the test part not used")
    with pytest.raises(DataError, match=r"asks for 110 rows, and data\.csv has 100"):
        read(tmp_path / "data.csv", split=("50", "40", "20"))


def test_dates_end_their_parts_and_are_not_in_them(tmp_path: Path) -> None:
    """Midnight belongs to the day that it begins."""
    dataset = read(write_rows(tmp_path), split=("2020-01-03", "2020-01-04 12:00", "2020-01-05"))
    assert parts(dataset) == [list(range(48)), list(range(48, 84)), list(range(84, 96))]


@pytest.mark.parametrize(
    ("split", "why"),
    [
        (("0.7", "0.2", "0.2"), "add up to 1.1"),
        (("0.7", "0.3", "0"), "needs rows"),
        (("0.7", "20", "10"), "mixes fractions and rows"),
        (("soon", "later", "then"), "'soon'"),
        (("2020-01-04", "2020-01-03", "2020-01-05"), "must rise"),
        (("0.5", "0.5"), "three parts"),
        (
            ("2021-01-01", "2021-02-01", "2021-03-01"),
            r"No row is left for the validation part\. The rows go from 2020-01-01 00:00 to",
        ),
        (("0.001", "0.5", "0.4"), "No row is left for the training part"),
        (("03/04/2020", "03/05/2020", "03/06/2020"), "may have the day or the month first"),
    ],
)
def test_splits_that_cannot_be_are_refused(tmp_path: Path, split: tuple[str, ...], why: str) -> None:
    """The error says what is wrong with the split."""
    with pytest.raises(DataError, match=why):
        read(write_rows(tmp_path), split=split)


def test_dates_need_a_column_of_dates(tmp_path: Path) -> None:
    """Seconds since the start are not dates."""
    path = write(tmp_path, table({"time": range(50), "a": [k * k for k in range(50)]}))
    with pytest.raises(DataError, match="needs a column of dates"):
        read(path, split=("2020-01-03", "2020-01-04", "2020-01-05"))


def test_validation_and_test_may_read_the_rows_before_them(tmp_path: Path) -> None:
    """The context of the first forecast is in the part before; those rows are marked, and never predicted."""
    dataset = read(write_rows(tmp_path), split=("0.6", "0.2", "0.2"), lead=12)
    assert [each.lead for each in (*dataset.training, *dataset.validation, *dataset.test)] == [0, 12, 12]
    assert [int(row) for row in dataset.test[0].features[:, 0]] == list(range(68, 100))
    assert dataset.test[0].seconds is not None
    assert float(dataset.test[0].seconds[0]) == 68 * 3600
    assert len(dataset.test[0].targets) == 32
    assert parts(dataset)[2] == list(range(80, 100))


def test_the_lead_does_not_reach_across_a_gap(tmp_path: Path) -> None:
    """Rows before a gap are not context for rows after it."""
    cells = ["" if k == 75 else k + 0.5 * (k % 2) for k in range(100)]
    path = write(tmp_path, table({"row": cells, "b": [k % 7 for k in range(100)]}))
    dataset = read(path, split=("0.6", "0.2", "0.2"), lead=12, missing="drop")
    assert [(each.lead, int(each.features[0, 0])) for each in dataset.validation] == [(12, 48)]
    assert [(each.lead, int(each.features[0, 0])) for each in dataset.test] == [(4, 76)]
    assert noted(dataset, "4 rows of the validation part left out")


def test_parts_too_short_to_predict_in_are_an_error(tmp_path: Path) -> None:
    """60 rows are too few for a context of 80."""
    with pytest.raises(
        DataError, match=r"The training part has 60 rows, in pieces of no more than the 80 rows that a prediction reads"
    ):
        read(write_rows(tmp_path), split=("0.6", "0.2", "0.2"), lead=80)


@pytest.mark.parametrize(
    ("rows", "context", "horizon", "says"),
    [
        (144, 336, 96, r"training part has 100 rows, too few for a forecast of 96 rows from 336\. --context 36 --horizon 11 would"),
        (144, 48, 96, r"training part has 100 rows, too few for a forecast of 96 rows from 48\. --context 36 --horizon 11 would"),
        (144, 60, 24, r"validation part has 22 rows, too few for a forecast of 24 rows from 60\. --context 36 --horizon 11 would"),
        (60, 336, 1, r"training part has 42 rows, too few for a forecast of 1 row from 336\. --context 20 --horizon 1 would"),
        (16, 336, 96, r"training part has 11 rows, .* --context 5 --horizon 1 would"),
        (4, 336, 96, r"too few for a forecast of 96 rows from 336\. Choose another window or another --split, or give more data"),
    ],
)
def test_the_window_that_would_fit_fits(tmp_path: Path, rows: int, context: int, horizon: int, says: str) -> None:
    """Ten years of months are too few for the usual window, and nobody should have to try what is not."""
    path = write_rows(tmp_path, rows)
    with pytest.raises(DataError, match=says) as refused:
        read(path, lead=context, horizon=horizon)
    if found := re.search(r"--context (\d+) --horizon (\d+)", str(refused.value)):
        context, horizon = map(int, found.groups())
        dataset = read(path, lead=context, horizon=horizon)
        for each in (dataset.training, dataset.validation, dataset.test):
            assert len(Windows(each, context=context, horizon=horizon, part="any")) >= 1


def test_recordings_in_one_file_without_times_are_warned_of(tmp_path: Path) -> None:
    """Windows would reach from one recording into the next, and nothing else would say so."""
    values = [k * k % 97 for k in range(60)]
    runs = [f"run {k // 12}" for k in range(60)]
    path = write(tmp_path, table({"run": runs, "state": ["on", "off", "off"] * 20, "unit": ["V"] * 60, "a": values}))
    told = "Warning: all rows of data.csv are taken as one recording, and `run` holds one name after another"
    assert noted(read(path), told, "add --group run.")
    assert not noted(read(path, group="run"), "one name after another")
    timed = write(tmp_path, table({"date": hourly(60), "run": runs, "a": values}), "timed.csv")
    assert not noted(read(timed), "one name after another")


def test_a_part_with_pieces_is_told_by_its_longest(tmp_path: Path) -> None:
    """A hundred rows of ten machines hold no window of twenty."""
    paths = [write_rows(tmp_path, 20, f"run{k}.csv") for k in range(5)]
    with pytest.raises(
        DataError, match=r"has 70 rows in pieces of no more than 14, too few for a forecast of 4 rows from 16\. --context 6"
    ):
        read(*paths, lead=16, horizon=4)


def test_each_recording_is_cut_by_itself(tmp_path: Path) -> None:
    """This puts every machine in every part; a number of rows would mean something else for each recording."""
    paths = [write_rows(tmp_path, count, f"run{count}.csv") for count in (100, 50)]
    dataset = read(*paths, split=("0.6", "0.2", "0.2"))
    assert [len(each.features) for each in dataset.training] == [60, 30]
    assert noted(dataset, "Training: 90 rows of 2 recordings")
    with pytest.raises(DataError, match="there are several"):
        read(*paths, split=("50", "20", "10"))


def monthly(folder: Path, *, months: int = 4, rows: int = 240) -> Path:
    """One series of hourly rows, in one file a month."""
    for month in range(months):
        start = str(np.datetime64("2023-01-01T00:00") + month * rows * np.timedelta64(3600, "s"))
        cells = {"time": hourly(rows, start=start), "x": [(k * 7 + month) % 11 for k in range(rows)]}
        write(folder, table(cells), f"m{month}.csv")
    return folder / "m*.csv"


def test_training_that_reaches_past_the_test_part_of_others_is_warned_of(tmp_path: Path) -> None:
    """The scores would be of times that the model has seen; the suggested split avoids this."""
    files = monthly(tmp_path)
    dataset = read(files, lead=24)
    (told,) = (note for note in dataset.notes if note.startswith("Warning"))
    assert "training ends on 2023-02-06 23:00, after the test part begins on 2023-01-09 12:00" in told
    split = tuple(told.split("--split ")[1].split(","))
    assert split == ("2023-01-29", "2023-02-04", "2023-02-10")
    mended = read(files, split=split)
    assert not noted(mended, "Warning")
    assert noted(mended, "Test: 144 rows")


@pytest.mark.parametrize("times", [None, list(range(40))], ids=["none", "seconds"])
def test_recordings_without_dates_are_not_warned_of(tmp_path: Path, times: list[int] | None) -> None:
    """Nobody knows which of them was recorded first."""
    for name in ("a.csv", "b.csv"):
        cells = {"x": [k * 7 % 11 for k in range(40)]}
        write(tmp_path, table({"time": times, **cells} if times else cells), name)
    assert not noted(read(tmp_path / "*.csv"), "Warning")


def test_rows_of_groups_may_be_interleaved(tmp_path: Path) -> None:
    """A logger of many sensors writes such files; each group keeps its order and its row numbers."""
    times = [text for text in hourly(40) for _ in range(3)]
    columns = {"date": times, "who": ["x", "y", "z"] * 40, "a": range(120), "b": [k % 5 for k in range(120)]}
    dataset = read(write(tmp_path, table(columns)), group="who", features=("a", "b"))
    assert [each.name for each in dataset.training] == ["data.csv, x", "data.csv, y", "data.csv, z"]
    assert dataset.training[1].features[:3, 0].tolist() == [1, 4, 7]
    assert dataset.period == 3600
    columns["a"] = ["" if k == 50 else k for k in range(120)]
    with pytest.raises(DataError, match=r"row 52, column `a`"):
        read(write(tmp_path, table(columns)), group="who", features=("a", "b"))
    columns["who"][30] = " "
    with pytest.raises(DataError, match=r"row 32, column `who`: the group is missing"):
        read(write(tmp_path, table(columns)), group="who")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(10, 80),
    holes=st.sets(st.integers(0, 79), max_size=6),
    cuts=st.tuples(st.integers(1, 8), st.integers(1, 8), st.integers(1, 8)),
    lead=st.integers(0, 6),
)
def test_no_target_row_is_in_two_parts(tmp_path: Path, count: int, holes: set[int], cuts: tuple[int, ...], lead: int) -> None:
    """Whatever the holes and the split, parts are disjoint and in order, and a lead consists of the rows just before."""
    cells = ["" if k in holes else float(k) for k in range(count)]
    path = write(tmp_path, table({"row": cells, "b": [k % 7 for k in range(count)]}))
    split = tuple(f"{cut / sum(cuts):.6f}" for cut in cuts)
    try:
        dataset = read(path, features=("row", "b"), missing="drop", split=split, lead=lead)
    except DataError as error:
        assert "part" in str(error) or "no row is left" in str(error)  # noqa: PT017  # many splits of few rows leave a part empty
        return
    found = parts(dataset)
    every = [row for part in found for row in part]
    assert every == sorted(set(every))
    assert not holes & set(every)
    for part in (dataset.training, dataset.validation, dataset.test):
        for piece in part:
            assert np.all(np.diff(piece.features[:, 0]) == 1)
            assert 0 <= piece.lead <= lead < len(piece.features)
    assert all(each.lead == 0 for each in dataset.training)


# -- roles ---------------------------------------------------------------------------------------------------------------


def test_a_forecast_without_targets_predicts_its_features(tmp_path: Path) -> None:
    """It predicts everything that is measured, unless the user asks for less."""
    path = write_rows(tmp_path)
    dataset = read(path)
    assert [each.name for each in dataset.targets] == ["row", "b"]
    dataset = read(path, targets=("b",))
    assert names(dataset) == ["row", "b"]
    assert dataset.training[0].targets.shape == (70, 1)
    np.testing.assert_array_equal(dataset.training[0].targets[:, 0], dataset.training[0].features[:, 1])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"task": "regress"}, r"regress needs targets: .*--targets\. data\.csv has `row`, `b`"),
        ({"task": "denoise"}, "denoise needs targets"),
        ({"task": "classify"}, "takes exactly one target"),
        ({"task": "classify", "targets": ("row", "b")}, "takes exactly one target"),
        ({"task": "regress", "targets": ("b",), "features": ("row", "b")}, "gives the answer away"),
        ({"task": "denoise", "targets": ("row", "b"), "features": ("date",), "time": ""}, "2 targets"),
        ({"features": ("row", "row")}, "named twice"),
        ({"features": ("date", "row"), "time": "date"}, "cannot be both"),
        ({"targets": ("date",), "time": "date"}, "cannot be both"),
        ({"group": "b", "features": ("b",)}, "cannot be both"),
        ({"group": "nobody"}, "no column `nobody`"),
    ],
)
def test_roles_that_cannot_be_are_refused(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    """The error comes before anything large is read."""
    if changes.get("features") == ("date",):
        path = write(tmp_path, table({"date": range(50), "row": range(50), "b": [k % 7 for k in range(50)]}))
    else:
        path = write_rows(tmp_path)
    with pytest.raises(DataError, match=why):
        read(path, **changes)


def test_targets_are_no_features_but_of_a_forecast(tmp_path: Path) -> None:
    """The network's input must not contain the answer."""
    path = write_rows(tmp_path)
    dataset = read(path, task="regress", targets=("b",))
    assert names(dataset) == ["row"]
    assert dataset.training[0].targets.shape == (70, 1)


def test_denoising_pairs_features_with_targets_in_order(tmp_path: Path) -> None:
    """Target k is the clean version of feature k; further features may help."""
    noisy = [k + 0.5 * (k % 2) for k in range(50)]
    path = write(tmp_path, table({"x": noisy, "y": noisy[::-1], "clean": range(50)}))
    dataset = read(path, task="denoise", features=("y", "x"), targets=("clean",))
    assert names(dataset) == ["y", "x"]
    assert noted(dataset, "To be cleaned: `y` as `clean`")


# -- classes -------------------------------------------------------------------------------------------------------------


def write_runs(folder: Path, labels: list[str], rows: int = 10) -> Path:
    """One group of `rows` rows for each label."""
    count = rows * len(labels)
    columns = {
        "run": [k // rows for k in range(count)],
        "x": [float(k) for k in range(count)],
        "state": [labels[k // rows] for k in range(count)],
    }
    return write(folder, table(columns))


def test_whole_recordings_are_dealt_where_each_has_one_label(tmp_path: Path) -> None:
    """If half of a recording were in training, it would reveal the answer for the other half."""
    path = write_runs(tmp_path, ["ok", "bad"] * 10)
    dataset = read(path, task="classify", targets=("state",), group="run", split=("0.6", "0.2", "0.2"))
    assert dataset.label_per_recording
    assert dataset.classes == ("bad", "ok")
    for part, each in ((dataset.training, 6), (dataset.validation, 2), (dataset.test, 2)):
        found = [dataset.classes[int(recording.labels[0])] for recording in part if recording.labels is not None]
        assert sorted(found) == ["bad"] * each + ["ok"] * each
        assert all(len(recording.features) == 10 and recording.targets.shape == (10, 0) for recording in part)
    assert parts(dataset)[0] == list(range(120))


def test_recordings_with_one_label_that_dates_cut_are_warned_of(tmp_path: Path) -> None:
    """Training would learn the label of the whole recording, even if only its last row states it."""
    columns = {
        "run": [run for run in range(4) for _ in range(40)],
        "time": hourly(40) * 4,
        "x": [float(k * k % 17) for k in range(160)],
        "state": [["ok", "bad"][run % 2] if k == 39 else "" for run in range(4) for k in range(40)],
    }
    path = write(tmp_path, table(columns))
    wanted: dict[str, Any] = {"task": "classify", "targets": ("state",), "group": "run", "missing": "drop"}
    dataset = read(path, **wanted, split=("2020-01-01T20:00", "2020-01-02", "2020-01-03"))
    assert noted(dataset, "Warning: 4 of 4 recordings with one label each are cut by the dates of --split")
    whole = {**columns, "time": [time.replace("2020", str(2020 + run)) for run in range(4) for time in hourly(40)]}
    whole["state"] = [["ok", "bad"][run // 2 % 2 ^ run % 2] for run in range(4) for _ in range(40)]
    dataset = read(write(tmp_path, table(whole)), **wanted, split=("2022-01-01", "2023-01-01", "2024-01-01"))
    assert not noted(dataset, "Warning")


def test_a_class_with_too_few_recordings_is_named(tmp_path: Path) -> None:
    """Such a class cannot be in all three parts."""
    path = write_runs(tmp_path, ["ok"] * 6 + ["bad"] * 2)
    with pytest.raises(DataError, match="The class 'bad' has 2 recordings, and needs 3"):
        read(path, task="classify", targets=("state",), group="run")


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.tuples(*[st.integers(1, 20)] * 3))
def test_dealing_is_in_proportion_and_in_order(labels: list[int], shares: tuple[int, ...]) -> None:
    """Each class is split as near to the fractions as whole recordings allow: none is left out, and each part gets at least one."""
    present = sorted(set(labels))
    fractions = [float(each) for each in np.cumsum(shares) / sum(shares)]
    codes = [present.index(label) for label in labels]
    try:
        dealt = deal(codes, fractions, [str(label) for label in present])
    except DataError:
        assert min(labels.count(label) for label in present) < 3
        return
    for label in range(len(present)):
        own = [part for part, code in zip(dealt, codes, strict=True) if code == label]
        assert own == sorted(own)
        assert set(own) == {0, 1, 2}
        for part, share in enumerate(shares):
            ideal = len(own) * share / sum(shares)
            assert abs(own.count(part) - ideal) < 1 + max(0.0, 3 - min(len(own) * each / sum(shares) for each in shares))


def test_labels_that_change_within_a_recording_are_cut_in_time(tmp_path: Path) -> None:
    """Such data have a label for each row."""
    state = ["ok" if k % 10 < 7 else "bad" for k in range(100)]
    path = write(tmp_path, table({"x": [float(k) for k in range(100)], "state": state}))
    dataset = read(path, task="classify", targets=("state",))
    assert not dataset.label_per_recording
    labels = [
        int(label)
        for each in (*dataset.training, *dataset.validation, *dataset.test)
        if each.labels is not None
        for label in each.labels
    ]
    assert [dataset.classes[label] for label in labels] == state
    assert [each.name for each in dataset.targets] == ["state"]


def test_a_class_that_training_lacks_is_an_error(tmp_path: Path) -> None:
    """The model could never predict it."""
    path = write(tmp_path, table({"x": [float(k) for k in range(100)], "state": ["ok", "bad"] * 40 + ["burnt"] * 20}))
    with pytest.raises(DataError, match="No row of the training part is 'burnt'"):
        read(path, task="classify", targets=("state",))


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (["10", "9", "2"], ("2", "9", "10")),
        (["1.0", "0.0", "1"], ("0", "1")),
        (["run10", "run9", "Run2"], ("Run2", "run9", "run10")),
        (["True", "False", "True"], ("False", "True")),
        (["-1", "1", "-1"], ("-1", "1")),
        ([" a ", "a", '"b"'], ("a", "b")),
        (["+-5", "7", "low"], ("7", "+-5", "low")),
    ],
    ids=["whole", "floats", "natural", "booleans", "signed", "blanks", "two signs"],
)
def test_classes_are_named_by_their_labels_in_natural_order(tmp_path: Path, cells: list[str], classes: tuple[str, ...]) -> None:
    """Clients of the model see this order."""
    path = write(tmp_path, table({"x": range(60), "state": cells * 20}))
    assert read(path, task="classify", targets=("state",)).classes == classes


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ([k + 0.25 for k in range(60)], r"row 2, column `state`: '0\.25' is a measurement and no label"),
        (["ok"] * 60, "holds only 'ok'"),
        ([""] * 60, "holds no label at all"),
        ([f"id{k}" for k in range(1200)], "1,200 different labels"),
    ],
    ids=["measurements", "one-class", "nothing", "identifiers"],
)
def test_columns_that_are_no_labels_are_refused(tmp_path: Path, cells: list[Any], why: str) -> None:
    """Training on each of these would run, but its result would be useless."""
    path = write(tmp_path, table({"x": range(len(cells)), "state": cells}))
    with pytest.raises(DataError, match=why):
        read(path, task="classify", targets=("state",))


def test_recordings_of_one_label_may_be_parted_by_dates(tmp_path: Path) -> None:
    """One part may be all runs of January, for example; a note names each class that a part then lacks."""
    count = 80
    columns = {
        "time": hourly(count),
        "run": [k // 10 for k in range(count)],
        "x": [float(k) for k in range(count)],
        "state": ["ok" if k // 10 % 2 else "bad" for k in range(count)],
    }
    path = write(tmp_path, table(columns))
    dates = ("2020-01-02 16:00", "2020-01-03 12:00", "2020-01-05")
    dataset = read(path, task="classify", targets=("state",), group="run", split=dates)
    assert parts(dataset) == [list(range(40)), list(range(40, 60)), list(range(60, 80))]
    dataset = read(
        path, task="classify", targets=("state",), group="run", split=("2020-01-02 16:00", "2020-01-03 02:00", "2020-01-05")
    )
    assert noted(dataset, "The validation part has no row of the class 'ok'")
    with pytest.raises(DataError, match="give the split in fractions or dates, not in rows"):
        read(path, task="classify", targets=("state",), group="run", split=("40", "20", "20"))


def test_all_is_float32_and_finite(tmp_path: Path) -> None:
    """The network expects this."""
    dataset = read(write_rows(tmp_path), lead=5)
    for each in (*dataset.training, *dataset.validation, *dataset.test):
        assert each.features.dtype == each.targets.dtype == np.float32
        assert np.isfinite(each.features).all()
    assert len(everything(dataset)) == 100
