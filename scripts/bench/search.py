"""The search for the highest rate that is held: decides from the rates tried so far which to try next.

Owns the decision. Does not know what the rate is of, nor what holding it means: `attempt` says whether it was held.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

STEP = 1.1  # the ratio of two neighbouring rates
MOST = 6  # rates that are tried

_Found = TypeVar("_Found")


def following(tried: Mapping[int, bool]) -> int | None:
    """The next rate to try, in steps from the first rate; None: no more. tried: steps -> whether that rate was held.

    Goes away from the first in strides that double, until one rate is held and a higher one is not; then halfway between them.
    A failure below a rate that was held counts as a chance delay.
    """
    if len(tried) >= MOST:
        return None
    held = max((steps for steps, well in tried.items() if well), default=None)
    failed = min((steps for steps, well in tried.items() if not well and (held is None or steps > held)), default=None)
    stride = 1 << max(0, len(tried) - 1)
    if held is not None and failed is not None:
        return (held + failed) // 2 if failed - held > 1 else None
    if held is not None:
        return held + stride
    return 0 if failed is None else failed - stride


def highest(start: float, attempt: Callable[[float], tuple[bool, _Found]]) -> tuple[float, _Found] | None:
    """The highest rate that was held, and the result of its `attempt`; None if none was held. Begins at `start`."""
    tried: dict[int, bool] = {}
    best: tuple[int, _Found] | None = None
    while (steps := following(tried)) is not None:
        tried[steps], found = attempt(start * STEP**steps)
        if tried[steps] and (best is None or steps > best[0]):
            best = steps, found
    return None if best is None else (start * STEP ** best[0], best[1])
