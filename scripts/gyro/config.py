"""The choices of a run that learns to clean the signal of a simulated gyroscope.

Owns those about the sensor and its recordings. Knows nothing of files, command lines or torch.
"""

from dataclasses import dataclass
from typing import Any, Self

from scripts.gyro.sensor import PARTS
from scripts.training.config import RunConfig

INCREMENTS = (16, 32)  # samples over which the loss sums errors too: Brossard, Bonnabel & Barrau, 2020


@dataclass(frozen=True, slots=True)
class Config(RunConfig):
    """The choices of a run. Times are in samples unless a unit is named."""

    name: str = "gyro-denoiser"
    # the data
    part: str = "ADIS16448"  # whose noise is simulated
    sample_rate: float = 100.0  # Hz
    jitter: float = 0.0  # seconds, 1 sigma of each sample's time
    recordings: int = 64  # simulated anew every epoch
    recording_seconds: float = 60.0
    least_motion: float = 0.01  # the least extent of a recording's motion; 1 reaches up to 1000 deg/s
    # the network
    zero_rate: bool = True  # the network may find the device still, and then removes small rates as noise
    # the fit
    batch: int = 16  # recordings of an update
    chunk: int = 500  # steps between two updates, or the whole recording; the state is carried on, the gradient is not

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)
        if self.part not in PARTS:
            raise ValueError(f"part must be one of {', '.join(PARTS)}, got {self.part!r}")
        if self.least_motion > 1:
            raise ValueError(f"least_motion must be 1 at most, got {self.least_motion:g}")
        if self.chunk < INCREMENTS[-1]:
            raise ValueError(f"chunk must hold the longest increment of {INCREMENTS[-1]} samples, got {self.chunk}")
        if self.recording_seconds * self.sample_rate < INCREMENTS[-1]:
            raise ValueError(
                f"a recording of {self.recording_seconds:g} s is shorter than an increment of {INCREMENTS[-1]} samples"
            )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Configs of earlier runs lack choices that were added later; these get the values that the runs were made with."""
        return super(Config, cls).from_dict(
            {"least_motion": 1.0, "zero_rate": False, "batch": values.get("recordings", Config().recordings)} | values
        )

    @staticmethod
    def from_zero() -> frozenset[str]:
        """The numbers that may be 0."""
        return frozenset({"seed", "jitter"})
