"""Batches of whole recordings, for labels that belong to a recording and not to a row.

Owns which recordings make a batch: each once per pass, with others of about its length. Knows nothing of networks or losses.
"""

from collections.abc import Sequence

import numpy as np

from scripts.streaming.lanes import LEAST_UPDATES
from scripts.streaming.rows import Piece

WHOLES = 12  # seeds the random generator, together with the run's seed
LEAST_BATCHES = 8  # in a pass, if there are so many recordings: few large batches teach less than several smaller ones
JITTER = 0.2  # of a length, at most: added at random before recordings are sorted by length, so that batches vary
LONGEST = 2048  # rows at the end of a recording that the gradient goes back through; those before only set the state
MOST_ROWS = 65_536  # with a gradient in a batch, padding included: what memory holds


class Wholes:
    """How recordings of these lengths are put into batches, of `batch` at most."""

    def __init__(self, lengths: Sequence[int], *, batch: int, seed: int) -> None:
        self._seed = seed
        self._lengths = np.array(lengths, np.int64)
        fit = MOST_ROWS // min(LONGEST, max(lengths))
        self.size = max(1, min(batch, fit, -(-len(lengths) // LEAST_BATCHES)))
        self._updates = -(-len(lengths) // self.size)  # in a pass
        self.passes = -(-LEAST_UPDATES // self._updates)  # in an epoch

    @property
    def updates(self) -> int:
        """The number of updates in an epoch, which makes `passes` over all recordings."""
        return self.passes * self._updates

    def epoch(self, epoch: int) -> list[list[Piece]]:
        """The batches of an epoch, a function of seed and epoch."""
        rng = np.random.default_rng([self._seed, WHOLES, epoch])
        batches = []
        for _ in range(self.passes):
            order = (self._lengths * (1 + JITTER * rng.random(len(self._lengths)))).argsort()
            for batch in rng.permutation(self._updates):
                chosen = order[batch * self.size : (batch + 1) * self.size]
                batches.append([Piece(int(index), 0, int(self._lengths[index])) for index in chosen])
        return batches
