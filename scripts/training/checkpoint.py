"""A training run on disk: enough to go on as if it had never stopped, and the best weights so far.

Owns the file and that it is never half-written. Knows nothing of how a run is trained. It is loaded with `weights_only`, so that
pickle runs no code: a checkpoint from elsewhere can be wrong, but not harmful.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from errno import EINVAL
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Self

import torch
from torch import Tensor

from scripts.files import write_whole
from scripts.training.config import RunConfig

FILE_NAME = "checkpoint.pt"


@dataclass(slots=True)
class Checkpoint:
    """A run after `epoch` epochs. history: one dict of numbers per epoch; facts: what the problem's artifact needs to know of
    its data, in plain values and tensors; seconds: how long these epochs took, in all processes that trained the run."""

    config: RunConfig
    epoch: int
    network: dict[str, Tensor]
    optimizer: dict[str, Any]
    best_epoch: int
    best_loss: float
    best_network: dict[str, Tensor]
    history: list[dict[str, float]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def best(self) -> dict[str, float] | None:
        """The history's numbers of the best epoch; None before the first epoch is done."""
        return self.history[self.best_epoch - 1] if self.best_epoch else None

    def save(self, run: Path) -> None:
        """Write the checkpoint of the run in this folder; the old one stands until the new one is whole.

        Raises OSError if it cannot be written; then nothing of the new one is left.
        """
        content = {name: getattr(self, name) for name in self.__slots__} | {"config": self.config.to_dict()}
        whole = BytesIO()
        torch.save(content, whole)  # not into the file: on a full disk torch raises a RuntimeError without the reason
        write_whole(run / FILE_NAME, whole.getbuffer())

    @classmethod
    def load(cls, run: Path, config_of: Callable[[dict[str, Any]], RunConfig]) -> Self:
        """The checkpoint of a run, its config read by `config_of`.

        Raises FileNotFoundError if there is none, ValueError if it is broken or of another version.
        """
        try:
            content = torch.load(run / FILE_NAME, weights_only=True, map_location="cpu")
            return cls(**content | {"config": config_of(content["config"])})
        except OSError as error:
            if error.errno != EINVAL:  # torch has looked for the end of the file before its beginning
                raise
            raise ValueError(f"{run / FILE_NAME} is broken or not a checkpoint: it is cut short") from error
        except (AttributeError, EOFError, KeyError, RuntimeError, TypeError, UnpicklingError) as error:
            raise ValueError(f"{run / FILE_NAME} is broken or not a checkpoint: {error}") from error
