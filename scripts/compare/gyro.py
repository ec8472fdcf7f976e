"""Cleaning a simulated gyroscope with two layers: the training of scripts.gyro, shortened.

Owns how it is shortened. The device, its recordings, the network around the cells and the loss are those of scripts.gyro. Knows
nothing of time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from scripts.compare import cells
from scripts.compare.cells import Cell
from scripts.gyro.config import Config
from scripts.gyro.data import VALIDATION, Gyro, Recordings
from scripts.gyro.evaluate import SETTLE_SECONDS, WINDOW_SECONDS, orientation_errors
from scripts.gyro.filters import rmse
from scripts.gyro.model import Denoiser
from scripts.gyro.problem import Denoising

Array = NDArray[np.float64]

LAYERS = 2
STEPS = 128  # between two updates


@dataclass(frozen=True, slots=True)
class Denoise:
    """A task.Task. A recording lasts `chunks` updates; `validation` and `test`: recordings, and seconds of each."""

    epochs: int
    recordings: int
    chunks: int
    validation: tuple[int, float]
    test: tuple[int, float]
    tunes: bool = True
    layers: int = LAYERS
    solved: float = 0.75
    ends_when_solved: bool = False
    name: str = "gyro"
    family: str = "gyro"
    error_name: str = "settled RMSE / calibration's"

    @property
    def updates(self) -> int:
        return self.epochs * self.chunks

    @property
    def steps(self) -> int:
        return STEPS

    @property
    def describes(self) -> str:
        return (
            f"**Gyro denoising**: the training of this project, shortened to {self.updates:,} updates of {self.recordings} "
            f"recordings by {self.steps} steps; two layers, and nothing is taken off for rest. Every seed is another specimen. "
            f"Tested on {self.test[0]} recordings of {self.test[1]:g} s: the RMSE from {SETTLE_SECONDS:g} s on, and the median "
            "error of the attitude after integrating "
            f"for {WINDOW_SECONDS:g} s. Solved: a settled RMSE on validation recordings below {self.solved:g} times that of the "
            "linear calibration alone, which is what a network begins with."
        )

    def size(self, cell: Cell, hidden: int) -> int:
        return cells.parameters(Denoiser(self._config(cell, hidden, 0)))

    def lesson(self, cell: Cell, hidden: int, seed: int) -> "DenoiseLesson":
        return DenoiseLesson(self, self._config(cell, hidden, seed), cell)

    def _config(self, cell: Cell, hidden: int, seed: int) -> Config:
        return Config(
            seed=seed,
            cell=",".join(cell.layers(LAYERS)),
            layers=LAYERS,
            hidden=hidden,
            epochs=self.epochs,
            recordings=self.recordings,
            least_motion=1.0,
            zero_rate=False,
            batch=self.recordings,
            chunk=STEPS,
            recording_seconds=self.chunks * self.steps / Config().sample_rate,
        )


class ShortGyro(Gyro):
    """The device, with validation recordings of another number and length."""

    def __init__(self, config: Config, shape: tuple[int, float]) -> None:
        super().__init__(config)
        self._shape = shape

    def validation(self) -> Recordings:
        return self._record([VALIDATION], *self._shape)


class DenoiseLesson:
    """A task.Lesson."""

    def __init__(self, task: Denoise, config: Config, cell: Cell) -> None:
        self._task, self._config, self._cell = task, config, cell
        self._gyro = ShortGyro(config, task.validation)
        self._problem = Denoising(self._gyro)
        self._validation = self._gyro.validation()
        self._calibrated = 1.0  # deg/s, the error of a network that has learned nothing but the calibration

    def network(self) -> nn.Module:
        network = self._problem.network()
        cells.begin(network, self._cell)
        self._calibrated = self._settled(network, self._validation)
        return network

    def prepare(self, epoch: int) -> Recordings:
        return self._problem.prepare(epoch)

    def losses(self, network: nn.Module, prepared: Recordings) -> Iterator[Tensor]:
        return self._problem.losses(network, prepared, "cpu")

    def error(self, network: nn.Module, losses: Sequence[float]) -> float:  # noqa: ARG002  # a Lesson's signature
        return self._settled(network, self._validation) / self._calibrated

    def test(self, network: nn.Module) -> dict[str, float]:
        count, seconds = self._task.test
        recordings = self._gyro.test(count=count, seconds=seconds)
        angles = orientation_errors(_rates(network, recordings), recordings.targets.astype(np.float64), self._config.sample_rate)
        return {
            "settled RMSE, deg/s": self._settled(network, recordings),
            "angle, degrees": float(np.median(angles)),
        }

    def _settled(self, network: nn.Module, recordings: Recordings) -> float:
        """The RMSE, deg/s, from the time on at which the bias can be known."""
        settled = round(SETTLE_SECONDS * self._config.sample_rate)
        return rmse(_rates(network, recordings)[:, settled:], recordings.targets[:, settled:].astype(np.float64))


def _rates(network: nn.Module, recordings: Recordings) -> Array:
    """What the network answers, (count, time, 3) in deg/s."""
    with torch.inference_mode():
        rates: Array = network(torch.from_numpy(recordings.features))[0].double().numpy()
    return rates
