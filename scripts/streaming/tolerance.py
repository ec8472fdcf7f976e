"""How far two computations of one network may differ.

Owns which terms an answer sums, and which inputs are nudged. What rounding may cost is computed in training/tolerance.py.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from app.manifest import Tolerance
from app.tensors import Instance
from scripts.streaming.linear import FAR
from scripts.streaming.network import NEAR, Network
from scripts.training.tolerance import DRAWS, Array, nudged, tolerance

SEED = 31
ROUNDINGS = 32


def tolerance_of(network: Network, instances: Sequence[Instance], *, seed: int = SEED) -> Tolerance:
    """The tolerance that these instances, which all have states, need."""
    return tolerance(_answers(network, instances, seed), roundings=ROUNDINGS)


def _answers(network: Network, instances: Sequence[Instance], seed: int) -> Iterator[tuple[float, Array, Array]]:
    """For the output and the final states of each instance: the size of the terms, the answer, and those to nudged inputs."""
    rng = np.random.default_rng(seed)
    scale = network.scale.cpu().double().numpy()
    for instance in instances:
        steps = instance.steps.astype(np.float64)
        state = tuple(array.astype(np.float64) for array in instance.state or ())
        output, end = network.equations(steps, state)
        terms, sizes = _terms(network, steps, state), scale * np.maximum(1.0, np.abs(network.scaled(steps)))
        for _ in range(DRAWS):
            near = nudged(rng, steps, sizes)
            output_moved, end_moved = network.equations(near, tuple(nudged(rng, array, 1.0) for array in state))
            yield terms, output, output_moved
            for array, moved in zip(end, end_moved, strict=True):
                yield float(np.abs(array).max()), array, moved


def _terms(network: Network, steps: Array, state: tuple[Array, ...]) -> float:
    """The largest sum of the sizes of an answer's terms, without its offset; 1 for probabilities."""
    if network.classifies:
        return 1.0
    skip, gain = (each.cpu().double().numpy() for each in (network.skip, network.gain))
    W_o, b_o = (each.astype(np.float64) for each in network.head_weights())
    z = network.scaled(steps)
    h, _ = network.stack.equations(NEAR * np.tanh(z / NEAR), state)
    sizes = np.abs(z).clip(None, FAR) @ np.abs(skip).T + gain * (np.abs(h) @ np.abs(W_o).T + np.abs(b_o))
    return float(sizes.max())
