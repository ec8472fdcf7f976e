"""The simpler forecasts that a network is compared with. Each sees the past of the targets themselves and nothing else.

Owns what they answer. Knows nothing of how good they are. None is tuned on anything but training and, where there is something
to choose, validation.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scripts.forecasting.linear import Linear

REPEAT, SEASONAL, LINEAR, MEAN = "last value", "seasonal naive", "linear (ridge)", "mean of training"


@dataclass(frozen=True, slots=True)
class Method:
    """The past (batch, context, targets) -> the forecast (batch, horizon, targets), both in raw units."""

    name: str
    run: Callable[[Tensor], Tensor]


def repeat(horizon: int) -> Method:
    return Method(REPEAT, lambda past: past[:, -1:].expand(-1, horizon, -1))


def seasonal(horizon: int, season: int) -> Method:
    """The last season over and over."""
    ahead = torch.arange(horizon) % season
    return Method(f"{SEASONAL}, {season} rows", lambda past: past[:, past.shape[1] - season + ahead])


def mean(horizon: int, level: Tensor) -> Method:
    return Method(MEAN, lambda past: level.expand(len(past), horizon, -1))


def linear(line: Linear, scale: Tensor) -> Method:
    """A ridge regression on what is relative to the window's last value, in units of scale (targets,)."""

    def run(past: Tensor) -> Tensor:
        last = past[:, -1:]
        return last + scale * line((past - last) / scale)

    return Method(LINEAR, run)
