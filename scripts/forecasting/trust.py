"""How much of what the recurrence adds to the line is used, chosen by the error on validation.

Owns the choice. If a series is practically linear, the recurrence learns noise, and the line alone is better. The share with the
least error is itself an estimate, from a few similar stretches of time: it is taken one standard error lower, as penalties are
chosen by the rule of Breiman et al., "Classification and regression trees", 1984. Knows nothing of training.
"""

from collections.abc import Iterable
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scripts.forecasting.network import Answer, Network

STRETCHES = 8  # of time, from which the standard error is estimated: neighbouring windows are not independent

# An answer with full trust, and the truth in its frame (batch, horizon, targets).
Answered = tuple[Answer, Tensor]

Array = NDArray[np.float64]


def settle(network: Network, answered: Iterable[Answered]) -> None:
    """Set network.trust, from 0 to 1. `answered` is read once; it must be in the order of time."""
    network.trust.fill_(1.0)
    scale = network.normal.target_scale
    missing, added = [], []
    for answer, wanted in answered:
        weight = answer.frame.spread / scale
        part = answer.added * weight
        left = (wanted - answer.numbers) * weight + part  # the error of the line alone
        missing.append((left * part).double().sum(dim=(1, 2)))
        added.append(part.double().square().sum(dim=(1, 2)))
    network.trust.fill_(share(*(torch.cat(each).cpu().numpy() for each in (missing, added))))


def share(missing: Array, added: Array) -> float:
    """The share of the addition that reduces the error most, less its standard error over stretches; 1 if nothing is added.
    missing: for each window in turn, the product of the line's error with the addition; added: the square of the addition."""
    if not added.sum() > 0:
        return 1.0
    best = missing.sum() / added.sum()
    stretches = np.array_split(missing - best * added, min(STRETCHES, len(added)))
    count = len(stretches)
    spread = sum(float(stretch.sum()) ** 2 for stretch in stretches) * count / max(1, count - 1)
    return float(np.clip(best - sqrt(spread) / added.sum(), 0.0, 1.0))
