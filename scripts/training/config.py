"""The choices of every training run about its network and its fit, whatever it learns.

Owns their defaults, their meaning, and how a config is turned into plain values and back. scripts.gyro.config and
scripts.series.config add the choices about the data. Knows nothing of files, command lines or torch.
"""

import re
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args

from app.manifest import NAME_PATTERN
from scripts.training.reference import Kind

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class RunConfig:
    """The result of a run depends on its config, its data, the versions of its packages and the device, and on nothing else."""

    name: str = "model"
    seed: int = 0
    # the network
    cell: str = "reset_before"  # of every layer; or one for each, from the input up: "lstm,reset_before"
    layers: int = 2
    hidden: int = 64
    bias: bool = True
    # the fit
    epochs: int = 80
    patience: int = 30  # epochs without a better validation loss
    learning_rate: float = 8e-3  # at the peak of its schedule
    clip: float = 1.0  # norm of the gradient
    threads: int = 1  # of torch on the CPU; on two idle cores, 2 are a fifth faster with 64 units, two thirds with 256
    precision: Precision = "float32"  # bfloat16: autocast's, where it is exact enough; weights and sums stay float32

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type in (int, float) and field.name not in self.from_zero() and not value > 0:
                raise ValueError(f"{field.name} must be above 0, got {value}")
            if field.name in self.from_zero() and not value >= 0:
                raise ValueError(f"{field.name} must not be negative, got {value}")
        if not re.fullmatch(NAME_PATTERN, self.name):
            raise ValueError(f"name must be letters, digits, dots, dashes and underscores, got {self.name!r}")
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision must be one of {', '.join(get_args(Precision))}, got {self.precision!r}")
        for kind in self.kinds:
            if kind not in get_args(Kind):
                raise ValueError(f"cell must be one of {', '.join(get_args(Kind))}, got {kind!r}")
        if len(self.kinds) != self.layers:
            raise ValueError(f"cell names {len(self.kinds)} layers, and layers is {self.layers}: {self.cell!r}")

    @staticmethod
    def from_zero() -> frozenset[str]:
        """The numbers that may be 0."""
        return frozenset({"seed"})

    @property
    def kinds(self) -> tuple[str, ...]:
        """The cell of each layer."""
        named = tuple(self.cell.split(","))
        return named * self.layers if len(named) == 1 else named

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The config that `to_dict` wrote; ValueError names a field that this version does not know."""
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"The run's config has fields this version does not know: {', '.join(sorted(unknown))}.")
        given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return cls(**given)
