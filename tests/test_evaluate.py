"""The metrics, on signals whose scores are known beforehand, and the card, whose words must follow the numbers."""

from dataclasses import replace

import numpy as np
import pytest

from app.manifest import Cell
from app.tensors import Prediction
from scripts import card as script
from scripts.flags import config_of
from scripts.gyro import plots
from scripts.gyro.baselines import CALIBRATED, EXPERT, RAW, SMOOTHED, Method
from scripts.gyro.card import Figures, command, markdown, reading, verdict
from scripts.gyro.comparison import COLUMNS, Result, best, shown, table
from scripts.gyro.config import Config
from scripts.gyro.data import Recordings
from scripts.gyro.evaluate import REACH, Allan, Scores, allan, delay, noise, orientation_errors, score
from scripts.gyro.motion import Activity
from scripts.train import arguments

RATE = 100.0


def smooth(times):
    """(1, time, 3): three axes of two incommensurable sines each, at times in samples."""
    frequencies = np.array([0.021, 0.034, 0.013])
    return (100 * np.sin(frequencies * times[None, :, None]) + 60 * np.cos(1.7 * frequencies * times[None, :, None])) / 2


@pytest.mark.parametrize("late", [-3.3, 0.0, 0.37, 5.25, 40.6])
@pytest.mark.parametrize("gain", [0.4, 1.0, 1.1])
def test_delay_recovers_a_fractional_shift_and_a_gain(late, gain):
    """The delay is right to a hundredth of a sample for a filter that is late, is early, or shrinks the signal."""
    times = np.arange(8000.0)
    moving = np.ones((1, 8000), dtype=bool)
    lag, slope = delay(gain * smooth(times - late), smooth(times), moving=moving)
    assert lag == pytest.approx(late, abs=0.01)
    assert slope == pytest.approx(gain, rel=1e-3)


def test_delay_looks_at_motion_only():
    """Rest says nothing about lag, and samples near the edges of the recording are left out."""
    times = np.arange(4000.0)
    rates = smooth(times - 2.0)
    moving = np.zeros((1, 4000), dtype=bool)
    moving[:, 1000:3000] = True
    rates[:, :1000] = rates[:, 3000:] = 1e3
    assert delay(rates, smooth(times), moving=moving)[0] == pytest.approx(2.0, abs=0.01)
    assert REACH > 50  # samples: a moving average of 1 s is 49.5 late


def test_orientation_error_of_a_constant_bias_on_a_still_body_is_bias_times_time():
    """0.05 deg/s for 10 s is half a degree, in every window."""
    truth = np.zeros((2, 4001, 3))
    angles = orientation_errors(truth + np.array([0.03, 0.0, 0.04]), truth, RATE)
    assert angles.shape == (6,)  # from 10, 20 and 30 s, in both recordings
    np.testing.assert_allclose(angles, 0.5, rtol=1e-9)


def test_orientation_error_leaves_out_the_first_seconds():
    """No one can know the bias of a device that has just been turned on."""
    truth = smooth(np.arange(2001.0))
    rates = truth.copy()
    rates[:, :1000] += 10.0
    np.testing.assert_allclose(orientation_errors(rates, truth, RATE), 0.0, atol=1e-6)


def test_allan_deviation_of_white_noise_at_one_second_is_its_coefficient():
    """The coefficient N is defined so; at other times the deviation falls with the square root."""
    white = 0.01
    curve = allan(white * np.sqrt(RATE) * np.random.default_rng(0).standard_normal((60_000, 3)), RATE)
    assert curve.at(1.0) == pytest.approx(white, rel=0.03)
    assert curve.at(0.01) == pytest.approx(10 * white, rel=0.03)
    assert curve.tau[0] == 0.01
    assert curve.tau[-1] == pytest.approx(600 / 9, abs=0.01)


def test_allan_deviation_is_that_of_its_definition():
    """It is the root of half the mean squared difference of neighbouring averages, over all starting points."""
    rates = np.random.default_rng(1).standard_normal((900, 3)).cumsum(axis=0)
    curve = allan(rates, RATE)
    span = round(curve.tau[20] * RATE)
    means = np.array([rates[i : i + span].mean(axis=0) for i in range(900 - span + 1)])
    expected = np.sqrt(((means[span:] - means[:-span]) ** 2).mean() / 2)
    assert curve.deviation[20] == pytest.approx(expected, rel=1e-6)


