"""The simulated motion obeys physics, so that what the network learns from it holds in the real world."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from scripts.gyro import motion
from scripts.gyro.motion import GRAVITY, Activity, Motion

RATE = 100.0  # Hz
Array = NDArray[np.float64]


def simulate(seed: int, *, count: int = 4, steps: int = 3000) -> Motion:
    return motion.simulate(np.random.default_rng(seed), count=count, steps=steps, sample_rate=RATE)


@pytest.fixture(scope="module")
def simulated() -> Motion:
    """Many sections of every activity; do not write to it."""
    return simulate(1, count=32)


def runs(flags: NDArray[np.bool_]) -> list[slice]:
    """The unbroken runs of True in (time,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return [slice(begin, end) for begin, end in edges.reshape(-1, 2)]


def test_a_body_at_rest_neither_turns_nor_feels_more_than_gravity(simulated: Motion) -> None:
    """The bias can be seen at rest: any motion in it would be learned as bias."""
    rest = simulated.activity == Activity.REST
    assert rest.mean() > 0.1
    assert np.count_nonzero(simulated.rate[rest]) == 0
    np.testing.assert_allclose(np.linalg.norm(simulated.force[rest], axis=-1), GRAVITY, rtol=1e-12)


def test_a_body_in_motion_moves_as_its_activity_says(simulated: Motion) -> None:
    """Scores are reported by activity, so the labels must be right."""
    rms = {kind: np.sqrt(np.square(simulated.rate[simulated.activity == kind]).mean()) for kind in (Activity.SWAY, Activity.FAST)}
    low, high = motion.MOVING[Activity.SWAY].rate
    assert low < rms[Activity.SWAY] < high
    low, high = motion.MOVING[Activity.FAST].rate
    assert low < rms[Activity.FAST] < high


def test_fast_motion_never_reaches_the_largest_rate(simulated: Motion) -> None:
    """A sensor of +-1000 deg/s must see all of it: clipped motion cannot be restored."""
    largest = np.abs(simulated.rate).max()
    assert 1000 * np.tanh(1) < largest < 1000  # without the limit, this motion would exceed 1000


def test_same_seed_same_motion_and_other_seed_other_motion() -> None:
    """A run is a function of its seed."""
    one, again, other = simulate(5), simulate(5), simulate(6)
    for name in ("rate", "force", "activity"):
        np.testing.assert_array_equal(getattr(one, name), getattr(again, name))
        assert not np.array_equal(getattr(one, name), getattr(other, name))


def test_recordings_of_one_draw_are_different() -> None:
    """A batch of copies would teach one recording only."""
    drawn = simulate(5)
    assert np.unique(drawn.force[:, 0], axis=0).shape == (4, 3)
    assert np.unique(drawn.rate.std(axis=1), axis=0).shape == (4, 3)


def test_a_recording_moves_to_an_extent_of_its_own() -> None:
    """A model that has seen only large motion would take small motion for rest."""
    whole = simulate(5, count=32, steps=500)
    some = motion.simulate(np.random.default_rng(5), count=32, steps=500, sample_rate=RATE, least=0.01)
    np.testing.assert_array_equal(some.activity, whole.activity)
    before, after = (np.arctanh(each.rate / motion.MAX_RATE) for each in (whole, some))
    moved = np.abs(before).max(axis=(1, 2)) > 0
    extents = np.abs(after).max(axis=(1, 2))[moved] / np.abs(before).max(axis=(1, 2))[moved]
    assert 0.01 <= extents.min() < 0.03
    assert 0.4 < extents.max() <= 1
    np.testing.assert_allclose(after[moved], before[moved] * extents[:, None, None], rtol=1e-9, atol=1e-12)


def test_a_recording_may_be_a_single_sample() -> None:
    """The shortest recording has a force like any other, but no rate to integrate."""
    assert simulate(5, steps=1).force.shape == (4, 1, 3)


def test_gravity_at_rest_is_where_the_rates_have_turned_it(simulated: Motion) -> None:
    """Rates and forces must agree: from one rest to the next, gravity turns against the body, as scipy integrates the rates."""
    seen = 0
    for rate, force, activity in zip(simulated.rate, simulated.force, simulated.activity, strict=True):
        rests = runs(activity == Activity.REST)
        for before, after in pairwise(rests):
            begin, end = before.stop - 1, after.start
            means = np.radians(rate[begin:end] + rate[begin + 1 : end + 1]) / 2 / RATE
            turn = Rotation.identity()
            for vector in means:
                turn = turn * Rotation.from_rotvec(vector)
            np.testing.assert_allclose(force[end], turn.inv().apply(force[begin]), rtol=0, atol=1e-9)
            seen += 1
    assert seen > 10


def test_gravity_in_the_body_turns_against_the_rate() -> None:
    """dg/dt = -omega x g in the body frame: integrated attitudes obey this equation, up to the square of a step."""
    time = np.arange(400) / RATE
    rate = np.stack([40 * np.sin(3 * time), 25 * np.cos(2 * time), -30 * np.sin(time + 1)], axis=-1)[None]
    start = Rotation.from_euler("xyz", [20, -50, 110], degrees=True).as_matrix()[None]
    attitude = motion.integrate(rate, sample_rate=RATE, start=start)
    np.testing.assert_array_equal(attitude[:, 0], start)
    gravity = attitude[0].transpose(0, 2, 1) @ [0.0, 0.0, GRAVITY]
    slope = (gravity[2:] - gravity[:-2]) * RATE / 2
    expected = -np.cross(np.radians(rate[0, 1:-1]), gravity[1:-1])
    np.testing.assert_allclose(slope, expected, rtol=0, atol=2e-3)
    assert np.abs(expected).max() > 5


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["x", "y", "z"])
def test_a_constant_rate_turns_by_rate_times_time(axis: int) -> None:
    """150 deg/s for 2.5 s is 375 deg: more than once around."""
    rate = np.zeros((1, 251, 3))
    rate[..., axis] = 150.0
    attitude = motion.integrate(rate, sample_rate=RATE)[0]
    for step in (0, 60, 250):
        expected = Rotation.from_rotvec(np.eye(3)[axis] * 1.5 * step, degrees=True).as_matrix()
        np.testing.assert_allclose(attitude[step], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [0.0, 1e-12, 1e-6, 0.1, 3.0, np.pi, 7.0])
