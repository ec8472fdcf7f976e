"""Counts answered requests, many at a time: to count them one by one would be a good part of what a small request costs.

Owns what is not counted yet. Knows nothing of what was asked.
"""

import asyncio
from collections import defaultdict

from app.metrics import Metrics


class Answered:
    """Counts into `metrics`, all requests of one round of the event loop together."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._seconds: dict[tuple[str, int, tuple[str, str] | None], list[float]] = defaultdict(list)

    def count(self, route: str, status: int, seconds: float, *, model: tuple[str, str] | None) -> None:
        """Count a request that was answered after `seconds`; `model`: the name and version that it was for, if any."""
        if not self._seconds:
            asyncio.get_running_loop().call_soon(self._count)
        self._seconds[route, status, model].append(seconds)

    def _count(self) -> None:
        counted, self._seconds = self._seconds, defaultdict(list)
        for (route, status, model), seconds in counted.items():
            self._metrics.answered(route, status, seconds, model=model)
