"""The network around the recurrent stack: a context in raw units in, a forecast in raw units out, the scaling inside.

Owns how a window becomes a forecast. Knows nothing of the loop that trains it or the graph it is exported to. The context is taken
a segment at a time, so that the recurrence has few steps (Lin et al., "SegRNN", 2023). The linear part is fitted in closed form
and not trained; the stack learns the rest, and its last state gives all rows of the horizon at once.

Measured MSE of the test part, all else equal: on 17,420 hours of seven simulated loads the best line alone had 0.0956, the stack
with it 0.0840, and with SegRNN's decoding (a step of the recurrence for each segment ahead) 0.0885; on half-hourly demand (Taylor,
2003) 0.01007, 0.0099 and 0.0097. On the latter, the stack without the line had 0.0937, and with a line that is trained with it
0.0115; smooth L1 in place of squares made no difference. On the loads, an embedding of the channel made none.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import softplus

from scripts.forecasting import whole
from scripts.forecasting.framing import Framing
from scripts.forecasting.linear import MOST_OWN, Linear, applied
from scripts.forecasting.normal import Frame, Normal
from scripts.series.config import Config
from scripts.training.stack import Stack

DROPOUT = 0.5  # of the recurrence's last state: the windows of an epoch overlap, and are soon memorised
LEAST_GAP = 1e-3  # between two quantiles at the start: closer ones would hardly move apart

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Answer:
    """A forecast relative to its frame."""

    numbers: Tensor  # (batch, horizon, targets)
    added: Tensor  # the part of them that the recurrence adds to the line
    levels: Tensor | None  # (batch, horizon, targets, levels)
    frame: Frame


class Network(nn.Module):
    """Forecasts (batch, horizon, targets) from contexts (batch, context, features) and, if they are asked for, quantiles
    (batch, horizon, targets, levels).

    number = line(window) + trust (W_o h + b_o), where h is the state that the stack ends in, and value = base + level + spread x
    number. In training mode trust is 1.
    """

    line: Tensor  # (lines, context, horizon) from the own past; in a wide framing (targets, context x features, horizon)
    offset: Tensor  # (lines, horizon)
    trust: Tensor  # (), from 0 to 1: see trust.py

    def __init__(self, config: Config, framing: Framing) -> None:
        super().__init__()
        self.framing = framing
        self.joint = framing.channels == "joint"
        self.normal = Normal(framing)
        lines = 1 if framing.targets > MOST_OWN and all(framing.known) else framing.targets
        inputs = framing.context * (framing.features if framing.wide else 1)
        lines = framing.targets if framing.wide else lines
        self.register_buffer("line", torch.zeros(lines, inputs, framing.horizon))
        self.register_buffer("offset", torch.zeros(lines, framing.horizon))
        self.register_buffer("trust", torch.ones(()))
        self.stack = Stack(
            framing.segment * (framing.features if self.joint else 1),
            config.hidden,
            config.kinds,
            bias=config.bias,
            memory=max(2, framing.steps),
        )
        self.dropout = nn.Dropout(DROPOUT)
        answers = framing.horizon * (framing.targets if self.joint else 1)
        self.head = nn.Linear(config.hidden, answers, bias=config.bias)
        self.levels = nn.Linear(config.hidden, answers * len(framing.quantiles)) if framing.quantiles else None
        for head in filter(None, (self.head, self.levels)):  # the first forecast is the linear one
            nn.init.zeros_(head.weight)
            if head.bias is not None:
                nn.init.zeros_(head.bias)

    def start_from(self, linear: Linear) -> None:
        """Set the line: in a wide framing of all targets, else of those that are among the features; the others have none."""
        known = [index for index, known in enumerate(self.framing.known) if known or self.framing.wide]
        lines = known if len(self.line) > 1 else [0]
        self.line[lines] = linear.weight
        self.offset[lines] = linear.offset

    def start_quantiles(self, errors: Tensor) -> None:
        """Start with the quantiles of these errors (windows, horizon, targets): truth minus forecast in units of the frame."""
        assert self.levels is not None
        errors = errors.permute(2, 1, 0)  # (targets, horizon, windows)
        if not self.joint:  # one head for all targets
            errors = errors.transpose(0, 1).flatten(1)[None]
        levels = torch.quantile(errors.double(), torch.tensor(self.framing.quantiles, dtype=torch.float64), dim=-1)
        gaps = levels.diff(dim=0).clamp(min=LEAST_GAP)
        raw = torch.cat([levels[:1], gaps + torch.log(-torch.expm1(-gaps))])  # softplus makes the gaps of these
        with torch.no_grad():
            self.levels.bias.copy_(raw.permute(1, 2, 0).flatten())

    def answer(self, input: Tensor) -> Answer:
        seen, frame = self.normal(input)
        batch, framing = len(input), self.framing
        own = seen[..., self.normal.picked].permute(2, 0, 1)  # (targets, batch, context)
        steps = seen.reshape(batch, framing.steps, -1) if self.joint else own.reshape(-1, framing.steps, framing.segment)
        states, _ = self.stack(steps)
        end = self.dropout(states[:, -1])
        added = self._by_target(self.head(end), batch)
        if not self.training:
            added = self.trust * added
        numbers = applied(self.line, self.offset, whole.rows(seen) if framing.wide else own) + added
        levels = None
        if self.levels is not None:
            raw = self._by_target(self.levels(end), batch, len(framing.quantiles))
            climb = torch.cat([raw[..., :1], softplus(raw[..., 1:])], dim=-1).cumsum(dim=-1)
            levels = (numbers.detach()[..., None] + climb).permute(1, 2, 0, 3)  # detached: quantiles do not change the forecast
        return Answer(numbers.permute(1, 2, 0), added.permute(1, 2, 0), levels, frame)

    def _by_target(self, raw: Tensor, batch: int, *more: int) -> Tensor:
        """What a head gives for all rows, as (targets, batch, horizon, ...)."""
        targets, horizon = self.framing.targets, self.framing.horizon
        if self.joint:
            return raw.reshape(batch, targets, horizon, *more).transpose(0, 1)
        return raw.reshape(targets, batch, horizon, *more)

    def forward(self, input: Tensor) -> tuple[Tensor, ...]:
        answer = self.answer(input)
        values = answer.frame.back(answer.numbers)
        return (values,) if answer.levels is None else (values, answer.frame.back_levels(answer.levels))

    def equations(self, steps: Array) -> tuple[Array, ...]:
        """What `forward` answers to one context (context, features), by the equations in float64 NumPy."""
        seen, base, level, spread = self.normal.equations(steps)
        read, ends = self._rows(seen)
        line, offset = self._lines()
        numbers = np.einsum("tc,tch->th", read, line) + offset + self.trust.item() * self._laid(_affine(self.head, ends))
        values = base + (level + spread * numbers.T)
        if self.levels is None:
            return (values,)
        raw = self._laid(_affine(self.levels, ends), len(self.framing.quantiles))
        climb = np.cumsum(np.concatenate([raw[..., :1], np.logaddexp(0, raw[..., 1:])], axis=-1), axis=-1)
        levels = (numbers[..., None] + climb).transpose(1, 0, 2)
        return values, base[:, None] + (level[:, None] + spread[:, None] * levels)

    def terms(self, steps: Array) -> Array:
        """The sum of the sizes of each value's terms (horizon, targets) without its base: rounding is proportional to it."""
        seen, _, level, spread = self.normal.equations(steps)
        read, ends = self._rows(seen)
        line, offset = map(np.abs, self._lines())
        linear = np.einsum("tc,tch->th", np.abs(read), line) + offset
        sizes: Array = linear + self.trust.item() * self._laid(_affine(self.head, ends, np.abs))
        if self.levels is not None:
            raw = self._laid(_affine(self.levels, ends, np.abs), len(self.framing.quantiles))
            sizes = sizes + raw.sum(axis=-1)
        return np.abs(level) + spread * sizes.T

    def _rows(self, seen: Array) -> tuple[Array, Array]:
        """For one window: what each target's line reads (targets, inputs), and the stack's last h on each row (rows, hidden)."""
        framing = self.framing
        own = seen[:, framing.picked].T
        rows = [seen.reshape(framing.steps, -1)] if self.joint else [row.reshape(framing.steps, -1) for row in own]
        start = tuple(np.zeros(shape) for shape in self.stack.shapes)
        read = np.broadcast_to(seen.reshape(1, -1), (framing.targets, seen.size)) if framing.wide else own
        return read, np.stack([self.stack.equations(row, start)[0][-1] for row in rows])

    def _lines(self) -> tuple[Array, Array]:
        """The line (targets, inputs, horizon) and the offset (targets, horizon) of each target."""
        line, offset = (array.cpu().double().numpy() for array in (self.line, self.offset))
        targets = self.framing.targets
        return np.broadcast_to(line, (targets, *line.shape[1:])), np.broadcast_to(offset, (targets, *offset.shape[1:]))

    def _laid(self, raw: Array, *more: int) -> Array:
        """What a head gives for all rows of one window, as (targets, horizon, ...)."""
        return raw.reshape(self.framing.targets, self.framing.horizon, *more)


def _affine(layer: nn.Linear, rows: Array, of: Callable[[Array], Array] = np.asarray) -> Array:
    """The layer's answers; `of` is applied to its inputs, weights and biases first."""
    weight = of(layer.weight.detach().cpu().double().numpy())
    bias = np.zeros(len(weight)) if layer.bias is None else of(layer.bias.detach().cpu().double().numpy())
    product: Array = of(rows) @ weight.T + bias
    return product
