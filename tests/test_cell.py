"""The fast cell equals the equations, forwards, and autograd through them, backwards."""

import numpy as np
import pytest
import torch
from torch import Tensor

from scripts.training import reference
from scripts.training.cell import GRU, ResetBefore
from scripts.training.reference import Variant

FEATURES, HIDDEN = 3, 5
VARIANTS: list[Variant] = ["reset_before", "reset_after"]
LENGTHS = {"one_step": [1], "alone": [6], "one_step_each": [1, 1, 1], "equal": [4, 4], "ragged": [4, 1, 7, 3]}


def build(variant: Variant, *, layers: int = 1, bias: bool = True, seed: int = 0) -> GRU:
    """In float64, and with every bias at random: as initialised, most are zero."""
    torch.manual_seed(seed)
    gru = GRU(FEATURES, HIDDEN, num_layers=layers, bias=bias, variant=variant).double()
    with torch.no_grad():
        for parameter in gru.parameters():
            parameter.uniform_(-1, 1)
    return gru


def draw(lengths: list[int], *, layers: int = 1, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Input, initial states and lengths of a batch, the padding filled with large numbers."""
    generator = torch.Generator().manual_seed(seed)
    input = torch.randn(len(lengths), max(lengths), FEATURES, dtype=torch.float64, generator=generator)
    for row, length in zip(input, lengths, strict=True):
        row[length:] *= 1e3
    h0 = torch.rand(layers, len(lengths), HIDDEN, dtype=torch.float64, generator=generator) * 2 - 1
    return input, h0, torch.tensor(lengths)


def layer(x: Tensor, h0: Tensor, V: Tensor, U: Tensor, b: Tensor, mask: Tensor | None) -> Tensor:
    return ResetBefore.apply(x, h0, V, U, b, mask)  # type: ignore[no-any-return,no-untyped-call]  # torch leaves `apply` untyped


def mask_of(lengths: list[int]) -> Tensor:
    return (torch.arange(max(lengths))[:, None] < torch.tensor(lengths))[..., None].double()  # (time, batch, 1)


def naive(x: Tensor, h: Tensor, V: Tensor, U: Tensor, b: Tensor) -> Tensor:
    """The paper's step after step for one sequence x (time, inputs): autograd does the rest. h (hidden,)."""
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


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_cell_equals_the_equations(variant: Variant, layers: int, bias: bool, lengths: list[int]) -> None:
    """What is trained is what is exported and what the golden sample says, from any state and for any lengths."""
    gru = build(variant, layers=layers, bias=bias)
    input, h0, ends = draw(lengths, layers=layers)
    with torch.no_grad():
        states, final = gru(input, h0, ends)
    for row, length in enumerate(lengths):
        expected, expected_final = reference.run(gru.weights(), input[row, :length].numpy(), h0[:, row].numpy(), variant)
        np.testing.assert_allclose(states[row, :length], expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(final[:, row], expected_final, rtol=0, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_state_is_the_zero_state_and_no_lengths_are_full_rows(variant: Variant) -> None:
    """The training loop leaves both out."""
    gru = build(variant, layers=2)
    input, h0, ends = draw([6, 6], layers=2)
    with torch.no_grad():
        short, long = gru(input), gru(input, torch.zeros_like(h0), ends)
    for actual, expected in zip(short, long, strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("variant", VARIANTS)
def test_final_state_is_the_one_at_the_length(variant: Variant) -> None:
    """A stream goes on from the last real step, never from the padding behind it."""
    lengths = LENGTHS["ragged"]
    input, h0, ends = draw(lengths, layers=2)
    with torch.no_grad():
        states, final = build(variant, layers=2)(input, h0, ends)
    for row, length in enumerate(lengths):
        assert torch.equal(final[-1, row], states[row, length - 1])


@pytest.mark.parametrize("variant", VARIANTS)
def test_contents_of_the_padding_do_not_matter(variant: Variant) -> None:
    """A neighbour's length decides what is behind a sequence; its answer must not depend on it by a single bit."""
    gru, lengths = build(variant, layers=2), LENGTHS["ragged"]
    input, h0, ends = draw(lengths, layers=2)
    other = input.clone()
    for row, length in zip(other, lengths, strict=True):
        row[length:] = -7.0
    with torch.no_grad():
        (states, final), (other_states, other_final) = gru(input, h0, ends), gru(other, h0, ends)
    assert torch.equal(final, other_final)
    for row, length in enumerate(lengths):
        assert torch.equal(states[row, :length], other_states[row, :length])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_sequence_in_two_calls_equals_the_whole(variant: Variant) -> None:
    """Training carries the state from chunk to chunk, and streams are served so."""
    gru = build(variant, layers=2)
    input, h0, _ = draw([7, 7], layers=2)
    with torch.no_grad():
        whole, final = gru(input, h0)
        first, between = gru(input[:, :3], h0)
        second, end = gru(input[:, 3:], between)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, rtol=0, atol=1e-14)
    torch.testing.assert_close(end, final, rtol=0, atol=1e-14)


@pytest.mark.parametrize("lengths", [None, [4, 1, 2]], ids=["no_mask", "mask"])
def test_backward_pass_is_the_derivative_of_the_forward_pass(lengths: list[int] | None) -> None:
    """It is written by hand: numerical differences are the judge."""
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


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_is_learned_from_the_padding(variant: Variant) -> None:
    """A gradient from behind the end would pull the weights by how a batch happened to be put together."""
    lengths = LENGTHS["ragged"]
    input, h0, ends = draw(lengths, layers=2)
    input.requires_grad_()
    states, final = build(variant, layers=2)(input, h0, ends)
    loss = final.square().sum() + sum(states[row, :length].square().sum() for row, length in enumerate(lengths))
    (gradient,) = torch.autograd.grad(loss, [input])
    for row, length in enumerate(lengths):
        assert gradient[row, :length].abs().min() > 0
        assert torch.count_nonzero(gradient[row, length:]) == 0


def test_new_units_follow_each_step_or_remember_up_to_the_longest_memory() -> None:
    """With gates half open a unit forgets within two steps, and a bias of minutes is never learned; noise never is
    with units that are all slow."""
    torch.manual_seed(4)
    gru = GRU(FEATURES, 400, memory=256)
    (weights,) = gru.weights()
    memory = 1 / reference.sigmoid(weights.b_z) - 1  # steps: the gate at rest opens by 1 / (1 + memory)
    assert np.all(memory[:100] < 0.1)
    assert 1 <= memory[100:].min() < 10
    assert 200 < memory[100:].max() <= 256
    np.testing.assert_array_equal([weights.b_r, weights.b], 0)
