"""The data that a model is evaluated on: read as training reads them, with the truth of the files, judged as in training."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from app.manifest import Signal
from scripts.evaluation.card import Card, Output, WrongUse
from scripts.evaluation.choice import Wish, measured
from scripts.evaluation.material import Material
from scripts.evaluation.training import READING, Training
from scripts.series.config import WARM_UP
from scripts.tables.recording import DataError, Irregular, Missing
from tests.tables import noted, read, table, write


def signals(names: Sequence[str]) -> tuple[Signal, ...]:
    return tuple(Signal(name=name) for name in names)


def regressor() -> Card:
    output = Output("output", (1,), every_step=True, signals=signals(["y"]))
    return Card("level", "1", "regress", signals(["x"]), (output,), None, streamable=True)


def classifier(*, per_recording: bool | None = None, every_step: bool = True) -> Card:
    output = Output("output", (2,), every_step=every_step, signals=signals(["bad", "ok"]))
    card = Card("state", "1", "classify", signals(["x"]), (output,), None, streamable=True)
    return replace(card, label="state", label_per_recording=per_recording)


def forecaster() -> Card:
    output = Output("output", (6, 1), every_step=False, signals=signals(["y"]))
    return Card("coming", "1", "forecast", signals(["x", "y"]), (output,), 12, streamable=False)


def material(card: Card, path: Path, **changes: Any) -> Material:
    return Material.read(card, Wish(data=(str(path),), **changes))


def uneven(folder: Path) -> Path:
    """Write a file with holes in both columns, missing rows, and uneven times."""
    rng = np.random.default_rng(0)
    kept = [k for k in range(200) if k not in (30, 31, 120, 121, 122, 123, 124, 125)]
    holes = rng.random((200, 2)) < 0.03
    columns = {
        "time": [f"{k + 0.3 * (k % 2):.1f}" for k in kept],
        "x": ["" if holes[k, 0] else k * k % 17 for k in kept],
        "y": ["" if holes[k, 1] else k * k % 13 for k in kept],
    }
    return write(folder, table(columns))


def test_other_units_than_the_models_are_warned_of_and_stand_in_the_header(tmp_path: Path) -> None:
    """Training refuses files with different units; a difference of kW and MW would have neither unit."""
    load = Signal(name="load", unit="MW")
    card = replace(forecaster(), features=(load,), outputs=(Output("output", (6, 1), every_step=False, signals=(load,)),))
    path = write(tmp_path, table({"load [kW]": [k * k % 17 for k in range(60)]}))
    found = material(card, path, features=("load",), targets=("load",))
    assert any("Warning: the unit of `load` is kW in data.csv" in note and "is MW in the model" in note for note in found.notes)
    assert [column.unit for column in measured(card, found.targets)] == ["kW beside MW"]
    same = write(tmp_path, table({"load [MW]": [k * k % 17 for k in range(60)]}))
    found = material(card, same, features=("load",), targets=("load",))
    assert not any("Warning" in note for note in found.notes)
    assert [column.unit for column in measured(card, found.targets)] == ["MW"]


@pytest.mark.parametrize("targets", ["y,z", "y,z,w"], ids=["for one feature", "for two"])
def test_answers_to_fewer_features_are_no_clean_versions_of_them(targets: str, tmp_path: Path) -> None:
    """Each target is compared with the raw signal of its own feature; with fewer of them, some would be with another's, or none."""
    names = targets.split(",")
    output = Output("output", (len(names),), every_step=True, signals=signals(names))
    card = replace(regressor(), task=None, features=signals(["x", "v"][: len(names) - 1]), outputs=(output,))
    path = write(tmp_path, table({name: [k * k % 17 for k in range(60)] for name in ("x", "v", *names)}))
    assert material(card, path, task="regress").truth
    with pytest.raises(WrongUse, match="judge it by --task regress"):
        material(card, path, task="denoise")


