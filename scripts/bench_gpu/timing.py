"""Measures how long something takes: the median of several runs, after one that does not count.

Owns how often it is run. Knows nothing of what is run.
"""

from collections.abc import Callable
from statistics import median
from time import perf_counter

LEAST, MOST = 3, 200  # runs


def median_seconds(run: Callable[[], object], *, budget: float) -> float:
    """The median of at least three runs, and as many more as fit into `budget` seconds; `run` must return when all is done."""
    run()
    times: list[float] = []
    while len(times) < LEAST or (sum(times) < budget and len(times) < MOST):
        begin = perf_counter()
        run()
        times.append(perf_counter() - begin)
    return median(times)
