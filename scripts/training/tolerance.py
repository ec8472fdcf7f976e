"""How far two computations of one network may differ: by the rounding of float32, and no more.

Owns this tolerance. It is computed from the equations alone, not from the results of a float32 implementation: from the last bit
of the terms that an answer sums, and from how far the network amplifies the last bit of its inputs. There is one tolerance for all
tensors, so it is that of the largest.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from app.manifest import Tolerance

Array = NDArray[np.float64]

LAST_BIT = 2.0**-23
TINY = float(np.finfo(np.float32).tiny)  # smaller numbers have fewer digits or, on some processors, are 0: the least tolerance
RELATIVE = 4 * LAST_BIT  # of a number: its last sum is rounded, and so is that of the number it is compared with
DRAWS = 8  # of the last bits of the inputs: a single one may miss what the network amplifies most, by ten times
MARGIN = 8  # times the change that the last bit of the inputs makes
MOST = 1e-4  # of the terms: a network that amplifies the last bit more cannot be told from a defective one


def nudged(rng: np.random.Generator, values: Array, sizes: Array | float) -> Array:
    """The values, each moved up or down at random by the last bit of a number of its size in `sizes`."""
    return values + LAST_BIT * rng.choice([-1.0, 1.0], values.shape) * sizes


def tolerance(found: Iterable[tuple[float, Array, Array]], *, roundings: float) -> Tolerance:
    """The tolerance by answers of a network. found: the largest sum of the terms' sizes, the answer, and the one to nudged inputs.

    roundings: how many last bits of the terms products and activations lose at most.
    """
    allowed = TINY
    for size, answer, moved in found:
        far = float((np.abs(answer - moved) - RELATIVE * np.abs(answer)).max())
        allowed = max(allowed, roundings * LAST_BIT * size, min(MARGIN * far, MOST * size))
    return Tolerance(rtol=RELATIVE, atol=float(f"{allowed:.2g}"))
