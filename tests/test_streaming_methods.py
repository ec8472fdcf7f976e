"""What a network is compared with, and by which metrics: each against a slow and plain computation of the same."""

from dataclasses import replace
from math import isnan
from typing import Any

import numpy as np
import pytest

from scripts.series.config import Config
from scripts.streaming import linear, methods
from scripts.streaming.linear import Goal, Scaling
from scripts.streaming.metrics import Confusion, Errors, Ruler, decibels
from scripts.streaming.moments import Moments, spread
from scripts.streaming.pictures import telling
from scripts.streaming.points import LinearPoint, NearestPoint, Points, statistics
from scripts.streaming.problem import Following
from scripts.streaming.rows import Piece
from scripts.tables.recording import Column, DataError, Recording
from tests import recordings
from tests.recordings import labelled, smoothed


def recording(rows: int = 200, *, features: int = 3, targets: int = 2, seed: int = 0) -> Recording:
    rng = np.random.default_rng(seed)
    x = 50 + rng.standard_normal((rows, features)) * [10, 1, 0.1][:features]
    y = 1000 + x @ rng.standard_normal((features, targets)) + rng.standard_normal((rows, targets))
    return Recording("r", x.astype(np.float32), y.astype(np.float32))


# -- linear maps ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [0.0, 1e-3, 1.0])
def test_ridge_is_the_solution_of_its_equations(penalty: float) -> None:
    """The penalty equals appended rows: sqrt(penalty n) for each weight except the intercept's, with a target of 0."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((300, 4)), rng.standard_normal((300, 2))
    moments = Moments(4, 2)
    for begin in range(0, 300, 70):
        moments.add(x[begin : begin + 70], y[begin : begin + 70])
    ones = np.concatenate([np.ones((300, 1)), x], axis=1)
    added = np.concatenate([np.zeros((4, 1)), np.eye(4) * np.sqrt(penalty * 300)], axis=1)
    expected, *_ = np.linalg.lstsq(np.concatenate([ones, added]), np.concatenate([y, np.zeros((4, 2))]), rcond=None)
    found = moments.ridge(penalty)
    np.testing.assert_allclose(found, expected, atol=1e-10)
    np.testing.assert_allclose(moments.errors(found), np.square(ones @ found - y).mean(axis=0), rtol=1e-10)


@pytest.mark.parametrize("back", [0, 3])
def test_a_linear_fit_is_that_of_least_squares_on_raw_rows(back: int) -> None:
    """Scaled, in blocks and with earlier rows, the fit is the one that plain least squares finds."""
    training, held_out = recording(seed=1), recording(seed=2)
    fitted = linear.fit(Goal("regress"), Scaling.of([training]), back, training=[training], validation=[training])
    x = training.features.astype(np.float64)
    before = np.stack([x[np.maximum(0, np.arange(len(x)) - lag)] for lag in range(1 + back)], axis=1).reshape(len(x), -1)
    ones = np.concatenate([before, np.ones((len(x), 1))], axis=1)
    weights, *_ = np.linalg.lstsq(ones, training.targets.astype(np.float64), rcond=None)
    found = fitted.linear(training, Piece(0, 0, len(x)))
    np.testing.assert_allclose(found, ones @ weights, atol=1e-3)
    np.testing.assert_allclose(fitted.residual, np.sqrt(np.square(ones @ weights - training.targets).mean(axis=0)), rtol=1e-4)
    whole = fitted.linear(held_out, Piece(0, 0, 200))
    pieces = [fitted.linear(held_out, Piece(0, begin, begin + 50)) for begin in range(0, 200, 50)]
    np.testing.assert_allclose(np.concatenate(pieces), whole, rtol=1e-12)  # a piece can read the rows before it


def test_rows_that_say_the_same_twice_are_no_trouble() -> None:
    """With two equal columns and a constant one, plain least squares would have no single solution."""
    training = recording()
    doubled = np.concatenate([training.features, training.features[:, :1], np.full((200, 1), 3, np.float32)], axis=1)
    found = replace(training, features=doubled)
    fitted = linear.fit(Goal("regress"), Scaling.of([found]), 0, training=[found], validation=[found])
    plain = linear.fit(Goal("regress"), Scaling.of([training]), 0, training=[training], validation=[training])
    np.testing.assert_allclose(fitted.residual, plain.residual, rtol=1e-4)
    assert np.abs(fitted.linear.weights).max() < 1e4


def test_the_penalty_is_chosen_on_the_validation_part() -> None:
    """With many columns and few rows, a least-squares fit to the training rows predicts noise."""
    rng = np.random.default_rng(0)
    few, other = (
        Recording("few", rng.standard_normal((rows, 40)).astype(np.float32), rng.standard_normal((rows, 1)).astype(np.float32))
        for rows in (50, 500)
    )
    scaling = Scaling.of([few])
    errors = []
    for validation in (few, other):
        fitted = linear.fit(Goal("regress"), scaling, 0, training=[few], validation=[validation])
        errors.append(np.square(fitted.linear(other, Piece(0, 0, 500)) - other.targets).mean())
    assert errors[1] < errors[0] / 2


def test_spread_keeps_its_digits_far_from_zero() -> None:
    """An hour in seconds since 1970 has a mean a million times its standard deviation."""
    rng = np.random.default_rng(0)
    x = 1.7e9 + rng.uniform(0, 3600, (5000, 1))
    found = spread(lambda: (x[begin : begin + 700] for begin in range(0, 5000, 700)))
    np.testing.assert_allclose(found.mean, x.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(found.scale, x.std(axis=0), rtol=1e-9)
    constant = spread(lambda: [np.full((7, 1), 0.1)] * 3)
    assert (constant.mean.item(), constant.scale.item()) == (0.1, 1.0)


# -- other methods ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 2, 5, 300])
def test_a_moving_average_is_the_mean_of_the_last_rows(width: int) -> None:
    """The average is causal; rows before the first count as equal to it."""
    found = recording()
    average = methods.Average(width, 2)
    raw = found.features[:, :2].astype(np.float64)
    long = np.concatenate([np.repeat(raw[:1], width, axis=0), raw])
    expected = np.array([long[row + 1 : row + 1 + width].mean(axis=0) for row in range(200)])
    np.testing.assert_allclose(average(found, Piece(0, 0, 200)), expected, rtol=1e-10)
    np.testing.assert_allclose(average(found, Piece(0, 70, 120)), expected[70:120], rtol=1e-10)


def test_the_moving_average_is_the_best_of_training() -> None:
    """Any network would beat a baseline that was not tuned."""
    data = smoothed(denoise=True)
    found = methods.tuned_average(data.training)
    errors = {
        width: np.square(methods.Average(width, 1)(each, Piece(0, 0, 600)) - each.targets).mean()
        for width in (1, *methods.WIDTHS)
        for each in data.training
    }
    assert found.width == min(errors, key=errors.__getitem__) > 1


def test_the_nearest_mean_is_that_of_the_class() -> None:
    """Distances are in scaled features; a class that is missing in training is never the nearest."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    x = labels[:, None] * [30.0, 0.0] + rng.standard_normal((300, 2)) * [1.0, 500.0]
    found = Recording("r", x.astype(np.float32), np.zeros((300, 0), np.float32), labels)
    scaling = Scaling.of([found])
    means = methods.class_means(scaling, [found], 3)
    z = scaling(found.features)
    np.testing.assert_allclose(means[:2], [z[labels == k].mean(axis=0) for k in (0, 1)], rtol=1e-9)
    answers = methods.Nearest(scaling, means)(found, Piece(0, 0, 300))
    assert not np.isnan(answers).any()
    assert (answers.argmax(axis=1) == labels).mean() > 0.9


