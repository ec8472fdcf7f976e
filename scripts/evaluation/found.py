"""The result of an evaluation, as values that can be printed and written.

Owns the sentences about it. Knows nothing of how it was found.
"""

from dataclasses import dataclass
from typing import Any

from scripts.training.scores import Scores


@dataclass(frozen=True, slots=True)
class Found:
    """scores: None if there was no truth."""

    scores: Scores | None
    steps: int  # that the model has read
    seconds: float  # until the last answer, the reading of the files not counted
    notes: tuple[str, ...] = ()
    limited: bool = False  # by a rate limit: then the seconds do not measure the service's speed

    @property
    def speed(self) -> str:
        took = f"{self.steps:,} steps in {self.seconds:.2f} s"
        if self.limited:
            return f"{took}, by how often the key may ask: the service itself may be faster."
        return f"{took}: {self.steps / self.seconds:,.0f} steps/s."

    def to_dict(self) -> dict[str, Any]:
        speed = None if self.limited else self.steps / self.seconds
        told: dict[str, Any] = {"steps": self.steps, "seconds": self.seconds, "steps_per_second": speed}
        return told | {"notes": list(self.notes)} | (self.scores.to_dict() if self.scores else {})
