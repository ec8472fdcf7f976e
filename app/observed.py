"""Prometheus metrics that take many observations in one call, as each call writes to a file that all processes share.

Knows nothing of what is observed.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary

T = TypeVar("T")
K = TypeVar("K")


def replaced(registry: CollectorRegistry) -> Counter:
    """The count of replaced workers: the supervisor counts, and all workers show it."""
    return Counter("recurve_workers_replaced_total", "Workers that have ended and were replaced", registry=registry)


def expiring(registry: CollectorRegistry) -> Gauge:
    return Gauge(
        "recurve_certificate_expires_timestamp_seconds",
        "When the certificate expires that connections are encrypted with",
        ("file",),
        registry=registry,
        multiprocess_mode="livemin",
    )


def built(registry: CollectorRegistry) -> Gauge:
    return Gauge(
        "recurve_build_info",
        "1, with the versions of the service and of ONNX Runtime",
        ("version", "onnxruntime"),
        registry=registry,
        multiprocess_mode="livemax",
    )


class Children(dict[K, T]):
    """A metric's children by their labels, as prometheus_client takes longer to look up a child than to count."""

    def __init__(self, child: Callable[[K], T]) -> None:
        super().__init__()
        self._child = child

    def __missing__(self, labels: K) -> T:
        made = self[labels] = self._child(labels)
        return made


def tally(found: Sequence[T]) -> dict[T, int]:
    """How often each value is found: as collections.Counter, at a fraction of its cost if the values are few."""
    counts: dict[T, int] = {}
    for each in found:
        counts[each] = counts.get(each, 0) + 1
    return counts


class Buckets(Histogram):
    """A histogram with `observe_all`."""

    def observe_all(self, amounts: Sequence[float]) -> None:
        self._sum.inc(sum(amounts))
        for bucket, count in tally([bisect_left(self._upper_bounds, amount) for amount in amounts]).items():
            self._buckets[bucket].inc(count)


class Totals(Summary):
    """A count and a sum, with `observe_all`."""

    def observe_all(self, amounts: Sequence[float]) -> None:
        self._count.inc(len(amounts))
        self._sum.inc(sum(amounts))
