"""Stacked layers of any kinds of cell equal the equations, forwards and backwards, in any order of the kinds."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scripts.training import recurrent, reference
from scripts.training.reference import GRUWeights, LSTMWeights
from scripts.training.stack import Stack

FEATURES, HIDDEN = 3, 5
KINDS = ("reset_before", "reset_after", "lstm", "rnn")
PAIRS = list(product(KINDS, KINDS))
STACKS = [*((kind,) for kind in KINDS), *PAIRS, *((kind,) * 3 for kind in KINDS), ("reset_before", "lstm", "rnn")]
LENGTHS = {"one_step": [1], "alone": [6], "one_step_each": [1, 1, 1], "equal": [4, 4], "ragged": [4, 1, 7, 3]}

each_stack = pytest.mark.parametrize("kinds", STACKS, ids="-".join)
each_pair = pytest.mark.parametrize("kinds", PAIRS, ids="-".join)


def build(kinds: Sequence[str], *, bias: bool = True, seed: int = 0) -> Stack:
    """A stack in float64 with random biases: as initialised, some of them are zero."""
    torch.manual_seed(seed)
    stack = Stack(FEATURES, HIDDEN, kinds, bias=bias).double()
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.uniform_(-1, 1)
    return stack


def draw(stack: Stack, lengths: Sequence[int], *, seed: int = 1) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
    """Input, initial states and lengths of a batch, the padding filled with large numbers."""
    generator = torch.Generator().manual_seed(seed)
    input = torch.randn(len(lengths), max(lengths), FEATURES, dtype=torch.float64, generator=generator)
    for row, length in zip(input, lengths, strict=True):
        row[length:] *= 1e3
    state = tuple(
        torch.rand(layers, len(lengths), hidden, dtype=torch.float64, generator=generator) * 2 - 1
        for layers, hidden in stack.shapes
    )
    return input, state, torch.tensor(lengths)


# -- forwards ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@each_stack
def test_stack_equals_the_equations(kinds: tuple[str, ...], bias: bool, lengths: list[int]) -> None:
    """The trained network must equal the exported graph and the golden sample, from any states and for any lengths."""
    stack = build(kinds, bias=bias)
    input, state, ends = draw(stack, lengths)
    with torch.no_grad():
        h, final = stack(input, state, ends)
    assert [tuple(each.shape) for each in final] == [(layers, len(lengths), hidden) for layers, hidden in stack.shapes]
    for row, length in enumerate(lengths):
        expected, expected_final = stack.equations(input[row, :length].numpy(), [each[:, row].numpy() for each in state])
        np.testing.assert_allclose(h[row, :length], expected, rtol=0, atol=1e-12)
        for actual, wanted in zip(final, expected_final, strict=True):
            np.testing.assert_allclose(actual[:, row], wanted, rtol=0, atol=1e-12)


def test_states_are_those_that_the_manifest_lists() -> None:
    """Order matters: a c in place of an h often has a shape that fits."""
    for kinds in STACKS:
        listed = recurrent.states_of(kinds, HIDDEN)
        assert build(kinds).shapes == tuple(state.shape for state in listed)
        assert [state.input for state in listed] == (["h0", "c0"] if "lstm" in kinds else ["h0"])


@each_stack
def test_no_state_is_the_zero_state_and_no_lengths_are_full_rows(kinds: tuple[str, ...]) -> None:
    """The training loop passes neither states nor lengths."""
    stack = build(kinds)
    input, state, ends = draw(stack, [6, 6])
    with torch.no_grad():
        short, long = stack(input), stack(input, tuple(map(torch.zeros_like, state)), ends)
    for actual, expected in zip((short[0], *short[1]), (long[0], *long[1]), strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-15)


@each_stack
def test_final_state_is_the_one_at_the_length(kinds: tuple[str, ...]) -> None:
    """A stream continues from the last real step, never from the padding behind it."""
    stack, lengths = build(kinds), LENGTHS["ragged"]
    input, state, ends = draw(stack, lengths)
    with torch.no_grad():
        h, final = stack(input, state, ends)
    for row, length in enumerate(lengths):
        assert torch.equal(final[0][-1, row], h[row, length - 1])


@each_stack
def test_contents_of_the_padding_do_not_matter(kinds: tuple[str, ...]) -> None:
    """The padding behind a sequence depends on its neighbour's length; the answer must not differ by a single bit."""
    stack, lengths = build(kinds), LENGTHS["ragged"]
    input, state, ends = draw(stack, lengths)
    other = input.clone()
    for row, length in zip(other, lengths, strict=True):
        row[length:] = -7.0
    with torch.no_grad():
        (h, final), (other_h, other_final) = stack(input, state, ends), stack(other, state, ends)
    for one, same in zip(final, other_final, strict=True):
        assert torch.equal(one, same)
    for row, length in enumerate(lengths):
        assert torch.equal(h[row, :length], other_h[row, :length])


