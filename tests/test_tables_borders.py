"""Parts do not look ahead: whatever is filled in or resampled, no earlier part contains anything of a later one."""

from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from scripts.tables.recording import Dataset, Irregular, Missing, Recording, Task
from tests.tables import noted, read, rows_of, table, write

ROWS = 200
BORDERS = (120, 160)  # the rows where parts end
SPLIT = ("0.6", "0.2", "0.2")


def cells(task: Task, missing: Missing, irregular: Irregular, *, changed: int = ROWS) -> dict[str, list[Any]]:
    """A table with holes on both sides of the borders, and uneven times; from row `changed` on, its values differ."""
    rng = np.random.default_rng(0)
    values, others = rng.normal(size=(2, ROWS, 3)).round(4)
    values[changed:] = 50 + 9 * others[changed:]
    holes = np.zeros((ROWS, 3), dtype=bool)
    if missing != "error":
        holes[rng.random((ROWS, 3)) < 0.05] = True
        for border in BORDERS:
            holes[border - 2 : border + 1] = [True, False, False]
            holes[border - 3, 1] = holes[border, 1] = holes[border - 1, 2] = True
    steps = np.ones(ROWS)
    if irregular != "error":  # so that half of the rows do not cover half of the time
        steps = np.where(np.arange(ROWS) < BORDERS[0], 0.9, 1.3) + 0.2 * rng.random(ROWS)
    times = np.cumsum(steps)
    table_ = {"time": [f"{each:.4f}" for each in times]}
    table_ |= {name: ["" if holes[k, i] else values[k, i] for k in range(ROWS)] for i, name in enumerate("xyz")}
    if task == "classify":
        table_["z"] = ["" if holes[k, 2] else ("up" if values[k, 2] % 1 > 0.5 else "down") for k in range(ROWS)]
    return table_


def choices(task: Task, missing: Missing, irregular: Irregular) -> dict[str, Any]:
    found: dict[str, Any] = {"task": task, "missing": missing, "irregular": irregular, "split": SPLIT, "lead": 8}
    return found | ({} if task == "forecast" else {"targets": ("z",), "lead": 0})


def same(one: tuple[Recording, ...], other: tuple[Recording, ...]) -> bool:
    """Whether the recordings are equal, bit for bit."""
    if len(one) != len(other):
        return False
    for a, b in zip(one, other, strict=True):
        for field in fields(Recording):
            left, right = getattr(a, field.name), getattr(b, field.name)
            if isinstance(left, np.ndarray) != isinstance(right, np.ndarray):
                return False
            if left.tobytes() != right.tobytes() if isinstance(left, np.ndarray) else left != right:
                return False
    return True


@pytest.mark.parametrize("irregular", get_args(Irregular))
@pytest.mark.parametrize("missing", get_args(Missing))
@pytest.mark.parametrize("task", get_args(Task))
def test_values_of_a_later_part_are_in_no_earlier_one(tmp_path: Path, task: Task, missing: Missing, irregular: Irregular) -> None:
    """Training and validation are the same bits whatever the test part holds, and so is training whatever validation holds."""

    def parts(changed: int) -> Dataset:
        path = write(tmp_path, table(cells(task, missing, irregular, changed=changed)))
        return read(path, **choices(task, missing, irregular))

    first, second, third = parts(ROWS), parts(BORDERS[1]), parts(BORDERS[0])
    assert same(first.training, second.training)
    assert same(first.validation, second.validation)
    assert not same(first.test, second.test)
    assert same(first.training, third.training)
    assert not same(first.validation, third.validation)


def test_times_of_a_later_part_do_not_move_the_grid_of_an_earlier_one(tmp_path: Path) -> None:
    """The usual step is that of training: a test part with another sample rate is resampled to that step."""
    first = cells("forecast", "error", "resample")
    second = {**first, "time": [*first["time"][: BORDERS[1]], *(f"{200 + 3.1 * k:.4f}" for k in range(1, 41))]}
    one, other = (read(write(tmp_path, table(each)), **choices("forecast", "error", "resample")) for each in (first, second))
    assert same(one.training, other.training)
    assert same(one.validation, other.validation)
    assert one.period == other.period


