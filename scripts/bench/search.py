"""The search for the highest rate that is held: which to try next, decided from what came of those that were tried.

Owns the decision. Knows nothing of what a rate is one of, nor of what holding it means: it is told.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

STEP = 1.1  # between two rates that are told apart
MOST = 6  # that are tried

_Found = TypeVar("_Found")


def following(tried: Mapping[int, bool]) -> int | None:
    """The number of steps from the first rate to that which is tried next, where these were held or not; None: no more.

    Away from the first in strides that double, until one is held and a higher one is not; then halfway between them. What
    was not held below one that was has met a chance delay.
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
    """The highest rate that `attempt` says was held, and what else it said of it; None when none was. Begins at `start`."""
    tried: dict[int, bool] = {}
    best: tuple[int, _Found] | None = None
    while (steps := following(tried)) is not None:
        tried[steps], found = attempt(start * STEP**steps)
        if tried[steps] and (best is None or steps > best[0]):
            best = steps, found
    return None if best is None else (start * STEP ** best[0], best[1])
