"""What the batches of one model have cost: noted when they end, learned from and counted a little later.

Owns that delay: learning and counting take as long as a small prediction, and a caller who is alone should not wait for them. Knows
nothing of when batches run.
"""

from collections.abc import Sequence
from math import isfinite
from typing import NamedTuple

from app.cost import CostModel, Pace
from app.metrics import Executed, ModelMetrics
from app.queue import BatchLimits, Entry
from app.tensors import Prediction

TYPICAL = 128  # steps


class _Batch(NamedTuple):
    entries: Sequence[Entry]
    results: Sequence[Prediction | Exception]
    seconds: float
    ended: float
    more: bool  # waited when it ended


class Experience:
    """The costs of one model's batches, of which `lanes` run at once. `cost` may have learned already, from a warm-up."""

    def __init__(
        self, limits: BatchLimits, *, lanes: int, cost: CostModel | None = None, metrics: ModelMetrics | None = None
    ) -> None:
        self._limits = limits
        self._lanes = lanes
        self._cost = cost or CostModel()
        self._metrics = metrics
        self._pace = Pace()
        if isfinite(ideal := self._ideal()):
            self._pace.per_step = ideal
        self._batches: list[_Batch] = []  # that are noted

    @property
    def per_step(self) -> float:
        """Seconds in which a step of the work that waits is done, whatever goes on beside it; 0 while nothing is known."""
        return self._pace.per_step

    def predict(self, size: int, steps: int) -> float:
        """Seconds that a batch of `size` instances will take, the longest of `steps` steps; infinite while nothing is known."""
        return self._cost.predict(size, steps)

    def note(
        self, entries: Sequence[Entry], results: Sequence[Prediction | Exception], seconds: float, *, ended: float, more: bool
    ) -> None:
        """A batch ended at that time, after so many seconds, with these results; whether more waited for that."""
        self._batches.append(_Batch(entries, results, seconds, ended, more))

    def learn(self, waiting: int) -> None:
        """From all that was noted since the last time; so many instances wait now."""
        batches, self._batches = self._batches, []
        executed = []
        for entries, results, seconds, ended, more in batches:
            lengths = [entry.length for entry in entries]
            self._pace.learn(sum([entry.weight for entry in entries]), ended, ideal=self._ideal(), more=more)
            self._cost.learn(len(lengths), max(lengths), seconds)
            waited = max(0.0, sum([ended - seconds - entry.ticket.arrived for entry in entries]))
            padded = len(lengths) * max(lengths)
            executed.append(Executed(len(lengths), sum(lengths), padded, seconds, waited, provider_of(results)))
        if self._metrics is not None:
            self._metrics.ran(executed, waiting=waiting)

    def _ideal(self) -> float:
        """Seconds per step of work where every lane has full batches and nothing else to do."""
        size = self._limits.max_batch_size
        return self._cost.predict(size, TYPICAL) / (size * Pace.weight(TYPICAL) * self._lanes)


def provider_of(results: Sequence[Prediction | Exception]) -> str:
    """The execution provider that computed them; empty where every one failed."""
    return next((each.provider for each in results if isinstance(each, Prediction)), "")
