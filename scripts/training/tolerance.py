"""How far two computations of one network may differ: by what float32 rounds, and no more.

Owns what rounding may cost. It comes from the equations alone, not from what any float32 computation happens to give: the last
place of the terms that an answer is summed of, and how far the network carries the last bit of what it is given. It is one for all
tensors, so that of the largest of them.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from app.manifest import Tolerance

Array = NDArray[np.float64]

LAST_BIT = 2.0**-23
TINY = float(np.finfo(np.float32).tiny)  # what is smaller has fewer digits, or is 0, by the processor: no tolerance is less
RELATIVE = 4 * LAST_BIT  # of a number: what is added last is rounded once, and so is what it is compared with
MARGIN = 8  # times what the last bit of the inputs makes
MOST = 1e-4  # of the terms: a network that carries it farther than this is not to be told from a defect


def nudged(rng: np.random.Generator, values: Array, sizes: Array | float) -> Array:
    """The values with their last bits moved at random; sizes: of the numbers whose last bits they are."""
    return values + LAST_BIT * rng.choice([-1.0, 1.0], values.shape) * sizes


def tolerance(found: Iterable[tuple[float, Array, Array]], *, roundings: float) -> Tolerance:
    """By arrays that a network answers, each with the largest sum of its terms' sizes, and what it is when the inputs are nudged.

    roundings: last bits of the terms that products and activations lose at most.
    """
    allowed = TINY
    for size, answer, moved in found:
        far = float((np.abs(answer - moved) - RELATIVE * np.abs(answer)).max())
        allowed = max(allowed, roundings * LAST_BIT * size, min(MARGIN * far, MOST * size))
    return Tolerance(rtol=RELATIVE, atol=float(f"{allowed:.2g}"))
