"""The paper's GRU in torch, built to train fast on a CPU and a GPU.

Owns the recurrence and its hand-written backward pass. Knows nothing of scaling, tasks, losses or ONNX.
Per layer, the input products of all steps are one matrix product and so is each weight gradient; only what needs the
previous state is in the loop. Sources: reference.py for the equations; Tallec & Ollivier, "Can recurrent neural
networks warp time?", 2018, for the initial gate bias.
"""

from itertools import pairwise
from math import sqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from scripts.training.reference import GRUWeights

FOLLOWING_BIAS = 3.0  # of an update gate: it takes 95 % of the candidate


class ResetBefore(torch.autograd.Function):
    """One layer over all steps: h (time, batch, hidden) from x (time, batch, inputs).

    V (3 hidden, inputs), U (3 hidden, hidden) and b (3 hidden) hold the rows of R, Z and C in this order.
    mask (time, batch, 1) is 0 where a sequence has ended: there Z becomes 0, which keeps the state as it is.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, h0: Tensor, V: Tensor, U: Tensor, b: Tensor, mask: Tensor | None) -> Tensor:
        steps, batch, _ = x.shape
        hidden = U.shape[1]
        flat = x.reshape(steps * batch, -1)
        gates = torch.addmm(b[: 2 * hidden], flat, V[: 2 * hidden].t()).view(steps, batch, 2 * hidden)
        candidates = torch.addmm(b[2 * hidden :], flat, V[2 * hidden :].t()).view(steps, batch, hidden)
        U_rz, U_c = U[: 2 * hidden].t(), U[2 * hidden :].t()
        states = torch.empty(steps + 1, batch, hidden, dtype=x.dtype, device=x.device)
        states[0] = h0
        resets = torch.empty(steps, batch, hidden, dtype=x.dtype, device=x.device)  # R * h_prev
        for t, (h_prev, h) in enumerate(pairwise(states.unbind())):
            gates_t, candidate, reset = gates[t], candidates[t], resets[t]
            gates_t.addmm_(h_prev, U_rz).sigmoid_()  # R and Z side by side
            R, Z = gates_t[:, :hidden], gates_t[:, hidden:]
            if mask is not None:
                Z.mul_(mask[t])
            torch.mul(R, h_prev, out=reset)
            candidate.addmm_(reset, U_c).tanh_()
            torch.lerp(h_prev, candidate, Z, out=h)  # (1 - Z) h_prev + Z C
        ctx.save_for_backward(x, V, U, gates, candidates, states, resets)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (d_states,) = grads
        x, V, U, gates, C, states, resets = ctx.saved_tensors
        steps, batch, hidden = C.shape
        R, Z = gates[..., :hidden], gates[..., hidden:]
        h_prev = states[:-1]
        # what each gradient below is multiplied with, for all steps at once
        keep = 1 - Z
        to_C = Z * (1 - C * C)
        to_Z = (C - h_prev) * Z * keep
        to_R = resets * (1 - R)
        d_gates = torch.empty_like(gates)  # gradients before the sigmoids
        d_C = torch.empty_like(C)  # gradients before the tanh
        d_h = torch.zeros(batch, hidden, dtype=x.dtype, device=x.device)
        d_reset = torch.empty_like(d_h)
        U_rz, U_c = U[: 2 * hidden], U[2 * hidden :]
        for t in reversed(range(steps)):
            d_gates_t, d_C_t = d_gates[t], d_C[t]
            d_h.add_(d_states[t])
            torch.mul(d_h, to_C[t], out=d_C_t)
            torch.mul(d_h, to_Z[t], out=d_gates_t[:, hidden:])
            torch.mm(d_C_t, U_c, out=d_reset)
            torch.mul(d_reset, to_R[t], out=d_gates_t[:, :hidden])
            d_h.mul_(keep[t]).addcmul_(d_reset, R[t]).addmm_(d_gates_t, U_rz)
        flat_gates, flat_C = d_gates.view(steps * batch, -1), d_C.view(steps * batch, -1)
        flat_x, flat_h = x.reshape(steps * batch, -1), h_prev.reshape(steps * batch, -1)
        flat_reset = resets.view(steps * batch, -1)
        d_x = torch.addmm(flat_gates @ V[: 2 * hidden], flat_C, V[2 * hidden :]).view_as(x) if ctx.needs_input_grad[0] else None
        d_V = torch.cat([flat_gates.t() @ flat_x, flat_C.t() @ flat_x])
        d_U = torch.cat([flat_gates.t() @ flat_h, flat_C.t() @ flat_reset])
        d_b = torch.cat([flat_gates.sum(0), flat_C.sum(0)])
        return d_x, d_h, d_V, d_U, d_b, None


class ResetBeforeLayer(nn.Module):
    """The weights of one layer of the paper's cell. Rows of every weight: R, Z, C."""

    def __init__(self, input_size: int, hidden_size: int, *, bias: bool, memory: int) -> None:
        super().__init__()
        bound = 1 / sqrt(hidden_size)
        self.weight_ih = nn.Parameter(torch.empty(3 * hidden_size, input_size).uniform_(-bound, bound))
        self.weight_hh = nn.Parameter(torch.empty(3 * hidden_size, hidden_size).uniform_(-bound, bound))
        start = torch.zeros(3 * hidden_size)
        if bias:  # from the start, most units have memories of 1 to `memory` steps; a quarter follow each step
            update = -torch.empty(hidden_size).uniform_(1, memory).log()
            update[: hidden_size // 4] = FOLLOWING_BIAS
            start[hidden_size : 2 * hidden_size] = update
            self.bias = nn.Parameter(start)
        else:
            self.register_buffer("bias", start, persistent=False)

    def forward(self, x: Tensor, h0: Tensor, mask: Tensor | None) -> Tensor:
        """The states (time, batch, hidden) from x (time, batch, inputs) and h0 (batch, hidden); mask: see ResetBefore.

        They are computed in float32 even under autocast: a state is the sum of many small steps.
        """
        with torch.autocast(x.device.type, enabled=False):
            x, h0 = x.to(self.weight_ih), h0.to(self.weight_ih)
            return ResetBefore.apply(x, h0, self.weight_ih, self.weight_hh, self.bias, mask)  # type: ignore[no-any-return,no-untyped-call]  # torch leaves `apply` untyped

    def weights(self) -> GRUWeights:
        """The weights as the paper's matrices in float64, each of which multiplies [h_prev, x]."""
        W_r, W_z, W = np.split(np.concatenate([float64(self.weight_hh), float64(self.weight_ih)], axis=1), 3)
        b_r, b_z, b = np.split(float64(self.bias), 3)
        return GRUWeights("reset_before", W_r=W_r, b_r=b_r, W_z=W_z, b_z=b_z, W=W, b=b, b_h=np.zeros_like(b))


def float64(tensor: Tensor) -> NDArray[np.float64]:
    """A tensor in float64 NumPy, as the equations take it."""
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.float64)