def test_a_hole_at_the_end_of_a_part_is_held_and_not_interpolated(tmp_path: Path) -> None:
    """A line would end at the first row of the next part. That next part itself may use the rows before it."""
    values = [float(k % 7) for k in range(100)]
    holes = [k in range(57, 62) for k in range(100)]
    path = write(tmp_path, table({"x": ["" if hole else value for hole, value in zip(holes, values, strict=True)]}))
    held = read(path, missing="hold", split=SPLIT)
    assert rows_of(held.training)[:, 0].tolist() == [*values[:57], *[values[56]] * 3]
    drawn = read(path, missing="interpolate", split=SPLIT)
    assert rows_of(drawn.training)[:, 0].tolist() == values[:57]
    line = np.interp(range(60, 63), [56, 62], [values[56], values[62]]).astype(np.float32)
    assert rows_of(drawn.validation)[:, 0].tolist() == [*line, *values[63:80]]
    assert noted(drawn, "at the end of a part", "3 rows dropped")


def test_a_row_of_the_grid_is_of_the_part_of_the_later_row_that_it_is_drawn_from(tmp_path: Path) -> None:
    """A grid row between the last row of training and the first of validation belongs to validation."""
    times = [0.75 * k if k < 60 else 45.5 + 1.25 * (k - 60) for k in range(100)]
    path = write(tmp_path, table({"time": times, "x": [k * k for k in range(100)]}))
    dataset = read(path, irregular="resample", period=1.0, split=SPLIT)
    # the last row of training was taken at 44.25 s, the first of validation at 45.5 s: 45 s lies between
    assert dataset.training[0].seconds is not None
    assert dataset.training[0].seconds[-1] == 44
    assert dataset.validation[0].seconds is not None
    assert dataset.validation[0].seconds[0] == 45


def test_whole_recordings_are_resampled_by_the_step_of_those_of_training(tmp_path: Path) -> None:
    """If each recording has one label, later recordings do not belong to training, and their step must not count."""
    labels = ["ok", "bad"] * 10
    columns: dict[str, list[Any]] = {"time": [], "run": [], "x": [], "state": []}
    for run, label in enumerate(labels):
        step = 1.0 if run < 12 else 2.0
        for k in range(10):
            columns["time"].append(step * (k + 0.2 * (k == 3)))
            columns["run"].append(run)
            columns["x"].append(float((k * 7 + run) % 5))
            columns["state"].append(label)
    path = write(tmp_path, table(columns))
    dataset = read(path, task="classify", targets=("state",), group="run", irregular="resample", split=SPLIT)
    assert dataset.label_per_recording
    assert dataset.period == 1.0
    assert [len(part) for part in (dataset.training, dataset.validation)] == [12, 4]


# -- rows that resampling makes up ----------------------------------------------------------------------------------------


