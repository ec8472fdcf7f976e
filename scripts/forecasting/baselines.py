"""The simpler forecasts that a network is compared with. Each reads only the past of the targets themselves, except the line from
all features.

Owns what they answer. Knows nothing of how good they are. They are fitted to the training part; what is to be chosen is chosen on
the validation part.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scripts.forecasting import whole
from scripts.forecasting.linear import Linear
from scripts.forecasting.normal import Normal

REPEAT, SEASONAL, LINEAR, MEAN = "last value", "seasonal naive", "linear (ridge)", "mean of training"
OWN = f"{LINEAR}, own past"  # its name beside a network that reads all columns


@dataclass(frozen=True, slots=True)
class Method:
    """The past (batch, context, targets) and the context (batch, context, features) -> the forecast (batch, horizon, targets).

    All in raw units."""

    name: str
    run: Callable[[Tensor, Tensor], Tensor]


def repeat(horizon: int) -> Method:
    return Method(REPEAT, lambda past, _: past[:, -1:].expand(-1, horizon, -1))


def seasonal(horizon: int, season: int) -> Method:
    """Repeats the last season."""
    ahead = torch.arange(horizon) % season
    return Method(f"{SEASONAL}, {season} rows", lambda past, _: past[:, past.shape[1] - season + ahead])


def mean(horizon: int, level: Tensor) -> Method:
    return Method(MEAN, lambda past, _: level.expand(len(past), horizon, -1))


def linear(line: Linear, scale: Tensor, name: str = LINEAR) -> Method:
    """A ridge regression on values relative to the window's last one, in units of scale (targets,)."""

    def run(past: Tensor, _: Tensor) -> Tensor:
        last = past[:, -1:]
        return last + scale * line((past - last) / scale)

    return Method(name, run)


def of_all(line: Linear, normal: Normal) -> Method:
    """A ridge regression on all features, scaled by `normal`."""

    def run(_: Tensor, context: Tensor) -> Tensor:
        seen, frame = normal.forward(context)
        return frame.back(whole.forecast(line, seen))

    return Method(LINEAR, run)
