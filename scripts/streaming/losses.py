"""The losses that training minimises.

Knows nothing of how rows are chosen or of the loop. Targets: the mean square error in units of the linear answer's errors, since
results are judged by its root. Classes: the negative logarithm of the right one's probability.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from scripts.streaming.network import Network
from scripts.streaming.rows import Rows

ALONG = 0.2  # the weight of all steps against the last, if a recording has one label: each step should have a probability to show


def of_targets(output: Tensor, rows: Rows, gain: Tensor) -> Tensor:
    """The loss of output (batch, time, targets) in raw units; zero if no row counts."""
    errors = ((output - rows.targets) / gain).square().mean(dim=-1)
    return _mean(errors, rows.counts)


def of_steps(logits: Tensor, rows: Rows) -> Tensor:
    """The loss of logits (batch, time, classes), if each row has its label; zero if no row counts."""
    return _mean(cross_entropy(logits.transpose(1, 2), rows.targets, reduction="none"), rows.counts)


def of_recordings(logits: Tensor, rows: Rows) -> Tensor:
    """The loss of logits (batch, time, classes), if each recording has one label, to be known after its last step."""
    every = cross_entropy(logits.transpose(1, 2), rows.targets, reduction="none")  # (batch, time)
    last = every[:, -1] if rows.lengths is None else every[torch.arange(len(every)), rows.lengths.to(every.device) - 1]
    along = (every * rows.counts).sum(dim=1) / rows.counts.sum(dim=1).clamp_min(1)  # each recording counts the same
    return ((1 - ALONG) * last + ALONG * along).mean()


def of_rows(network: Network, output: Tensor, rows: Rows) -> Tensor:
    """The loss that the task asks for, if each row has a truth of its own."""
    return of_steps(output, rows) if network.classifies else of_targets(output, rows, network.gain)


def _mean(each: Tensor, counts: Tensor) -> Tensor:
    return (each * counts).sum() / counts.sum().clamp_min(1)
