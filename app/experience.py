"""What the batches of one model have cost: noted when a batch ends, learned from and counted a little later.

Owns that delay: learning and counting take as long as a small prediction, and a lone client should not wait for them. Knows
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
    more: bool  # whether more instances waited when it ended


class Experience:
    """The costs of one model's batches, of which `lanes` run at once. `cost`: may have learned from a warm-up already."""

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
        self._batches: list[_Batch] = []  # noted and not learned from yet

    @property
    def per_step(self) -> float:
        """Seconds per step of waiting work, all overhead included; 0 while nothing is known."""
        return self._pace.per_step

    def predict(self, size: int, steps: int) -> float:
        """Expected seconds of a batch of `size` instances, the longest of `steps` steps; infinite while nothing is known."""
        return self._cost.predict(size, steps)

    def note(
        self, entries: Sequence[Entry], results: Sequence[Prediction | Exception], seconds: float, *, ended: float, more: bool
    ) -> None:
        """Note that a batch ended at time `ended`, after `seconds`, with these results. `more`: whether more instances waited."""
        self._batches.append(_Batch(entries, results, seconds, ended, more))

    def learn(self, waiting: int) -> None:
        """Learn from the batches noted since the last call, and count them. `waiting`: instances that wait now."""
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
        """Seconds per step of work if every lane runs full batches without any overhead."""
        size = self._limits.max_batch_size
        return self._cost.predict(size, TYPICAL) / (size * Pace.weight(TYPICAL) * self._lanes)


def provider_of(results: Sequence[Prediction | Exception]) -> str:
    """The execution provider that computed the results; empty if all failed."""
    return next((each.provider for each in results if isinstance(each, Prediction)), "")