def gappy(folder: Path) -> Path:
    """One row a second, some of them missing: 20, then 40 to 42, then 60 to 65."""
    gone = {20, *range(40, 43), *range(60, 66)}
    kept = [k for k in range(100) if k not in gone]
    columns = {"time": kept, "x": [k * k for k in kept], "y": [k % 7 for k in kept], "state": ["ab"[k // 50] for k in kept]}
    return write(folder, table(columns))


def test_targets_drawn_between_rows_far_apart_are_no_truth(tmp_path: Path) -> None:
    """Such rows are read, but marked as without truth, and a note says how many there are."""
    dataset = read(gappy(tmp_path), task="regress", features=("x",), targets=("y",), irregular="resample", split=SPLIT)
    every = dataset.training + dataset.validation + dataset.test
    told = np.concatenate([each.told() for each in every])
    truth = np.concatenate([each.targets[:, 0] for each in every])
    at = np.concatenate([each.seconds for each in every if each.seconds is not None]).astype(int)
    assert truth[told].tolist() == [second % 7 for second in at[told]]
    assert np.isnan(truth[~told]).all()
    assert at.tolist() == [k for k in range(100) if k not in range(60, 66)]
    assert at[~told].tolist() == [20, *range(40, 43)]
    assert noted(dataset, "4 rows of the grid lie in gaps", "no truth")
    assert noted(dataset, "4 rows are read, and neither learned from nor scored")
    assert noted(dataset, "Cut at 1 gap too long to interpolate across")
    assert noted(dataset, "Numbers lie on straight lines")


def test_a_forecast_reads_what_was_drawn_in_gaps_and_does_not_forecast_it(tmp_path: Path) -> None:
    """The row after a gap is not forecast either, as the line was drawn from it."""
    dataset = read(gappy(tmp_path), features=("x", "y"), irregular="resample", split=SPLIT)
    every = dataset.training + dataset.validation + dataset.test
    at = np.concatenate([each.seconds for each in every if each.seconds is not None]).astype(int)
    assert at.tolist() == [k for k in range(100) if k not in range(60, 66)]
    filled = np.concatenate([np.zeros(len(each.features), bool) if each.filled is None else each.filled for each in every])
    assert at[filled].tolist() == [20, 21, 40, 41, 42, 43]
    assert noted(dataset, "6 rows are read and never forecast")


def test_a_label_between_rows_far_apart_is_known_where_both_have_it(tmp_path: Path) -> None:
    """Between two different states, nobody knows when one changed to the other."""
    kept = [k for k in range(100) if k % 25 not in (9, 10)]
    columns = {"time": kept, "x": [k * k % 17 for k in kept], "state": ["ab"[k // 10 % 2] for k in kept]}
    dataset = read(write(tmp_path, table(columns)), task="classify", targets=("state",), irregular="resample", split=SPLIT)
    every = dataset.training + dataset.validation + dataset.test
    at = np.concatenate([each.seconds for each in every if each.seconds is not None]).astype(int)
    told = np.concatenate([each.told() for each in every])
    labels = np.concatenate([each.labels for each in every if each.labels is not None])
    assert noted(dataset, "labels are those of the nearer row")
    assert [dataset.classes[label] for label in labels[told]] == ["ab"[k // 10 % 2] for k in at[told]]
    # 9 and 10 lie between a and b, 34 and 35 between b and b, 59 and 60 between b and a, 84 and 85 between a and a
    assert at[~told].tolist() == [9, 10, 59, 60]


def test_a_grid_finer_than_the_rows_is_said_to_be_drawn(tmp_path: Path) -> None:
    """The user asked for it, but the scores will be flattering."""
    path = write(tmp_path, table({"time": range(0, 400, 10), "x": [k * k % 13 for k in range(40)]}))
    dataset = read(path, irregular="resample", period=1.0)
    assert noted(dataset, "The rows were 10 seconds apart", "drawn, not measured", "--period of 10 or longer")


def test_of_a_slow_recording_only_the_rows_on_the_grid_are_truth(tmp_path: Path) -> None:
    """Every second row of the slow recording would be a target that nobody measured."""
    fast = [{"time": range(60), "x": [k * k % 13 for k in range(60)], "y": [(k + file) % 5 for k in range(60)]} for file in (0, 1)]
    slow = {"time": range(0, 120, 2), "x": [k * k % 13 for k in range(60)], "y": [k % 5 for k in range(60)]}
    paths = [write(tmp_path, table(each), f"{name}.csv") for name, each in zip("abc", [*fast, slow], strict=True)]
    dataset = read(*paths, task="regress", features=("x",), targets=("y",), irregular="resample", split=SPLIT)
    (slowly,) = (each for each in dataset.training if each.name == "c.csv")
    assert slowly.targets[slowly.told(), 0].tolist() == [float(k % 5) for k in range(36)]
    assert len(slowly.targets) == 71
    assert noted(dataset, "59 rows of the grid lie in gaps")
