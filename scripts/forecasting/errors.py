"""How far forecasts are from the truth, over any number of windows, in bounded memory.

Owns the sums and the metrics made of them. Errors are in units of each target's standard deviation in training, as in the
literature; only the RMSE is in raw units. Knows nothing of the methods. Source of the pinball loss, which is learned by too:
Koenker & Bassett, "Regression quantiles", 1978.
"""

from collections.abc import Sequence
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


def pinball(errors: Tensor, levels: Sequence[float]) -> Tensor:
    """The mean pinball loss of errors (..., levels), truth minus quantile."""
    level = torch.tensor(levels, dtype=errors.dtype, device=errors.device)
    return torch.maximum(level * errors, (level - 1) * errors).mean()


class Errors:
    """Sums over the windows that were added. scale: (targets,)."""

    def __init__(self, horizon: int, scale: Tensor) -> None:
        self._scale = scale.double().cpu()
        self._windows = 0
        self._squares = torch.zeros(horizon, len(scale), dtype=torch.float64)
        self._sizes = torch.zeros_like(self._squares)

    def add(self, forecast: Tensor, truth: Tensor) -> None:
        """Add forecasts and truth, (windows, horizon, targets) each, in raw units."""
        errors = (forecast.double().cpu() - truth.double().cpu()) / self._scale
        self._windows += len(errors)
        self._squares += errors.square().sum(dim=0)
        self._sizes += errors.abs().sum(dim=0)

    @property
    def mse(self) -> float:
        return float(self._squares.mean()) / self._windows

    @property
    def mae(self) -> float:
        return float(self._sizes.mean()) / self._windows

    @property
    def rmse(self) -> float:
        """The RMSE of all targets together, in raw units."""
        return sqrt(float((self._squares * self._scale.square()).mean()) / self._windows)

    @property
    def by_step(self) -> Array:
        """The MSE of each row ahead (horizon,)."""
        found: Array = (self._squares.mean(dim=1) / self._windows).numpy()
        return found


class Coverage:
    """How often the truth lies between the quantiles, and their pinball loss."""

    def __init__(self, levels: Sequence[float], scale: Tensor) -> None:
        self._levels = tuple(levels)
        self._scale = scale.double().cpu()
        self._count = 0
        self._inside = 0.0
        self._loss = 0.0

    def add(self, quantiles: Tensor, truth: Tensor) -> None:
        """Add quantiles (windows, horizon, targets, levels) and truth (windows, horizon, targets), in raw units."""
        values, true = quantiles.double().cpu(), truth.double().cpu()[..., None]
        self._loss += true.numel() * float(pinball((true - values) / self._scale[:, None], self._levels))
        below = true[..., 0] <= values[..., -1]
        self._inside += float((below & (true[..., 0] >= values[..., 0]) if len(self._levels) > 1 else below).sum())
        self._count += true.numel()

    @property
    def share(self) -> float:
        """The share of the truth between the lowest and the highest quantile; with one level, below it."""
        return self._inside / self._count

    @property
    def pinball(self) -> float:
        return self._loss / self._count
