"""What a batch will cost in seconds, learned from those that ran.

Owns the model: a recurrent graph takes a fixed time and then, for each of its steps, a time that depends on how many
sequences step together. Knows nothing of queues, threads or what the number decides.
"""

from dataclasses import dataclass, field

WEIGHT = 0.1  # of the newest observation
SHORT = 2  # steps: what so short a batch takes is all fixed cost


@dataclass(slots=True)
class CostModel:
    """Seconds of a batch from its size and its longest sequence. Sizes are told apart by powers of two. Not thread-safe."""

    fixed: float | None = None  # seconds
    per_step: dict[int, float] = field(default_factory=dict)  # seconds by power of two, the size at most 2 ** power

    def learn(self, size: int, steps: int, seconds: float) -> None:
        """A batch of `size` instances, the longest of `steps` steps, took so long."""
        if steps <= SHORT:
            self.fixed = _average(self.fixed, seconds)
        else:
            power = (size - 1).bit_length()
            self.per_step[power] = _average(self.per_step.get(power), max(0.0, seconds - (self.fixed or 0.0)) / steps)

    def predict(self, size: int, steps: int) -> float:
        """Seconds, from the nearest size that is known; infinite while nothing is."""
        if steps <= SHORT and self.fixed is not None:
            return self.fixed
        if not self.per_step:
            return float("inf")
        power = (size - 1).bit_length()
        nearest = min(self.per_step, key=lambda known: abs(known - power))
        return (self.fixed or 0.0) + steps * self.per_step[nearest] * 2.0 ** max(0, power - nearest)


def _average(old: float | None, new: float) -> float:
    return new if old is None else old + WEIGHT * (new - old)
