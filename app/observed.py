"""Metrics that take many observations at the price of one: what is written goes to a file that all processes share.

Knows nothing of what is observed.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

from prometheus_client import Histogram, Summary


class Buckets(Histogram):
    """How many were of which size."""

    def observe_all(self, amounts: Sequence[float]) -> None:
        self._sum.inc(sum(amounts))
        for bucket, count in Counter(bisect_left(self._upper_bounds, amount) for amount in amounts).items():
            self._buckets[bucket].inc(count)


class Totals(Summary):
    """A count and a sum."""

    def observe_all(self, amounts: Sequence[float]) -> None:
        self._count.inc(len(amounts))
        self._sum.inc(sum(amounts))
