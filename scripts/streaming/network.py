"""The network around the recurrent stack: raw units in, raw units out at every step, the scaling inside.

Owns what happens to a step before and after the stack. Knows nothing of the loop that trains it or of the graph it is exported to.

    z = (input - mean) / scale                                  fitted to the training part, not trained
    h = stack(NEAR tanh(z / NEAR))                              nearly z within 3, never beyond NEAR: no outlier upsets the states
    denoise   output_k = input_k + (offset + (skip z + gain W_o h))
    regress   output   = offset + (skip z + gain W_o h)
    classify  output   = softmax(offset + W_o h)

offset and skip are the best linear answer, in closed form, and gain is the size of its errors: W_o begins at zero, so training
starts from the linear answer and sees its errors at unit size. In skip z, z is clipped to +-FAR. The small terms are added first,
so that a large value keeps its digits. For classes, offset is the logarithm of their frequencies.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from scripts.series.config import Config
from scripts.streaming.linear import FAR, Fitted, Scaling
from scripts.training.stack import Stack

NEAR = 10.0  # standard deviations
LEAST_GAIN = 1e-4  # of the standard deviation of what the linear answer was fitted to

Array = NDArray[np.float64]


class Network(nn.Module):
    """An answer for every step of features (batch, time, features), causal: targets, or the probabilities of classes.

    outputs: how many targets or classes.
    """

    mean: Tensor  # (features,)
    scale: Tensor  # (features,)
    skip: Tensor  # (outputs, features), zeros for classes
    offset: Tensor  # (outputs,)
    gain: Tensor  # (outputs,), ones for classes

    def __init__(self, config: Config, *, features: int, outputs: int) -> None:
        super().__init__()
        self.config, self.features, self.outputs = config, features, outputs
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("skip", torch.zeros(outputs, features))
        self.register_buffer("offset", torch.zeros(outputs))
        self.register_buffer("gain", torch.ones(outputs))
        self.stack = Stack(features, config.hidden, config.kinds, bias=config.bias)
        self.head = nn.Linear(config.hidden, outputs, bias=config.bias)
        nn.init.zeros_(self.head.weight)
        if config.bias:
            nn.init.zeros_(self.head.bias)

    @property
    def classifies(self) -> bool:
        return self.config.task == "classify"

    def scale_by(self, scaling: Scaling) -> None:
        self.mean.copy_(torch.from_numpy(scaling.mean))
        self.scale.copy_(torch.from_numpy(scaling.scale))

    def begin_at(self, fitted: Fitted) -> None:
        """Let the untrained network answer what this linear map of the current row answers."""
        weights = torch.from_numpy(fitted.linear.weights)
        self.offset.copy_(weights[0])
        self.skip.copy_(weights[1:].t())
        # if the linear answer is right to the last digit, its errors are rounding, and nothing is to be learned from them
        self.gain.copy_(torch.from_numpy(np.maximum(fitted.residual, LEAST_GAIN * fitted.spread.scale)))

    def forward(
        self, input: Tensor, state: tuple[Tensor, ...] | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Targets in raw units, or logits of classes, (batch, time, outputs), and the final states; for the arguments see Stack.

        Every finite input has a finite answer, as far as float32 holds the sum of it and the correction.
        """
        z = (input - self.mean) / self.scale
        h, state = self.stack(NEAR * torch.tanh(z / NEAR), state, lengths)
        learned = self.head(h)
        if self.classifies:
            return learned + self.offset, state
        with torch.autocast(input.device.type, enabled=False):  # the part that is not trained stays in float32
            linear = z.clamp(-FAR, FAR) @ self.skip.t()
        correction = (linear + self.gain * learned) + self.offset
        return (input[..., : self.outputs] + correction if self.config.task == "denoise" else correction), state

    def answers(
        self, input: Tensor, state: tuple[Tensor, ...] | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What is served: as `forward`, with probabilities of classes, (batch, time, outputs), in place of their logits."""
        output, state = self(input, state, lengths)
        return output.softmax(dim=-1) if self.classifies else output, state

    def equations(self, steps: Array, state: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
        """What is served for one sequence, steps (time, features) from the states of Stack.shapes, in float64 NumPy."""
        skip, offset, gain = (each.detach().cpu().double().numpy() for each in (self.skip, self.offset, self.gain))
        W_o, b_o = (each.astype(np.float64) for each in self.head_weights())
        z = self.scaled(steps)
        h, state = self.stack.equations(NEAR * np.tanh(z / NEAR), state)
        learned = h @ W_o.T + b_o
        if self.classifies:
            logits = learned + offset
            powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
            return powers / powers.sum(axis=-1, keepdims=True), state
        correction = z.clip(-FAR, FAR) @ skip.T + gain * learned + offset
        return (steps[:, : self.outputs] + correction if self.config.task == "denoise" else correction), state

    def scaled(self, steps: Array) -> Array:
        """Z (time, features), in float64 NumPy."""
        mean, scale = (each.detach().cpu().double().numpy() for each in (self.mean, self.scale))
        return np.asarray((steps - mean) / scale)

    def head_weights(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """W_o (outputs, hidden) and b_o (outputs,), zeros in a network without bias."""
        weight = self.head.weight.detach().cpu().numpy()
        bias = np.zeros(self.outputs, np.float32) if self.head.bias is None else self.head.bias.detach().cpu().numpy()
        return weight, bias
