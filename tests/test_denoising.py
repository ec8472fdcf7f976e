"""The scores of a run's network: on recordings it has not seen, beside the methods it must beat, and as it is served."""

from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.gyro.baselines import CALIBRATED, RAW, baselines, simple
from scripts.gyro.config import Config
from scripts.gyro.filters import rmse
from scripts.gyro.problem import STEPS, Denoising, denoised
from tests.fakes import ShortGyro

SMALL = Config(hidden=4, layers=1, recordings=2, recording_seconds=12.0, least_motion=1.0, epochs=1)


def problem(config: Config = SMALL) -> tuple[ShortGyro, Denoising]:
    gyro = ShortGyro(config)
    return gyro, Denoising(gyro)


@pytest.mark.parametrize("cell", ["reset_before", "lstm"])
def test_recordings_in_pieces_are_denoised_as_the_whole(cell: str) -> None:
    """The state must be carried from piece to piece; the size of a piece bounds the memory."""
    gyro, denoising = problem(Config(**{**SMALL.to_dict(), "cell": cell}))
    torch.manual_seed(0)
    network = denoising.network()
    torch.nn.init.normal_(network.head.weight)
    features = gyro.test().features
    assert features.shape[1] > 2 * STEPS
    with torch.inference_mode():
        expected, _ = network(torch.from_numpy(features))
    np.testing.assert_allclose(denoised(network, features.astype(np.float64), "cpu"), expected, rtol=1e-5, atol=1e-5)


def test_scores_put_the_network_beside_the_raw_signal_and_what_is_simple() -> None:
    """A new network without `zero_rate` returns the calibrated measurement, so its scores equal that method's to the digit; the
    first metric is the RMSE.
    """
    gyro, denoising = problem(Config(**{**SMALL.to_dict(), "zero_rate": False}))
    torch.manual_seed(0)
    scores = denoising.scores(denoising.network(), "cpu")
    test = gyro.test()
    assert scores.data == "3 test recordings of 25 s"
    assert [row.name for row in scores.rows[:2]] == [RAW, CALIBRATED]
    assert scores.rows[2].name.startswith(f"{CALIBRATED}, ")
    assert scores.model.name == "the model"
    raw, calibrated, filtered, model = (row.values[0] for row in scores.rows)
    assert raw == pytest.approx(rmse(test.features[..., :3].astype(np.float64), test.targets.astype(np.float64)), rel=1e-9)
    assert calibrated < raw / 1.2
    assert filtered < 1.02 * calibrated
    assert np.isfinite([row.values for row in scores.rows]).all()
    # its linear part is fitted to the first epoch, the baselines' to the last: here all epochs are the same
    np.testing.assert_allclose(scores.model.values, scores.rows[1].values, rtol=1e-3)
    assert any(RAW in warning for warning in scores.warnings()) == (model >= raw)


def test_the_simple_methods_are_those_of_the_whole_comparison() -> None:
    """They are tuned in the same way on the same recordings, so a run's table is a part of the card's."""
    gyro, _ = problem()
    features = gyro.test().features.astype(np.float64)
    found = simple(gyro)
    whole = {}
    for method in baselines(gyro):  # the slow methods at the end of the list are left out
        whole[method.name] = method
        if whole.keys() >= {each.name for each in found}:
            break
    for method in found:
        assert method.detail == whole[method.name].detail
        np.testing.assert_array_equal(method.run(features), whole[method.name].run(features))


def test_picture_shows_an_axis_and_the_errors(tmp_path: Path) -> None:
    """The picture is one PNG, of the methods in the table."""
    _, denoising = problem()
    torch.manual_seed(0)
    (path,) = denoising.pictures(denoising.network(), "cpu", tmp_path)
    assert path.parent == tmp_path
    assert path.read_bytes().startswith(b"\x89PNG")
