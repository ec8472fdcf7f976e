"""Rows of recordings as a network takes them: pieces of several recordings side by side, padded to the longest.

Owns how they are padded and which rows count. Knows nothing of which pieces there are, of networks or of losses.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scripts.tables.recording import Recording

BLOCK = 65_536  # rows that are worked on at once in a pass over all


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows `begin` to `end` (excluded) of the recording at this index; there may be none."""

    recording: int
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Rows:
    """Pieces side by side, padded with zeros."""

    features: Tensor  # (batch, time, features), raw units
    targets: Tensor  # (batch, time, targets), raw units; (batch, time) labels where there are classes
    counts: Tensor  # (batch, time), bool: whether the row has a truth to be predicted, neither padding nor lead
    lengths: Tensor | None  # (batch,) on the CPU, from 1 up; None where every row of the batch is full


def gather(recordings: Sequence[Recording], pieces: Sequence[Piece], device: str) -> Rows:
    """The rows of these pieces, at least one, of recordings with the same columns. An empty piece has one row that does not
    count; an unknown truth is 0.
    """
    width = max([1, *map(len, pieces)])
    first = recordings[pieces[0].recording]
    features = np.zeros((len(pieces), width, first.features.shape[1]), np.float32)
    by_label = first.labels is not None
    targets = np.zeros((len(pieces), width) if by_label else (len(pieces), width, first.targets.shape[1]), truth_of(first).dtype)
    counts = np.zeros((len(pieces), width), bool)
    for row, piece in enumerate(pieces):
        recording = recordings[piece.recording]
        features[row, : len(piece)] = recording.features[piece.begin : piece.end]
        targets[row, : len(piece)] = truth_of(recording)[piece.begin : piece.end]
        if recording.filled is not None:
            targets[row, : len(piece)][recording.filled[piece.begin : piece.end]] = 0  # a NaN times 0 would still spoil a sum
        counts[row, : len(piece)] = recording.told(piece.begin, piece.end)
    lengths = [max(1, len(piece)) for piece in pieces]
    return Rows(
        features=torch.from_numpy(features).to(device),
        targets=torch.from_numpy(targets).to(device),
        counts=torch.from_numpy(counts).to(device),
        lengths=None if min(lengths) == width else torch.tensor(lengths),
    )


def truth_of(recording: Recording) -> np.ndarray[tuple[int, ...], np.dtype[np.float32 | np.int64]]:
    """What is to be predicted: the targets (rows, targets), or the labels (rows,). Where it is not known, NaN or -1."""
    return recording.targets if recording.labels is None else recording.labels


def blocks(recordings: Sequence[Recording], *, most: int | None = None) -> Iterator[Piece]:
    """All rows that are predicted, in pieces of at most BLOCK rows; if they are more than `most`, an even selection."""
    found = [
        Piece(index, begin, min(begin + BLOCK, len(recording.features)))
        for index, recording in enumerate(recordings)
        for begin in range(recording.lead, len(recording.features), BLOCK)
    ]
    if most is None or sum(map(len, found)) <= most:
        yield from found
        return
    total = sum(int(recording.told().sum()) for recording in recordings)
    before, taken = 0, 0
    for piece in found:
        told = np.flatnonzero(recordings[piece.recording].told(piece.begin, piece.end))
        before += len(told)
        wanted = round(min(most, total) * before / total) - taken  # so that each part of the data has its share
        if wanted:
            taken += wanted
            yield Piece(piece.recording, piece.begin, piece.begin + int(told[wanted - 1]) + 1)
