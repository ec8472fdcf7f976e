"""What work costs in seconds, learned from past batches: one batch alone, and all the work that waits.

Owns these cost models. A recurrent graph takes a fixed time, and for each step a time that depends on the number of sequences;
all of it takes longer while other work uses the same processor. Knows nothing of queues, threads or what the numbers decide.
"""

from dataclasses import dataclass, field
from math import exp2, inf
from typing import NamedTuple

WEIGHT = 0.1  # of the newest observation
SHORT = 2  # steps: the time of a batch this short counts as fixed cost
REQUEST = 32  # steps: what reading and answering an instance costs
SLOWEST = 8.0  # times the ideal or expected time: a slower observation counts as this slow
TELLING = 1e-3  # seconds: shorter batches are not learned from, for work beside them decides how long they take
STRAIN_WEIGHT = 0.2  # of the newest observation
RELIEF = 5.0  # seconds: half-life of the strain's difference from 1 while nothing is observed


class Padding(NamedTuple):
    """The most padding for which a sequence should join a batch instead of running in a batch of its own."""

    start: float = inf  # padded steps that cost as much as another batch
    per_step: float = inf  # further padded steps for each step that runs together

    def allowed(self, steps: int) -> float:
        """The most padded steps that are worth it when `steps` steps run together."""
        return self.start + self.per_step * steps


ANY = Padding()


@dataclass(slots=True)
class CostModel:
    """Predicts a batch's seconds from its size, rounded up to a power of two, and its longest sequence. Not thread-safe."""

    fixed: dict[int, float] = field(default_factory=dict)  # power -> seconds of a batch of at most 2 ** power instances
    per_step: dict[int, float] = field(default_factory=dict)  # power -> seconds for each step of such a batch

    def learn(self, size: int, steps: int, seconds: float) -> None:
        """Learn that a batch of `size` instances, the longest of `steps` steps, took so many seconds."""
        power = (size - 1).bit_length()
        if steps <= SHORT:
            self.fixed[power] = _average(self.fixed.get(power), seconds)
        else:
            sample = max(0.0, seconds - self._fixed_for(power)) / steps
            self.per_step[power] = _average(self.per_step.get(power), sample)

    def predict(self, size: int, steps: int) -> float:
        """Expected seconds, from the nearest known size; infinite while nothing is known."""
        power = (size - 1).bit_length()
        if steps <= SHORT and self.fixed:
            return self._fixed_for(power)
        if not self.per_step:
            return inf
        nearest = _nearest(self.per_step, power)
        return self._fixed_for(power) + steps * self.per_step[nearest] * 2.0 ** max(0, power - nearest)

    def padding(self) -> Padding:
        """How much padding is worth it: any amount if more sequences cost no more, or if nothing is known.

        A batch costs F, and a + m * size for each step. A sequence that joins a batch adds m for each padded step. It saves F, and
        a for each step of the shorter of the two. Only half of a is counted: left out, the sequence would join another batch.
        """
        one, most = min(self.per_step, default=0), max(self.per_step, default=0)
        row = (self.per_step[most] - self.per_step[one]) / (2**most - 2**one) if one < most else 0.0
        if row <= 0:
            return ANY
        shared = max(0.0, self.per_step[one] - row * 2**one)
        return Padding(self._fixed_for(0) / row, shared / row / 2)

    def _fixed_for(self, power: int) -> float:
        return self.fixed[_nearest(self.fixed, power)] if self.fixed else 0.0


@dataclass(slots=True)
class Pace:
    """How fast all lanes together get through waiting work while there is always more of it, all overhead included.

    Work is measured in steps; `weight` says what an instance counts. Has no clock: the time, in seconds, is an argument.
    """

    per_step: float = 0.0  # seconds; 0 while nothing is known
    _busy_since: float | None = None

    @staticmethod
    def weight(steps: int) -> int:
        """The work of an instance of so many steps."""
        return steps + REQUEST

    def learn(self, weight: int, now: float, *, ideal: float, more: bool) -> None:
        """Learn that work of this weight has just ended. `more`: whether more work was waiting then.

        `ideal`: seconds per step in full batches without any overhead. Observations are capped at SLOWEST times that: otherwise
        a service that refuses too much would run small batches, seem slow to itself, and refuse still more.
        """
        if self._busy_since is not None:
            sample = min((now - self._busy_since) / weight, SLOWEST * ideal)
            self.per_step = _average(self.per_step or None, sample)
        self._busy_since = now if more else None


@dataclass(slots=True)
class Strain:
    """How many times as long as expected a batch takes now. Without new observations it returns to 1.

    Any thread may use it; when two learn at once, one observation may be lost. Has no clock: the time, in seconds, is an argument.
    """

    _last: float = 1.0
    _seen: float = 0.0  # when `_last` was observed

    def at(self, now: float) -> float:
        """The factor for the expected seconds."""
        return 1.0 + (self._last - 1.0) * exp2((self._seen - now) / RELIEF)

    def learn(self, expected: float, seconds: float, now: float) -> None:
        """Learn that a batch with these expected seconds has just taken `seconds`."""
        if TELLING <= expected < inf:
            seen = min(max(seconds / expected, 1 / SLOWEST), SLOWEST)
            before = self.at(now)
            self._last, self._seen = before + STRAIN_WEIGHT * (seen - before), now


def _nearest(known: dict[int, float], power: int) -> int:
    return min(known, key=lambda each: abs(each - power))


def _average(old: float | None, new: float) -> float:
    return new if old is None else old + WEIGHT * (new - old)
