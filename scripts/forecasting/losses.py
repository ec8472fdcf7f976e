"""The losses of a forecast: its squared error, and the pinball loss of its quantiles.

Errors are in units of each target's standard deviation in training, as in the metric that compares forecasts. Knows nothing of
how a forecast is made. Source of the pinball loss: Koenker & Bassett, "Regression quantiles", 1978.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def squared(errors: Tensor) -> Tensor:
    """The mean square of errors of any shape."""
    return errors.square().mean()


def pinball(errors: Tensor, levels: Sequence[float]) -> Tensor:
    """The mean pinball loss of errors (..., levels), truth minus quantile."""
    level = torch.tensor(levels, dtype=errors.dtype, device=errors.device)
    return torch.maximum(level * errors, (level - 1) * errors).mean()
