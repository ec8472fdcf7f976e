"""How far two computations of one forecast may differ.

Owns which terms a forecast sums, and which inputs are nudged. What rounding may cost is computed in training/tolerance.py.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from app.manifest import Tolerance
from app.tensors import Instance
from scripts.forecasting.network import Network
from scripts.training.tolerance import DRAWS, Array, nudged, tolerance

SEED = 37
ROUNDINGS = 16


def tolerance_of(network: Network, instances: Sequence[Instance]) -> Tolerance:
    """The tolerance that these contexts need."""
    return tolerance(_answers(network, instances), roundings=ROUNDINGS)


def _answers(network: Network, instances: Sequence[Instance]) -> Iterator[tuple[float, Array, Array]]:
    rng = np.random.default_rng(SEED)
    for instance in instances:
        steps = instance.steps.astype(np.float64)
        size, answers = float(network.terms(steps).max()), [*network.equations(steps)]
        for _ in range(DRAWS):
            moved = network.equations(nudged(rng, steps, np.abs(network.normal.centred(steps))))
            for answer, other in zip(answers, moved, strict=True):
                yield size, answer, other
