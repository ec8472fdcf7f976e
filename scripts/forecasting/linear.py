"""The best linear forecast in closed form: ridge regression from the context to all rows of the horizon.

Owns the fit and the choice of its penalties, by the error on windows of the validation part. One line is for all targets. If it
does better there, each target's line differs from it, by a difference that a second penalty pulls towards zero: from few windows
the targets learn from each other, from many each has its own line. Knows nothing of recurrence.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

PENALTIES = tuple(10.0**power for power in range(-8, 5))  # times the identity, added to the mean of the products
MOST_OWN = 32  # targets that may have lines of their own

# Numbers (batch, context, targets), the wanted ones (batch, horizon, targets), and the weight of both (batch, 1, targets).
Pairs = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Linear:
    """numbers -> forecast: weight (lines, context, horizon) and offset (lines, horizon); as many lines as targets, or one.

    penalty: of the line for all; of_own: of the differences of each target's own line, None if there are none.
    """

    weight: Tensor
    offset: Tensor
    penalty: float
    of_own: float | None = None

    def __call__(self, numbers: Tensor) -> Tensor:
        """(batch, context, targets) -> (batch, horizon, targets)"""
        return applied(self.weight, self.offset, numbers.permute(2, 0, 1)).permute(1, 2, 0)


@dataclass(frozen=True, slots=True)
class Sums:
    """Means over windows, for each target or, if there are too many, for all: the products of the numbers (and a 1) with
    themselves and with the wanted numbers."""

    products: Tensor  # (targets or 1, context + 1, context + 1)
    wanted: Tensor  # (targets or 1, context + 1, horizon)

    def error(self, solution: Tensor) -> float:
        """The mean square error of solutions (targets or 1, context + 1, horizon), up to a constant that they share."""
        return float((solution * (self.products @ solution - 2 * self.wanted)).sum())


def applied(weight: Tensor, offset: Tensor, numbers: Tensor) -> Tensor:
    """(targets, batch, context) -> (targets, batch, horizon)"""
    return numbers @ weight + offset[:, None]


def fit(training: Iterable[Pairs], validation: Iterable[Pairs]) -> Linear:
    """The lines with the least squared error on validation, weighted by the spread."""
    sums, judge = _sums(training), _sums(validation)
    targets = len(sums.products)
    shared = _solutions(sums.products.mean(dim=0, keepdim=True), sums.wanted.mean(dim=0, keepdim=True))
    penalty = min(shared, key=lambda each: judge.error(shared[each].expand(targets, -1, -1)))
    best, of_own = shared[penalty].expand(targets, -1, -1), None
    if targets > 1:
        differing = _solutions(sums.products, sums.wanted - sums.products @ best)
        least = min(differing, key=lambda each: judge.error(best + differing[each]))
        if judge.error(best + differing[least]) < judge.error(best):
            best, of_own = best + differing[least], least
    lines = (best if of_own is not None else best[:1]).float()
    return Linear(lines[:, :-1].contiguous(), lines[:, -1].contiguous(), penalty, of_own)


def _sums(pairs: Iterable[Pairs]) -> Sums:
    products = wanted = torch.zeros(())
    count = 0
    for numbers, truth, spread in pairs:
        x = torch.cat([numbers, torch.ones_like(numbers[:, :1])], dim=1) * spread  # (batch, context + 1, targets)
        x, y = (each.permute(2, 1, 0).double() for each in (x, truth * spread))  # (targets, rows, batch)
        if len(x) > MOST_OWN:
            x, y = (each.transpose(0, 1).reshape(1, each.shape[1], -1) for each in (x, y))
        products = products + x @ x.transpose(1, 2)
        wanted = wanted + x @ y.transpose(1, 2)
        count += x.shape[2]
    return Sums(products / count, wanted / count)


def _solutions(products: Tensor, wanted: Tensor) -> dict[float, Tensor]:
    """(products + penalty)^-1 wanted for each penalty, all from one decomposition."""
    values, vectors = torch.linalg.eigh(products)
    inside = vectors.transpose(1, 2) @ wanted
    return {penalty: vectors @ (inside / (values.clamp(min=0) + penalty)[..., None]) for penalty in PENALTIES}
