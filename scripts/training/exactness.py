"""How exact the answers of a graph can be, tensor by tensor.

Owns how much rounding may cost each tensor on its own scale: a small state may stand beside a large output. Models that others
made are judged by this alone. Knows nothing of what is compared.

float32 rounds by 6e-8 of a number. Sums, activations and steps make that some hundred times as much at most, relative to the
largest number in the tensor, since small answers come from the cancellation of large ones: 1e-5 of the largest is allowed. A
graph that amplifies rounding, as long recurrences may, cannot be reproduced better than its own input is rounded. So it is
measured how far a tensor moves if every input and state moves by its last bit, and eight times that is allowed if it is more.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.engine import Engine
from app.manifest import Tolerance
from app.tensors import Array, Instance, Prediction
from scripts.training.tolerance import LAST_BIT, TINY

SEED = 23
RELATIVE = 1e-5
MARGIN = 8
MOST_AMPLIFIED = 1e-2  # of the largest number: a larger tolerance would mean nothing
LEAST = 2.0**-18  # of the largest number in all tensors: small results of a large tensor carry its rounding


@dataclass(frozen=True, slots=True)
class Exactness:
    """For each tensor, the outputs and then the states: its largest number, and how far the last bit of the input moves it."""

    largest: tuple[float, ...]
    moved: tuple[float, ...]
    beyond: float  # the most by which MARGIN times such a move exceeds RELATIVE times the number that moves

    @property
    def allowed(self) -> tuple[float, ...]:
        """By how much two runs may differ in each tensor."""
        pairs = zip(self.largest, self.moved, strict=True)
        return tuple(max(RELATIVE * size, min(MARGIN * by, MOST_AMPLIFIED * size), TINY) for size, by in pairs)

    @property
    def tolerance(self) -> Tolerance:
        """The manifest's tolerance for all tensors: by the smallest of them, but enough for the rounding of the others."""
        most = max(self.largest)
        smallest = min((size for size in self.largest if size), default=0.0)
        atol = max(RELATIVE * smallest, LEAST * most, min(self.beyond, MOST_AMPLIFIED * most), TINY)
        return Tolerance(rtol=RELATIVE, atol=float(f"{atol:.2g}"))


def measured(engine: Engine, instances: Sequence[Instance]) -> Exactness:
    """Measured by running each instance alone, as it is and with its last bits moved; a NaN in the second answer is ignored."""
    rng = np.random.default_rng(SEED)
    largest, moved, beyond = [], [], 0.0
    for instance in instances:
        (before,), (after,) = engine.predict([instance]), engine.predict([_moved(instance, rng)])
        pairs = [(np.where(np.isfinite(a), a, b), b) for a, b in zip(tensors(after), tensors(before), strict=True)]
        largest.append([size_of(b) for _, b in pairs])
        moved.append([_apart(a, b) for a, b in pairs])
        beyond = max(beyond, *(float((MARGIN * np.abs(a - b) - RELATIVE * np.abs(b)).max(initial=0.0)) for a, b in pairs))
    return Exactness(tuple(map(max, zip(*largest, strict=True))), tuple(map(max, zip(*moved, strict=True))), beyond)


def tensors(prediction: Prediction) -> tuple[Array, ...]:
    """The outputs, and then the states."""
    return (*prediction.outputs, *prediction.state)


def size_of(array: Array) -> float:
    return float(np.abs(array).max(initial=0.0))


def _apart(actual: Array, expected: Array) -> float:
    return float(np.abs(actual.astype(np.float64) - expected).max(initial=0.0))


def _moved(instance: Instance, rng: np.random.Generator) -> Instance:
    def nudge(array: Array) -> Array:
        signs = rng.choice([-1.0, 1.0], array.shape)
        return (array * (1 + LAST_BIT * signs)).astype(np.float32)

    return Instance(nudge(instance.steps), None if instance.state is None else tuple(map(nudge, instance.state)))
