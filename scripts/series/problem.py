"""The problem that a config for the user's own data asks for.

Owns which of the two kinds it is: to follow a stream step by step, or to forecast. Knows nothing of either.
"""

from scripts.forecasting.problem import Forecasting
from scripts.series.config import Config
from scripts.streaming.problem import Following
from scripts.tables.reading import load
from scripts.tables.recording import Dataset
from scripts.training.problem import Problem


def problem_of(config: Config) -> Problem:
    """The problem of a config. Reads its data and prints the reader's notes; raises DataError if the data cannot be used."""
    dataset = load(config.wanted())
    for note in dataset.notes:
        print(note)
    return problem_over(config, dataset)


def problem_over(config: Config, dataset: Dataset) -> Problem:
    """The problem of a config, over data that were read for it."""
    return Forecasting(config, dataset) if config.task == "forecast" else Following(config, dataset)
