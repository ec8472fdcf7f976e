"""What the training loop needs to know of what is learned, and what an artifact must say to be published.

Owns the two seams between the parts that are the same for every model (fit, checkpoint, verify, publish) and those that are
not: scripts.gyro learns from a simulated sensor, scripts.series from recordings in files.
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
        """What the artifact needs to know of the data, in plain values and tensors: kept with the run."""

    def network(self) -> nn.Module:
        """A new network, as it is before the first update; its random weights are drawn from torch's generator."""

    def prepare(self, epoch: int) -> Any:
        """What `losses` reads in this epoch, a function of the config and the epoch; made in another thread while one trains."""

    def losses(self, network: nn.Module, prepared: Any, device: str) -> Iterator[Tensor]:
        """The loss of each update in turn; the next is asked for once the weights have been changed by the one before."""

    def validate(self, network: nn.Module, device: str) -> dict[str, float]:
        """`loss`, by which the best epoch is chosen, and the metrics by name; the network is left in training mode."""

    def scores(self, network: nn.Module, device: str) -> Scores:
        """The network beside simpler methods, on data that neither training nor the choice of the best epoch has seen."""

    def pictures(self, network: nn.Module, device: str, folder: Path) -> list[Path]:
        """What it predicts beside the truth, drawn into PNG files in `folder`."""


class Artifact(Protocol):
    """A trained network on its way into the model repository. What it says of its training stands in the checkpoint: `best`, and
    `facts["scores"]`, which is Scores.to_dict() once the run has ended."""

    @property
    def outputs(self) -> tuple[OutputSpec, ...]: ...

    @property
    def states(self) -> tuple[StateSpec, ...]: ...

    def write_graphs(self, folder: Path) -> None:
        """The graphs that the manifest will name."""

    def golden(self) -> Golden:
        """Held-out instances, from random states where it has any, with what the equations answer in float64 NumPy."""

    def by_torch(self, instances: Sequence[Instance]) -> list[Prediction]:
        """What the network answers in torch, all instances in one batch where they may be."""

    def spec(self, version: str, folder: Path) -> ModelSpec:
        """The manifest of the files in `folder`."""
