"""The cost models: how long a batch and the waiting work will take, learned from the batches that ran."""

import numpy as np
import pytest

from app.cost import RELIEF, SLOWEST, TELLING, CostModel, Pace, Strain


def truth(size: int, steps: int) -> float:
    """Seconds of a recurrent graph: a fixed time, and for each step a time that grows with the batch."""
    return 20e-6 + steps * (1e-6 + 0.5e-6 * size)


def test_nothing_is_cheap_before_it_is_known() -> None:
    """A long batch that runs on the event loop by mistake blocks everyone."""
    assert CostModel().predict(1, 1) == float("inf")


def test_what_it_has_seen_it_predicts() -> None:
    """Predictions within a fifth are enough to tell microseconds from milliseconds."""
    cost = CostModel()
    rng = np.random.default_rng(0)
    for _ in range(2000):
        size, steps = 2 ** int(rng.integers(0, 5)), int(rng.integers(1, 500))
        cost.learn(size, steps, truth(size, steps) * rng.uniform(0.9, 1.1))
    for size in (1, 2, 4, 8, 16):
        for steps in (1, 10, 100, 1000):
            assert cost.predict(size, steps) == pytest.approx(truth(size, steps), rel=0.2)


def test_a_larger_batch_than_ever_seen_is_not_taken_for_a_small_one() -> None:
    """The prediction for a larger batch may be too high, but never too low."""
    cost = CostModel()
    cost.learn(1, 1, truth(1, 1))
    cost.learn(2, 100, truth(2, 100))
    assert cost.predict(64, 100) >= truth(64, 100)


def test_a_small_batch_of_one_step_is_not_taken_for_a_large_one() -> None:
    """The next step of a live stream takes microseconds, whatever other batches take."""
    cost = CostModel()
    for size in (1, 16, 256):
        cost.learn(size, 1, truth(size, 1))
    assert [cost.predict(size, 1) for size in (1, 16, 256)] == [truth(size, 1) for size in (1, 16, 256)]


def learned(*sizes: int) -> CostModel:
    cost = CostModel()
    for size in sizes:
        cost.learn(size, 1, truth(size, 0))
        cost.learn(size, 100, truth(size, 100))
    return cost


def test_padding_is_worth_what_a_batch_of_its_own_would_cost_beside_others() -> None:
    """A batch costs 20 us, 40 padded steps of 0.5 us; a step costs 1 us whatever the size, half of which is counted."""
    assert learned(1, 4, 16).padding().allowed(100) == pytest.approx(40 + 100)


@pytest.mark.parametrize("cost", [CostModel(), learned(4), CostModel({0: 20e-6}, {0: 3e-6, 4: 2e-6})])
def test_padding_is_worth_anything_where_a_row_is_not_known_to_cost_something(cost: CostModel) -> None:
    """Then only the padding budget limits the padding."""
    assert cost.padding().allowed(1) == float("inf")


def test_it_follows_a_machine_that_becomes_slower() -> None:
    """A neighbour on the same host or a hot processor makes cheap batches expensive."""
    cost = CostModel()
    for factor in [1.0] * 50 + [3.0] * 50:
        cost.learn(8, 100, factor * truth(8, 100))
    assert cost.predict(8, 100) == pytest.approx(3 * truth(8, 100), rel=0.05)


def test_the_pace_is_that_of_busy_times() -> None:
    """Idle time must not count as the cost of work."""
    pace = Pace()
    pace.learn(100, 1.0, ideal=0.01, more=True)
    assert pace.per_step == 0
    pace.learn(100, 3.0, ideal=0.01, more=False)
    assert pace.per_step == pytest.approx(0.02)
    pace.learn(100, 99.0, ideal=0.01, more=True)
    assert pace.per_step == pytest.approx(0.02)


def test_a_pace_beyond_belief_is_not_believed() -> None:
    """A service that refuses nearly everything runs small batches, and must not conclude that refusing was right."""
    pace = Pace()
    for second in range(100):
        pace.learn(1, float(second), ideal=0.01, more=True)
    assert pace.per_step <= SLOWEST * 0.01 + 1e-9


def strained(*batches: tuple[float, float]) -> Strain:
    """The strain after batches of (expected, measured) seconds, all of them at second 100."""
    strain = Strain()
    for expected, seconds in batches:
        strain.learn(expected, seconds, 100.0)
    return strain


def test_a_processor_that_others_use_too_is_known_by_some_batches() -> None:
    """A single slow batch may be chance, so several must be slow."""
    assert Strain().at(0.0) == 1
    assert 1 < strained((0.005, 0.020)).at(100.0) < 2
    assert strained(*[(0.005, 0.020)] * 20).at(100.0) == pytest.approx(4, rel=0.05)
    assert strained(*[(0.005, 0.0025)] * 20).at(100.0) == pytest.approx(0.5, rel=0.05)


def test_a_strain_that_nobody_looks_at_is_taken_to_pass() -> None:
    """Otherwise work that was once moved elsewhere would never come back to this processor."""
    strain = strained(*[(0.005, 0.020)] * 50)
    before = strain.at(100.0) - 1
    assert strain.at(100.0 + RELIEF) - 1 == pytest.approx(before / 2)
    assert strain.at(100.0 + 1e9) == 1


@pytest.mark.parametrize("expected", [0.0, TELLING / 2, float("inf")])
def test_a_batch_that_tells_nothing_of_it_is_no_strain(expected: float) -> None:
    """A single step takes twice as long with cold caches, and a batch of unknown cost cannot be late."""
    assert strained(*[(expected, 1.0)] * 20).at(100.0) == 1


def test_one_batch_that_hung_is_no_strain_for_minutes() -> None:
    strain = strained((0.005, 60.0))
    assert strain.at(100.0) <= 1 + 0.2 * SLOWEST
