"""Recurrent layers on top of one another, of any cells in any order, in torch: the network inside every model.

Owns how layers are joined, what their states are, and their initial weights. Knows nothing of scaling, tasks, losses or ONNX.
The paper's cell is in cell.py; each other layer is a module of torch. Source of the forget gates' initial bias:
Jozefowicz, Zaremba & Sutskever, "An empirical exploration of recurrent network architectures", 2015.
"""

from collections.abc import Iterator, Sequence
from typing import cast, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from scripts.training import reference
from scripts.training.cell import ResetBeforeLayer, float64
from scripts.training.reference import Array, GRUWeights, Kind, LSTMWeights, RNNWeights, Weights

REMEMBERING_BIAS = 1.0  # of a forget gate at the start: 73 % of the cell is kept

Layer = ResetBeforeLayer | nn.GRU | nn.LSTM | nn.RNN


class Stack(nn.Module):
    """Layers of the given kinds, from the input up.

    kinds: "reset_before" is the paper's GRU, "reset_after" torch.nn.GRU, "lstm" torch.nn.LSTM, "rnn" torch.nn.RNN with tanh;
    memory: the longest memory, in steps, that the initial update gates span (reset_before with bias).
    """

    def __init__(self, input_size: int, hidden_size: int, kinds: Sequence[str], *, bias: bool = True, memory: int = 256) -> None:
        super().__init__()
        if not kinds:
            raise ValueError("A stack has at least one layer, and no kind of cell was given: name one for each layer.")
        for kind in kinds:
            if kind not in get_args(Kind):
                raise ValueError(f"The kind of a layer must be one of {', '.join(get_args(Kind))}, got {kind!r}.")
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        self.kinds: tuple[str, ...] = tuple(kinds)
        sizes = [input_size] + [hidden_size] * (len(kinds) - 1)
        self.layers = nn.ModuleList(
            _layer(kind, size, hidden_size, bias=bias, memory=memory) for kind, size in zip(kinds, sizes, strict=True)
        )

    @property
    def num_layers(self) -> int:
        return len(self.kinds)

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """The shapes of one instance's states: h of all layers and, if there are LSTMs, their c."""
        lstms = self.kinds.count("lstm")
        return ((self.num_layers, self.hidden_size), *([(lstms, self.hidden_size)] if lstms else []))

    def forward(
        self, input: Tensor, state: tuple[Tensor, ...] | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The last layer's h at every step (batch, time, hidden), and the final states in the layout of `state`.

        input: (batch, time, input_size), finite in the padding too; state: h (num_layers, batch, hidden) and, if there are
        LSTMs, c (LSTMs, batch, hidden), None for zeros; lengths: (batch,) on the CPU, from 1 up, None if every sequence fills
        its row. Past the end of a sequence h is undefined; the final states are those at its end.
        """
        batch, steps, _ = input.shape
        if state is None:
            state = tuple(input.new_zeros(layers, batch, hidden) for layers, hidden in self.shapes)
        mask = None
        if lengths is not None and "reset_before" in self.kinds:
            mask = (torch.arange(steps)[:, None] < lengths).to(input)[..., None]  # (time, batch, 1)
        states = input.transpose(0, 1).contiguous()  # (time, batch, features)
        ends: list[tuple[Tensor, ...]] = []
        for layer, start in zip(self.layers, self._starts(state), strict=True):
            if isinstance(layer, ResetBeforeLayer):
                states = layer(states, start[0], mask)
                ends.append((states[-1],))
            else:
                states, end = _by_torch(cast("nn.RNNBase", layer), states, start, lengths)
                ends.append(end)
        cells = [end[1] for end in ends if len(end) > 1]
        h = torch.stack([end[0] for end in ends])
        return states.transpose(0, 1), (h, torch.stack(cells)) if cells else (h,)

    def _starts(self, state: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
        """The initial state of each layer: h and, of an LSTM, c (batch, hidden)."""
        cells = iter(state[1]) if len(state) > 1 else iter(())
        for kind, h in zip(self.kinds, state[0], strict=True):
            yield (h, next(cells)) if kind == "lstm" else (h,)

    def equations(self, inputs: Array, state: Sequence[Array]) -> tuple[Array, tuple[Array, ...]]:
        """What `forward` computes, for one sequence in float64 NumPy: h (time, hidden) and the final states.

        inputs: (time, input_size); state: an array for each of `shapes`.
        """
        return reference.run(self.weights(), inputs, state)

    def weights(self) -> list[Weights]:
        """Each layer's weights, as the equations take them."""
        return [_weights(cast("Layer", layer)) for layer in self.layers]


def _layer(kind: str, input_size: int, hidden_size: int, *, bias: bool, memory: int) -> nn.Module:
    if kind == "reset_before":
        return ResetBeforeLayer(input_size, hidden_size, bias=bias, memory=memory)
    if kind == "reset_after":
        return nn.GRU(input_size, hidden_size, bias=bias)
    if kind == "rnn":
        return nn.RNN(input_size, hidden_size, bias=bias)
    lstm = nn.LSTM(input_size, hidden_size, bias=bias)
    if bias:  # torch adds two biases for each gate
        forget = slice(hidden_size, 2 * hidden_size)
        with torch.no_grad():
            cast("Tensor", lstm.bias_ih_l0)[forget] = REMEMBERING_BIAS
            cast("Tensor", lstm.bias_hh_l0)[forget] = 0.0
    return lstm


def _by_torch(
    layer: nn.RNNBase, input: Tensor, start: tuple[Tensor, ...], lengths: Tensor | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One layer over (time, batch, features): h at every step (time, batch, hidden) and its final states (batch, hidden)."""
    own = tuple(each[None] for each in start)  # torch's states have an axis of layers
    state = own if isinstance(layer, nn.LSTM) else own[0]
    if lengths is None:
        states, end = layer(input, state)
    else:
        packed, end = layer(pack_padded_sequence(input, lengths, enforce_sorted=False), state)
        states, _ = pad_packed_sequence(packed, total_length=len(input))
    return states, tuple(each[0] for each in (end if isinstance(layer, nn.LSTM) else (end,)))


def _weights(layer: Layer) -> Weights:
    if isinstance(layer, ResetBeforeLayer):
        return layer.weights()
    found = {name: float64(parameter) for name, parameter in layer.named_parameters()}
    rows = np.concatenate([found["weight_hh_l0"], found["weight_ih_l0"]], axis=1)
    W = rows.reshape(-1, layer.hidden_size, rows.shape[1])  # (gates, hidden, hidden + inputs)
    b_h, b_x = (found.get(f"bias_{of}_l0", np.zeros(len(rows))).reshape(len(W), -1) for of in ("hh", "ih"))
    b = b_h + b_x
    if isinstance(layer, nn.LSTM):  # torch's order: i, f, g, o
        return LSTMWeights(W_i=W[0], b_i=b[0], W_f=W[1], b_f=b[1], W_g=W[2], b_g=b[2], W_o=W[3], b_o=b[3])
    if isinstance(layer, nn.GRU):  # r, z, n: the last one's biases are kept apart by the reset
        return GRUWeights("reset_after", W_r=W[0], b_r=b[0], W_z=W[1], b_z=b[1], W=W[2], b=b_x[2], b_h=b_h[2])
    return RNNWeights(W=W[0], b=b[0])