def test_numbers_that_mean_a_missing_value_are_read_as_in_training(tmp_path: Path) -> None:
    """Otherwise such large numbers would be read as data and spoil the scores."""
    path = write(tmp_path, table({"x": [-999 if k == 7 else k * k % 17 for k in range(60)], "y": [k % 5 for k in range(60)]}))
    found = material(regressor(), path, na=(-999.0,), missing="drop", targets=("y",))
    assert min(float(each.features.min()) for each in found.recordings) == 0
    config = {"split": ["0.7", "0.15", "0.15"], "na": [-999.0]}
    said = dict.fromkeys(READING)
    reading, (note,) = Training.of({"config": config}).settled(said, parted=False)
    assert reading["na"] == (-999.0,)
    assert "As in training: --na=-999 (" in note


def test_cells_are_counted_in_the_file_and_not_on_the_grid(tmp_path: Path) -> None:
    """The message is the same as training's, with the row of the file."""
    path = write(
        tmp_path, table({"time": [k + 0.3 * (k % 2) for k in range(40)], "x": ["" if k == 7 else k * k for k in range(40)]})
    )
    said = r"1 cell of 40 is missing \(1 of `x`; first: data\.csv, row 9, column `x`\)"
    for irregular in ("error", "keep", "resample"):
        with pytest.raises(DataError, match=said):
            material(regressor(), path, irregular=irregular)
        with pytest.raises(DataError, match=said):
            read(path, irregular=irregular)


@pytest.mark.parametrize("irregular", [each for each in get_args(Irregular) if each != "error"])
@pytest.mark.parametrize("missing", [each for each in get_args(Missing) if each != "error"])
@pytest.mark.parametrize("card", [regressor(), forecaster()], ids=["regress", "forecast"])
def test_the_test_part_is_training_s(tmp_path: Path, card: Card, missing: Missing, irregular: Irregular) -> None:
    """The test part and its notes must equal training's to the bit, whatever is missing or uneven."""
    choices: dict[str, Any] = {"missing": missing, "irregular": irregular}
    path = uneven(tmp_path)
    features, lead = tuple(signal.name for signal in card.features), card.time_steps or WARM_UP
    trained = read(path, task=card.task, features=features, targets=("y",), lead=lead, **choices)
    found = material(card, path, part="test", **choices)
    assert len(found.recordings) == len(trained.test)
    for one, other in zip(found.recordings, trained.test, strict=True):
        assert (one.name, one.lead) == (other.name, other.lead)
        np.testing.assert_array_equal(one.features, other.features)
        np.testing.assert_array_equal(one.targets, other.targets)
        assert (one.filled is None) == (other.filled is None)
        if one.filled is not None and other.filled is not None:
            np.testing.assert_array_equal(one.filled, other.filled)
    assert found.period == trained.period
    assert {note for note in found.notes if "missing" in note or "grid" in note or "Resampled" in note} <= set(trained.notes)


