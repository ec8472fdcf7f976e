"""Cleaning a simulated gyroscope, as the training loop sees it: truncated back-propagation through time over long recordings.

Owns the loss, and the methods that a trained network is compared with; the card compares more. Knows nothing of how
recordings are made or of the loop. The state is carried from chunk to chunk of a recording, as it is when a live stream is
served; only the gradient is cut.
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss

from scripts.gyro import plots
from scripts.gyro.baselines import Array, Method, simple
from scripts.gyro.config import INCREMENTS, Config
from scripts.gyro.data import Gyro, Recordings
from scripts.gyro.evaluate import SETTLE_SECONDS, WINDOW_SECONDS, orientation_errors
from scripts.gyro.filters import rmse
from scripts.gyro.model import Denoiser
from scripts.training.scores import Metric, Row, Scores

STEPS = 1000  # in one call of the network on the test recordings; the state is carried on
METRICS = (
    Metric("RMSE", "deg/s"),
    Metric(f"RMSE after {SETTLE_SECONDS:g} s", "deg/s"),
    Metric(f"attitude error in {WINDOW_SECONDS:g} s", "degrees"),
)
NOISE = 0.05  # deg/s: errors above it count by their size, below it by their square


def loss_of(rates: Tensor, truth: Tensor) -> Tensor:
    """The loss of rates (batch, time, 3) in deg/s: of the rates and of their sums over INCREMENTS, which are angles."""
    error = (rates - truth) / NOISE
    zero = torch.zeros((), dtype=error.dtype, device=error.device)
    total = smooth_l1_loss(error, zero.expand_as(error))
    for window in INCREMENTS:
        whole = error.shape[1] // window * window
        # divided by the root of the window, the sum of white noise counts as much as the noise itself
        summed = error[:, :whole].reshape(len(error), -1, window, error.shape[2]).sum(dim=2) / window**0.5
        total = total + smooth_l1_loss(summed, zero.expand_as(summed)) / 2
    return total


class Denoising:
    """A problem.Problem. gyro: the device, and the recordings that are made with it."""

    def __init__(self, gyro: Gyro) -> None:
        self._gyro = gyro
        self._steps = round(self.config.recording_seconds * self.config.sample_rate)  # in a recording
        self._chunk = min(self.config.chunk, self._steps)

    @property
    def config(self) -> Config:
        return self._gyro.config

    @property
    def updates_per_epoch(self) -> int:
        return -(-self.config.recordings // self.config.batch) * (self._steps // self._chunk)

    @property
    def facts(self) -> dict[str, Any]:
        return {}

    def network(self) -> Denoiser:
        """A new network, its linear part fitted to the recordings of the first epoch."""
        network = Denoiser(self.config)
        first = self._gyro.training(0)
        network.calibrate(first.features, first.targets)
        return network

    def prepare(self, epoch: int) -> Recordings:
        return self._gyro.training(epoch)

    def losses(self, network: nn.Module, prepared: Recordings, device: str) -> Iterator[Tensor]:
        batch, chunk = self.config.batch, self._chunk
        for first in range(0, len(prepared.features), batch):
            features = torch.from_numpy(prepared.features[first : first + batch]).to(device)
            targets = torch.from_numpy(prepared.targets[first : first + batch]).to(device)
            state = None
            for begin in range(0, features.shape[1] - chunk + 1, chunk):
                rates, state = network(features[:, begin : begin + chunk], state)
                state = tuple(each.detach() for each in state)
                yield loss_of(rates, targets[:, begin : begin + chunk])

    def validate(self, network: nn.Module, device: str) -> dict[str, float]:
        """Loss and RMSE (deg/s) over whole recordings, each from the zero state."""
        with torch.inference_mode():
            truth = torch.from_numpy(self._validation.targets).to(device)
            rates, _ = network(torch.from_numpy(self._validation.features).to(device))
            return {"loss": loss_of(rates, truth).item(), "rmse": (rates - truth).square().mean().sqrt().item()}

    def scores(self, network: nn.Module, device: str) -> Scores:
        """On the test recordings: the raw signal, the calibrated one, the best single filter after it, and the network."""
        test = self._test
        truth, settled = test.targets.astype(np.float64), round(SETTLE_SECONDS * self.config.sample_rate)
        rows = []
        for method in self._methods(network, device):
            rates = method.run(test.features.astype(np.float64))
            angles = orientation_errors(rates, truth, self.config.sample_rate)
            values = rmse(rates, truth), rmse(rates[:, settled:], truth[:, settled:]), float(np.median(angles))
            rows.append(Row(method.name, values))
        count, steps, _ = truth.shape
        return Scores(f"{count} test recordings of {steps / self.config.sample_rate:g} s", METRICS, tuple(rows))

    def pictures(self, network: nn.Module, device: str, folder: Path) -> list[Path]:
        """The true rate of one axis in some eventful seconds, and the errors of the same methods."""
        index, moment = plots.eventful(self._test, self.config.sample_rate)
        features = self._test.features[index : index + 1].astype(np.float64)
        truth = self._test.targets[index, :, 0].astype(np.float64)
        errors = {method.name: (method.run(features)[0, :, 0] - truth)[moment] for method in self._methods(network, device)}
        path = folder / "motion.png"
        plots.draw_motion(truth[moment], errors, self.config.sample_rate, path)
        return [path]

    @cached_property
    def _validation(self) -> Recordings:
        return self._gyro.validation()

    @cached_property
    def _test(self) -> Recordings:
        return self._gyro.test()

    @cached_property
    def _simple(self) -> list[Method]:
        return simple(self._gyro)

    def _methods(self, network: nn.Module, device: str) -> list[Method]:
        return [*self._simple, Method("the model", "trained", lambda features: denoised(network, features, device))]


def denoised(network: nn.Module, features: Array, device: str) -> Array:
    """The network's rates (count, time, 3) of features (count, time, 6), each recording from the zero state."""
    steps = torch.from_numpy(features.astype(np.float32)).to(device)
    found, state = [], None
    with torch.inference_mode():
        for begin in range(0, steps.shape[1], STEPS):
            rates, state = network(steps[:, begin : begin + STEPS], state)
            found.append(rates.cpu().numpy())
    return np.concatenate(found, axis=1).astype(np.float64)
