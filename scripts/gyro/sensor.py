"""What a MEMS inertial sensor makes of true motion: the errors of its datasheet, in the datasheet's units.

Owns the noise physics, set by Allan figures (IEEE Std 952-1997, annex C). Knows nothing of motion or training.
Scale factor and misalignment belong to one specimen of a part (`Specimen`, the same in training and test);
turn-on bias and its drift belong to a recording and are drawn anew each time.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Channel:
    """The error budget of one kind of axis; its unit u is deg/s for gyroscopes, m/s^2 for accelerometers.

    white is the coefficient N of the Allan deviation: ADEV(tau) = N / sqrt(tau). A datasheet's one-sided noise
    density is sqrt(2) N: see `from_density`.
    """

    white: float  # N, u/sqrt(Hz): angle (velocity) random walk
    flicker: float  # B, u: bias instability, whose Allan deviation is flat at 0.664 B
    drift: float  # K, u*sqrt(Hz): rate (acceleration) random walk, ADEV(tau) = K sqrt(tau / 3)
    turn_on: float  # u, 1 sigma of the bias of a recording
    scale: float  # 1 sigma, relative
    misalignment: float  # degrees, 1 sigma
    resolution: float  # u per count
    limit: float  # u, full scale: where the output clips

    @staticmethod
    def from_density(density: float) -> float:
        """N of a channel whose datasheet prints a one-sided noise density: S(f) = 2 N^2."""
        return density / sqrt(2)


@dataclass(frozen=True, slots=True)
class Part:
    """A named part: what is the same for every specimen of it."""

    name: str
    gyro: Channel
    accelerometer: Channel
    source: str


def _accelerometer(*, white: float, turn_on: float, resolution: float, limit: float, drift: float = 2e-4) -> Channel:
    return Channel(
        white=white,
        flicker=2.5e-3,
        drift=drift,
        turn_on=turn_on,
        scale=0.003,
        misalignment=0.2,
        resolution=resolution,
        limit=limit,
    )


PARTS = {
    part.name: part
    for part in (
        Part(
            name="ADIS16448",
            gyro=Channel(
                white=0.00972,
                flicker=14.5 / 3600 / 0.664,
                drift=0.00111,
                turn_on=0.5,
                scale=0.005,
                misalignment=0.25,
                resolution=0.04,
                limit=1000.0,
            ),
            accelerometer=_accelerometer(white=2.0e-3, turn_on=0.1, resolution=8.17e-3, limit=176.5, drift=3.0e-3),
            source="N and K: sensor.yaml of the EuRoC MAV data set (1.6968e-4 rad/s/sqrt(Hz), 1.9393e-5 rad/s^2/sqrt(Hz), "
            "2.0e-3 m/s^2/sqrt(Hz), 3.0e-3 m/s^3/sqrt(Hz)); in-run bias stability 14.5 deg/h, initial bias, "
            "sensitivity and range: datasheet; the rest: typical of its class",
        ),
        Part(
            name="MPU-6050",
            gyro=Channel(
                white=0.0105,
                flicker=0.004,
                drift=0.0006,
                turn_on=1.0,
                scale=0.015,
                misalignment=0.6,
                resolution=1 / 32.8,
                limit=1000.0,
            ),
            accelerometer=_accelerometer(white=2.8e-3, turn_on=0.3, resolution=4.79e-3, limit=156.9),
            source="N measured on a real one: 0.009 to 0.012 (the datasheet's density of 0.005 is optimistic); turn-on bias after "
            "a factory offset; range +-1000 deg/s, +-16 g: datasheet; the rest: typical of its class",
        ),
        Part(
            name="ICM-20948",
            gyro=Channel(
                white=Channel.from_density(0.015),
                flicker=0.004,
                drift=0.0006,
                turn_on=1.0,
                scale=0.008,
                misalignment=0.5,
                resolution=1 / 32.8,
                limit=1000.0,
            ),
            accelerometer=_accelerometer(
                white=Channel.from_density(230e-6 * 9.80665), turn_on=0.2, resolution=4.79e-3, limit=156.9
            ),
            source="densities 0.015 deg/s/sqrt(Hz) and 230 ug/sqrt(Hz), range: datasheet; the rest: typical of its class",
        ),
        Part(
            name="BMI088",
            gyro=Channel(
                white=Channel.from_density(0.014),
                flicker=2.0 / 3600 / 0.664,
                drift=0.0003,
                turn_on=1.0,
                scale=0.005,
                misalignment=0.3,
                resolution=1 / 32.768,
                limit=1000.0,
            ),
            accelerometer=_accelerometer(
                white=Channel.from_density(175e-6 * 9.80665), turn_on=0.2, resolution=7.18e-3, limit=235.4
            ),
            source="densities 0.014 deg/s/sqrt(Hz) and 175 ug/sqrt(Hz), bias instability under 2 deg/h, range: datasheet; "
            "the rest: typical of its class",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Specimen:
    """One device of a part: its scale and misalignment matrices, (3, 3) each, which map truth to what it measures."""

    part: Part
    gyro: Array
    accelerometer: Array

    @classmethod
    def draw(cls, part: Part, rng: np.random.Generator) -> Self:
        return cls(part=part, gyro=_matrix(part.gyro, rng), accelerometer=_matrix(part.accelerometer, rng))

    def measure(self, rng: np.random.Generator, *, rate: Array, force: Array, sample_rate: float) -> Array:
        """Features (count, time, 6): gyro deg/s and accelerometer m/s^2, as the device would report `rate` and `force`."""
        gyro = _output(self.part.gyro, self.gyro, rate, rng, sample_rate)
        accelerometer = _output(self.part.accelerometer, self.accelerometer, force, rng, sample_rate)
        return np.concatenate([gyro, accelerometer], axis=2)


def noise(channel: Channel, rng: np.random.Generator, shape: tuple[int, int, int], sample_rate: float) -> Array:
    """Noise (count, time, axes) of a channel without its turn-on bias: white + flicker + random walk."""
    white = channel.white * sqrt(sample_rate) * rng.standard_normal(shape)
    walk = channel.drift / sqrt(sample_rate) * rng.standard_normal(shape).cumsum(axis=1)
    return np.asarray(white + channel.flicker * flicker_noise(rng, shape) + walk)


def flicker_noise(rng: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    """1/f noise (count, time, axes) of unit bias instability B, made by shaping a white spectrum.

    The two-sided density is B^2 / (2 pi f) (IEEE Std 952-1997, C.1.2); its Allan deviation is flat at
    sqrt(2 ln 2 / pi) B = 0.664 B up to about a tenth of the recording.
    """
    count, steps, axes = shape
    padded = 2 * steps  # the FFT is periodic: half of it is a recording with free ends
    frequency = np.fft.rfftfreq(padded)[None, 1:, None]
    spectrum = np.zeros((count, padded // 2 + 1, axes), dtype=np.complex128)
    parts = rng.standard_normal((count, padded // 2, axes, 2)).view(np.complex128)[..., 0] / sqrt(2)
    spectrum[:, 1:] = parts * np.sqrt(padded / (2 * np.pi * frequency))
    return np.asarray(np.fft.irfft(spectrum, n=padded, axis=1)[:, :steps])


def _matrix(channel: Channel, rng: np.random.Generator) -> Array:
    scale = np.diag(1 + channel.scale * rng.standard_normal(3))
    return np.asarray(scale + np.radians(channel.misalignment) * rng.standard_normal((3, 3)) * (1 - np.eye(3)))


def _output(channel: Channel, matrix: Array, truth: Array, rng: np.random.Generator, sample_rate: float) -> Array:
    count, _, axes = truth.shape
    signal = truth @ matrix.T + channel.turn_on * rng.standard_normal((count, 1, axes))
    signal += noise(channel, rng, truth.shape, sample_rate)
    counts = np.round(signal / channel.resolution)
    most = np.floor(channel.limit / channel.resolution)
    return np.asarray(np.clip(counts, -most, most) * channel.resolution)
