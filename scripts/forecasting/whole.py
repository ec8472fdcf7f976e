"""The best line from all that a network reads: ridge regression from every feature's context to all rows of the horizon.

Owns the fit, and the choice of its penalty and of what this pulls the line towards: zero, or the lines from the targets' own pasts,
which remain if the other features add nothing. Both are chosen by the error on windows of the validation part. Knows nothing of
where windows come from.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from scripts.forecasting.linear import PENALTIES, Linear, Pairs, Sums, applied


def forecast(line: Linear, numbers: Tensor) -> Tensor:
    """(batch, context, features) -> (batch, horizon, targets)"""
    return applied(line.weight, line.offset, rows(numbers)).permute(1, 2, 0)


def rows(numbers: Tensor) -> Tensor:
    """(batch, context, features) as (1, batch, context x features): what a line of each target is applied to."""
    return numbers.reshape(1, len(numbers), -1)


def fit(training: Iterable[Pairs], validation: Iterable[Pairs], own: Linear | None, sources: Sequence[int | None]) -> Linear:
    """The line of weight (targets, context x features, horizon). Pairs: see linear.py, but numbers are (batch, context, features).

    own: the lines of the targets that have a source, each from the feature that is the target's own past.
    """
    sums, judge = _sums(training), _sums(validation)
    horizon = sums.wanted.shape[2]
    wanted, judged = (_laid(each.wanted, len(each.products)) for each in (sums, judge))
    judge = Sums(judge.products, judged)
    begins = [torch.zeros_like(wanted)]
    if own is not None:
        begins.append(_laid(_widened(own, sources, sums.products.shape[1]), len(sums.products)))
    values, vectors = torch.linalg.eigh(sums.products)
    best, penalty = begins[-1], 0.0
    least = judge.error(best)
    for begin in begins:
        inside = vectors.transpose(1, 2) @ (wanted - sums.products @ begin)
        for each in PENALTIES:
            found = begin + vectors @ (inside / (values.clamp(min=0) + each)[..., None])
            error = judge.error(found)
            if error < least:
                best, penalty, least = found, each, error
    lines = best.reshape(len(best), best.shape[1], -1, horizon).transpose(1, 2).flatten(0, 1).float()
    return Linear(lines[:, :-1].contiguous(), lines[:, -1].contiguous(), penalty)


def _laid(lines: Tensor, count: int) -> Tensor:
    """The lines of the targets (targets, inputs, horizon) as (count, inputs, targets / count x horizon); count: of products."""
    return lines if count == len(lines) else lines.transpose(0, 1).flatten(1)[None]


def _widened(own: Linear, sources: Sequence[int | None], inputs: int) -> Tensor:
    """Lines from a target's own past as lines from all features (targets, context x features + 1, horizon), with zeros for the
    others."""
    _, context, horizon = own.weight.shape
    wide = torch.zeros(len(sources), context, (inputs - 1) // context, horizon, dtype=torch.float64)
    offset = torch.zeros(len(sources), 1, horizon, dtype=torch.float64)
    known = [(target, source) for target, source in enumerate(sources) if source is not None]
    for index, (target, source) in enumerate(known):
        line = index if len(own.weight) > 1 else 0
        wide[target, :, source], offset[target, 0] = own.weight[line].double(), own.offset[line].double()
    return torch.cat([wide.flatten(1, 2), offset], dim=1)


def _sums(pairs: Iterable[Pairs]) -> Sums:
    """The sums for the numbers (and a 1) as rows; the products are one for all targets if all weights are 1."""
    products = wanted = torch.zeros(())
    count = 0
    for numbers, truth, spread in pairs:
        x = torch.cat([rows(numbers)[0], torch.ones(len(numbers), 1)], dim=1).double()  # (batch, inputs)
        weight = spread.double().square().permute(2, 0, 1)  # (targets, batch, 1)
        alike = bool((spread == 1).all())
        weighted = x.T[None] if alike else (x * weight).transpose(1, 2)
        products = products + weighted @ x
        wanted = wanted + weighted @ truth.double().permute(2, 0, 1)
        count += len(x)
    return Sums(products / count, wanted / count)
