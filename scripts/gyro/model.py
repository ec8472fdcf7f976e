"""The network around the recurrent layers: raw units in, raw units out, the scaling inside.

Owns what happens to a step before and after them. Knows nothing of the loop that trains it or the graph it is exported to. What
is linear in the device's errors (scale factor, misalignment) is fitted in closed form; the layers learn the rest as a
correction, so that a rate of 1000 deg/s costs no precision. They also learn when the device lies still: the small rates that it
reports then are noise, and are removed.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from scripts.gyro.calibration import calibration
from scripts.gyro.config import Config
from scripts.training import reference
from scripts.training.reference import Array
from scripts.training.stack import Stack

# Each rate enters the stack once per scale, as tanh(rate / scale): the widest shows motion, the narrowest resolves noise.
RATE_SCALES = (300.0, 10.0, 1.0)  # deg/s
FORCE_SCALE = 9.80665  # m/s^2
CORRECTION_SCALE = 0.5  # deg/s, what a head output of 1 is worth
MOST_AT_REST = 2.0  # deg/s that can be removed while the device is still
MOVING = 4.0  # taken off the head's score for stillness: at first it hardly finds the device still


class Denoiser(nn.Module):
    """True rates (batch, time, 3) from gyro and accelerometer (batch, time, 6), causal, one output per step.

    rate = gyro + calibration x + W_o h: the measured rate, the device's linear errors, and what the stack has learned. With
    zero_rate, W_o h has three more rows s, and sigmoid(s - MOVING) times this rate, clipped to +-MOST_AT_REST, is taken off.
    """

    calibration: Tensor  # (3, 6)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("calibration", torch.zeros(3, 6))
        self.stack = Stack(3 * len(RATE_SCALES) + 3, config.hidden, config.kinds, bias=config.bias)
        self.head = nn.Linear(config.hidden, 6 if config.zero_rate else 3, bias=config.bias)
        nn.init.zeros_(self.head.weight)  # the first output is the calibrated measurement, or nearly
        if config.bias:
            nn.init.zeros_(self.head.bias)

    def calibrate(self, features: NDArray[np.float32], targets: NDArray[np.float32]) -> None:
        """Fit the linear part by least squares on recordings (count, time, 6) with known rates (count, time, 3)."""
        self.calibration.copy_(torch.from_numpy(calibration(features, targets)))

    def forward(
        self, input: Tensor, state: tuple[Tensor, ...] | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Rates (batch, time, 3) and final states; for state and lengths see Stack."""
        with torch.autocast(input.device.type, enabled=False):  # bfloat16 has too few digits for a large rate
            correction = input @ self.calibration.t()
        rate = input[..., :3] + correction
        scaled = [torch.tanh(rate / scale) for scale in RATE_SCALES]
        h, ends = self.stack(torch.cat([*scaled, input[..., 3:] / FORCE_SCALE], dim=-1), state, lengths)
        said = self.head(h)
        correction = correction + CORRECTION_SCALE * said[..., :3]
        if self.config.zero_rate:
            small = (input[..., :3] + correction).clamp(-MOST_AT_REST, MOST_AT_REST)
            correction = correction - torch.sigmoid(said[..., 3:] - MOVING) * small
        return input[..., :3] + correction, ends

    def equations(self, steps: Array, state: Sequence[Array]) -> tuple[Array, tuple[Array, ...]]:
        """Rates (time, 3) and final states of one sequence (time, 6) in float64 NumPy; state: an array for each of stack.shapes."""
        W_o, b_o = (array.astype(np.float64) for array in self.head_weights())
        measured, correction = steps[:, :3], steps @ self.calibration.cpu().double().numpy().T
        scaled = [np.tanh((measured + correction) / scale) for scale in RATE_SCALES]
        features = np.concatenate([*scaled, steps[:, 3:] / FORCE_SCALE], axis=1)
        h, ends = self.stack.equations(features, state)
        said = reference.output(W_o, b_o, h)
        correction = correction + CORRECTION_SCALE * said[:, :3]
        if self.config.zero_rate:
            small = (measured + correction).clip(-MOST_AT_REST, MOST_AT_REST)
            correction = correction - reference.sigmoid(said[:, 3:] - MOVING) * small
        return measured + correction, ends

    def head_weights(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """W_o (3 or 6, hidden) and b_o (3 or 6,), zeros in a network without bias."""
        weight = self.head.weight.detach().cpu().numpy()
        bias = np.zeros(len(weight), dtype=np.float32) if self.head.bias is None else self.head.bias.detach().cpu().numpy()
        return weight, bias
