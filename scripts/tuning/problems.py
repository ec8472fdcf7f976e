"""The problems of a study's trials: the files are read once for all trials that read the same of them.

Owns what is kept in memory. Knows nothing of trials.
"""

from scripts.series.config import Config
from scripts.series.problem import problem_over
from scripts.tables.reading import load
from scripts.tables.recording import Dataset, Wanted
from scripts.training.problem import Problem


class Problems:
    """Of the configs of one study, which differ in little."""

    def __init__(self) -> None:
        self._datasets: dict[Wanted, Dataset] = {}

    def of(self, config: Config) -> Problem:
        """DataError where the data are not to be used as they are. What the reader has noted is said once."""
        wanted = config.wanted()
        if wanted not in self._datasets:
            dataset = load(wanted)
            for note in dataset.notes if not self._datasets else ():
                print(note)
            self._datasets[wanted] = dataset
        return problem_over(config, self._datasets[wanted])
