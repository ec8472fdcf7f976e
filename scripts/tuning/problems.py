"""The problems of a study's trials. Trials in a row that need the same data share one reading of the files.

Owns what is kept in memory: one dataset, however many contexts are tried. Knows nothing of trials.
"""

from scripts.problems import problem_over
from scripts.series.config import Config
from scripts.tables.reading import load
from scripts.tables.recording import Dataset, Wanted
from scripts.training.problem import Problem


class Problems:
    """Makes the problems for the configs of one study."""

    def __init__(self) -> None:
        self._held: tuple[Wanted, Dataset] | None = None
        self._told = False

    def of(self, config: Config) -> Problem:
        """The problem of a config; raises DataError if the data cannot be used. The reader's notes are printed once."""
        wanted = config.wanted()
        if self._held is None or self._held[0] != wanted:
            self._held = None  # freed before others are read: both may not fit into memory
            self._held = wanted, load(wanted)
            for note in () if self._told else self._held[1].notes:
                print(note)
            self._told = True
        return problem_over(config, self._held[1])
