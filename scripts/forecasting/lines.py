"""Which windows the lines of a forecast are fitted to, and how these are scaled: for the network, or for a baseline.

Owns how many windows a fit may take. The fits are in linear.py and whole.py. Knows nothing of training.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from scripts.forecasting import linear, whole
from scripts.forecasting.framing import Framing
from scripts.forecasting.linear import Linear, Pairs
from scripts.forecasting.normal import Normal
from scripts.forecasting.windows import Places, Windows

FITTED = 200_000  # rows that a line is fitted to, at most
WORK = 10**11  # multiplications that fitting a line from all features may take, at most
CHOSEN = 600  # windows of the validation part that a penalty is chosen by, at most


def of_network(normal: Normal, framing: Framing, training: Windows, validation: Windows) -> Linear:
    """The line that a network with this scaling starts from: from all features if the framing is wide; else for the targets
    that are among the features, from their own past."""
    own = _own(normal, framing, training, validation) if any(framing.known) else None
    if not framing.wide:
        assert own is not None
        return own
    inputs = framing.context * framing.features
    most = max(1, min(FITTED // framing.targets, WORK // (inputs * inputs * framing.solved)))

    def pairs(windows: Windows, places: Places) -> Iterator[Pairs]:
        for some in windows.batches(places):
            context, _, truth = windows.take(some)
            seen, frame = normal(context)
            yield seen, frame.numbers(truth), frame.spread / normal.target_scale

    fitted = pairs(training, training.evenly(most)), pairs(validation, validation.evenly(CHOSEN))
    return whole.fit(*fitted, own, framing.sources)


def of_pasts(scale: Tensor, targets: int, training: Windows, validation: Windows) -> Linear:
    """The line of the baseline that reads the targets' own past, relative to its last value, in units of scale (targets,)."""

    def pairs(windows: Windows, places: Places) -> Iterator[Pairs]:
        for some in windows.batches(places):
            _, past, truth = windows.take(some)
            last = past[:, -1:]
            yield (past - last) / scale, (truth - last) / scale, torch.ones_like(last)

    most = max(1, FITTED // targets)
    return linear.fit(pairs(training, training.evenly(most)), pairs(validation, validation.evenly(CHOSEN)))


def _own(normal: Normal, framing: Framing, training: Windows, validation: Windows) -> Linear:
    known = [index for index, each in enumerate(framing.known) if each]
    sources = [framing.picked[index] for index in known]

    def pairs(windows: Windows, places: Places) -> Iterator[Pairs]:
        for some in windows.batches(places):
            context, _, truth = windows.take(some)
            seen, frame = normal(context)
            weight = frame.spread / normal.target_scale
            yield seen[..., sources], frame.numbers(truth)[..., known], weight[..., known]

    most = max(1, FITTED // framing.targets)
    return linear.fit(pairs(training, training.evenly(most)), pairs(validation, validation.evenly(CHOSEN)))
