"""The windows of a part of the data: the rows that a forecast is made from, and those that follow.

Owns which windows there are, and how some of them become arrays: only these are ever copied. Knows nothing of networks.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scripts.tables.recording import DataError, Recording

MOST_NUMBERS = 2**22  # in the windows that are laid out at once

Places = NDArray[np.int64]


class Windows:
    """Every window of these recordings whose horizon lies in the part and holds no row that was filled in. Rows before the part,
    and rows that were filled in, may be in the context."""

    def __init__(self, recordings: Sequence[Recording], *, context: int, horizon: int, part: str) -> None:
        """part: its name, for messages. Raises DataError if there is no window in it."""
        self.context, self.horizon = context, horizon
        begins: list[Places] = []
        before, self.untrue = 0, 0  # windows left out, since their horizon holds a row that was filled in
        for recording in recordings:
            first = max(0, recording.lead - context)
            every = np.arange(first, len(recording.features) - context - horizon + 1, dtype=np.int64)
            kept = every[is_truth(recording, every + context, horizon)]
            self.untrue += len(every) - len(kept)
            begins.append(before + kept)
            before += len(recording.features)
        self._begins = np.concatenate(begins) if begins else np.zeros(0, dtype=np.int64)
        if not len(self._begins) and self.untrue:
            raise DataError(
                f"The {part} part has no window whose truth is whole: each of its {self.untrue:,} forecasts rows of which a target"
                f" is missing and was filled in. Leave out the columns with most gaps, or choose a horizon below {horizon} rows."
            )
        if not len(self._begins):
            longest = max((len(recording.features) for recording in recordings), default=0)
            raise DataError(
                f"The {part} part has no window: a forecast of {horizon} rows from {context} needs {context + horizon} rows of one "
                f"recording, and its longest has {longest}. Give more data or another split, or a smaller context or horizon."
            )
        self._features = _joined([recording.features for recording in recordings])
        self._targets = _joined([recording.targets for recording in recordings])

    def __len__(self) -> int:
        return len(self._begins)

    def take(self, places: Places) -> tuple[Tensor, Tensor, Tensor]:
        """For these windows: the contexts (count, context, features), the targets' own past (count, context, targets), and the
        truth (count, horizon, targets), all in raw units."""
        rows = self._begins[places, None] + np.arange(self.context + self.horizon)
        targets = torch.from_numpy(self._targets[rows])
        return torch.from_numpy(self._features[rows[:, : self.context]]), targets[:, : self.context], targets[:, self.context :]

    def evenly(self, most: int) -> Places:
        """At most `most` windows, spread evenly over all."""
        return np.unique(np.linspace(0, len(self) - 1, min(most, len(self))).round().astype(np.int64))

    def shuffled(self, rng: np.random.Generator) -> Places:
        return rng.permutation(len(self))

    def batches(self, places: Places) -> Iterator[Places]:
        """These places in their order, in pieces whose arrays are of a bounded size."""
        numbers = (self.context + self.horizon) * (self._features.shape[1] + self._targets.shape[1])
        size = max(1, min(1024, MOST_NUMBERS // numbers))
        for begin in range(0, len(places), size):
            yield places[begin : begin + size]


def is_truth(recording: Recording, origins: Places, horizon: int) -> NDArray[np.bool_]:
    """Whether none of the rows of a horizon was filled in; origins (windows,): the rows that are forecast first."""
    if recording.filled is None:
        return np.ones(len(origins), dtype=np.bool_)
    before = np.concatenate([[0], np.cumsum(recording.filled)])  # filled rows before each
    return np.asarray(before[origins + horizon] == before[origins])


def _joined(arrays: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """(rows, columns); one array alone is not copied."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
