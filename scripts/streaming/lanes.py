"""Recordings laid into lanes that run side by side, for truncated back-propagation through time.

Owns the order in which rows are trained on: every row once a pass, whatever the sizes. Knows nothing of networks or losses.

All recordings, in a random order, make one endless tape of pieces of `chunk` rows at most; a piece holds rows of one recording.
The tape is turned by a random number of pieces and cut into lanes of equal length; an update takes the next piece of every lane.
So a long recording runs in several lanes at once, and a lane holds several short ones. The state is carried from piece to piece
of a recording, and is zero where a recording or a lane begins. The first piece of a recording is shortened at random, so that
gradients are not cut at the same rows in every pass. Order, turn and cuts are functions of seed, epoch and pass.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.streaming.rows import Piece

LANES = 11  # seeds the random generator, together with the run's seed
LEAST_UPDATES = 50  # in an epoch, which makes several passes over little data
LEAST_PIECES = 4  # in a lane, so that most pieces begin from a state that has seen some of the signal
FREE = 8  # a recording of this many pieces or more gets one more, so that its first may be of any length


@dataclass(frozen=True, slots=True)
class Update:
    """What one update reads: a piece for every lane, and whether the lane's state is carried into it."""

    pieces: list[Piece]
    carried: NDArray[np.bool_]  # (lanes,)


class Lanes:
    """How recordings of these lengths are laid out: `batch` lanes at most, `chunk` rows an update at most."""

    def __init__(self, lengths: Sequence[int], *, batch: int, chunk: int, seed: int) -> None:
        self.chunk = min(chunk, max(lengths))
        self._seed = seed
        self._lengths = np.array(lengths, np.int64)
        counts = -(-self._lengths // self.chunk)
        self._counts: NDArray[np.int64] = np.where(counts >= FREE, counts + 1, counts)  # pieces of each recording
        total = int(self._counts.sum())
        self._updates = -(-total // min(batch, max(1, total // LEAST_PIECES)))  # in a pass
        self.count = -(-total // self._updates)  # lanes
        self.passes = -(-LEAST_UPDATES // self._updates)  # in an epoch

    @property
    def updates(self) -> int:
        """The number of updates in an epoch, which makes `passes` over all rows."""
        return self.passes * self._updates

    def epoch(self, epoch: int) -> "list[Pass]":
        """The passes of an epoch."""
        return [self._draw(np.random.default_rng([self._seed, LANES, epoch, turn])) for turn in range(self.passes)]

    def _draw(self, rng: np.random.Generator) -> "Pass":
        order = rng.permutation(len(self._lengths))
        lengths, counts = self._lengths[order], self._counts[order]
        least = np.maximum(1, lengths - (counts - 1) * self.chunk)  # a shorter first piece would leave too much for the others
        first = np.where(counts == 1, lengths, rng.integers(least, self.chunk + 1))
        recording, length, start = (np.repeat(each, counts) for each in (order, lengths, first))
        place = np.arange(len(recording)) - np.repeat(counts.cumsum() - counts, counts)  # of the piece in its recording
        end = np.minimum(length, start + place * self.chunk)
        begin = np.where(place == 0, 0, np.minimum(length, start + (place - 1) * self.chunk))
        turn = int(rng.integers(len(recording)))
        return Pass(np.roll(np.stack([recording, begin, end]), -turn, axis=1), lanes=self.count, updates=self._updates)


class Pass:
    """One pass over all rows. tape: (3, pieces), the recording, begin and end of each."""

    def __init__(self, tape: NDArray[np.int64], *, lanes: int, updates: int) -> None:
        self._tape, self._lanes, self._updates = tape, lanes, updates

    def __iter__(self) -> Iterator[Update]:
        for update in range(self._updates):
            places = np.arange(self._lanes) * self._updates + update
            pieces = []
            for place in places:  # the last lane may end before the others
                recording, begin, end = self._tape[:, place].tolist() if place < self._tape.shape[1] else (0, 0, 0)
                pieces.append(Piece(recording, begin, end))
            begins = np.array([piece.begin for piece in pieces])
            yield Update(pieces, carried=(begins > 0) & (update > 0))