def test_rotation_equals_scipy(size: float) -> None:
    """From no rotation, where the formula divides zero by zero, to more than a full turn."""
    direction = np.random.default_rng(0).standard_normal((5, 4, 3))
    vectors = size * direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    expected = Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(5, 4, 3, 3)
    np.testing.assert_allclose(motion.rotation(vectors), expected, rtol=0, atol=1e-14)


def test_a_passage_lies_between_any_two_activities(simulated: Motion) -> None:
    """A sample between two activities belongs to neither, and scores leave it out."""
    assert set(np.unique(simulated.activity)) == {-1, *Activity}
    now, before = simulated.activity[:, 1:], simulated.activity[:, :-1]
    assert np.all((now == before) | (now == -1) | (before == -1))


def test_no_jitter_is_the_identity() -> None:
    """An ideal clock samples the true values."""
    truth = simulate(7)
    same = truth.jittered(np.random.default_rng(0), 0.0)
    np.testing.assert_allclose(same.rate, truth.rate, rtol=0, atol=1e-9)
    np.testing.assert_allclose(same.force, truth.force, rtol=0, atol=1e-9)


def test_jitter_moves_a_sample_by_its_slope_times_the_error_of_its_time() -> None:
    """Rate and force are sampled at the same wrong time, which is drawn for each sample."""
    steps, spread = 3000, 0.3
    ramp = np.arange(steps)[:, None] * np.ones((4, 1, 1))
    slopes, pulls = np.array([2.0, -0.5, 1.0]), np.array([0.1, 0.2, -0.3])
    truth = Motion(rate=ramp * slopes, force=ramp * pulls, activity=np.zeros((4, steps), dtype=np.int8))
    moved = truth.jittered(np.random.default_rng(1), spread)
    errors = ((moved.rate - truth.rate) / slopes)[:, 5:-5]  # in samples; those at the ends cannot move outwards
    np.testing.assert_allclose(errors, np.broadcast_to(errors[..., :1], errors.shape), rtol=0, atol=1e-8)
    np.testing.assert_allclose(((moved.force - truth.force) / pulls)[:, 5:-5], errors, rtol=0, atol=1e-8)
    time = errors[..., 0]
    assert abs(time.mean()) < 0.01
    np.testing.assert_allclose(time.std(), spread, rtol=0.03)
    neighbours = np.corrcoef(time[:, 1:].ravel(), time[:, :-1].ravel())[0, 1]
    assert abs(neighbours) < 0.05
