"""The simulated sensor has the noise of its datasheet, as measured by allantools and by a periodogram."""

from dataclasses import replace

import allantools
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import welch

from scripts.gyro import sensor
from scripts.gyro.motion import GRAVITY
from scripts.gyro.sensor import PARTS, Channel, Part, Specimen

Array = NDArray[np.float64]

CHANNELS = {f"{part.name}_{kind}": getattr(part, kind) for part in PARTS.values() for kind in ("gyro", "accelerometer")}
# One-sided densities as the datasheets print them; in units of u/sqrt(Hz).
DENSITIES = {
    "ICM-20948_gyro": 0.015,
    "ICM-20948_accelerometer": 230e-6 * GRAVITY,
    "BMI088_gyro": 0.014,
    "BMI088_accelerometer": 175e-6 * GRAVITY,
}
SILENT = {"white": 0.0, "flicker": 0.0, "drift": 0.0, "turn_on": 0.0}


def only(channel: Channel, *terms: str) -> Channel:
    """The channel with all other noise and bias taken out."""
    return replace(channel, **{name: 0.0 for name in SILENT if name not in terms})


def silent(part: Part, *terms: str) -> Part:
    """The part without noise, bias and rounding, except for these terms."""
    gyro, accelerometer = (replace(only(channel, *terms), resolution=1e-9) for channel in (part.gyro, part.accelerometer))
    return replace(part, gyro=gyro, accelerometer=accelerometer)


def allan_deviation(signal: Array, *, sample_rate: float, tau: float) -> float:
    """Overlapping Allan deviation at tau (seconds) of signals (count, time, axes), pooled over all of them."""
    series = signal.transpose(0, 2, 1).reshape(-1, signal.shape[1])
    found = [allantools.oadev(one, rate=sample_rate, data_type="freq", taus=[tau])[1][0] for one in series]
    return float(np.sqrt(np.mean(np.square(found))))


@pytest.mark.parametrize("channel", CHANNELS.values(), ids=CHANNELS.keys())
def test_white_noise_has_the_allan_deviation_n_at_one_second(channel: Channel) -> None:
    """N is read off the Allan deviation at one second, so an engineer who tunes a filter by it must find it there."""
    noise = sensor.noise(only(channel, "white"), np.random.default_rng(0), (8, 50_000, 3), 100.0)
    np.testing.assert_allclose(allan_deviation(noise, sample_rate=100.0, tau=1.0), channel.white, rtol=0.03)


@pytest.mark.parametrize("name", DENSITIES)
@pytest.mark.parametrize("sample_rate", [100.0, 400.0])
def test_white_noise_has_the_density_of_the_datasheet(name: str, sample_rate: float) -> None:
    """A datasheet's density is one-sided; read as two-sided, it would make the simulated noise 1.4 times the real one."""
    noise = sensor.noise(only(CHANNELS[name], "white"), np.random.default_rng(1), (4, 20_000, 3), sample_rate)
    frequencies, density = welch(noise, fs=sample_rate, nperseg=500, axis=1, return_onesided=True)
    inside = (frequencies > 0) & (frequencies < sample_rate / 2)
    np.testing.assert_allclose(np.sqrt(density[:, inside].mean()), DENSITIES[name], rtol=0.03)


def test_flicker_noise_has_its_floor_at_0_664_b() -> None:
    """Datasheets call the floor of the Allan deviation bias instability; B is that floor divided by 0.664."""
    noise = sensor.flicker_noise(np.random.default_rng(2), (16, 20_000, 3))
    for tau in (10.0, 50.0, 250.0, 1000.0):  # samples
        np.testing.assert_allclose(allan_deviation(noise, sample_rate=1.0, tau=tau), 0.664, rtol=0.1)


@pytest.mark.parametrize("sample_rate", [10.0, 40.0])
def test_random_walk_has_the_allan_deviation_of_its_k(sample_rate: float) -> None:
    """Drift over minutes must not depend on the sample rate."""
    channel = only(PARTS["ADIS16448"].gyro, "drift")
    noise = sensor.noise(channel, np.random.default_rng(3), (32, round(400 * sample_rate), 3), sample_rate)
    for tau in (5.0, 20.0):
        expected = channel.drift * np.sqrt(tau / 3)
        np.testing.assert_allclose(allan_deviation(noise, sample_rate=sample_rate, tau=tau), expected, rtol=0.07)


