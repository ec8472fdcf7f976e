"""Random smooth motion of a rigid body: true angular rates and the specific force an ideal accelerometer feels.

Owns the kinematics. Knows nothing of sensors: bias, noise and quantisation are in sensor.py.
Every recording is a chain of sections, each at rest, swaying or rotating fast, with smooth passages between them.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

GRAVITY = 9.80665  # m/s^2, standard gravity
MAX_RATE = 1000.0  # deg/s, approached and never passed

Array = NDArray[np.float64]


class Activity(IntEnum):
    """What the body does in a section of a recording."""

    REST = 0
    SWAY = 1
    FAST = 2


@dataclass(frozen=True, slots=True)
class Regime:
    """The range from which a section draws its root-mean-square values, and a recording its bandwidth."""

    share: float  # of all sections
    rate: tuple[float, float]  # deg/s RMS per axis, log-uniform
    acceleration: tuple[float, float]  # m/s^2 RMS per axis, log-uniform
    bandwidth: tuple[float, float]  # Hz, log-uniform


REST_SHARE = 0.30  # of all sections
MOVING = {
    Activity.SWAY: Regime(share=0.40, rate=(1.0, 40.0), acceleration=(0.05, 0.5), bandwidth=(0.1, 1.0)),
    Activity.FAST: Regime(share=0.30, rate=(60.0, 450.0), acceleration=(0.5, 6.0), bandwidth=(0.5, 3.0)),
}
SECTION_SECONDS = (2.0, 8.0)
PASSAGE_SECONDS = 0.12  # standard deviation of the Gaussian that joins two sections


@dataclass(frozen=True, slots=True)
class Motion:
    """True motion, evenly sampled.

    rate: (count, time, 3) deg/s in the body frame; force: (count, time, 3) m/s^2, specific force in the body frame;
    activity: (count, time), an `Activity`, and -1 in the passages from one to another.
    """

    rate: Array
    force: Array
    activity: NDArray[np.int8]

    def jittered(self, rng: np.random.Generator, spread: float) -> "Motion":
        """The motion as it is sampled early or late by `spread` samples, 1 sigma, each sample on its own."""
        count, steps, _ = self.rate.shape
        nominal = np.arange(steps)
        times = np.clip(nominal + spread * rng.standard_normal((count, steps)), 0, steps - 1)
        rate, force = np.empty_like(self.rate), np.empty_like(self.force)
        for index, time in enumerate(times):
            rate[index] = CubicSpline(nominal, self.rate[index])(time)
            force[index] = CubicSpline(nominal, self.force[index])(time)
        return Motion(rate=rate, force=force, activity=self.activity)


def simulate(rng: np.random.Generator, *, count: int, steps: int, sample_rate: float, least: float = 1.0) -> Motion:
    """Draw `count` independent recordings of `steps` samples at `sample_rate` Hz.

    The motion of each recording is scaled by a factor of its own, log-uniform from `least` to 1: some devices hardly ever move.
    """
    labels = _sections(rng, count, steps, sample_rate)
    rate = np.zeros((count, steps, 3))
    linear = np.zeros((count, steps, 3))
    width = PASSAGE_SECONDS * sample_rate
    for activity, regime in MOVING.items():
        bandwidth = _log_uniform(rng, regime.bandwidth, (count, 1, 1))
        for signal, spread in ((rate, regime.rate), (linear, regime.acceleration)):
            per_section = _log_uniform(rng, spread, (count, int(labels.section.max()) + 1, 1))
            amplitude = np.take_along_axis(per_section, labels.section[:, :, None], axis=1)
            amplitude = np.where(labels.activity[:, :, None] == activity, amplitude, 0.0)
            envelope = gaussian_filter1d(amplitude, width, axis=1, mode="nearest")
            signal += envelope * _smooth_noise(rng, bandwidth, (count, steps, 3), sample_rate)
    if least < 1.0:
        extent = _log_uniform(rng, (least, 1.0), (count, 1, 1))
        rate, linear = extent * rate, extent * linear
    rate = MAX_RATE * np.tanh(rate / MAX_RATE)
    attitude = integrate(rate, sample_rate=sample_rate, start=_random_attitude(rng, count))
    force = np.einsum("ntji,ntj->nti", attitude, linear + np.array([0.0, 0.0, GRAVITY]))
    return Motion(rate=rate, force=force, activity=_pure(labels.activity, width))


def integrate(rate: Array, *, sample_rate: float, start: Array | None = None) -> Array:
    """Attitudes (count, time, 3, 3), body to world, from rates (count, time, 3) in deg/s, by the midpoint rule.

    `start` is the attitude (count, 3, 3) at the first sample; None means the identity.
    """
    midpoint = np.radians(rate[:, 1:] + rate[:, :-1]) / 2 / sample_rate
    turns = rotation(midpoint)
    attitude = np.empty((*rate.shape, 3))
    attitude[:, 0] = np.eye(3) if start is None else start
    for step in range(turns.shape[1]):
        np.matmul(attitude[:, step], turns[:, step], out=attitude[:, step + 1])
    return attitude


def rotation(vector: Array) -> Array:
    """Rotation matrices (..., 3, 3) of rotation vectors (..., 3) in radians: Rodrigues' formula."""
    angle = np.linalg.norm(vector, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(vector, -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*vector.shape, 3)
    # sin(a)/a and (1 - cos(a))/a^2 = (sin(a/2)/(a/2))^2/2, both by np.sinc, which is exact at 0
    return np.asarray(np.eye(3) + np.sinc(angle / np.pi) * cross + np.sinc(angle / 2 / np.pi) ** 2 / 2 * cross @ cross)


@dataclass(frozen=True, slots=True)
class _Labels:
    section: NDArray[np.int64]  # (count, time), which section of its recording a sample is in
    activity: NDArray[np.int8]  # (count, time)


def _sections(rng: np.random.Generator, count: int, steps: int, sample_rate: float) -> _Labels:
    most = int(np.ceil(steps / (SECTION_SECONDS[0] * sample_rate))) + 1
    lengths = rng.uniform(*SECTION_SECONDS, (count, most)) * sample_rate
    ends = np.cumsum(lengths, axis=1) - lengths[:, :1] * rng.random((count, 1))  # a recording may start mid-section
    section = (np.arange(steps)[None, :, None] >= ends[:, None, :]).sum(axis=2)
    shares = [REST_SHARE, *(regime.share for regime in MOVING.values())]
    kinds = rng.choice(np.array([Activity.REST, *MOVING], dtype=np.int8), size=(count, most + 1), p=shares)
    return _Labels(section=section, activity=np.take_along_axis(kinds, section, axis=1))


def _pure(activity: NDArray[np.int8], width: float) -> NDArray[np.int8]:
    """Mark as -1 what is within four widths of a change of activity."""
    changes = np.zeros(activity.shape)
    changes[:, 1:] = activity[:, 1:] != activity[:, :-1]
    near = gaussian_filter1d(changes, width, axis=1, mode="constant", truncate=4.0) > 0
    return np.where(near, np.int8(-1), activity)


def _smooth_noise(rng: np.random.Generator, bandwidth: Array, shape: tuple[int, int, int], sample_rate: float) -> Array:
    """Gaussian noise of unit variance whose spectrum falls as exp(-(f / bandwidth)^2 / 2): infinitely smooth."""
    count, steps, axes = shape
    padded = steps + int(4 * sample_rate)  # the FFT is periodic: cut the seam off
    spectrum = rng.standard_normal((count, padded // 2 + 1, axes, 2)).view(np.complex128)[..., 0]
    spectrum *= np.exp(-((np.fft.rfftfreq(padded, 1 / sample_rate)[None, :, None] / bandwidth) ** 2) / 2)
    spectrum[:, 0] = 0
    power = 2 * (np.abs(spectrum) ** 2).sum(axis=1, keepdims=True) / padded**2
    return np.asarray(np.fft.irfft(spectrum / np.sqrt(power), n=padded, axis=1)[:, :steps])


def _log_uniform(rng: np.random.Generator, bounds: tuple[float, float], shape: tuple[int, ...]) -> Array:
    low, high = bounds
    return np.asarray(np.exp(rng.uniform(np.log(low), np.log(high), shape)))


def _random_attitude(rng: np.random.Generator, count: int) -> Array:
    """Uniform over all attitudes: the orthogonal factor of a Gaussian matrix, made a proper rotation."""
    q, r = np.linalg.qr(rng.standard_normal((count, 3, 3)))
    q *= np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]
    q[:, :, 0] *= np.linalg.det(q)[:, None]
    return np.asarray(q)
