"""The network around the cell: raw units in, raw units out, the scaling inside.

Owns what happens to a step before and after the GRU. Knows nothing of the loop that trains it or the graph it is
exported to. What is linear in the device's errors (scale factor, misalignment) is fitted in closed form; the GRU
learns the rest as a correction, so that a rate of 1000 deg/s costs no precision.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from scripts.training import reference
from scripts.training.calibration import calibration
from scripts.training.cell import GRU
from scripts.training.config import Config

# Each rate enters the GRU once per scale, as tanh(rate / scale): the widest tells motion, the narrowest resolves noise.
RATE_SCALES = (300.0, 10.0, 1.0)  # deg/s
FORCE_SCALE = 9.80665  # m/s^2
CORRECTION_SCALE = 0.5  # deg/s, what a head output of 1 is worth


class Denoiser(nn.Module):
    """True rates (batch, time, 3) from gyro and accelerometer (batch, time, 6), causal, one output per step.

    rate = gyro + calibration x + W_o h: the measured rate, the device's linear errors, and what the GRU has learned.
    """

    calibration: Tensor  # (3, 6)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("calibration", torch.zeros(3, 6))
        features = 3 * len(RATE_SCALES) + 3
        self.gru = GRU(features, config.hidden, num_layers=config.layers, bias=config.bias, variant=config.cell)
        self.head = nn.Linear(config.hidden, 3, bias=config.bias)
        nn.init.zeros_(self.head.weight)  # the first output is the calibrated measurement
        if config.bias:
            nn.init.zeros_(self.head.bias)

    def calibrate(self, features: NDArray[np.float32], targets: NDArray[np.float32]) -> None:
        """Fit the linear part by least squares on recordings (count, time, 6) with known rates (count, time, 3)."""
        self.calibration.copy_(torch.from_numpy(calibration(features, targets)))

    def forward(self, input: Tensor, h0: Tensor | None = None, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Rates (batch, time, 3) and final states (layers, batch, hidden); arguments as of cell.GRU."""
        correction = input @ self.calibration.t()
        rate = input[..., :3] + correction
        scaled = [torch.tanh(rate / scale) for scale in RATE_SCALES]
        states, hn = self.gru(torch.cat([*scaled, input[..., 3:] / FORCE_SCALE], dim=-1), h0, lengths)
        return input[..., :3] + (correction + CORRECTION_SCALE * self.head(states)), hn

    def equations(self, steps: NDArray[np.float64], h0: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The same for one sequence, steps (time, 6) from h0 (layers, hidden), by the equations in float64 NumPy."""
        W_o, b_o = (array.astype(np.float64) for array in self.head_weights())
        measured, correction = steps[:, :3], steps @ self.calibration.cpu().double().numpy().T
        scaled = [np.tanh((measured + correction) / scale) for scale in RATE_SCALES]
        features = np.concatenate([*scaled, steps[:, 3:] / FORCE_SCALE], axis=1)
        h, hn = reference.run(self.gru.weights(), features, h0, self.gru.variant)
        return measured + (correction + CORRECTION_SCALE * reference.output(W_o, b_o, h)), hn

    def head_weights(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """W_o (3, hidden) and b_o (3,), zeros in a network without bias."""
        weight = self.head.weight.detach().cpu().numpy()
        bias = np.zeros(3, dtype=np.float32) if self.head.bias is None else self.head.bias.detach().cpu().numpy()
        return weight, bias