def test_noise_is_the_spread_and_not_the_bias():
    """A bias that changes from one window of ten seconds to the next is drift, not noise."""
    spread = 0.1 * np.random.default_rng(2).standard_normal((50_000, 3))
    steps = np.repeat(np.arange(50.0), 1000)[:, None]
    assert noise(spread + steps, RATE) == pytest.approx(0.1, rel=0.02)


def test_scores_tell_activities_and_the_first_seconds_apart():
    """Each activity has its own error, and after ten seconds only rest has one here."""
    times = np.arange(3000.0)
    activity = np.repeat(np.array([Activity.FAST, -1, Activity.SWAY, Activity.REST], dtype=np.int8), [400, 200, 400, 2000])[None]
    truth = smooth(times)
    errors = np.select([activity == kind for kind in Activity], [1.0, 2.0, 3.0], 100.0)[..., None]
    features = np.concatenate([truth + errors, np.zeros((1, 3000, 3))], axis=2).astype(np.float32)
    recordings = Recordings(features=features, targets=truth.astype(np.float32), activity=activity)
    scores = score(lambda features: features[..., :3], recordings, np.zeros((1, 2000, 6), dtype=np.float32), RATE)
    assert (scores.rest, scores.sway, scores.fast) == pytest.approx((1.0, 2.0, 3.0), rel=1e-4)
    assert scores.settled == pytest.approx(1.0, rel=1e-4)
    assert scores.rmse == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-4)
    assert scores.noise == 0.0


SCORES = Scores(
    rmse=0.5,
    settled=0.5,
    rest=0.5,
    sway=0.5,
    fast=0.5,
    orientation_median=2.0,
    orientation_rms=3.0,
    lag=0.3,
    gain=0.99,
    noise=0.1,
    allan=Allan(tau=np.array([0.01, 1.0, 100.0]), deviation=np.array([0.1, 0.01, 0.001])),
)


def results(**model):
    """A table in which all methods have the same scores, except the model."""
    names = (RAW, CALIBRATED, SMOOTHED, EXPERT)
    alike = [Result(method=Method(name, "no filter", np.copy), scores=SCORES) for name in names]
    return [*alike, Result(method=Method("gyro", "trained", np.copy), scores=replace(SCORES, **model))]


def test_best_is_nearest_to_the_ideal_as_printed():
    """An early output is no better than a late one, too large no better than too small, and equal digits are a tie."""
    columns = {column.heading: column for column in COLUMNS}
    lines = results(lag=-0.2, gain=1.02, rmse=0.50004)
    assert best(columns["lag"], lines) == lines[-1:]
    assert lines[-1] not in best(columns["gain"], lines)
    assert best(columns["RMSE"], lines) == lines


def test_table_sets_the_best_of_a_column_in_bold():
    """Only the best is set in bold."""
    *others, last = table(results(fast=0.25)).splitlines()
    assert "**0.250**" in last
    assert last.startswith("| **gyro**")
    assert all("0.500" in line and "**0.250**" not in line for line in others[2:])


def test_verdict_names_whoever_leads():
    """The verdict must not be fixed in advance: with worse numbers, another method leads."""
    assert f"In {len(COLUMNS)} of the {len(COLUMNS)} columns" in verdict(results())
    lost = verdict(results(fast=0.75))
    assert f"In {len(COLUMNS) - 1} of the {len(COLUMNS)} columns" in lost
    assert f"*{RAW}* leads: fast (0.500 to 0.750)." in lost


def test_reading_has_the_numbers_of_the_results():
    """No number in the text may be typed by hand."""
    assert "0.80 times" in reading(results(settled=0.4)).replace("\n", " ")


