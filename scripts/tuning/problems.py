"""The problems of a study's trials: the files are read once for all trials in a row that read the same of them.

Owns what is kept in memory: one dataset, however many contexts are tried. Knows nothing of trials.
"""

from scripts.series.config import Config
from scripts.series.problem import problem_over
from scripts.tables.reading import load
from scripts.tables.recording import Dataset, Wanted
from scripts.training.problem import Problem


class Problems:
    """Of the configs of one study, which differ in little."""

    def __init__(self) -> None:
        self._held: tuple[Wanted, Dataset] | None = None
        self._told = False

    def of(self, config: Config) -> Problem:
        """DataError where the data are not to be used as they are. What the reader has noted is said once."""
        wanted = config.wanted()
        if self._held is None or self._held[0] != wanted:
            self._held = None  # before others are read: both may be too much
            self._held = wanted, load(wanted)
            for note in () if self._told else self._held[1].notes:
                print(note)
            self._told = True
        return problem_over(config, self._held[1])
