"""The classical filters and the tuned baselines, against slower truths: loops, textbook recursions, exact inverses."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.signal import butter
from scipy.stats import norm

from scripts.gyro.baselines import CALIBRATED, EXPERT, RAW, SMOOTHED, Filtered, baselines
from scripts.gyro.calibration import calibrate, calibration
from scripts.gyro.config import Config
from scripts.gyro.data import Gyro, Recordings
from scripts.gyro.filters import (
    BANK,
    Butterworth,
    Exponential,
    Kalman,
    KalmanBank,
    MovingAverage,
    families,
    rmse,
    tune,
)
from scripts.gyro.zero_rate import ZeroRate

RATE = 100.0
VARIANCE = 0.01
FILTERS = [
    MovingAverage(7),
    Exponential(0.2),
    Butterworth(8.0, RATE),
    Kalman(1e6, VARIANCE, RATE),
    KalmanBank(5.0, VARIANCE, RATE),
]
IDS = [type(filter).__name__ for filter in FILTERS]
FAMILIES = {family.name: family for family in families(VARIANCE, RATE)}
LONG_AGO = 1500  # samples of the first value, after which a filter has settled


@pytest.fixture
def rates():
    """(2, 200, 3): a walk with noise on it, far from zero."""
    rng = np.random.default_rng(0)
    return 20 + rng.standard_normal((2, 200, 3)).cumsum(axis=1) + 0.1 * rng.standard_normal((2, 200, 3))


def settled(rates):
    """`rates` with its first value held for a long time before it, which a filter that starts in steady state assumes."""
    return np.concatenate([np.repeat(rates[:, :1], LONG_AGO, axis=1), rates], axis=1)


def kalman_by_the_book(signal, density):
    """Predictions, their variances and estimates (time,) of one axis (time,), by the full predict and update equations."""
    chain = np.diag([1.0, 1.0], 1)
    # Van Loan's integral of the process noise, not the closed form that the filter uses
    block = expm(np.block([[-chain, np.diag([0.0, 0.0, density])], [np.zeros((3, 3)), chain.T]]) / RATE)
    F = block[3:, 3:].T
    Q = F @ block[:3, 3:]
    x, P = np.array([signal[0], 0.0, 0.0]), np.eye(3) * 1e3
    predictions, variances, estimates = [], [], []
    for measured in signal:
        x, P = F @ x, F @ P @ F.T + Q
        variance = P[0, 0] + VARIANCE
        predictions.append(x[0])
        variances.append(variance)
        K = P[:, 0] / variance
        x = x + K * (measured - x[0])
        P = P - np.outer(K, P[0])
        estimates.append(x[0])
    return np.array(predictions), np.array(variances), np.array(estimates)


def test_moving_average_is_the_mean_of_the_last_samples(rates):
    """The filter takes differences of cumulative sums, as a short cut for this loop."""
    before = settled(rates)
    expected = [before[:, LONG_AGO + t - 6 : LONG_AGO + t + 1].mean(axis=1) for t in range(200)]
    np.testing.assert_allclose(MovingAverage(7)(rates), np.stack(expected, axis=1), rtol=1e-12)


def test_exponential_average_is_its_recursion(rates):
    """y += weight (x - y), from the first sample on."""
    y, expected = rates[:, 0], []
    for t in range(200):
        y = y + 0.2 * (rates[:, t] - y)
        expected.append(y)
    np.testing.assert_allclose(Exponential(0.2)(rates), np.stack(expected, axis=1), rtol=1e-12)


def test_butterworth_is_its_difference_equation(rates):
    """Direct form, after its first value was held long enough to settle."""
    b, a = butter(2, 8.0, fs=RATE)
    x = settled(rates)
    y = np.copy(x)
    for t in range(2, x.shape[1]):
        y[:, t] = b[0] * x[:, t] + b[1] * x[:, t - 1] + b[2] * x[:, t - 2] - a[1] * y[:, t - 1] - a[2] * y[:, t - 2]
    np.testing.assert_allclose(Butterworth(8.0, RATE)(rates), y[:, LONG_AGO:], rtol=1e-9)


@pytest.mark.parametrize("density", [1e2, 1e6, 1e12])
def test_kalman_filter_is_the_textbook_filter_once_its_gain_has_settled(rates, density):
    """The filter takes three short cuts: a steady gain, its transfer function and a start in steady state."""
    _, _, expected = kalman_by_the_book(settled(rates)[1, :, 2], density)
    np.testing.assert_allclose(Kalman(density, VARIANCE, RATE)(rates)[1, :, 2], expected[LONG_AGO:], rtol=1e-6)


def test_kalman_bank_weighs_textbook_filters_by_their_fading_likelihoods():
    """The slower truth: likelihoods from the innovations of full Kalman filters on all three axes, summed with fading in a loop."""
    rng = np.random.default_rng(1)
    rates = np.concatenate([np.zeros(40), 30 * np.sin(np.arange(80) / 5)])[None, :, None] + 0.1 * rng.standard_normal((1, 120, 3))
    log_likelihoods, estimates = np.zeros((len(BANK), 120)), np.zeros((len(BANK), 120, 3))
    for member, density in enumerate(BANK):
        for axis in range(3):
            predicted, variance, estimate = (a[LONG_AGO:] for a in kalman_by_the_book(settled(rates)[0, :, axis], density))
            log_likelihoods[member] += norm.logpdf(rates[0, :, axis], predicted, np.sqrt(variance))
            estimates[member, :, axis] = estimate
    evidence, expected = np.zeros(len(BANK)), []
    for t in range(120):
        evidence = np.exp(-1 / 5.0) * evidence + log_likelihoods[:, t]
        weights = np.exp(evidence - evidence.max())
        expected.append(weights @ estimates[:, t] / weights.sum())
    np.testing.assert_allclose(KalmanBank(5.0, VARIANCE, RATE)(rates)[0], expected, atol=1e-5)


@pytest.mark.parametrize("filter", FILTERS, ids=IDS)
def test_filter_starts_without_a_transient(filter):
    """The error of such a transient would be counted against the filter, though only its start is to blame."""
    np.testing.assert_allclose(filter(np.full((1, 300, 3), 123.4)), 123.4, rtol=1e-9)


@pytest.mark.parametrize("filter", FILTERS, ids=IDS)
def test_filter_does_not_see_the_future(filter, rates):
    """Only causal filters can run beside a live stream."""
    other = rates.copy()
    other[:, 100:] += 50.0
    np.testing.assert_allclose(filter(other)[:, :100], filter(rates)[:, :100], rtol=1e-12)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_tuning_can_choose_hardly_any_filtering(family):
    """Smoothing lags behind fast motion, so a grid that always smooths would do worse than no filter."""
    times = np.arange(2000)[None, :, None] / RATE
    truth = 300 * np.sin(2 * np.pi * np.array([5.0, 6.0, 7.0]) * times)
    rates = truth + 0.1 * np.random.default_rng(2).standard_normal(truth.shape)
    assert rmse(tune(family, rates, truth)(rates), truth) < 1.02 * rmse(rates, truth)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_tuning_smooths_what_hardly_moves(family):
    """A grid that could not smooth would make the filter too weak a baseline."""
    truth = np.full((2, 2000, 3), 5.0)
    rates = truth + 0.1 * np.random.default_rng(3).standard_normal(truth.shape)
    assert rmse(tune(family, rates, truth)(rates), truth) < 0.4 * rmse(rates, truth)


def test_tuning_is_at_least_as_good_as_the_grid(rates):
    """The finer search must not lose the best value that the grid found."""
    truth, family = rates - 0.1, FAMILIES["EMA"]
    best = min(rmse(family.make(value)(rates), truth) for value in family.grid)
    assert rmse(tune(family, rates, truth)(rates), truth) <= best


def test_calibration_finds_the_matrix_whatever_the_biases():
    """Each recording has its own bias and all see the same gravity: neither may leak into the matrix."""
    rng = np.random.default_rng(4)
    matrix = np.eye(3) + 0.01 * rng.standard_normal((3, 3))
    truth = 50 * rng.standard_normal((4, 500, 3))
    gravity = np.array([0.0, 0.0, 9.8]) + 0.1 * rng.standard_normal((4, 500, 3))
    bias = rng.standard_normal((4, 1, 3))
    features = np.concatenate([truth @ matrix.T + bias, gravity], axis=2)
    found = calibration(features, truth)
    np.testing.assert_allclose(found, np.hstack([np.linalg.inv(matrix) - np.eye(3), np.zeros((3, 3))]), atol=1e-12)
    np.testing.assert_allclose(calibrate(features, found), truth + bias @ np.linalg.inv(matrix).T, atol=1e-9)


ZERO_RATE = ZeroRate(window=20, threshold=1.5, gyro=0.01, accelerometer=0.0004, turn_on=0.5, drift=1e-4)


def resting_and_turning():
    """Rates and forces (2, 600, 3), at rest with a bias, then turning, then at rest again; and the bias."""
    rng = np.random.default_rng(5)
    moving = ((np.arange(600) >= 200) & (np.arange(600) < 400))[None, :, None]
    bias = np.array([0.4, -0.7, 0.1]) * np.array([1.0, -1.0])[:, None, None]
    rates = bias + 0.1 * rng.standard_normal((2, 600, 3)) + moving * 40 * np.sin(np.arange(600) / 15)[None, :, None]
    forces = np.array([0.0, 0.0, 9.8]) + 0.02 * rng.standard_normal((2, 600, 3)) + moving * rng.standard_normal((2, 600, 3))
    return rates, forces, bias[:, 0]


def test_bias_and_stillness_are_those_of_plain_loops():
    """The loops take each window's variances, and update a scalar Kalman filter with the window's oldest sample."""
    rates, forces, _ = resting_and_turning()
    known, still = ZERO_RATE(rates, forces)
    for index in range(2):
        bias, variance = np.zeros(3), 0.25
        for t in range(600):
            quiet = False
            if t >= 19:
                window = slice(t - 19, t + 1)
                quiet = rates[index, window].var(axis=0).mean() < 0.015 and forces[index, window].var(axis=0).mean() < 0.0006
                variance += 1e-8
                if quiet:
                    gain = variance / (variance + 0.01)
                    bias, variance = bias + gain * (rates[index, t - 19] - bias), (1 - gain) * variance
            assert still[index, t] == quiet
            np.testing.assert_allclose(known[index, t], bias, atol=1e-9)


def test_bias_is_learned_at_rest_and_kept_in_motion():
    """A rate that was measured in motion must not be taken for bias."""
    rates, forces, bias = resting_and_turning()
    known, still = ZERO_RATE(rates, forces)
    assert not still[:, 205:400].any()
    np.testing.assert_array_equal(known[:, 250], known[:, 399])
    np.testing.assert_allclose(known[:, -1], bias, atol=0.03)


class TrainingOnly(Gyro):
    """A device that raises an error when anything but training recordings is asked for."""

    def __init__(self, config):
        super().__init__(config)
        self.epochs = []

    def training(self, epoch):
        self.epochs.append(epoch)
        return super().training(epoch)

    def validation(self):
        raise AssertionError("validation recordings were asked for")

    def test(self, **_):
        raise AssertionError("test recordings were asked for")

    def still(self, **_):
        raise AssertionError("the still recording was asked for")


@pytest.fixture(scope="module")
def tuned():
    gyro = TrainingOnly(replace(Config(), recordings=3, recording_seconds=12.0, epochs=5))
    return gyro, list(baselines(gyro))


def test_baselines_are_tuned_on_training_recordings_only(tuned):
    """A parameter that was tuned on the test set would flatter the filters."""
    gyro, _ = tuned
    assert gyro.epochs == [4]


def test_no_test_recording_is_a_training_recording():
    """The sets are drawn from different seeds; with equal ones the test set would have been seen in training."""
    gyro = Gyro(replace(Config(), recordings=2, recording_seconds=5.0))
    training, test = gyro.training(gyro.config.epochs - 1), gyro.test(count=2, seconds=5.0)
    assert isinstance(test, Recordings)
    for one in training.targets:
        for other in test.targets:
            assert np.abs(one - other).max() > 1.0


def test_every_filter_stands_with_and_without_calibration(tuned):
    """A reader must be able to tell what calibration gains from what the filter adds."""
    names = [method.name for method in tuned[1]]
    kinds = [f", {name}" for name in FAMILIES]
    assert names == [RAW, *(RAW + kind for kind in kinds), CALIBRATED, *(CALIBRATED + kind for kind in kinds), SMOOTHED, EXPERT]


def test_no_baseline_sees_the_future(tuned):
    """The network does not see it either, so the comparison is fair."""
    features = Gyro(replace(Config(), seed=7)).test(count=2, seconds=6.0).features.astype(np.float64)
    other = features.copy()
    other[:, 300:] += 5.0
    for method in tuned[1]:
        np.testing.assert_allclose(method.run(other)[:, :300], method.run(features)[:, :300], rtol=1e-9, atol=1e-9)


def test_raw_is_what_the_device_reports(tuned):
    """The first line of the table is the uncorrected measurement."""
    features = np.random.default_rng(6).standard_normal((1, 50, 6))
    np.testing.assert_allclose(tuned[1][0].run(features), features[..., :3], atol=1e-12)
    assert isinstance(tuned[1][0].run, Filtered)
