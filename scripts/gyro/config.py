"""What a run that learns to clean a simulated gyroscope is asked to do.

Owns the choices about the sensor and its recordings. Knows nothing of files, command lines or torch.
"""

from dataclasses import dataclass

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
    # the fit
    chunk: int = 128  # steps between two updates; the state is carried on, the gradient is not

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)
        if self.part not in PARTS:
            raise ValueError(f"part must be one of {', '.join(PARTS)}, got {self.part!r}")
        if self.chunk < INCREMENTS[-1]:
            raise ValueError(f"chunk must hold the longest increment of {INCREMENTS[-1]} samples, got {self.chunk}")
        if self.recording_seconds * self.sample_rate < self.chunk:
            raise ValueError(f"a recording of {self.recording_seconds:g} s is shorter than one chunk of {self.chunk} samples")

    @staticmethod
    def from_zero() -> frozenset[str]:
        """The numbers that may be 0."""
        return frozenset({"seed", "jitter"})