def test_statistics_of_a_recording_tell_levels_sizes_and_roughness() -> None:
    """They distinguish recordings without any knowledge of time."""
    found = Recording("r", np.array([[1.0], [3.0], [1.0], [3.0]], np.float32), np.zeros((4, 0), np.float32))
    unit = Scaling(np.zeros(1, np.float32), np.ones(1, np.float32))
    np.testing.assert_allclose(statistics(unit, found), [2.0, 1.0, 2.0])
    one_row = replace(found, features=found.features[:1])
    np.testing.assert_allclose(statistics(unit, one_row), [1.0, 0.0, 0.0])


def test_recordings_that_differ_in_their_statistics_are_told_apart_by_them() -> None:
    """A network that does no better than these methods has learned nothing about time."""
    rng = np.random.default_rng(0)
    loud = []
    for index in range(60):
        features = rng.standard_normal((40, 2)) * (1 + 2 * (index % 2))
        targets, labels = np.zeros((40, 0), np.float32), np.full(40, index % 2)
        loud.append(Recording(str(index), features.astype(np.float32), targets, labels))
    points = Points.of(Scaling.of(loud), loud)
    for method in (NearestPoint.of(points, loud[:30], 4), LinearPoint.of(points, loud[:30], loud[30:45], 4)):
        right = [method(each, Piece(0, 39, 40)).argmax() == index % 2 for index, each in enumerate(loud)]
        assert np.mean(right[45:]) > 0.8


# -- metrics ----------------------------------------------------------------------------------------------------------