@pytest.mark.parametrize(
    "choices",
    [
        {"part": "BMI088", "hidden": 32, "bias": False, "learning_rate": 1e-3, "recording_seconds": 30.0},
        {"zero_rate": False, "jitter": 1e-3},
        {"cell": "lstm,reset_before"},
        {"cell": "rnn,lstm,reset_after", "layers": 3},
        {},
    ],
    ids=["numbers", "no_zero_rate", "two_cells", "three_cells", "defaults"],
)
def test_command_in_the_card_trains_the_same_config(choices):
    """A reader who copies the command must get the same model."""
    config = replace(Config(), **choices)
    assert config_of(arguments(command(config).split()[3:])) == config
    assert (command(config) == "python -m scripts.train") == (not choices)


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        (Cell(variant="reset_before", hidden_size=64, num_layers=2, bias=True), "2 x 64 GRU, `reset_before`, "),
        (Cell(variant="lstm", hidden_size=32, num_layers=1, bias=True), "1 x 32 LSTM, `lstm`, "),
        (Cell(variant="rnn", hidden_size=32, num_layers=3, bias=True), "3 x 32 RNN, `rnn`, "),
        (
            Cell(variant=("lstm", "reset_before"), hidden_size=8, num_layers=2, bias=True),
            "`lstm`, `reset_before` from the input up, 8 units each, ",
        ),
    ],
    ids=["gru", "lstm", "rnn", "mixed"],
)
def test_card_names_the_cells(spec, cell, told):
    """A reader wants to know first which cells a recurrent network has."""
    figures = Figures(allan="allan.png", motion="motion.png")
    text = markdown(
        spec.model_copy(update={"cell": cell}), Config(), results(), figures, turns={1.0: 0.25, 10.0: 9.5}, parameters=1234
    )
    assert f"| is | {told}1,234 trained parameters" in text
    assert "the model answers 0.25 deg/s for 1, 9.50 deg/s for 10." in text


def test_pictures_are_drawn_and_small(tmp_path):
    """They are kept in the repository beside the card."""
    rng = np.random.default_rng(3)
    lines = results()
    plots.draw_allan({result.method.name: result.scores.allan for result in shown(lines)}, 0.01, tmp_path / "allan.png")
    errors = {result.method.name: rng.standard_normal(800) for result in shown(lines)}
    plots.draw_motion(rng.standard_normal(800), errors, RATE, tmp_path / "motion.png")
    for name in ("allan.png", "motion.png"):
        assert 5_000 < (tmp_path / name).stat().st_size < 150_000


def test_the_moment_shown_has_every_activity():
    """The methods differ in how they treat rest, sway and fast motion, so the picture must show all three."""
    activity = np.zeros((2, 4000), dtype=np.int8)
    activity[1, 2000:2300], activity[1, 2300:2600] = Activity.SWAY, Activity.FAST
    empty = np.zeros((2, 4000, 0), dtype=np.float32)
    index, moment = plots.eventful(Recordings(features=empty, targets=empty, activity=activity), RATE)
    assert index == 1
    assert set(activity[index, moment]) == set(Activity)


class Summing:
    """An engine whose output is the running sum of its input: any lost state shows."""

    def predict(self, instances):
        predictions = []
        for instance in instances:
            start = np.zeros(6, dtype=np.float32) if instance.state is None else instance.state[0]
            total = start + instance.steps.cumsum(axis=0)
            predictions.append(Prediction(outputs=(total[:, :3],), state=(total[-1],)))
        return predictions


def test_model_is_run_as_one_causal_pass():
    """The state must be carried on, even if pieces and batches divide neither the recordings' number nor their length."""
    features = np.random.default_rng(4).integers(-5, 5, (11, 2300, 6)).astype(np.float64)
    np.testing.assert_array_equal(script.served(Summing(), features), features[..., :3].cumsum(axis=1))


def test_missing_version_is_a_message_and_exit_status_1(tmp_path, capsys):
    """The user must get a message and not a traceback."""
    assert script.main([str(tmp_path / "none" / "1")]) == 1
    assert "cannot be measured" in capsys.readouterr().err


def test_a_config_that_others_wrote_is_a_message_too(spec):
    """A manifest may hold anything of how a model was made."""
    with pytest.raises(ValueError, match="its config is none of"):
        script.trained_with(spec.model_copy(update={"provenance": {"config": {"name": 3}}}))


def test_wrong_use_is_exit_status_2():
    """argparse uses the same status."""
    with pytest.raises(SystemExit, match="2"):
        script.main([])
