"""Every way to get rates from features that the network is compared with, each tuned on training recordings.

Owns which filters follow which correction: none, the linear calibration, and calibration with a bias learned at
rest. Never sees a validation or test recording. A network is a `Method` too: a callable on features.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from scripts.gyro.calibration import calibrate, calibration
from scripts.gyro.data import Gyro
from scripts.gyro.filters import BANKED, Filter, MovingAverage, families, rmse, tune
from scripts.gyro.zero_rate import ZeroRate, sample_variance

Array = NDArray[np.float64]

WINDOW_SECONDS = (0.3, 0.4, 0.5, 0.65, 0.8, 1.2)  # windows that are tried for the detector of stillness
THRESHOLDS = (1.05, 1.15, 1.3, 1.6, 2.0)

RAW, CALIBRATED = "raw", "calibrated"
SMOOTHED = f"{CALIBRATED}, moving average of 1 s"
EXPERT = f"{CALIBRATED}, bias learned at rest, Kalman bank"


@dataclass(frozen=True, slots=True)
class Method:
    """A causal estimate of rates (count, time, 3) in deg/s from features (count, time, 6)."""

    name: str
    detail: str  # what was tuned or, if nothing was, why not
    run: Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class Filtered:
    """A filter over rates that are calibrated first; the zero matrix leaves them as measured."""

    matrix: Array  # (3, 6), see calibration.py
    filter: Filter

    def __call__(self, features: Array) -> Array:
        return self.filter(calibrate(features, self.matrix))


@dataclass(frozen=True, slots=True)
class ZeroRateFiltered:
    """Calibration, the bias learned at rest taken off, a filter, and a rate of exactly zero while at rest."""

    matrix: Array
    zero_rate: ZeroRate
    filter: Filter

    def __call__(self, features: Array) -> Array:
        rates = calibrate(features, self.matrix)
        bias, still = self.zero_rate(rates, features[..., 3:])
        # The bias is subtracted after the filter, because the filter would take a step of the bias for motion.
        return np.where(still[..., None], 0.0, self.filter(rates) - bias)


def simple(gyro: Gyro) -> list[Method]:
    """The raw measurement, the calibrated one, and the best single filter after calibration: tuned in seconds."""
    features, targets = _tuning(gyro)
    matrix = calibration(features, targets)
    rates, sample_rate = calibrate(features, matrix), gyro.config.sample_rate
    single = [each for each in families(sample_variance(gyro.specimen.part.gyro, sample_rate), sample_rate) if each.name != BANKED]
    tuned = {family.name: tune(family, rates, targets) for family in single}
    best = min(tuned, key=lambda name: rmse(tuned[name](rates), targets))
    return [
        Method(RAW, "no filter", Filtered(np.zeros_like(matrix), MovingAverage(1))),
        Method(CALIBRATED, "no filter", Filtered(matrix, MovingAverage(1))),
        Method(f"{CALIBRATED}, {best}", str(tuned[best]), Filtered(matrix, tuned[best])),
    ]


def baselines(gyro: Gyro) -> Iterator[Method]:
    """Yield the methods, from the weakest to the strongest, each as soon as it is tuned.

    They are tuned on the recordings of the trainer's last epoch.
    """
    features, targets = _tuning(gyro)
    part, sample_rate = gyro.specimen.part, gyro.config.sample_rate
    matrix = calibration(features, targets)
    tuned: dict[str, Filter] = {}
    for label, correction in ((RAW, np.zeros_like(matrix)), (CALIBRATED, matrix)):
        rates = calibrate(features, correction)
        yield Method(label, "no filter", Filtered(correction, MovingAverage(1)))
        for family in families(sample_variance(part.gyro, sample_rate), sample_rate):
            tuned[family.name] = tune(family, rates, targets)
            yield Method(f"{label}, {family.name}", str(tuned[family.name]), Filtered(correction, tuned[family.name]))
    yield Method(SMOOTHED, "not tuned: shows what much filtering does", Filtered(matrix, MovingAverage(round(sample_rate))))
    detectors = [
        ZeroRate.of(part, window=round(seconds * sample_rate), threshold=threshold, sample_rate=sample_rate)
        for seconds, threshold in product(WINDOW_SECONDS, THRESHOLDS)
    ]
    best = min(
        (ZeroRateFiltered(matrix, detector, tuned[BANKED]) for detector in detectors),
        key=lambda method: rmse(method(features), targets),
    )
    yield Method(EXPERT, f"{best.zero_rate}, {best.filter}", best)


def _tuning(gyro: Gyro) -> tuple[Array, Array]:
    """The recordings of the trainer's last epoch: features (count, time, 6) and targets (count, time, 3)."""
    recordings = gyro.training(gyro.config.epochs - 1)
    return recordings.features.astype(np.float64), recordings.targets.astype(np.float64)
