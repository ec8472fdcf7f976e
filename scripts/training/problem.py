"""The interfaces of what is learned: `Problem` for the training loop, `Artifact` for publishing.

The parts that are the same for every model (fit, checkpoint, verify, publish) know the others by these two only. scripts.gyro
implements them for a simulated sensor, scripts.streaming and scripts.forecasting for recordings in files.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from app.golden import Golden
from app.manifest import ModelSpec, OutputSpec, StateSpec
from app.tensors import Instance, Prediction
from scripts.training.config import RunConfig
from scripts.training.scores import Scores


class Problem(Protocol):
    """What is learned: the network, the data of an epoch, the loss of an update, and how good a network is."""

    @property
    def config(self) -> RunConfig: ...

    @property
    def updates_per_epoch(self) -> int: ...

    @property
    def facts(self) -> dict[str, Any]:
        """What the artifact needs to know of the data, in plain values and tensors; the checkpoint keeps it."""

    def network(self) -> nn.Module:
        """A new network, as it is before the first update; its random weights are drawn from torch's generator."""

    def prepare(self, epoch: int) -> Any:
        """The data for `losses` in this epoch, a function of the config and the epoch. Called in another thread, an epoch ahead."""

    def losses(self, network: nn.Module, prepared: Any, device: str) -> Iterator[Tensor]:
        """Yield the loss of each update; the next is asked for after the update with the one before."""

    def validate(self, network: nn.Module, device: str) -> dict[str, float]:
        """`loss`, by which the best epoch is chosen, and the metrics by name; the network is left in training mode."""

    def scores(self, network: nn.Module, device: str) -> Scores:
        """The network beside simpler methods, on data that neither training nor the choice of the best epoch has seen."""

    def pictures(self, network: nn.Module, device: str, folder: Path) -> list[Path]:
        """What it predicts beside the truth, drawn into PNG files in `folder`."""


class Artifact(Protocol):
    """A trained network, to be published. What its manifest says of the training comes from the checkpoint: `best`, and
    `facts["scores"]`, which is Scores.to_dict() once the run has ended."""

    @property
    def outputs(self) -> tuple[OutputSpec, ...]: ...

    @property
    def states(self) -> tuple[StateSpec, ...]: ...

    def write_graphs(self, folder: Path) -> None:
        """Write the graphs that the manifest will name."""

    def golden(self) -> Golden:
        """Held-out instances, from random states if it has states, with the answers of the equations in float64 NumPy."""

    def by_torch(self, instances: Sequence[Instance]) -> list[Prediction]:
        """The answers of the network in torch, all instances in one batch if possible."""

    def spec(self, version: str, folder: Path) -> ModelSpec:
        """The manifest of the files in `folder`."""
