"""What training makes small.

Owns the losses. Knows nothing of how rows are chosen or of the loop. Targets: the mean square error in units of what the linear
answer leaves, since its root is what a result is judged by. Classes: the negative logarithm of the right one's probability.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from scripts.streaming.network import Network
from scripts.streaming.rows import Rows

ALONG = 0.2  # the weight of all steps beside the last, where a recording has one label: so that each has a probability to be shown


def of_targets(output: Tensor, rows: Rows, gain: Tensor) -> Tensor:
    """Of output (batch, time, targets) in raw units; zero where no row counts."""
    errors = ((output - rows.targets) / gain).square().mean(dim=-1)
    return _mean(errors, rows.counts)


def of_steps(logits: Tensor, rows: Rows) -> Tensor:
    """Of logits (batch, time, classes), where each row has its label; zero where no row counts."""
    return _mean(cross_entropy(logits.transpose(1, 2), rows.targets, reduction="none"), rows.counts)


def of_recordings(logits: Tensor, rows: Rows) -> Tensor:
    """Of logits (batch, time, classes), where each recording has one label, which is to be known after its last step."""
    every = cross_entropy(logits.transpose(1, 2), rows.targets, reduction="none")  # (batch, time)
    last = every[:, -1] if rows.lengths is None else every[torch.arange(len(every)), rows.lengths.to(every.device) - 1]
    along = (every * rows.counts).sum(dim=1) / rows.counts.sum(dim=1).clamp_min(1)  # each recording counts the same
    return ((1 - ALONG) * last + ALONG * along).mean()


def of_rows(network: Network, output: Tensor, rows: Rows) -> Tensor:
    """Whichever the task asks for, of rows that have each their own truth."""
    return of_steps(output, rows) if network.classifies else of_targets(output, rows, network.gain)


def _mean(each: Tensor, counts: Tensor) -> Tensor:
    return (each * counts).sum() / counts.sum().clamp_min(1)
