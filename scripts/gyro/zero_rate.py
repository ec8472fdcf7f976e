"""What an expert would build by hand: learn the gyroscope's bias whenever the device lies still.

Owns the detector of stillness, and the bias that is learned while it detects it. Knows nothing of filters: it takes
calibrated rates. Source of the detector: Skog, Handel, Nilsson, Rantakokko, "Zero-velocity detection: an
algorithm evaluation", IEEE Trans. Biomed. Eng. 57 (2010), moving variance.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from scripts.gyro.sensor import Channel, Part

Array = NDArray[np.float64]


def sample_variance(channel: Channel, sample_rate: float) -> float:
    """The variance of one sample of a still axis around its bias, u^2: white noise and rounding."""
    return channel.white**2 * sample_rate + channel.resolution**2 / 12


@dataclass(frozen=True, slots=True)
class ZeroRate:
    """The detector's two tuned numbers, and what a part's datasheet says of its noise."""

    window: int  # samples
    threshold: float  # still while the variance in the window is below this many times the sensor's own
    gyro: float  # (deg/s)^2, variance of a sample
    accelerometer: float  # (m/s^2)^2, variance of a sample
    turn_on: float  # deg/s, 1 sigma of the bias
    drift: float  # deg/s per sqrt(sample), its random walk

    @classmethod
    def of(cls, part: Part, *, window: int, threshold: float, sample_rate: float) -> Self:
        return cls(
            window=window,
            threshold=threshold,
            gyro=sample_variance(part.gyro, sample_rate),
            accelerometer=sample_variance(part.accelerometer, sample_rate),
            turn_on=part.gyro.turn_on,
            drift=part.gyro.drift / np.sqrt(sample_rate),
        )

    def __call__(self, rates: Array, forces: Array) -> tuple[Array, NDArray[np.bool_]]:
        """The bias (count, time, 3) as known at each sample, and where the device is found still (count, time).

        rates: (count, time, 3) deg/s, calibrated; forces: (count, time, 3) m/s^2.
        """
        still = self.still(rates, forces)
        bias, variance = np.zeros((len(rates), 3)), np.full(len(rates), self.turn_on**2)
        known = np.zeros_like(rates)
        delay = self.window - 1
        # The oldest sample of a still window is used: only the whole window shows that the device was still.
        for step in range(delay, rates.shape[1]):
            variance += self.drift**2
            gain = np.where(still[:, step], variance / (variance + self.gyro), 0.0)
            bias = bias + gain[:, None] * (rates[:, step - delay] - bias)
            variance = (1 - gain) * variance
            known[:, step] = bias
        return known, still

    def still(self, rates: Array, forces: Array) -> NDArray[np.bool_]:
        """Whether the window that ends at each sample (count, time) varies no more than noise; False before a window is full."""
        still = np.zeros(rates.shape[:2], dtype=np.bool_)
        quiet = _moving_variance(rates, self.window) < self.threshold * self.gyro
        still[:, self.window - 1 :] = quiet & (_moving_variance(forces, self.window) < self.threshold * self.accelerometer)
        return still

    def __str__(self) -> str:
        return f"window {self.window}, threshold {self.threshold:.3g}"


def _moving_variance(signal: Array, window: int) -> Array:
    """The variance (count, time - window + 1) in each window, the mean of the three axes."""
    centred = signal - signal[:, :1]  # gravity and bias would cost the sum of squares its precision
    sums = [np.concatenate([np.zeros_like(s[:, :1]), s], axis=1).cumsum(axis=1) for s in (centred, centred**2)]
    mean, square = ((total[:, window:] - total[:, :-window]) / window for total in sums)
    return np.asarray((square - mean**2).mean(axis=2))
