"""The updates of an epoch: which rows go through the network, from which states, and the loss of each.

Owns how states are carried, and where the gradient is cut. Knows nothing of the loop that changes the weights in between.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from scripts.streaming import losses
from scripts.streaming.lanes import Pass
from scripts.streaming.network import Network
from scripts.streaming.rows import Piece, gather
from scripts.streaming.wholes import LONGEST
from scripts.tables.recording import Recording

STEPS = 256  # that the network takes at once where no gradient is needed

State = tuple[Tensor, ...]


def by_lanes(network: Network, recordings: Sequence[Recording], passes: Iterable[Pass], device: str) -> Iterator[Tensor]:
    """The losses if every row has its own truth: all lanes at once, the states carried, the gradient cut after each update."""
    for each in passes:
        state: State | None = None
        for update in each:
            rows = gather(recordings, update.pieces, device)
            if state is not None:
                carried = torch.from_numpy(update.carried).to(device)[:, None]  # (lanes, 1)
                state = tuple(array.masked_fill(~carried, 0.0) for array in state)
            output, state = network(rows.features, state, rows.lengths)
            state = tuple(array.detach() for array in state)
            yield losses.of_rows(network, output, rows)


def by_wholes(network: Network, recordings: Sequence[Recording], batches: Iterable[list[Piece]], device: str) -> Iterator[Tensor]:
    """The losses if every recording has one label: whole recordings, the gradient through the last LONGEST rows of each."""
    for batch in batches:
        ends = [Piece(piece.recording, max(0, piece.end - LONGEST), piece.end) for piece in batch]
        rows = gather(recordings, ends, device)
        logits, _ = network(rows.features, _before(network, recordings, ends, device), rows.lengths)
        yield losses.of_recordings(logits, rows)


def _before(network: Network, recordings: Sequence[Recording], pieces: Sequence[Piece], device: str) -> State | None:
    """The states in which these pieces of recordings begin, without a gradient; None if all are zero."""
    state: State | None = None
    with torch.no_grad():
        for begin in range(0, max(piece.begin for piece in pieces), STEPS):
            before = [Piece(p.recording, min(begin, p.begin), min(begin + STEPS, p.begin)) for p in pieces]
            rows = gather(recordings, before, device)
            _, after = network(rows.features, state, rows.lengths)
            ended = torch.tensor([not len(piece) for piece in before], device=device)[:, None]  # (batch, 1)
            old = state or tuple(torch.zeros_like(array) for array in after)
            state = tuple(torch.where(ended, was, now) for was, now in zip(old, after, strict=True))
    return state