def test_errors_summed_up_equal_those_of_all_rows() -> None:
    """The result does not depend on how the rows are split."""
    rng = np.random.default_rng(0)
    truth, predictions = 1e5 + rng.standard_normal((100, 2)) * [1, 10], 1e5 + rng.standard_normal((100, 2))
    errors = Errors(2)
    for begin in range(0, 100, 30):
        errors.add(predictions[begin : begin + 30], truth[begin : begin + 30])
    scale, off = np.array([2.0, 5.0]), predictions - truth
    np.testing.assert_allclose(errors.rmse(scale), np.sqrt(np.square(off / scale).mean()))
    np.testing.assert_allclose(errors.mae(scale), np.abs(off / scale).mean())
    np.testing.assert_allclose(errors.r2(), (1 - np.square(off).mean(axis=0) / truth.var(axis=0)).mean(), rtol=1e-6)
    flat = Errors(1)
    flat.add(np.ones((5, 1)), np.zeros((5, 1)))
    assert isnan(flat.r2())


def test_errors_are_told_in_a_unit_only_where_there_is_one() -> None:
    """The mean of an error in bar and one in kelvin has no unit."""
    deviations = np.array([3.0, 4.0])
    assert Ruler.of((Column("a", "bar"),), deviations[:1]).unit == "bar"
    same = Ruler.of((Column("a", "bar"), Column("b", "bar")), deviations)
    assert (same.unit, same.scale.tolist()) == ("bar", [1, 1])
    for units in (("bar", "K"), ("", "")):
        apart = Ruler.of((Column("a", units[0]), Column("b", units[1])), deviations)
        assert (apart.unit, apart.scale.tolist()) == ("standard deviations", [3, 4])


def test_decibels_of_a_tenth_are_twenty() -> None:
    """A signal that is already right cannot be improved."""
    np.testing.assert_allclose(decibels(5.0, 0.5), 20)
    assert decibels(1.0, 0.0) == float("inf")
    assert isnan(decibels(0.0, 0.0))


def test_confusion_counts_by_hand() -> None:
    """Of four classes, one is neither true nor predicted in any row."""
    confusion = Confusion(4)
    answers = np.array([[0.7, 0.2, 0.1, 0], [0.1, 0.8, 0.1, 0], [0.3, 0.5, 0.2, 0], [0, 0, 1.0, 0]])
    confusion.add(answers[:2], np.array([0, 0]))
    confusion.add(answers[2:], np.array([1, 1]))
    assert confusion.counts.tolist() == [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert confusion.accuracy == 0.5
    np.testing.assert_allclose(confusion.macro_f1, np.mean([2 / 3, 1 / 2, 0]))
    np.testing.assert_allclose(confusion.log_loss, -np.log([0.7, 0.1, 0.5, 1e-7]).mean())


# -- what is shown, and what is refused -------------------------------------------------------------------------------


def test_the_stretch_that_is_shown_is_one_in_which_something_happens() -> None:
    """A picture of a signal at rest shows nothing."""
    truth = np.zeros((5000, 1), np.float32)
    truth[3000:3100, 0] = np.sin(np.arange(100))
    noise = 0.01 * np.random.default_rng(0).standard_normal((5000, 1)).astype(np.float32)
    quiet = Recording("quiet", noise, noise)
    found = telling([quiet, replace(quiet, name="eventful", targets=truth)])
    assert found.recording == 1
    assert found.begin <= 3000 < 3100 <= found.end


@pytest.mark.parametrize(
    ("changes", "choices", "words"),
    [
        ({"test": ()}, {}, "No rows are left for test"),
        ({}, {"task": "denoise"}, "read for the task regress"),
        ({"task": "denoise", "targets": (Column("a"),) * 4}, {"task": "denoise"}, "3 features and 4 targets"),
        ({"task": "classify", "classes": ("only",)}, {"task": "classify"}, "one class only, only"),
    ],
    ids=["empty_part", "other_task", "few_features", "one_class"],
)
def test_data_that_cannot_be_learned_from_are_refused(changes: dict[str, Any], choices: dict[str, Any], words: str) -> None:
    """The user gets one sentence before hours of training."""
    data = replace(recordings.smoothed(), **changes)
    with pytest.raises(DataError, match=words):
        Following(Config(**{"task": "regress", **choices}), data)


def test_one_class_in_labelled_recordings_does_not_hide_another() -> None:
    """A class that is missing in training gets a small probability, not zero, so that its logarithm is finite."""
    data = labelled(per_recording=True)
    data = replace(data, classes=(*data.classes, "unseen"))
    network = Following(Config(task="classify"), data).network()
    assert np.isfinite(network.offset.numpy()).all()
    assert network.offset.argmin() == 2
