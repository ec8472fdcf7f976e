"""The cells that are compared, how each is initialised, and the size at which two have as many parameters.

Owns the names of cells on the command line and in tables. Knows nothing of tasks. By default all cells are initialised alike:
every weight and bias is uniform in +-1 / sqrt(hidden), as torch does it, except the bias of the LSTM's forget gate, which is 1
(Jozefowicz, Zaremba & Sutskever, 2015). Cells whose names end in `-memory` are initialised with long memories instead, spread
over up to MEMORY steps (Tallec & Ollivier, "Can recurrent neural networks warp time?", 2018).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import get_args

import torch
from torch import nn

from scripts.training.cell import ResetBeforeLayer
from scripts.training.reference import Kind

MEMORY = 256  # steps
SUFFIX = "-memory"
LONG = ", long memory at first"
TITLES = {"reset_before": "GRU, reset before", "reset_after": "GRU, reset after", "lstm": "LSTM", "rnn": "tanh RNN"}
BACKENDS = {
    "reset_before": "a hand-written autograd function of torch's ordinary operators, the input products of all steps done at once",
    "reset_after": "`torch.nn.GRU`, which runs a step at a time in C++ on a CPU",
    "lstm": "`torch.nn.LSTM`, which runs as one fused oneDNN kernel on a CPU",
    "rnn": "`torch.nn.RNN`, which runs a step at a time in C++ on a CPU",
}
SINGLE = ("reset_before", "reset_after", "lstm", "rnn", "reset_before-memory", "lstm-memory")
SUBJECTS = (("reset_before", "lstm"), ("reset_after", "lstm"), ("reset_before-memory", "lstm-memory"))  # each with its rival
PLAIN = "rnn"
HYBRIDS = ("lstm+reset_before-memory", "reset_before+lstm-memory")  # from the input up; initialised as the gyroscope needs it


@dataclass(frozen=True, slots=True)
class Cell:
    """`kinds`: one for each layer from the input up, or one for all; `memory`: whether it is initialised with long memories."""

    name: str
    kinds: tuple[str, ...]
    memory: bool

    def layers(self, count: int) -> tuple[str, ...]:
        return self.kinds * count if len(self.kinds) == 1 else self.kinds

    @property
    def title(self) -> str:
        joined = TITLES[self.kinds[0]] if len(self.kinds) == 1 else "-".join(TITLES[kind].split(",")[0] for kind in self.kinds)
        return joined + (LONG if self.memory else "")


def named(name: str) -> Cell:
    """The cell of this name; ValueError if there is none."""
    kinds = tuple(name.removesuffix(SUFFIX).split("+"))
    memory = name.endswith(SUFFIX)
    for kind in kinds:
        if kind not in get_args(Kind):
            raise ValueError(f"{kind!r} is no cell: it must be one of {', '.join(get_args(Kind))}, joined by + for a hybrid")
    if len(kinds) > 2:
        raise ValueError(f"{name!r} has {len(kinds)} layers: a hybrid here has 2")
    if memory and set(kinds) - {"reset_before", "lstm"}:
        raise ValueError(f"{name!r}: only reset_before and lstm can begin with long memories")
    return Cell(name, kinds, memory)


@torch.no_grad()
def begin(network: nn.Module, cell: Cell) -> None:
    """Draw the biases of a new network again, if it is not initialised as the cell must be."""
    for module in network.modules():
        if isinstance(module, ResetBeforeLayer) and not cell.memory:
            bound = 1 / sqrt(module.weight_hh.shape[1])
            module.bias.uniform_(-bound, bound)
        if isinstance(module, nn.LSTM) and cell.memory:
            _long(module)


def _long(lstm: nn.LSTM) -> None:
    """Set long memories. Rows of a bias: input gate, forget gate, cell, output gate. What is kept long is taken in slowly."""
    hidden = lstm.hidden_size
    for name, bias in lstm.named_parameters():
        if name.startswith("bias_hh"):
            bias[: 2 * hidden] = 0
        elif name.startswith("bias_ih"):
            spans = torch.empty(hidden).uniform_(1, MEMORY - 1).log()
            bias[:hidden], bias[hidden : 2 * hidden] = -spans, spans


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def matched(size: Callable[[int], int], target: int) -> int:
    """The hidden size whose number of parameters `size(hidden)`, which grows with it, is nearest to the target."""
    low, high = 1, 2
    while size(high) < target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) < target else (low, middle)
    return min((low, high), key=lambda hidden: abs(size(hidden) - target))