def test_recordings_without_truth_do_not_change_the_test_part(tmp_path: Path) -> None:
    """Training leaves them out, so their time step must not change the grid."""
    told, period = np.repeat([True, False, False], 100), np.repeat([10, 1, 1], 100)
    rows, place = np.arange(300) % 100, np.arange(300)[np.arange(300) % 100 != 30]
    columns = {"run": (~told).cumsum() // 101 + ~told, "time": rows * period, "x": rows**2 % 17, "y": np.where(told, rows % 7, "")}
    path = write(tmp_path, table({name: each[place].tolist() for name, each in columns.items()}))
    choices: dict[str, Any] = {"group": "run", "time": "time", "missing": "drop", "irregular": "resample"}
    trained = read(path, task="regress", features=("x",), targets=("y",), lead=WARM_UP, **choices)
    found = material(regressor(), path, part="test", **choices)
    assert found.period == trained.period == 10
    ((one,), (other,)) = found.recordings, trained.test
    np.testing.assert_array_equal(one.features, other.features)


@pytest.mark.parametrize("missing", ["hold", "interpolate"])
def test_truth_is_not_made_up(tmp_path: Path, missing: Missing) -> None:
    """Rows without a target are only read, for a regression and for a forecast."""
    path = write(tmp_path, table({"x": [k * k for k in range(60)], "y": ["" if k in (20, 21) else k % 7 for k in range(60)]}))
    (found,) = material(regressor(), path, missing=missing).recordings
    assert np.flatnonzero(~found.told()).tolist() == [20, 21]
    assert np.isnan(found.targets[20:22]).all()
    assert found.targets[found.told(), 0].tolist() == [k % 7 for k in range(60) if k not in (20, 21)]
    (whole,) = material(forecaster(), path, missing=missing).recordings
    assert whole.filled is not None
    assert np.flatnonzero(whole.filled).tolist() == ([20, 21] if missing == "hold" else [20, 21, 22])
    assert len(whole.features) == 60


def test_the_test_part_needs_no_truth_before_it(tmp_path: Path) -> None:
    """Only the test part is judged."""
    path = write(tmp_path, table({"x": [k * k % 17 for k in range(60)], "y": ["" if k < 52 else k % 7 for k in range(60)]}))
    found = material(regressor(), path, missing="drop", part="test")
    assert sum(int(each.told().sum()) for each in found.recordings) > 0


def test_a_stream_reads_on_where_each_file_happens_to_hold_one_label(tmp_path: Path) -> None:
    """The model was trained row by row, even if these data have one label in each file."""
    columns = {"run": [k // 30 for k in range(60)], "x": [k * k % 17 for k in range(60)]}
    labels = ["" if k % 5 else ("ok", "bad")[k // 30] for k in range(60)]
    path = write(tmp_path, table({**columns, "state": labels}))
    found = material(classifier(per_recording=False), path, group="run", missing="drop")
    assert [len(each.features) for each in found.recordings] == [30, 30]
    assert [int(each.told().sum()) for each in found.recordings] == [6, 6]


def runs(folder: Path, labels: Sequence[str], *, changing: bool = False) -> Path:
    """A recording of ten rows for each label; `changing`: its last row has the other label."""
    last = {"ok": "bad", "bad": "ok"}
    columns = {
        "run": [run for run in range(len(labels)) for _ in range(10)],
        "x": [k * k % 17 for k in range(10 * len(labels))],
        "state": [last[label] if changing and k == 9 else label for label in labels for k in range(10)],
    }
    return write(folder, table(columns))


def test_a_file_of_one_class_is_enough_to_be_judged_by(tmp_path: Path) -> None:
    """Ten minutes of a machine that is known to be broken can be scored, although nothing can be learned from them."""
    path = runs(tmp_path, ["bad", "bad"])
    found = material(classifier(), path, group="run")
    assert found.classes == ("bad",)
    assert [set(each.labels.tolist()) for each in found.recordings if each.labels is not None] == [{0}, {0}]
    with pytest.raises(DataError, match="takes two classes or more, and `state` holds only 'bad'"):
        read(path, task="classify", targets=("state",), group="run")


@pytest.mark.parametrize("cell", ["", "-999"])
@pytest.mark.parametrize(
    ("card", "column"), [(regressor(), "y"), (classifier(), "state"), (classifier(per_recording=True), "state")]
)
def test_a_column_of_truth_without_any_is_as_good_as_none(tmp_path: Path, card: Card, column: str, cell: str) -> None:
    """Loggers write the column of a laboratory that has not answered yet; no input is missing then."""
    columns = {"x": [k * k % 17 for k in range(30)]}
    without = material(card, write(tmp_path, table(columns)), na=(-999.0,))
    found = material(card, write(tmp_path, table({**columns, column: [cell] * 30})), na=(-999.0,))
    assert any(f"Nothing can be scored: `{column}` holds no" in note for note in found.notes)
    assert not any("missing" in note for note in found.notes)
    assert (found.truth, found.targets, found.label_per_recording) == (False, (), without.label_per_recording)
    np.testing.assert_array_equal(found.recordings[0].features, without.recordings[0].features)


def test_a_forecast_s_target_that_is_read_is_no_truth_alone(tmp_path: Path) -> None:
    """The model reads this column, so without it there is nothing to answer."""
    path = write(tmp_path, table({"x": [k * k % 17 for k in range(30)], "y": [""] * 30}))
    with pytest.raises(DataError, match="`y` holds no value at all"):
        material(forecaster(), path, missing="hold")


@pytest.mark.parametrize(
    ("labels", "changing", "by_data"),
    [(["ok", "bad"], False, True), (["bad", "bad"], False, False), (["ok", "bad"], True, False)],
    ids=["one-label-each", "one-class", "changing"],
)
def test_a_label_is_of_a_recording_where_the_model_was_trained_so(
    tmp_path: Path, labels: Sequence[str], changing: bool, by_data: bool
) -> None:
    """The new data decide only if nothing else does; the one answer of a model that answers once is for the whole recording."""
    path = runs(tmp_path, labels, changing=changing)
    for trained in (True, False):
        assert material(classifier(per_recording=trained), path, group="run").label_per_recording is trained
    assert material(classifier(every_step=False), path, group="run").label_per_recording
    assert material(classifier(), path, group="run").label_per_recording is by_data
    assert not material(regressor(), write(tmp_path, "x,y\n1,2\n3,4\n6,9\n", "y.csv")).label_per_recording


def test_recordings_without_truth_stay(tmp_path: Path) -> None:
    """The model answers them like the others, but they are not in the test part if they belong to no part."""
    path = runs(tmp_path, ["ok", "bad", "", "ok", "bad", "ok", "bad"])
    found = material(classifier(per_recording=True), path, group="run", missing="drop")
    assert [bool(each.told().any()) for each in found.recordings] == [True, True, False, True, True, True, True]
    tested = material(classifier(per_recording=True), path, group="run", missing="drop", part="test")
    assert [each.name for each in tested.recordings] == ["data.csv, 5", "data.csv, 6"]
    columns = {"run": [k // 10 for k in range(30)], "x": range(30), "y": [k % 7 if k < 20 else "" for k in range(30)]}
    found = material(regressor(), write(tmp_path, table(columns), "y.csv"), group="run", missing="drop")
    assert [int(each.told().sum()) for each in found.recordings] == [10, 10, 0]


def test_labels_that_change_in_a_recording_that_gets_one_answer_are_noted(tmp_path: Path) -> None:
    """The answer is measured against the last row's label, which may not be what was meant."""
    path = runs(tmp_path, ["ok", "bad"], changing=True)
    found = material(classifier(per_recording=True), path, group="run")
    assert any("2 of 2 recordings hold several: the last row's counts" in note for note in found.notes)
    assert not any("several" in note for note in material(classifier(per_recording=False), path, group="run").notes)


def test_what_is_noted_in_training_is_noted_here(tmp_path: Path) -> None:
    """The notes tell what was found in the files and what was done about it."""
    path = uneven(tmp_path)
    found = material(regressor(), path, missing="hold", irregular="resample")
    trained = read(path, task="regress", features=("x",), targets=("y",), missing="hold", irregular="resample")
    for words in (("cells of", "are missing"), ("Resampled to",), ("The time is taken from",), ("lie in gaps",)):
        assert noted(trained, *words)
        assert any(all(word in note for word in words) for note in found.notes)


@pytest.mark.parametrize("missing", ["hold", "interpolate"])
def test_where_there_is_no_truth_all_is_filled_and_nothing_said_of_it(tmp_path: Path, missing: Missing) -> None:
    """Every row must get a prediction, resampled and filled ones too."""
    kept = [k for k in range(60) if k not in (30, 31)]
    path = write(tmp_path, table({"time": kept, "x": ["" if k in (20, 21) else k * k % 17 for k in kept]}))
    found = material(regressor(), path, missing=missing, irregular="resample")
    (whole,) = found.recordings
    assert len(whole.features) == 60
    assert np.isnan(whole.targets).all()
    assert whole.filled is None
    assert not any("no truth" in note or "never" in note for note in found.notes)
