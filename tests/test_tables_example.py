"""The generated example tables: they are read as intended, and a model can learn from them."""

from pathlib import Path

import numpy as np
import pytest

from scripts.tables import example
from tests.tables import everything, names, read


def make(folder: Path, *options: str) -> Path:
    path = folder / "example.csv"
    assert example.main([str(path), *options]) == 0
    return path


def test_the_transformer_is_read_without_being_told_anything(tmp_path: Path) -> None:
    """This is the first command that a user tries."""
    dataset = read(make(tmp_path, "--rows", "2000"), lead=96)
    assert names(dataset) == [*example.LOADS, "oil"]
    assert dataset.period == 3600
    assert len(everything(dataset)) == 2000


def test_the_transformer_repeats_daily_and_its_level_wanders(tmp_path: Path) -> None:
    """A forecast must be possible but not trivial, and must need the level from its context."""
    values = everything(read(make(tmp_path)))[:, [0, 6]].astype(float)
    spread = values.std(axis=0)
    for column, size in zip(values.T, spread, strict=True):
        last = np.mean((column[24:] - column[:-24]) ** 2) / size**2
        mean = np.abs(column[:8710].mean() - column[8710:].mean()) / size
        hour = [column[hour::24].mean() for hour in range(24)]
        assert 0.05 < last < 1.2  # yesterday predicts much, but not all
        assert np.std(hour) > 0.15 * size  # a day has a shape
        assert mean > 0.05  # and the second year differs from the first


def test_the_machine_has_a_reference_that_its_sensor_follows(tmp_path: Path) -> None:
    """It is noisy enough to be worth cleaning, and clean enough to be cleaned."""
    dataset = read(make(tmp_path, "--kind", "machine"), task="denoise", features=("sensor",), targets=("reference",))
    assert dataset.features[0].unit == dataset.targets[0].unit == "deg/s"
    assert dataset.period == pytest.approx(0.02)
    sensor, reference = dataset.training[0].features[:, 0], dataset.training[0].targets[:, 0]
    noise = float(np.mean((sensor - reference) ** 2) / np.var(reference))
    assert 0.02 < noise < 0.5


def test_the_classes_are_dealt_whole_to_all_parts(tmp_path: Path) -> None:
    """This holds even with the fewest rows that the command allows."""
    path = make(tmp_path, "--kind", "classes", "--rows", str(9 * example.RUN))
    dataset = read(path, task="classify", targets=("state",), group="run")
    assert dataset.classes == ("healthy", "loose", "unbalanced")
    assert dataset.label_per_recording
    assert [len(part) for part in (dataset.training, dataset.validation, dataset.test)] == [3, 3, 3]


def test_the_same_seed_writes_the_same_file(tmp_path: Path) -> None:
    """Another seed gives another file."""
    first = make(tmp_path, "--rows", "300").read_bytes()
    assert make(tmp_path, "--rows", "300").read_bytes() == first
    assert make(tmp_path, "--rows", "300", "--seed", "1").read_bytes() != first


def test_wrong_use_and_failure_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 is for wrong use, 1 for a failure."""
    with pytest.raises(SystemExit) as exit_:
        example.main([str(tmp_path / "x.csv"), "--rows", "3"])
    assert exit_.value.code == 2
    assert example.main([str(tmp_path / "nowhere" / "x.csv")]) == 1
    assert "cannot be written" in capsys.readouterr().err
