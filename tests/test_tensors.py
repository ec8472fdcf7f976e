"""Padding and unpadding: every instance comes out as it went in, whatever its neighbours are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.manifest import OutputSpec, StateSpec
from app.tensors import Batch, Instance, is_finite

STATES = (
    StateSpec(input="h0", output="hn", shape=(2, 3), batch_axis=1),
    StateSpec(input="c0", output="cn", shape=(4,), batch_axis=0),
)
OUTPUTS = (OutputSpec(shape=(5,)),)


def instances(lengths: list[int], stateful: list[bool]) -> list[Instance]:
    rng = np.random.default_rng(0)
    return [
        Instance(
            steps=rng.standard_normal((length, 5)).astype(np.float32),
            state=tuple(rng.standard_normal(state.shape).astype(np.float32) for state in STATES) if has_state else None,
        )
        for length, has_state in zip(lengths, stateful, strict=True)
    ]


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=12))
def test_collating_and_splitting_gives_every_instance_back(shapes: list[tuple[int, bool]]) -> None:
    """A batch is only a vehicle: each instance must leave it as it came in, with its own state."""
    given_instances = instances([length for length, _ in shapes], [state for _, state in shapes])
    batch = Batch.collate(given_instances, STATES)
    assert batch.input.shape == (len(shapes), max(length for length, _ in shapes), 5)
    assert [array.shape for array in batch.states] == [(2, len(shapes), 3), (len(shapes), 4)]
    for instance, back in zip(
        given_instances, batch.split([batch.input], batch.states, outputs=OUTPUTS, states=STATES), strict=True
    ):
        np.testing.assert_array_equal(back.output, instance.steps)
        for index, state in enumerate(back.state):
            expected = np.zeros(STATES[index].shape) if instance.state is None else instance.state[index]
            np.testing.assert_array_equal(state, expected)


def test_padding_is_zero() -> None:
    """Uninitialised memory may hold NaN, and NaN times a masked zero is NaN."""
    batch = Batch.collate(instances([1, 3], [False, False]), STATES)
    assert not batch.input[0, 1:].any()
    assert batch.lengths.tolist() == [1, 3]
    assert batch.lengths.dtype == np.int32


def test_neighbours_share_no_memory() -> None:
    """Writing into one state must not change another."""
    batch = Batch.collate(instances([2, 2], [True, True]), STATES)
    first, second = batch.split([batch.input], batch.states, outputs=OUTPUTS, states=STATES)
    for mine, other in zip(first.state, second.state, strict=True):
        assert not np.shares_memory(mine, other)


def test_an_empty_sequence_is_refused() -> None:
    """The graph would answer a length of 0 with a zero state instead of the one it started from."""
    for lengths, states in (([3, 0], [False, True]), ([0], [True])):
        with pytest.raises(ValueError, match="no steps"):
            Batch.collate(instances(lengths, states), STATES)


@pytest.mark.parametrize("count", [1, 3])
def test_rows_that_no_instance_has_are_no_answer(count: int) -> None:
    """A graph that answers more rows, or fewer, mixes them up."""
    batch = Batch.collate(instances([2] * count, [True] * count), STATES)
    more = np.concatenate([batch.input, batch.input])
    with pytest.raises(ValueError, match=r"shorter|longer|unpack"):
        batch.split([more], batch.states, outputs=OUTPUTS, states=STATES)


@pytest.mark.parametrize(("value", "finite"), [(1e30, True), (-1e30, True), (np.inf, False), (np.nan, False)])
def test_a_number_is_finite_though_its_square_is_not(value: float, finite: bool) -> None:
    """The check first looks at the sum of the squares, which may overflow."""
    assert is_finite(np.array([1.0, value], np.float32)) == finite
