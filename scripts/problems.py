"""The problems that a run can learn: a simulated gyroscope; and series in files, which are followed step by step or forecast.

Owns how to tell which of the three a run is. Knows nothing of what they are.
"""

from pathlib import Path
from typing import Any

from scripts.command import line
from scripts.forecasting.artifact import Forecaster
from scripts.forecasting.problem import Forecasting
from scripts.gyro.config import Config as GyroConfig
from scripts.series.config import Config as SeriesConfig
from scripts.streaming.artifact import Follower
from scripts.streaming.problem import Following
from scripts.tables.reading import load
from scripts.tables.recording import Dataset
from scripts.training.checkpoint import FILE_NAME, Checkpoint
from scripts.training.config import RunConfig
from scripts.training.problem import Artifact, Problem


def config_of(values: dict[str, Any]) -> RunConfig:
    """The config of a run, from its saved values; raises ValueError if this version does not know a field of it."""
    return SeriesConfig.from_dict(values) if "task" in values else GyroConfig.from_dict(values)


def checkpoint_of(run: Path) -> Checkpoint:
    """The checkpoint of a run; raises FileNotFoundError if there is none, ValueError if it is broken or of another version."""
    try:
        return Checkpoint.load(run, config_of)
    except FileNotFoundError:
        raise FileNotFoundError(f"it holds no {FILE_NAME}, so it is no run; {line('scripts.runs')} lists those in runs") from None


def problem_of(config: RunConfig) -> Problem:
    """The problem that a run with this config learns; raises DataError if its data cannot be used. Prints the reader's notes."""
    if isinstance(config, SeriesConfig):
        dataset = load(config.wanted())
        for note in dataset.notes:
            print(note)
        return problem_over(config, dataset)
    assert isinstance(config, GyroConfig)
    from scripts.gyro.data import Gyro  # here: SciPy takes a second to load, and the user's own data do not need it
    from scripts.gyro.problem import Denoising

    return Denoising(Gyro(config))


def problem_over(config: SeriesConfig, dataset: Dataset) -> Problem:
    """The problem of a config, over data that were read for it."""
    return Forecasting(config, dataset) if config.task == "forecast" else Following(config, dataset)


def artifact_of(checkpoint: Checkpoint) -> Artifact:
    """The best weights of a run, ready to be published; raises ValueError if they are of another version."""
    config = checkpoint.config
    try:
        if isinstance(config, SeriesConfig):
            return Forecaster(config, checkpoint) if config.task == "forecast" else Follower(config, checkpoint)
        from scripts.gyro.artifact import Denoised  # likewise

        return Denoised(checkpoint)
    except RuntimeError as error:  # torch's own for weights that are not the network's
        raise ValueError("its network is not one of this version: train it anew.") from error
