"""A training run on disk: enough to go on as if it had never stopped, and the best weights so far.

Owns the file and that it is never half-written. Knows nothing of how a run is trained. Loaded without pickle's powers
(`weights_only`): a checkpoint from elsewhere can be wrong, not harmful.
"""

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Self

import torch
from torch import Tensor

from scripts.training.config import Config

FILE_NAME = "checkpoint.pt"


@dataclass(slots=True)
class Checkpoint:
    """A run after `epoch` epochs. history: one dict of numbers per epoch."""

    config: Config
    epoch: int
    network: dict[str, Tensor]
    optimizer: dict[str, Any]
    best_epoch: int
    best_loss: float
    best_network: dict[str, Tensor]
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def best(self) -> dict[str, float] | None:
        """The numbers of the best epoch; None while no epoch has given a finite validation loss."""
        return self.history[self.best_epoch - 1] if self.best_epoch else None

    def save(self, run: Path) -> None:
        """Write the checkpoint of the run in this folder; the old one stands until the new one is whole."""
        content = {name: getattr(self, name) for name in self.__slots__} | {"config": asdict(self.config)}
        temporary = run / f".{FILE_NAME}.tmp"
        torch.save(content, temporary)
        os.replace(temporary, run / FILE_NAME)

    @classmethod
    def load(cls, run: Path) -> Self:
        """The checkpoint of a run; FileNotFoundError when there is none, ValueError when it is broken or of another version."""
        try:
            content = torch.load(run / FILE_NAME, weights_only=True, map_location="cpu")
            return cls(**content | {"config": Config.from_dict(content["config"])})
        except (EOFError, KeyError, RuntimeError, TypeError, UnpicklingError) as error:
            raise ValueError(f"{run / FILE_NAME} is broken or not a checkpoint: {error}") from error
