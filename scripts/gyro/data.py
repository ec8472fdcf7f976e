"""Recordings to train, validate and test on: features as a sensor reports them, targets as they truly were.

Owns which random numbers each set is drawn from, so that no two sets share a recording. The physics is in motion.py
and sensor.py. Knows nothing of networks.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.gyro import motion
from scripts.gyro.config import Config
from scripts.gyro.sensor import PARTS, Specimen

GYRO_FEATURES = (
    ("gyro_x", "deg/s"),
    ("gyro_y", "deg/s"),
    ("gyro_z", "deg/s"),
    ("accel_x", "m/s^2"),
    ("accel_y", "m/s^2"),
    ("accel_z", "m/s^2"),
)
GYRO_OUTPUTS = (("rate_x", "deg/s"), ("rate_y", "deg/s"), ("rate_z", "deg/s"))

# What seeds the generator of each set, together with the run's seed.
SPECIMEN, TRAINING, VALIDATION, TEST, STILL, GOLDEN, TURNING = range(1, 8)


@dataclass(frozen=True, slots=True)
class Recordings:
    """features: (count, time, 6) raw units; targets: (count, time, 3) deg/s; activity: (count, time), see motion.Motion."""

    features: NDArray[np.float32]
    targets: NDArray[np.float32]
    activity: NDArray[np.int8]


class Gyro:
    """The simulated device of a config, and the recordings made with it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.specimen = Specimen.draw(PARTS[config.part], np.random.default_rng([config.seed, SPECIMEN]))

    def training(self, epoch: int) -> Recordings:
        """The recordings of one epoch: new ones every time, the same ones for the same epoch."""
        return self._record([TRAINING, epoch], self.config.recordings, self.config.recording_seconds)

    def validation(self) -> Recordings:
        return self._record([VALIDATION], 48, 60.0)

    def test(self, *, count: int = 64, seconds: float = 60.0) -> Recordings:
        return self._record([TEST], count, seconds)

    def still(self, *, seconds: float) -> NDArray[np.float32]:
        """Features (1, time, 6) of the device lying still, level: for its Allan deviation."""
        return self._level(STILL, np.zeros((1, round(seconds * self.config.sample_rate), 3)))

    def turning(self, speed: float, *, count: int, rest: float, seconds: float) -> NDArray[np.float32]:
        """Features (count, time, 6) of the device, level: it lies still for `rest` seconds, then turns about the vertical for
        `seconds`, evenly, at `speed` deg/s.
        """
        begin, steps = (round(each * self.config.sample_rate) for each in (rest, rest + seconds))
        rate = np.zeros((count, steps, 3))
        rate[:, begin:, 2] = speed
        return self._level(TURNING, rate)

    def _level(self, seed: int, rate: NDArray[np.float64]) -> NDArray[np.float32]:
        rng = np.random.default_rng([self.config.seed, seed])
        force = np.broadcast_to([0.0, 0.0, motion.GRAVITY], rate.shape)
        return self.specimen.measure(rng, rate=rate, force=force, sample_rate=self.config.sample_rate).astype(np.float32)

    def _record(self, seeds: list[int], count: int, seconds: float) -> Recordings:
        rng = np.random.default_rng([self.config.seed, *seeds])
        steps, rate = round(seconds * self.config.sample_rate), self.config.sample_rate
        truth = motion.simulate(rng, count=count, steps=steps, sample_rate=rate, least=self.config.least_motion)
        sampled = truth.jittered(rng, self.config.jitter * rate) if self.config.jitter else truth
        features = self.specimen.measure(rng, rate=sampled.rate, force=sampled.force, sample_rate=rate)
        return Recordings(features=features.astype(np.float32), targets=truth.rate.astype(np.float32), activity=truth.activity)
