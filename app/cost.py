"""What work costs in seconds, learned from what ran: a batch on its own, and everything that waits.

Owns these models. A recurrent graph takes a fixed time and then, for each of its steps, a time that depends on how many
sequences step together; and all of it longer while others want the same processor. Knows nothing of queues, threads or what
the numbers decide.
"""

from dataclasses import dataclass, field
from math import exp2, inf
from typing import NamedTuple

WEIGHT = 0.1  # of the newest observation
SHORT = 2  # steps: what so short a batch takes is all fixed cost
REQUEST = 32  # steps that reading and answering an instance costs as much as
SLOWEST = 8.0  # times the ideal pace
TELLING = 1e-3  # seconds: what is shorter takes as long as what is around it does
STRAIN_WEIGHT = 0.2  # of the newest observation
RELIEF = 5.0  # seconds in which half of what was above the expected is taken to be gone


class Padding(NamedTuple):
    """The most that is worth it for a sequence to join others instead of a batch of its own."""

    start: float = inf  # padded steps that cost as much as another batch
    per_step: float = inf  # further ones for each step that is taken together

    def allowed(self, steps: int) -> float:
        """Padded steps for which it is worth it that so many are taken together."""
        return self.start + self.per_step * steps


ANY = Padding()


@dataclass(slots=True)
class CostModel:
    """Seconds of a batch from its size and its longest sequence. Sizes are told apart by powers of two. Not thread-safe."""

    fixed: dict[int, float] = field(default_factory=dict)  # seconds by power of two, the size at most 2 ** power
    per_step: dict[int, float] = field(default_factory=dict)  # seconds, likewise

    def learn(self, size: int, steps: int, seconds: float) -> None:
        """A batch of `size` instances, the longest of `steps` steps, took so long."""
        power = (size - 1).bit_length()
        if steps <= SHORT:
            self.fixed[power] = _average(self.fixed.get(power), seconds)
        else:
            sample = max(0.0, seconds - self._fixed_for(power)) / steps
            self.per_step[power] = _average(self.per_step.get(power), sample)

    def predict(self, size: int, steps: int) -> float:
        """Seconds, from the nearest size that is known; infinite while nothing is."""
        power = (size - 1).bit_length()
        if steps <= SHORT and self.fixed:
            return self._fixed_for(power)
        if not self.per_step:
            return inf
        nearest = _nearest(self.per_step, power)
        return self._fixed_for(power) + steps * self.per_step[nearest] * 2.0 ** max(0, power - nearest)

    def padding(self) -> Padding:
        """What padding is worth: anything where more sequences cost no more, or nothing is known.

        A batch takes F, and a + m size for every step. A sequence that joins one adds m for every padded step, and saves F, and a
        for every step that the shorter of the two has: of that, half is counted, for one that is left out finds company too.
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
    """How fast waiting work is done while there is always more of it, on all lanes together, everything included.

    Work is measured in steps, an instance as `weight` of its own. Knows no clock: it is told the time, in seconds.
    """

    per_step: float = 0.0  # seconds; 0 while nothing is known
    _busy_since: float | None = None

    @staticmethod
    def weight(steps: int) -> int:
        """What an instance of so many steps adds to the work that waits."""
        return steps + REQUEST

    def learn(self, weight: int, now: float, *, ideal: float, more: bool) -> None:
        """So much work has just been finished; whether more was waiting for it to end.

        `ideal` is the pace of full batches with nothing around them. What is far from it is not believed: were it, a
        service that refuses too much would see small batches, think itself slow, and refuse still more.
        """
        if self._busy_since is not None:
            sample = min((now - self._busy_since) / weight, SLOWEST * ideal)
            self.per_step = _average(self.per_step or None, sample)
        self._busy_since = now if more else None


@dataclass(slots=True)
class Strain:
    """How many times as long as expected a batch takes now. Without new observations it goes back to 1.

    Any thread may use it: what one learns while another does may be lost. Knows no clock: it is told the time, in seconds.
    """

    _last: float = 1.0
    _seen: float = 0.0  # when

    def at(self, now: float) -> float:
        """What to multiply the expected seconds by."""
        return 1.0 + (self._last - 1.0) * exp2((self._seen - now) / RELIEF)

    def learn(self, expected: float, seconds: float, now: float) -> None:
        """A batch of so many expected seconds has just taken so many."""
        if TELLING <= expected < inf:
            seen = min(max(seconds / expected, 1 / SLOWEST), SLOWEST)
            before = self.at(now)
            self._last, self._seen = before + STRAIN_WEIGHT * (seen - before), now


def _nearest(known: dict[int, float], power: int) -> int:
    return min(known, key=lambda each: abs(each - power))


def _average(old: float | None, new: float) -> float:
    return new if old is None else old + WEIGHT * (new - old)
