"""The scaling of a window: by its own last value, by its own mean and spread, or by those of all training.

Owns the scaling and its inverse, which are part of the graph. Knows nothing of what is computed from the scaled numbers.
Sources: for the last value, Zeng et al., "Are transformers effective for time series forecasting?", 2023 (NLinear) and Lin et al.,
"SegRNN", 2023; for the window's own mean and spread, Kim et al., "Reversible instance normalization", 2022.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from scripts.forecasting.framing import Framing
from scripts.tables.recording import Recording

EPSILON = 1e-4  # added to the variance of a window, in units of that of training: the window may be constant
DIGITS = 1e-6  # of a mean: a smaller spread is float32's rounding of a constant

Array = NDArray[np.float64]


class Frame:
    """How the targets of some windows are scaled: value = base + (level + spread x number). All are (batch, 1, targets)."""

    def __init__(self, base: Tensor, level: Tensor, spread: Tensor) -> None:
        self.base, self.level, self.spread = base, level, spread

    def numbers(self, values: Tensor) -> Tensor:
        """The scaled numbers of raw values (batch, horizon, targets): the inverse of `back`."""
        return (values - self.base - self.level) / self.spread

    def back(self, numbers: Tensor) -> Tensor:
        """Raw values (batch, horizon, targets) of scaled numbers."""
        return self.base + (self.level + self.spread * numbers)  # the small terms first: a large offset keeps its digits

    def back_levels(self, numbers: Tensor) -> Tensor:
        """Raw values (batch, horizon, targets, levels) of scaled numbers that have an axis of levels."""
        base, level, spread = (each[..., None] for each in (self.base, self.level, self.spread))
        return base + (level + spread * numbers)


class Normal(nn.Module):
    """Scales features (batch, context, features) to numbers of about unit size, and gives the frame of the targets."""

    mean: Tensor  # (features,)
    scale: Tensor
    target_mean: Tensor  # (targets,)
    target_scale: Tensor
    relative: Tensor  # (features,), bool
    target_relative: Tensor  # (targets,), bool
    picked: Tensor  # (targets,), int64

    def __init__(self, framing: Framing) -> None:
        super().__init__()
        self.instance = framing.normalise == "instance"
        for name, size in (("", framing.features), ("target_", framing.targets)):
            self.register_buffer(f"{name}mean", torch.zeros(size))
            self.register_buffer(f"{name}scale", torch.ones(size))
        known = torch.tensor(framing.known)
        self.register_buffer("relative", torch.tensor(framing.relative), persistent=False)
        self.register_buffer("target_relative", known & (framing.normalise != "none"), persistent=False)
        self.register_buffer("picked", torch.tensor(framing.picked), persistent=False)

    def fit(self, recordings: Sequence[Recording]) -> None:
        """Set mean and standard deviation from all measured rows of these; the deviation of a constant column is set to 1."""
        measured = [each.measured for each in recordings]
        for name, arrays in (("", [each.features for each in measured]), ("target_", [each.targets for each in measured])):
            mean, scale = moments(arrays)
            getattr(self, f"{name}mean").copy_(torch.from_numpy(mean))
            getattr(self, f"{name}scale").copy_(torch.from_numpy(scale))

    def forward(self, input: Tensor) -> tuple[Tensor, Frame]:
        last = input[:, -1:]
        centred = (input - torch.where(self.relative, last, self.mean)) / self.scale
        base = torch.where(self.target_relative, last[..., self.picked], self.target_mean)
        zero, one = base.new_zeros(()), base.new_ones(())
        if not self.instance:
            return centred, Frame(base, torch.zeros_like(base), self.target_scale.expand_as(base))
        level = torch.where(self.relative, centred.mean(dim=1, keepdim=True), zero)  # (batch, 1, features)
        rest = centred - level
        spread = torch.where(self.relative, (rest.square().mean(dim=1, keepdim=True) + EPSILON).sqrt(), one)
        levels, spreads = (
            self.target_scale * torch.where(self.target_relative, each[..., self.picked], other)
            for each, other in ((level, zero), (spread, one))
        )
        return rest / spread, Frame(base, levels, spreads)

    def equations(self, steps: Array) -> tuple[Array, Array, Array, Array]:
        """What `forward` computes, for one window (context, features) in float64 NumPy: the numbers, and base, level and spread
        (targets,)."""
        scale, target_mean, target_scale = (
            each.cpu().double().numpy() for each in (self.scale, self.target_mean, self.target_scale)
        )
        relative, target_relative, picked = (each.cpu().numpy() for each in (self.relative, self.target_relative, self.picked))
        centred = self.centred(steps) / scale
        base = np.where(target_relative, steps[-1, picked], target_mean)
        level, spread = np.zeros(len(scale)), np.ones(len(scale))
        if self.instance:
            level = np.where(relative, centred.mean(axis=0), 0.0)
            spread = np.where(relative, np.sqrt(((centred - level) ** 2).mean(axis=0) + EPSILON), 1.0)
        numbers = (centred - level) / spread
        levels = target_scale * np.where(target_relative, level[picked], 0.0)
        spreads = target_scale * np.where(target_relative, spread[picked], 1.0)
        return numbers, base, levels, spreads

    def centred(self, steps: Array) -> Array:
        """The window in raw units, minus the last value or the mean that it is relative to."""
        centred: Array = steps - np.where(self.relative.cpu().numpy(), steps[-1], self.mean.cpu().double().numpy())
        return centred


def moments(arrays: Sequence[NDArray[np.float32]]) -> tuple[Array, Array]:
    """Mean and standard deviation (columns,) over the rows of all arrays (rows, columns); 1 for a deviation of mere rounding."""
    count = sum(map(len, arrays))
    mean = np.sum([array.sum(axis=0, dtype=np.float64) for array in arrays], axis=0) / count
    squares = np.zeros_like(mean)
    for array in arrays:
        for begin in range(0, len(array), 2**16):  # in pieces: a copy in float64 of them all may be too large
            squares += ((array[begin : begin + 2**16] - mean) ** 2).sum(axis=0)
    deviation = np.sqrt(squares / count)
    return mean, np.where(deviation > DIGITS * np.abs(mean), deviation, 1.0)
