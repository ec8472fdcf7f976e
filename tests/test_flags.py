"""The options of a run, from the command line or a file: how they are read, and which error a wrong one gives."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import pytest

from scripts import config_file, flags
from scripts.gyro.config import Config as GyroConfig
from scripts.series.config import Config as SeriesConfig


def config_of(line: str | list[str]) -> GyroConfig | SeriesConfig:
    parser = ArgumentParser()
    flags.add_options(parser)
    return flags.config_of(parser.parse_args(line.split() if isinstance(line, str) else line))


def test_without_data_a_gyroscope_is_simulated() -> None:
    """The first command that a new user runs needs no arguments."""
    assert config_of("") == GyroConfig()
    assert config_of("--part MPU-6050 --hidden 8") == GyroConfig(part="MPU-6050", hidden=8)


def test_the_task_follows_from_what_is_given() -> None:
    """With targets, the model predicts them from the other columns; without any, it forecasts the future of all columns."""
    assert config_of("--data a.csv").task == "forecast"
    assert config_of("--data a.csv --targets y").task == "regress"
    assert config_of("--data a.csv --targets y --task denoise").task == "denoise"


@pytest.mark.parametrize(
    ("file", "name"),
    [("load.csv", "load-forecast"), ("my data (1).csv.gz", "my-data-1-forecast"), ("*.csv", "series-forecast")],
)
def test_a_model_is_named_after_its_file(file: str, name: str) -> None:
    """The name becomes a folder and part of a URL, so only safe characters may be in it."""
    assert config_of(["--data", file]).name == name


def test_names_may_hold_commas() -> None:
    """The user often cannot choose the names of the columns."""
    config = config_of(["--data", "a.csv", "--features", 'speed,"x, y",z'])
    assert isinstance(config, SeriesConfig)
    assert config.features == ("speed", "x, y", "z")


def test_a_cell_for_each_layer_says_how_many_there_are() -> None:
    """A number of layers that contradicts it is an error."""
    assert config_of("--cell lstm,reset_before,rnn").layers == 3
    with pytest.raises(ValueError, match="names 2 layers, and layers is 3"):
        config_of("--cell lstm,rnn --layers 3")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--horizon 12", "--horizon needs --data"),
        ("--data a.csv --part MPU-6050", "--part is for the simulated gyroscope"),
        ("--cell gru", "cell must be one of reset_before"),
        ("--hidden 0", "hidden must be above 0, got 0"),
        ("--seed -1", "seed must not be negative"),
        ("--data a.csv --split 0.5,0.5", "split must be three"),
        (
            "--data a.csv --context 100 --segment 24",
            "segment must divide the context of 100 rows, got 24: --segment 20 would do, or",
        ),
        (
            "--data a.csv --context 20000 --segment 24",
            "--segment 20 would do, or --context 19992; both need recordings that are longer",
        ),
        ("--data a.csv --quantiles 0.9,0.1", "quantiles must rise"),
        ("--config nowhere.toml", "nowhere.toml cannot be read"),
    ],
)
def test_what_cannot_be_is_told(line: str, says: str) -> None:
    """The error comes before anything is read or written."""
    with pytest.raises(ValueError, match=says):
        config_of(line)


@pytest.mark.parametrize(("context", "segment"), [(336, 24), (48, 24), (12, 12), (36, 18), (100, 20), (7, 7), (29, 1)])
def test_the_segment_follows_the_context_that_is_asked_for(context: int, segment: int) -> None:
    """Whoever asks for a year of months, `--context 12`, need not know of segments."""
    config = config_of(f"--data a.csv --context {context}")
    assert isinstance(config, SeriesConfig)
    assert (config.context, config.segment) == (context, segment)


@pytest.mark.parametrize(
    "line",
    [
        "--part MPU-6050 --no-bias --cell lstm,rnn",
        "--data a.csv b.csv --quantiles 0.1,0.9 --split 2020-01-01,2021-01-01,2022-01-01",
        "--data a.csv --na=-999,9999",
        "--clip inf",
    ],
)
def test_a_config_comes_back_from_its_file(tmp_path: Path, line: str) -> None:
    """The options of a run can be reused and changed one by one: a flag on the command line overrides the file."""
    config = config_of(line)
    (tmp_path / "config.toml").write_text(config_file.text_of(config))
    assert config_of(f"--config {tmp_path / 'config.toml'}") == config
    assert config_of(f"--config {tmp_path / 'config.toml'} --seed 5").seed == 5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hiden = 8", "no choice named 'hiden'"),
        ('hidden = "8"', "hidden must be a whole number, got '8'"),
        ("hidden = 8.5", "hidden must be a whole number, got 8.5"),
        ("bias = 1", "bias must be true or false, got 1"),
        ("hidden 8", "cannot be read"),
        ("data = []", "data names no file"),
    ],
)
def test_a_file_that_is_wrong_says_where(tmp_path: Path, text: str, says: str) -> None:
    """If an unknown option were ignored, the run would silently differ from the one asked for."""
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ValueError, match=says):
        config_of(f"--config {tmp_path / 'config.toml'}")


def test_dashes_and_whole_numbers_are_taken_in_a_file(tmp_path: Path) -> None:
    """People write the file by hand and use the names of the flags."""
    (tmp_path / "config.toml").write_text('learning-rate = 1\ndata = ["a.csv"]\nsplit = [100, 20, 20]\nna = [-999]\n')
    config: Any = config_of(f"--config {tmp_path / 'config.toml'}")
    assert config.na == (-999.0,)
    assert config.learning_rate == 1.0
    assert config.split == ("100", "20", "20")
