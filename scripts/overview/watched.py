"""A problem that reports each epoch as soon as it is done, so that a run can be drawn or ended while it trains.

Owns the row of an epoch, as the history will have it. Knows nothing of the listener, and changes nothing of what is learned.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from scripts.training.config import RunConfig
from scripts.training.problem import Problem
from scripts.training.scores import Scores

Told = Callable[[dict[str, float]], Exception | None]


class Watched:
    """A problem.Problem that wraps `problem` and passes the row of every epoch to `told`.

    An exception that `told` returns is raised when the next epoch would begin: by then this epoch is saved. epoch: how many
    epochs are done already.
    """

    def __init__(self, problem: Problem, told: Told, *, epoch: int = 0) -> None:
        self._problem = problem
        self._told = told
        self._epoch = epoch
        self._losses: list[float] = []
        self._end: Exception | None = None

    @property
    def config(self) -> RunConfig:
        return self._problem.config

    @property
    def updates_per_epoch(self) -> int:
        return self._problem.updates_per_epoch

    @property
    def facts(self) -> dict[str, Any]:
        return self._problem.facts

    def network(self) -> nn.Module:
        return self._problem.network()

    def prepare(self, epoch: int) -> Any:
        return self._problem.prepare(epoch)

    def losses(self, network: nn.Module, prepared: Any, device: str) -> Iterator[Tensor]:
        if self._end is not None:
            raise self._end
        self._losses.clear()
        for loss in self._problem.losses(network, prepared, device):
            yield loss
            self._losses.append(loss.item())  # after the update, as the training loop has waited for it by then

    def validate(self, network: nn.Module, device: str) -> dict[str, float]:
        found = self._problem.validate(network, device)
        self._epoch += 1
        row = {"epoch": self._epoch, "training_loss": float(np.mean(self._losses))}
        self._end = self._told(row | {f"validation_{name}": value for name, value in found.items()})
        return found

    def scores(self, network: nn.Module, device: str) -> Scores:
        return self._problem.scores(network, device)

    def pictures(self, network: nn.Module, device: str, folder: Path) -> list[Path]:
        return self._problem.pictures(network, device, folder)