@each_stack
def test_a_sequence_in_two_calls_equals_the_whole(kinds: tuple[str, ...]) -> None:
    """Training carries the state from chunk to chunk, and streams are served in the same way."""
    stack = build(kinds)
    input, state, _ = draw(stack, [7, 7])
    with torch.no_grad():
        whole, final = stack(input, state)
        first, between = stack(input[:, :3], state)
        second, end = stack(input[:, 3:], between)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, rtol=0, atol=1e-14)
    for actual, expected in zip(end, final, strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("kinds", [(), ("gru",), ("lstm", "reset before")], ids=["none", "gru", "misspelt"])
def test_a_kind_that_there_is_not_is_refused(kinds: tuple[str, ...]) -> None:
    """The error names the unknown kind before anything is trained."""
    with pytest.raises(ValueError, match=kinds[-1] if kinds else "at least one layer"):
        Stack(FEATURES, HIDDEN, kinds)


# -- backwards --------------------------------------------------------------------------------------------------------


def step(w: Any, state: tuple[Tensor, ...], x: Tensor) -> tuple[Tensor, ...]:
    """reference.step, written again for tensors, so that autograd can differentiate it."""
    h = state[0]
    hx = torch.cat([h, x])
    if isinstance(w, LSTMWeights):
        i, f, o = (torch.sigmoid(W @ hx + b) for W, b in ((w.W_i, w.b_i), (w.W_f, w.b_f), (w.W_o, w.b_o)))
        c = f * state[1] + i * torch.tanh(w.W_g @ hx + w.b_g)
        return o * torch.tanh(c), c
    if not isinstance(w, GRUWeights):
        return (torch.tanh(w.W @ hx + w.b),)
    R, Z = torch.sigmoid(w.W_r @ hx + w.b_r), torch.sigmoid(w.W_z @ hx + w.b_z)
    if w.kind == "reset_before":
        return ((1 - Z) * h + Z * torch.tanh(w.W @ torch.cat([R * h, x]) + w.b),)
    C = torch.tanh(w.W[:, len(h) :] @ x + w.b + R * (w.W[:, : len(h)] @ h + w.b_h))
    return ((1 - Z) * C + Z * h,)


def weights_of(kind: str, U: Tensor, V: Tensor, b: Tensor, c: Tensor) -> Any:
    """The reference's weights, built from a layer's own parameters as tensors: gradients flow back to those parameters."""
    rows, sums, c, b = torch.cat([U, V], dim=1).split(HIDDEN), (b + c).split(HIDDEN), c.split(HIDDEN), b.split(HIDDEN)
    pairs: list[Any] = [part for pair in zip(rows, sums, strict=True) for part in pair]
    if kind == "lstm":
        return LSTMWeights(*pairs)
    if kind == "rnn":
        return reference.RNNWeights(*pairs)
    if kind == "reset_before":
        return GRUWeights("reset_before", *pairs, b_h=torch.zeros(HIDDEN))  # type: ignore[arg-type]  # a tensor for an array
    return GRUWeights("reset_after", *pairs[:5], b=b[2], b_h=c[2])  # type: ignore[arg-type]  # tensors for arrays


def parameters_of(layer: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if hasattr(layer, "weight_hh_l0"):
        return layer.weight_hh_l0, layer.weight_ih_l0, layer.bias_ih_l0, layer.bias_hh_l0
    return layer.weight_hh, layer.weight_ih, layer.bias, torch.zeros_like(layer.bias)


def alone(stack: Stack, x: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """One sequence x (time, features), step after step, layer after layer: h (time, hidden) and the final states."""
    cells = iter(state[1]) if len(state) > 1 else iter(())
    now = [(h, next(cells)) if kind == "lstm" else (h,) for kind, h in zip(stack.kinds, state[0], strict=True)]
    layers = [weights_of(kind, *parameters_of(layer)) for kind, layer in zip(stack.kinds, stack.layers, strict=True)]
    above = []
    for below in x:
        for index, w in enumerate(layers):
            now[index] = step(w, now[index], below)
            below = now[index][0]
        above.append(below)
    ends = [torch.stack([each[0] for each in now])]
    if "lstm" in stack.kinds:
        ends.append(torch.stack([each[1] for each in now if len(each) > 1]))
    return torch.stack(above), ends


@each_pair
def test_gradients_equal_those_of_autograd_through_each_sequence_alone(kinds: tuple[str, ...]) -> None:
    """A batch of ragged sequences must give the same gradients as its sequences one by one: for every weight, input and state."""
    stack, lengths = build(kinds), [4, 1, 7, 3]
    input, state, ends = draw(stack, lengths)
    for tensor in (input, *state):
        tensor.requires_grad_()
    learned = [*stack.parameters(), input, *state]
    towards = torch.randn(4, 7, HIDDEN, dtype=torch.float64)
    towards_final = [torch.randn_like(each) for each in state]

    h, final = stack(input, state, ends)
    loss = sum(((h[row, :n] * towards[row, :n]).sum() for row, n in enumerate(lengths)), torch.zeros(()))
    loss = loss + sum((end * wanted).sum() for end, wanted in zip(final, towards_final, strict=True))
    fast = torch.autograd.grad(loss, learned)

    total = torch.zeros((), dtype=torch.float64)
    for row, n in enumerate(lengths):
        every, last = alone(stack, input[row, :n], [each[:, row] for each in state])
        torch.testing.assert_close(h[row, :n], every, rtol=0, atol=1e-12)
        total = total + (every * towards[row, :n]).sum()
        total = total + sum((end * wanted[:, row]).sum() for end, wanted in zip(last, towards_final, strict=True))
    slow = torch.autograd.grad(total, learned)
    for actual, expected in zip(fast, slow, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


@each_stack
def test_nothing_is_learned_from_the_padding(kinds: tuple[str, ...]) -> None:
    """A gradient from the padding would change the weights by how a batch happened to be put together."""
    stack, lengths = build(kinds), LENGTHS["ragged"]
    input, state, ends = draw(stack, lengths)
    input.requires_grad_()
    h, final = stack(input, state, ends)
    loss = sum(end.square().sum() for end in final) + sum(h[row, :length].square().sum() for row, length in enumerate(lengths))
    (gradient,) = torch.autograd.grad(loss, [input])
    for row, length in enumerate(lengths):
        assert gradient[row, :length].abs().min() > 0
        assert torch.count_nonzero(gradient[row, length:]) == 0


# -- at the start -----------------------------------------------------------------------------------------------------


def test_a_forget_gate_starts_open() -> None:
    """The two biases that torch adds sum to 1: at 0, half of the cell state would be lost with every step."""
    torch.manual_seed(6)
    for w in Stack(FEATURES, HIDDEN, ("lstm", "lstm")).weights():
        assert isinstance(w, LSTMWeights)
        np.testing.assert_array_equal(w.b_f, 1.0)
        assert 0 < np.abs([w.b_i, w.b_g, w.b_o]).max() < 1


def test_same_seed_same_weights_as_the_cells_alone() -> None:
    """Random numbers are drawn layer by layer, from the input up, so that torch's own modules can reproduce a result."""
    torch.manual_seed(7)
    stack = Stack(FEATURES, HIDDEN, ("reset_after", "reset_after"))
    torch.manual_seed(7)
    whole = torch.nn.GRU(FEATURES, HIDDEN, 2)
    for actual, expected in zip(stack.parameters(), whole.parameters(), strict=True):
        assert torch.equal(actual, expected)


@pytest.mark.parametrize("kinds", [*((kind,) for kind in KINDS), ("lstm", "reset_before"), ("rnn", "reset_after")], ids="-".join)
def test_every_stack_trains_in_mixed_precision(kinds: tuple[str, ...]) -> None:
    """Chunk after chunk, the states carried on: each layer accepts their types, and gradients are close to those of float32."""
    torch.manual_seed(8)
    stack = Stack(FEATURES, HIDDEN, kinds)
    input = torch.randn(4, 12, FEATURES)

    def gradients(*, enabled: bool) -> list[Tensor]:
        stack.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            first, state = stack(input[:, :6])
            second, _ = stack(input[:, 6:], tuple(each.detach() for each in state))
        loss = first.float().square().mean() + second.float().square().mean()
        loss.backward()
        return [parameter.grad.clone() for parameter in stack.parameters()]

    for mixed, plain in zip(gradients(enabled=True), gradients(enabled=False), strict=True):
        torch.testing.assert_close(mixed, plain, rtol=0.1, atol=0.02 * float(plain.abs().max()))
