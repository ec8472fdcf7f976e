"""How good an estimate of angular rates is: its error, the attitude error it leads to, its delay, gain and noise.

Owns the metrics, all on arrays of rates in deg/s; knows nothing of how they were estimated. RMSE alone would flatter
any smoother: lag and gain say what it does to motion, and Allan deviation (IEEE Std 952-1997, annex C) what is left at rest.
"""

from collections.abc import Callable
from dataclasses import dataclass

import allantools
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from scripts.gyro import motion
from scripts.gyro.data import Gyro, Recordings
from scripts.gyro.filters import rmse
from scripts.gyro.motion import Activity

Array = NDArray[np.float64]

SETTLE_SECONDS = 10.0  # in which no one can know the bias of a device that has just been turned on
WINDOW_SECONDS = 10.0  # of integration, and of what counts as noise rather than drift
REACH = 64  # samples, the largest delay looked for


EVEN_RATES = (1.0, 3.0, 10.0)  # deg/s
EVEN_COUNT, EVEN_SECONDS = 16, 10.0  # recordings for each rate; seconds of rest, then as many of turning


@dataclass(frozen=True, slots=True)
class Allan:
    """Overlapping Allan deviation, deg/s, over averaging times tau, s; the root mean square of the three axes."""

    tau: Array  # (points,)
    deviation: Array  # (points,)

    def at(self, seconds: float) -> float:
        """The deviation at the tau nearest to `seconds`."""
        return float(self.deviation[np.abs(np.log(self.tau / seconds)).argmin()])


@dataclass(frozen=True, slots=True)
class Scores:
    """One method on the test recordings and on a recording of a device that lies still."""

    rmse: float  # deg/s
    settled: float  # deg/s RMSE from SETTLE_SECONDS on
    rest: float  # deg/s RMSE per Activity
    sway: float
    fast: float
    orientation_median: float  # degrees after WINDOW_SECONDS
    orientation_rms: float  # degrees after WINDOW_SECONDS
    lag: float  # samples, positive when late
    gain: float  # amplitude of the output over that of the truth
    noise: float  # deg/s, standard deviation of a still device within WINDOW_SECONDS
    allan: Allan


def score(run: Callable[[Array], Array], recordings: Recordings, still: NDArray[np.float32], sample_rate: float) -> Scores:
    """Scores of features (count, time, 6) -> rates (count, time, 3) on recordings, and on still (1, time, 6)."""
    rates, truth = run(recordings.features.astype(np.float64)), recordings.targets.astype(np.float64)
    activity, settled = recordings.activity, round(SETTLE_SECONDS * sample_rate)
    angles = orientation_errors(rates, truth, sample_rate)
    lag, gain = delay(rates, truth, moving=(activity == Activity.SWAY) | (activity == Activity.FAST))
    at_rest = run(still.astype(np.float64))
    return Scores(
        rmse=rmse(rates, truth),
        settled=rmse(rates[:, settled:], truth[:, settled:]),
        rest=rmse(rates[activity == Activity.REST], truth[activity == Activity.REST]),
        sway=rmse(rates[activity == Activity.SWAY], truth[activity == Activity.SWAY]),
        fast=rmse(rates[activity == Activity.FAST], truth[activity == Activity.FAST]),
        orientation_median=float(np.median(angles)),
        orientation_rms=float(np.sqrt(np.mean(angles**2))),
        lag=lag,
        gain=gain,
        noise=noise(at_rest[0], sample_rate),
        allan=allan(at_rest[0], sample_rate),
    )


def even_turns(run: Callable[[Array], Array], gyro: Gyro) -> dict[float, float]:
    """The mean answer, deg/s, in the last second of an even turn at each of EVEN_RATES."""
    found = {}
    for rate in EVEN_RATES:
        features = gyro.turning(rate, count=EVEN_COUNT, rest=EVEN_SECONDS, seconds=EVEN_SECONDS)
        found[rate] = float(run(features.astype(np.float64))[:, -round(gyro.config.sample_rate) :, 2].mean())
    return found


def orientation_errors(rates: Array, truth: Array, sample_rate: float) -> Array:
    """Degrees (windows,) between the attitudes that rates and truth, (count, time, 3) each, lead to in WINDOW_SECONDS.

    The windows follow one another in every recording once the bias can be known; both start from the same attitude.
    """
    length = round(WINDOW_SECONDS * sample_rate)
    starts = range(round(SETTLE_SECONDS * sample_rate), truth.shape[1] - length, length)
    ends = [
        motion.integrate(np.concatenate([signal[:, start : start + length + 1] for start in starts]), sample_rate=sample_rate)[
            :, -1
        ]
        for signal in (rates, truth)
    ]
    # |A - B| = 2 sqrt(2) sin(angle / 2), which keeps its precision at small angles, unlike the trace
    half = np.linalg.norm(ends[0] - ends[1], axis=(1, 2)) / np.sqrt(8)
    return np.asarray(np.degrees(2 * np.arcsin(np.minimum(half, 1.0))))


def delay(rates: Array, truth: Array, *, moving: NDArray[np.bool_]) -> tuple[float, float]:
    """The shift d in samples with the smallest RMSE between rates(t) and truth(t - d), and the slope of rates on truth there.

    rates, truth: (count, time, 3); only samples where `moving` (count, time) is true count. The best whole shift is searched,
    then refined by Gauss-Newton on a spline through the truth.
    """
    inside = slice(REACH + 1, truth.shape[1] - REACH - 1)
    output, where = rates[:, inside], moving[:, inside]
    wanted = output[where]
    errors = {
        shift: rmse(truth[:, inside.start - shift : inside.stop - shift][where], wanted) for shift in range(-REACH, REACH + 1)
    }
    shift = float(min(errors, key=errors.__getitem__))
    spline, times = CubicSpline(np.arange(truth.shape[1]), truth, axis=1), np.arange(inside.start, inside.stop)
    for _ in range(8):  # the gain is fitted too: without it, each step would be wrong by this factor
        shifted, slope = spline(times - shift)[where], spline(times - shift, 1)[where]
        gain = np.vdot(shifted, wanted) / np.vdot(shifted, shifted)
        shift += float(np.vdot(gain * shifted - wanted, slope) / (gain * np.vdot(slope, slope)))
    shifted = spline(times - shift)[where]
    centred = shifted - shifted.mean(axis=0)
    return shift, float(np.vdot(centred, wanted) / np.vdot(centred, centred))


def noise(rates: Array, sample_rate: float) -> float:
    """The standard deviation within WINDOW_SECONDS of a still device's rates (time, 3), all axes together."""
    length = round(WINDOW_SECONDS * sample_rate)
    windows = rates[: len(rates) // length * length].reshape(-1, length, rates.shape[1])
    return float(np.sqrt(windows.var(axis=1).mean()))


def allan(rates: Array, sample_rate: float) -> Allan:
    """The Allan deviation of a still device's rates (time, 3), from one sample to a ninth of the recording.

    Beyond a ninth fewer than nine independent averages are left, and the estimate is itself mostly noise.
    """
    longest = len(rates) // 9
    steps = np.unique(np.round(np.geomspace(1, longest, 60)).astype(int))
    axes = [allantools.oadev(axis, rate=sample_rate, data_type="freq", taus=steps / sample_rate)[:2] for axis in rates.T]
    return Allan(tau=axes[0][0], deviation=np.sqrt(np.mean([deviation**2 for _, deviation in axes], axis=0)))
