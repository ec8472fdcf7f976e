"""Classical causal filters over angular rates, and the search for the parameter that suits them best.

Owns the filters that the network is compared with, from a moving average to a bank of Kalman filters. All work on rates
(count, time, 3) in deg/s and start as if the first sample had lasted for ever. Knows nothing of devices: their bias and
scale factor are handled in calibration.py and zero_rate.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import factorial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_discrete_are
from scipy.signal import butter, lfilter, lfilter_zi, sosfilt, sosfilt_zi, ss2tf

Array = NDArray[np.float64]

STATES = 3  # of the Kalman filters: the rate and its first two derivatives; measured better than one derivative
# Densities of the white third derivative of the rate, (deg/s^4)^2/Hz: from a body that hardly turns to hardly any filtering.
BANK = tuple(10.0**power for power in range(-2, 13, 2))
BANKED = "Kalman bank"  # the family that combines several filters; the others are single ones


class Filter(Protocol):
    """Filtered rates (count, time, 3) from rates (count, time, 3), none of which depends on later samples."""

    def __call__(self, rates: Array) -> Array: ...


@dataclass(frozen=True, slots=True)
class MovingAverage:
    """The mean of the last `width` samples."""

    width: int

    def __call__(self, rates: Array) -> Array:
        before = np.repeat(rates[:, :1], self.width, axis=1)
        total = np.concatenate([before, rates], axis=1).cumsum(axis=1)
        return np.asarray((total[:, self.width :] - total[:, : -self.width]) / self.width)

    def __str__(self) -> str:
        return f"width {self.width}"


@dataclass(frozen=True, slots=True)
class Exponential:
    """The exponential moving average (EMA): y += weight (x - y)."""

    weight: float  # of the newest sample, at most 1

    def __call__(self, rates: Array) -> Array:
        return _recursive(np.array([self.weight, 0.0]), np.array([1.0, self.weight - 1]), rates)

    def __str__(self) -> str:
        return f"weight {self.weight:.3g}"


@dataclass(frozen=True, slots=True)
class Butterworth:
    """The second-order Butterworth low-pass filter."""

    cutoff: float  # Hz, below half the sample rate
    sample_rate: float  # Hz

    def __call__(self, rates: Array) -> Array:
        sos = butter(2, self.cutoff, fs=self.sample_rate, output="sos")
        start = sosfilt_zi(sos)[:, None, :, None] * rates[None, :, :1]
        return np.asarray(sosfilt(sos, rates, axis=1, zi=start)[0])

    def __str__(self) -> str:
        return f"cutoff {self.cutoff:.3g} Hz"


@dataclass(frozen=True, slots=True)
class Kalman:
    """The steady-state Kalman filter of one axis: rate and two derivatives, driven by a white third derivative."""

    density: float  # of the third derivative, (deg/s^4)^2/Hz
    variance: float  # of one measured sample, (deg/s)^2
    sample_rate: float  # Hz

    def __call__(self, rates: Array) -> Array:
        transition, gain = self.design()
        update = transition - gain @ transition[:1]  # (I - K H) F, with H = [1, 0, 0]
        numerator, denominator = ss2tf(update, gain, update[:1], gain[:1])
        return _recursive(numerator[0], denominator, rates)

    def design(self) -> tuple[Array, Array]:
        """The transition F (3, 3) and the steady-state gain K (3, 1): state = F state + K (measured - (F state)[0])."""
        step, powers = 1 / self.sample_rate, range(STATES)
        transition = np.array([[step ** (j - i) / factorial(j - i) if j >= i else 0.0 for j in powers] for i in powers])
        # the covariance that the white noise adds to the chain of integrators in one step
        spread = np.array([[self._shared(STATES - 1 - i, STATES - 1 - j) for j in powers] for i in powers])
        measured = np.eye(STATES)[:, :1]
        prior = solve_discrete_are(transition.T, measured, spread, np.array([[self.variance]]))
        return transition, np.asarray(prior[:, :1] / (prior[0, 0] + self.variance))

    def likelihood(self, rates: Array, filtered: Array) -> Array:
        """The log-likelihood (count, time) of each sample, all three axes, given those before it, up to a constant."""
        gain = self.design()[1][0, 0]
        innovation = (rates - filtered) / (1 - gain)
        expected = self.variance / (1 - gain)
        return np.asarray(-0.5 * (innovation**2 / expected + np.log(expected)).sum(axis=2))

    def _shared(self, i: int, j: int) -> float:
        power = i + j + 1
        return self.density * self.sample_rate**-power / (power * factorial(i) * factorial(j))

    def __str__(self) -> str:
        return f"density {self.density:.2g}"


@dataclass(frozen=True, slots=True)
class KalmanBank:
    """Kalman filters from slow to fast side by side, averaged with weights for how well each predicted the latest samples.

    Multiple-model adaptive estimation (Magill, "Optimal adaptive estimation of sampled stochastic processes", 1965),
    with a fading memory because the motion changes. It is the classical remedy where one bandwidth does not suit all motion.
    """

    memory: float  # samples over which a likelihood fades to 1/e
    variance: float  # of one measured sample, (deg/s)^2
    sample_rate: float  # Hz

    def __call__(self, rates: Array) -> Array:
        members = [Kalman(density, self.variance, self.sample_rate) for density in BANK]
        filtered = [member(rates) for member in members]
        evidence = np.array([member.likelihood(rates, y) for member, y in zip(members, filtered, strict=True)])
        evidence = lfilter([1.0], [1.0, -np.exp(-1 / self.memory)], evidence, axis=2)
        weights = np.exp(evidence - evidence.max(axis=0))
        weights /= weights.sum(axis=0)
        return np.asarray(sum(w[..., None] * y for w, y in zip(weights, filtered, strict=True)))

    def __str__(self) -> str:
        return f"memory {self.memory:.2g}"


@dataclass(frozen=True, slots=True)
class Family:
    """Filters that differ in one parameter, and the values of it to try first, in ascending order."""

    name: str
    make: Callable[[float], Filter]
    grid: tuple[float, ...]


def families(variance: float, sample_rate: float) -> tuple[Family, ...]:
    """The families to compare, given the variance (deg/s)^2 of one sample. Every grid reaches almost no filtering."""
    return (
        Family("moving average", lambda width: MovingAverage(round(width)), (1, 2, 3, 5, 8, 16, 32, 64)),
        Family("EMA", Exponential, _spread(0.01, 1.0)),
        Family("Butterworth", lambda cutoff: Butterworth(cutoff, sample_rate), _spread(0.005 * sample_rate, 0.49999 * sample_rate)),
        Family("Kalman", lambda density: Kalman(density, variance, sample_rate), _spread(1e-2, 1e14)),
        Family(BANKED, lambda memory: KalmanBank(memory, variance, sample_rate), (1, 2, 4, 8, 16)),
    )


def tune(family: Family, rates: Array, targets: Array) -> Filter:
    """The filter of the family with the smallest RMSE of rates against targets, (count, time, 3) each: the best of the
    grid, then of two values more on either side of it."""
    errors = {value: rmse(family.make(value)(rates), targets) for value in family.grid}
    best = family.grid.index(min(errors, key=errors.__getitem__))
    around = family.grid[max(best - 1, 0)], family.grid[best], family.grid[min(best + 1, len(family.grid) - 1)]
    for low, high in pairwise(around):
        for value in np.geomspace(low, high, 4)[1:-1]:
            errors[float(value)] = rmse(family.make(float(value))(rates), targets)
    return family.make(min(errors, key=errors.__getitem__))


def rmse(rates: Array, targets: Array) -> float:
    """Root-mean-square error over everything, deg/s."""
    return float(np.sqrt(np.mean((rates - targets) ** 2)))


def _recursive(numerator: Array, denominator: Array, rates: Array) -> Array:
    """A linear recursion along time, from the state that the first sample would have led to."""
    start = lfilter_zi(numerator, denominator)[None, :, None] * rates[:, :1]
    return np.asarray(lfilter(numerator, denominator, rates, axis=1, zi=start)[0])


def _spread(low: float, high: float) -> tuple[float, ...]:
    return tuple(float(value) for value in np.geomspace(low, high, 17))
