"""What one training run is asked to do: every choice that changes its result, and nothing else.

Owns the defaults and their meaning. Knows nothing of files, command lines or torch. A run is a function of its
`Config`, the versions of its packages, the device and its number of threads.
"""

import re
from dataclasses import asdict, dataclass, fields
from typing import Any, Self, get_args

from app.manifest import NAME_PATTERN
from scripts.training.reference import Variant
from scripts.training.sensor import PARTS

INCREMENTS = (16, 32)  # samples over which the loss sums errors too: Brossard, Bonnabel & Barrau, 2020


@dataclass(frozen=True, slots=True)
class Config:
    """The choices of a run. Times are in samples unless a unit is named."""

    name: str = "gyro-denoiser"
    seed: int = 0
    # the data
    part: str = "ADIS16448"  # whose noise is simulated
    sample_rate: float = 100.0  # Hz
    jitter: float = 0.0  # seconds, 1 sigma of each sample's time
    recordings: int = 64  # simulated anew every epoch
    recording_seconds: float = 60.0
    # the network
    cell: Variant = "reset_before"
    layers: int = 2
    hidden: int = 64
    bias: bool = True
    # the fit
    epochs: int = 80
    patience: int = 30  # epochs without a better validation loss
    chunk: int = 128  # steps between two updates; the state is carried on, the gradient is not
    learning_rate: float = 8e-3
    clip: float = 1.0  # norm of the gradient

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool | str) or field.name in ("seed", "jitter"):
                continue
            if not value > 0:
                raise ValueError(f"{field.name} must be above 0, got {value}")
        if self.jitter < 0 or self.seed < 0:
            raise ValueError(f"seed and jitter must not be negative, got {self.seed} and {self.jitter}")
        if self.cell not in get_args(Variant):
            raise ValueError(f"cell must be one of {', '.join(get_args(Variant))}, got {self.cell!r}")
        if self.part not in PARTS:
            raise ValueError(f"part must be one of {', '.join(PARTS)}, got {self.part!r}")
        if not re.fullmatch(NAME_PATTERN, self.name):
            raise ValueError(f"name must be letters, digits, dots, dashes and underscores, got {self.name!r}")
        if self.chunk < INCREMENTS[-1]:
            raise ValueError(f"chunk must hold the longest increment of {INCREMENTS[-1]} samples, got {self.chunk}")
        if self.recording_seconds * self.sample_rate < self.chunk:
            raise ValueError(f"a recording of {self.recording_seconds:g} s is shorter than one chunk of {self.chunk} samples")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The config that `to_dict` wrote; ValueError names a field that this version does not know."""
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"The run's config has fields this version does not know: {', '.join(sorted(unknown))}.")
        return cls(**values)
