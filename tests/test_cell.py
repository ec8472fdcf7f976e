"""The paper's fast cell: its forward pass equals the equations, and its backward pass autograd through them."""

import numpy as np
import pytest
import torch
from torch import Tensor

from scripts.training import reference
from scripts.training.cell import ResetBefore, ResetBeforeLayer

FEATURES, HIDDEN = 3, 5


def layer(x: Tensor, h0: Tensor, V: Tensor, U: Tensor, b: Tensor, mask: Tensor | None) -> Tensor:
    return ResetBefore.apply(x, h0, V, U, b, mask)  # type: ignore[no-any-return,no-untyped-call]  # torch leaves `apply` untyped


def mask_of(lengths: list[int]) -> Tensor:
    return (torch.arange(max(lengths))[:, None] < torch.tensor(lengths))[..., None].double()  # (time, batch, 1)


def naive(x: Tensor, h: Tensor, V: Tensor, U: Tensor, b: Tensor) -> Tensor:
    """The paper's equations, step by step, for one sequence x (time, inputs) from h (hidden,); autograd gives the gradients."""
    V_r, V_z, V_c = V.chunk(3)
    U_r, U_z, U_c = U.chunk(3)
    b_r, b_z, b_c = b.chunk(3)
    states = []
    for step in x:
        R = torch.sigmoid(V_r @ step + U_r @ h + b_r)
        Z = torch.sigmoid(V_z @ step + U_z @ h + b_z)
        C = torch.tanh(V_c @ step + U_c @ (R * h) + b_c)
        h = (1 - Z) * h + Z * C
        states.append(h)
    return torch.stack(states)


@pytest.mark.parametrize("lengths", [None, [4, 1, 2]], ids=["no_mask", "mask"])
def test_backward_pass_is_the_derivative_of_the_forward_pass(lengths: list[int] | None) -> None:
    """The backward pass is written by hand, so it is checked against numerical differences."""
    torch.manual_seed(2)
    sizes = ((4, 3, FEATURES), (3, HIDDEN), (3 * HIDDEN, FEATURES), (3 * HIDDEN, HIDDEN), (3 * HIDDEN,))
    inputs = [torch.randn(*size, dtype=torch.float64, requires_grad=True) for size in sizes]
    mask = None if lengths is None else mask_of(lengths)
    assert torch.autograd.gradcheck(lambda x, h0, V, U, b: layer(x, h0, V, U, b, mask), inputs)


def test_gradients_equal_those_of_autograd_through_each_sequence_alone() -> None:
    """A batch of ragged sequences must teach exactly what its sequences teach one by one."""
    lengths = [4, 1, 7, 3]
    torch.manual_seed(3)
    sizes = ((7, 4, FEATURES), (4, HIDDEN), (3 * HIDDEN, FEATURES), (3 * HIDDEN, HIDDEN), (3 * HIDDEN,))
    inputs = [torch.randn(*size, dtype=torch.float64, requires_grad=True) for size in sizes]
    x, h0, V, U, b = inputs
    mask, towards, towards_final = mask_of(lengths), torch.randn(7, 4, HIDDEN).double(), torch.randn(4, HIDDEN).double()

    states = layer(x, h0, V, U, b, mask)
    fast = torch.autograd.grad((states * mask * towards).sum() + (states[-1] * towards_final).sum(), inputs)
    loss = torch.zeros((), dtype=torch.float64)
    for row, length in enumerate(lengths):
        alone = naive(x[:length, row], h0[row], V, U, b)
        torch.testing.assert_close(states[:length, row], alone, rtol=0, atol=1e-12)
        loss = loss + (alone * towards[:length, row]).sum() + (alone[-1] * towards_final[row]).sum()
    slow = torch.autograd.grad(loss, inputs)
    for name, actual, expected in zip(("x", "h0", "V", "U", "b"), fast, slow, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10, msg=f"d_{name} differs")


def test_new_units_follow_each_step_or_remember_up_to_the_longest_memory() -> None:
    """With gates half open a unit forgets within two steps, and a bias that lasts minutes is never learned; units that are
    all slow never learn to follow fast changes."""
    torch.manual_seed(4)
    weights = ResetBeforeLayer(FEATURES, 400, bias=True, memory=256).weights()
    memory = 1 / reference.sigmoid(weights.b_z) - 1  # steps: the gate at rest opens by 1 / (1 + memory)
    assert np.all(memory[:100] < 0.1)
    assert 1 <= memory[100:].min() < 10
    assert 200 < memory[100:].max() <= 256
    np.testing.assert_array_equal([weights.b_r, weights.b], 0)


def test_recurrence_stays_in_float32_where_autocast_takes_less() -> None:
    """A state is the sum of many small steps, which the eight bits of bfloat16 would lose; and a kernel that writes float32
    does not take bfloat16."""
    torch.manual_seed(5)
    cell = ResetBeforeLayer(FEATURES, HIDDEN, bias=True, memory=256)
    x, h0, towards = torch.randn(9, 4, FEATURES), torch.rand(4, HIDDEN), torch.randn(9, 4, HIDDEN)
    plain = cell(x, h0, None)
    expected = torch.autograd.grad(plain, list(cell.parameters()), towards)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = cell(x, h0, None)
    assert torch.equal(mixed, plain)
    for actual, wanted in zip(torch.autograd.grad(mixed, list(cell.parameters()), towards), expected, strict=True):
        assert torch.equal(actual, wanted)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        halved = cell(x.bfloat16(), h0.bfloat16(), None)  # as the layer below returns them
    torch.testing.assert_close(halved, plain, rtol=0, atol=0.02)
    assert halved.dtype == torch.float32