def test_noise_is_the_sum_of_its_terms() -> None:
    """Each noise term is independent: none is part of another."""
    channel, shape = PARTS["ADIS16448"].gyro, (2, 1000, 3)
    parts = [sensor.noise(only(channel, term), np.random.default_rng(4), shape, 100.0) for term in ("white", "flicker", "drift")]
    assert all(part.std() > 0 for part in parts)
    np.testing.assert_allclose(sensor.noise(channel, np.random.default_rng(4), shape, 100.0), sum(parts), rtol=0, atol=1e-12)


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS.keys())
def test_output_comes_in_counts_of_the_resolution(part: Part) -> None:
    """A network must not learn to expect values that a digital sensor cannot put out."""
    rng = np.random.default_rng(5)
    truth = rng.uniform(-100, 100, (2, 500, 3))
    features = Specimen.draw(part, rng).measure(rng, rate=truth, force=truth, sample_rate=100.0)
    assert features.shape == (2, 500, 6)
    for signal, channel in ((features[..., :3], part.gyro), (features[..., 3:], part.accelerometer)):
        counts = signal / channel.resolution
        np.testing.assert_allclose(counts, np.round(counts), rtol=0, atol=1e-6)
        assert np.unique(np.round(counts)).size > 1000


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS.keys())
def test_output_clips_at_full_scale(part: Part) -> None:
    """Beyond its range a sensor always puts out the same value: the last count within the range."""
    rng = np.random.default_rng(6)
    specimen = Specimen.draw(part, rng)
    for sign in (-1, 1):
        truth = np.full((1, 50, 3), sign * 5000.0)
        features = specimen.measure(rng, rate=truth, force=truth, sample_rate=100.0)
        for signal, channel in ((features[..., :3], part.gyro), (features[..., 3:], part.accelerometer)):
            last = np.unique(signal * sign)
            assert last.size == 1
            assert channel.limit - channel.resolution < last[0] <= channel.limit * (1 + 1e-12)


def test_linear_errors_belong_to_the_specimen() -> None:
    """They can be calibrated because they stay the same over time, and must be, because the next device has others."""
    part = silent(PARTS["MPU-6050"])
    rng = np.random.default_rng(7)
    truth = rng.uniform(-100, 100, (1, 200, 3))
    specimen, other = Specimen.draw(part, rng), Specimen.draw(part, rng)
    first, second = (specimen.measure(np.random.default_rng(seed), rate=truth, force=-truth, sample_rate=100.0) for seed in (1, 2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first[0, :, :3], [specimen.gyro @ rate for rate in truth[0]], rtol=0, atol=1e-8)
    np.testing.assert_allclose(first[0, :, 3:], [specimen.accelerometer @ -rate for rate in truth[0]], rtol=0, atol=1e-8)
    assert np.abs(other.measure(rng, rate=truth, force=-truth, sample_rate=100.0) - first).max() > 0.1


def test_linear_errors_spread_as_the_part_says() -> None:
    """1 sigma over specimens: relative on the diagonal, degrees off it."""
    part, rng = PARTS["ICM-20948"], np.random.default_rng(8)
    specimens = [Specimen.draw(part, rng) for _ in range(1500)]
    for channel, matrices in ((part.gyro, [s.gyro for s in specimens]), (part.accelerometer, [s.accelerometer for s in specimens])):
        errors = np.array(matrices) - np.eye(3)
        diagonal = np.eye(3, dtype=bool)
        np.testing.assert_allclose(errors[:, diagonal].std(), channel.scale, rtol=0.05)
        np.testing.assert_allclose(errors[:, ~diagonal].std(), np.radians(channel.misalignment), rtol=0.05)


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS.keys())
def test_turn_on_bias_is_drawn_for_each_recording_and_stays_for_its_length(part: Part) -> None:
    """It cannot be calibrated away, so its removal is left to the network."""
    still = np.zeros((1500, 3, 3))
    specimen = Specimen.draw(silent(part, "turn_on"), np.random.default_rng(9))
    features = specimen.measure(np.random.default_rng(10), rate=still, force=still, sample_rate=100.0)
    np.testing.assert_array_equal(features, np.broadcast_to(features[:, :1], features.shape))
    for bias, channel in ((features[:, 0, :3], part.gyro), (features[:, 0, 3:], part.accelerometer)):
        np.testing.assert_allclose(bias.std(), channel.turn_on, rtol=0.05)
        assert abs(bias.mean()) < 0.06 * channel.turn_on
        assert np.abs(np.corrcoef(bias.T) - np.eye(3)).max() < 0.1  # each axis has its own
