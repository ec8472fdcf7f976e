"""The recordings: new ones to train on in every epoch, always the same ones to judge by, and none in two sets."""

from dataclasses import replace

import numpy as np
import pytest

from scripts.gyro.config import Config
from scripts.gyro.data import GYRO_FEATURES, GYRO_OUTPUTS, Gyro, Recordings
from scripts.gyro.motion import GRAVITY
from scripts.gyro.sensor import PARTS

SMALL = Config(recordings=3, recording_seconds=4.0, least_motion=1.0)


def same(one: Recordings, other: Recordings) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("features", "targets", "activity"))


@pytest.fixture(scope="module")
def gyro() -> Gyro:
    return Gyro(SMALL)


def test_recordings_are_what_the_network_takes_and_gives(gyro: Gyro) -> None:
    """Raw units in float32, as a user's sensor gives them: 4 s at 100 Hz are 400 steps."""
    recordings = gyro.training(0)
    assert recordings.features.shape == (3, 400, len(GYRO_FEATURES))
    assert recordings.targets.shape == (3, 400, len(GYRO_OUTPUTS))
    assert recordings.activity.shape == (3, 400)
    assert recordings.features.dtype == recordings.targets.dtype == np.float32
    assert gyro.validation().features.shape == (48, 6000, 6)
    assert gyro.test(count=2, seconds=1.5).features.shape == (2, 150, 6)


def test_features_are_the_targets_seen_through_the_sensor(gyro: Gyro) -> None:
    """A feature belongs to its target: the error is the sensor's, a degree or so, however fast the motion."""
    recordings = gyro.training(0)
    error = recordings.features[..., :3] - recordings.targets
    assert np.abs(recordings.targets).max() > 50
    assert 0 < np.abs(error).max() < 5 * PARTS[SMALL.part].gyro.turn_on + 0.03 * np.abs(recordings.targets).max()


def test_an_epoch_is_new_and_always_the_same(gyro: Gyro) -> None:
    """New recordings every epoch cannot be learned by heart; the same ones for the same epoch make a run repeatable."""
    assert not np.array_equal(gyro.training(0).features, gyro.training(1).features)
    assert same(gyro.training(1), Gyro(SMALL).training(1))  # and in any order


def test_no_recording_is_in_two_sets() -> None:
    """A score on training data is worthless. The sets have one size, so that equal generators would draw equal recordings."""
    gyro = Gyro(replace(SMALL, recordings=48, recording_seconds=60.0))
    sets = [gyro.training(0), gyro.training(1), gyro.validation(), gyro.test(count=48, seconds=60.0)]
    beginnings = np.concatenate([recordings.features[:, :20].reshape(-1, 120) for recordings in sets])
    assert len(np.unique(beginnings, axis=0)) == len(beginnings) == 4 * 48
    ends = np.concatenate([recordings.targets[:, ::100].reshape(48, -1) for recordings in sets])
    assert len(np.unique(ends, axis=0)) == len(ends)  # nor is a motion seen twice with other noise


def test_validation_and_test_do_not_depend_on_the_training(gyro: Gyro) -> None:
    """Two runs are compared on the same recordings, whatever each was trained with and has drawn before."""
    other = Gyro(replace(SMALL, recordings=5, recording_seconds=7.0, hidden=8, epochs=1, learning_rate=0.1, name="other"))
    other.training(0)
    assert same(other.validation(), gyro.validation())
    assert same(other.test(count=2, seconds=3.0), gyro.test(count=2, seconds=3.0))


def test_another_seed_is_another_device_and_other_recordings(gyro: Gyro) -> None:
    """Other devices show how far a result depends on one device."""
    other = Gyro(replace(SMALL, seed=1))
    assert not np.array_equal(other.specimen.gyro, gyro.specimen.gyro)
    assert not np.array_equal(other.test(count=1, seconds=1.0).targets, gyro.test(count=1, seconds=1.0).targets)


def test_still_is_a_level_device_with_nothing_but_its_noise(gyro: Gyro) -> None:
    """Its Allan deviation is the sensor's own: a trace of motion would show in it as drift."""
    features = gyro.still(seconds=30.0)
    assert features.shape == (1, 3000, 6)
    assert features.dtype == np.float32
    part = PARTS[SMALL.part]
    for signal, channel, truth in (
        (features[0, :, :3], part.gyro, [0.0, 0.0, 0.0]),
        (features[0, :, 3:], part.accelerometer, [0.0, 0.0, GRAVITY]),
    ):
        expected = np.hypot(channel.white * 10, channel.resolution / 12**0.5)  # white noise at 100 Hz, and rounding
        np.testing.assert_allclose(signal.std(axis=0), expected, rtol=0.2)
        assert np.all(np.abs(signal.mean(axis=0) - truth) < 4 * (channel.turn_on + channel.scale * GRAVITY))


def test_an_even_turn_begins_after_a_rest_and_moves_one_axis(gyro: Gyro) -> None:
    """The known rate of the turn shows whether a model takes it for bias."""
    features = gyro.turning(30.0, count=4, rest=10.0, seconds=5.0)
    assert features.shape == (4, 1500, 6)
    change = features[:, 1000:].mean(axis=1) - features[:, :1000].mean(axis=1)
    np.testing.assert_allclose(change[:, 2], 30.0, rtol=0.05)
    assert np.all(np.abs(change[:, [0, 1, 3, 4, 5]]) < 0.5)


def test_jitter_moves_the_samples_and_not_the_truth() -> None:
    """A late sample is a measurement error: the truth is the rate at the time when the sample should have been taken."""
    clean, jittered = Gyro(SMALL).training(0), Gyro(replace(SMALL, jitter=0.01)).training(0)
    np.testing.assert_array_equal(jittered.targets, clean.targets)
    errors = [np.abs(recordings.features[..., :3] - recordings.targets).max() for recordings in (clean, jittered)]
    assert errors[1] > 2 * errors[0]
