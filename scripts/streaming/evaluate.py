"""A network's answers to recordings, step after step from the zero state at their first row, as in a live stream.

Owns how recordings of any size are processed in bounded memory and time. Knows nothing of what the answers are used for.

Recordings run side by side in pieces, with the states carried on. A very long one would run alone for hours, so it is cut every
LONGEST rows; each part but the first begins WARM_UP rows early, from zeros, and gives no answers for these rows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from scripts.series.config import WARM_UP
from scripts.streaming.network import Network
from scripts.streaming.rows import Piece, gather
from scripts.tables.recording import Recording

SIDE_BY_SIDE = 64  # recordings
STEPS = 256  # of each at once
LONGEST = 65_536  # rows
BAR_AFTER = 3.0  # seconds


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to the rows of a piece: targets in raw units, or probabilities of classes."""

    piece: Piece
    values: NDArray[np.float32]  # (rows, targets or classes)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows that run from the zero state; those before `answered` only prepare the state, and get no answer."""

    recording: int
    begin: int
    answered: int
    end: int


def follow(network: Network, recordings: Sequence[Recording], device: str, *, what: str = "") -> Iterator[Answers]:
    """Yield the answer to every predicted row once, each stretch in the order of time; `what` is the progress bar's name."""
    stretches = sorted(_stretches(recordings), key=lambda each: each.begin - each.end)
    total = sum(each.end - each.begin for each in stretches)
    with tqdm(total=total, desc=what, unit="row", unit_scale=True, delay=BAR_AFTER, leave=False, disable=not what) as bar:
        for first in range(0, len(stretches), SIDE_BY_SIDE):
            for answers, rows in _together(network, recordings, stretches[first : first + SIDE_BY_SIDE], device):
                yield from answers
                bar.update(rows)


def _together(
    network: Network, recordings: Sequence[Recording], stretches: Sequence[Stretch], device: str
) -> Iterator[tuple[list[Answers], int]]:
    """Run these stretches, the longest first, side by side: the answers of each step, and how many rows it took."""
    state: tuple[torch.Tensor, ...] | None = None
    for step in range(0, stretches[0].end - stretches[0].begin, STEPS):
        live = [each for each in stretches if each.begin + step < each.end]  # the shortest are last, and end first
        pieces = [Piece(each.recording, each.begin + step, min(each.begin + step + STEPS, each.end)) for each in live]
        rows = gather(recordings, pieces, device)
        with torch.inference_mode():
            if state is not None:
                state = tuple(array[:, : len(live)] for array in state)
            output, state = network.answers(rows.features, state, rows.lengths)
            values = output.cpu().numpy()
        found = []
        for each, piece, answered in zip(live, pieces, values, strict=True):
            begin = max(piece.begin, each.answered)
            if begin < piece.end:
                own = answered[begin - piece.begin : len(piece)]
                found.append(Answers(Piece(piece.recording, begin, piece.end), own))
        yield found, sum(map(len, pieces))


def _stretches(recordings: Sequence[Recording]) -> Iterator[Stretch]:
    for index, recording in enumerate(recordings):
        length = len(recording.features)
        for answered in range(recording.lead, length, LONGEST):
            begin = max(0, answered - WARM_UP) if answered > recording.lead else 0
            yield Stretch(index, begin, answered, min(answered + LONGEST, length))
