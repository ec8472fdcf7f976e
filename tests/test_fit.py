"""The training loop: repeatable to the bit, able to resume after an interruption, and minimising the loss that it documents."""

from collections.abc import Iterator
from pathlib import Path
from pickle import PicklingError
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn

from scripts.gyro import model
from scripts.gyro.config import Config
from scripts.gyro.model import Denoiser
from scripts.gyro.problem import Denoising, loss_of
from scripts.training import curves, fit
from scripts.training.checkpoint import Checkpoint
from tests import artifacts
from tests.fakes import OneEpoch, ShortGyro, interruption

SMALL = Config(hidden=4, layers=2, recordings=3, recording_seconds=3.2, batch=2, chunk=64, epochs=4)
CHUNKS = 5  # in a recording
UPDATES = 2 * CHUNKS  # per epoch: two recordings in the first batch, the third in another


def train(config: Config, run: Path, *, interrupt_after: int | None = None) -> tuple[Checkpoint, str]:
    """Begin and train a run as scripts.train does, to its end or its interruption. Returns its checkpoint, and why it ended."""
    run.mkdir()
    problem = Denoising(ShortGyro(config))
    network, checkpoint = fit.start(problem)
    checkpoint.save(run)
    if interrupt_after is None:
        reason = fit.fit(network, problem, checkpoint, run, device="cpu").reason
    else:
        with pytest.raises(KeyboardInterrupt), interruption(after=interrupt_after):
            fit.fit(network, problem, checkpoint, run, device="cpu")
        reason = "interrupted"
    return loaded(run), reason


def loaded(run: Path) -> Checkpoint:
    return Checkpoint.load(run, Config.from_dict)


def resume(run: Path) -> Checkpoint:
    """Resume as scripts.train --resume does."""
    checkpoint = loaded(run)
    assert isinstance(checkpoint.config, Config)
    problem = Denoising(ShortGyro(checkpoint.config))
    network = problem.network()
    network.load_state_dict(checkpoint.network)
    fit.fit(network, problem, checkpoint, run, device="cpu")
    return loaded(run)


def assert_same(one: Any, other: Any) -> None:
    """Assert equality to the last bit, also in nested containers."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_same(one[name], other[name])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for x, y in zip(one, other, strict=True):
            assert_same(x, y)
    elif isinstance(one, Checkpoint):
        for name in set(Checkpoint.__slots__) - {"seconds"}:
            assert_same(getattr(one, name), getattr(other, name))
    else:
        assert one == other


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The uninterrupted run of SMALL; do not write to it."""
    checkpoint, reason = train(SMALL, tmp_path_factory.mktemp("whole") / "run")
    assert reason == "all 4 epochs are done"
    return checkpoint


def test_same_seed_same_weights(whole: Checkpoint, tmp_path: Path) -> None:
    """A result can be reproduced to the last bit, and it depends on the seed."""
    again, _ = train(SMALL, tmp_path / "again")
    assert_same(again, whole)
    other, _ = train(Config(**{**SMALL.to_dict(), "seed": 1, "epochs": 1}), tmp_path / "other")
    assert not torch.equal(other.network["stack.layers.0.weight_hh"], again.network["stack.layers.0.weight_hh"])


@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_an_interrupted_run_goes_on_as_if_it_had_never_stopped(whole: Checkpoint, tmp_path: Path, epochs: int) -> None:
    """Ctrl-C costs only the epoch it interrupts: weights, optimizer and history are the same to the bit."""
    stopped, _ = train(SMALL, tmp_path / "run", interrupt_after=epochs * (UPDATES + 1) + 3)
    assert stopped.epoch == epochs == len(stopped.history)
    assert_same(stopped.history, whole.history[:epochs])
    assert_same(resume(tmp_path / "run"), whole)


def test_the_seconds_of_a_run_are_those_of_all_its_sittings(tmp_path: Path) -> None:
    """Runs are compared by their training time; the time of the last session alone would be wrong."""
    stopped, _ = train(SMALL, tmp_path / "run", interrupt_after=2 * (UPDATES + 1) + 3)
    assert stopped.seconds > 0
    stopped.seconds = 1000.0
    stopped.save(tmp_path / "run")
    ended = resume(tmp_path / "run")
    assert 1000 < ended.seconds < 1100
    assert resume(tmp_path / "run").seconds == ended.seconds


def test_the_bar_names_no_best_loss_before_there_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`best inf` is of no use to the user."""
    train(SMALL, tmp_path / "first", interrupt_after=3)
    shown = capsys.readouterr().err
    assert "epoch 1, loss " in shown
    assert "best" not in shown
    checkpoint, _ = train(SMALL, tmp_path / "second", interrupt_after=UPDATES + 1 + 3)
    assert f"best {checkpoint.best_loss:.3g}" in capsys.readouterr().err


def curves_of(losses: list[float]) -> Figure:
    """The picture of a run with these validation losses."""
    checkpoint = artifacts.checkpoint()
    checkpoint.history = [
        {"epoch": epoch, "training_loss": loss, "validation_loss": loss, "validation_rmse": 0.5}
        for epoch, loss in enumerate(losses, start=1)
    ]
    figure = curves.figure_of(checkpoint)
    figure.draw_without_rendering()
    return figure


def test_curves_within_a_decade_are_not_drawn_on_powers_of_ten() -> None:
    """A logarithmic axis would show one power of ten or none, and labels such as 6 x 10^-1 between them."""
    loss, rmse = curves_of([0.83, 0.4, 0.21]).axes
    assert loss.get_yscale() == rmse.get_yscale() == "linear"
    assert "0.4" in "".join(label.get_text() for label in loss.get_yticklabels())


def test_curves_of_several_decades_have_plain_numbers_at_their_axis() -> None:
    """A loss that falls to a thousandth would lie flat along a linear axis; NaN is left out."""
    loss, _ = curves_of([0.9, float("nan"), 0.2, 0.05]).axes
    assert loss.get_yscale() == "log"
    assert {"0.1", "0.2", "0.5"} <= {label.get_text() for label in loss.get_yticklabels()}
    assert not [label.get_text() for label in loss.get_yticklabels(minor=True)]
    assert curves_of([float("nan")]).axes[0].get_yscale() == "linear"


def test_training_learns_a_recording_by_heart(tmp_path: Path) -> None:
    """The least to expect of a training loop: shown the same few seconds each epoch, it halves their loss."""
    config = Config(**{**SMALL.to_dict(), "hidden": 8, "layers": 1, "recordings": 2, "epochs": 20, "learning_rate": 0.05})
    problem = Denoising(OneEpoch(config))
    network, checkpoint = fit.start(problem)
    before = problem.validate(network, "cpu")
    fit.fit(network, problem, checkpoint, tmp_path, device="cpu")
    best = checkpoint.history[checkpoint.best_epoch - 1]
    assert best["validation_loss"] == checkpoint.best_loss < before["loss"] / 2
    assert best["validation_rmse"] < before["rmse"] / 2


def test_best_network_is_the_one_of_the_lowest_validation_loss(whole: Checkpoint) -> None:
    """The best network is exported: its loss must be the one that was recorded for it."""
    losses = [row["validation_loss"] for row in whole.history]
    assert whole.best_epoch == 1 + int(np.argmin(losses))
    network = Denoiser(SMALL)
    network.load_state_dict(whole.best_network)
    found = Denoising(ShortGyro(SMALL)).validate(network, "cpu")
    assert found["loss"] == whole.best_loss == min(losses)
    assert found["rmse"] == whole.history[whole.best_epoch - 1]["validation_rmse"]


def test_a_run_that_gets_no_better_ends_and_says_why(tmp_path: Path) -> None:
    """Steps too small for float32 change nothing: epoch 1 stays the best, and patience allows two more epochs."""
    config = Config(**{**SMALL.to_dict(), "epochs": 50, "patience": 2, "learning_rate": 1e-30})
    checkpoint, reason = train(config, tmp_path / "run")
    assert reason == "no better validation loss in 2 epochs"
    assert (checkpoint.best_epoch, checkpoint.epoch) == (1, 3)


class Diverging(Denoising):
    """A problem whose second epoch has a loss that is not finite, in training or in validation."""

    def __init__(self, gyro: ShortGyro, *, part: str) -> None:
        super().__init__(gyro)
        self.part, self.trained = part, 0

    def losses(self, network: nn.Module, prepared: Any, device: str) -> Iterator[torch.Tensor]:
        self.trained += 1
        for loss in super().losses(network, prepared, device):
            yield loss * float("nan") if (self.part, self.trained) == ("training", 2) else loss

    def validate(self, network: nn.Module, device: str) -> dict[str, float]:
        found = super().validate(network, device)
        return found | {"loss": float("inf")} if (self.part, self.trained) == ("validation", 2) else found


@pytest.mark.parametrize(("part", "loss"), [("training", "nan"), ("validation", "inf")])
def test_a_run_ends_with_the_first_loss_that_is_not_finite(whole: Checkpoint, tmp_path: Path, part: str, loss: str) -> None:
    """No update recovers weights that are NaN; the weights of the epoch before are kept."""
    problem = Diverging(ShortGyro(SMALL), part=part)
    network, checkpoint = fit.start(problem)
    end = fit.fit(network, problem, checkpoint, tmp_path, device="cpu")
    assert end == fit.End(f"the {part} loss became {loss} in epoch 2", diverged=True)
    assert problem.trained == 2
    stored = loaded(tmp_path)
    assert (stored.epoch, stored.best_epoch) == (1, 1)
    assert_same(stored.history, whole.history[:1])
    assert_same(stored.best_network, checkpoint.network)


def test_a_run_that_has_ended_stays_as_it_is_when_resumed(tmp_path: Path) -> None:
    """A resumed run equals a run that never stopped, so a run that has ended has nothing left to do."""
    config = Config(**{**SMALL.to_dict(), "epochs": 50, "patience": 2, "learning_rate": 1e-30})
    ended, _ = train(config, tmp_path / "run")
    assert_same(resume(tmp_path / "run"), ended)


@pytest.mark.parametrize("cell", ["reset_before", "lstm,reset_before"])
def test_state_is_carried_from_chunk_to_chunk_and_its_gradient_is_not(cell: str, tmp_path: Path) -> None:
    """A bias is learned over minutes with gradients over seconds; and each recording begins from zeros."""
    config = Config(**{**SMALL.to_dict(), "epochs": 1, "cell": cell})
    problem = Denoising(ShortGyro(config))
    network, checkpoint = fit.start(problem)
    given: list[tuple[torch.Tensor, ...] | None] = []
    returned: list[tuple[torch.Tensor, ...]] = []
    network.register_forward_pre_hook(lambda _, arguments: given.append(arguments[1] if len(arguments) > 1 else None))
    network.register_forward_hook(lambda _, __, result: returned.append(tuple(each.detach() for each in result[1])))
    fit.fit(network, problem, checkpoint, tmp_path, device="cpu")
    assert len(given) == UPDATES + 1  # the last call is the evaluation
    assert [index for index, state in enumerate(given) if state is None] == [0, CHUNKS, UPDATES]
    for state, before in zip(given[1:], returned, strict=False):
        if state is None:
            continue
        assert len(state) == len(before) == (2 if "lstm" in cell else 1)
        for part, same in zip(state, before, strict=True):
            assert torch.equal(part, same)
            assert not part.requires_grad


def huber(error: NDArray[np.float64]) -> float:
    size = np.abs(error)
    return float(np.where(size < 1, size**2 / 2, size - 0.5).mean())


@pytest.mark.parametrize("steps", [32, 64, 100])
def test_loss_is_what_its_words_say(steps: int) -> None:
    """Errors in units of 0.05 deg/s, quadratic below one and linear above; their sums over windows likewise, at half the weight."""
    rng = np.random.default_rng(0)
    rates, truth = rng.standard_normal((2, 3, steps, 3)) * 0.08
    errors = (rates - truth) / 0.05
    expected = huber(errors)
    for window in (16, 32):
        sums = [errors[:, begin : begin + window].sum(axis=1) / np.sqrt(window) for begin in range(0, steps - window + 1, window)]
        expected += huber(np.stack(sums)) / 2
    actual = loss_of(torch.from_numpy(rates), torch.from_numpy(truth)).item()
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_a_chunk_too_short_for_the_loss_is_refused() -> None:
    """Otherwise its loss would be NaN from the start, and hours of training wasted."""
    with pytest.raises(ValueError, match="chunk"):
        Config(chunk=31)


def test_learning_rate_warms_up_then_falls_to_a_hundredth() -> None:
    """Half a cosine: without the warm-up Adam's first steps are wild; without the fall its last steps are."""
    config, updates = Config(learning_rate=0.004), 1000
    rates = np.array([fit.learning_rate(config, update, updates) for update in range(updates)])
    peak = int(rates.argmax())
    np.testing.assert_allclose(rates[0], 0.004 / 50, rtol=1e-6)
    assert peak == 49
    assert 0.99 * 0.004 < rates[peak] <= 0.004
    assert np.all(np.diff(rates[: peak + 1]) > 0)
    assert np.all(np.diff(rates[peak:]) < 0)
    np.testing.assert_allclose(rates[updates // 2], 0.004 * (0.01 + 0.99 / 2), rtol=1e-9)
    np.testing.assert_allclose(rates[-1], 0.004 * 0.01, rtol=1e-3)


def test_a_run_follows_its_schedule_to_the_end(whole: Checkpoint) -> None:
    """Updates are counted over all epochs: a schedule that restarted with each epoch would never reach its end."""
    last = SMALL.epochs * UPDATES - 1
    assert whole.optimizer["param_groups"][0]["lr"] == fit.learning_rate(SMALL, last, last + 1)


def test_a_new_network_gives_nearly_the_calibrated_measurement(whole: Checkpoint) -> None:
    """Training starts from the least-squares calibration, not from noise; hardly any rate is treated as rest."""
    gyro = ShortGyro(SMALL)
    network, checkpoint = fit.start(Denoising(gyro))
    assert checkpoint.epoch == 0
    features = gyro.test(count=2, seconds=2.0).features
    with torch.inference_mode():
        rates, _ = network(torch.from_numpy(features))
    x = features.astype(np.float64)
    calibrated = x[..., :3] + x @ network.calibration.double().numpy().T
    expected = calibrated - calibrated.clip(-model.MOST_AT_REST, model.MOST_AT_REST) / (1 + np.exp(model.MOVING))
    np.testing.assert_allclose(rates, expected, rtol=1e-6, atol=1e-5)
    assert_same(whole.network["calibration"], checkpoint.network["calibration"])  # fitted once, not trained


def test_recordings_that_are_shorter_than_a_chunk_are_trained_on_whole(tmp_path: Path) -> None:
    """At a low sample rate, a recording of a minute has few steps."""
    checkpoint, _ = train(Config(**{**SMALL.to_dict(), "epochs": 1, "chunk": 1000}), tmp_path / "run")
    assert Denoising(ShortGyro(checkpoint.config)).updates_per_epoch == 2
    assert not torch.equal(checkpoint.network["head.weight"], torch.zeros(6, SMALL.hidden))


def test_calibration_is_the_least_squares_fit() -> None:
    """A device that has known linear errors and no others is corrected exactly."""
    rng = np.random.default_rng(1)
    errors, rates, forces = rng.uniform(-0.02, 0.02, (3, 6)), rng.uniform(-300, 300, (4, 200, 3)), rng.uniform(-20, 20, (4, 200, 3))
    x = np.concatenate([rates, forces], axis=2)
    network = Denoiser(SMALL)
    network.calibrate(x.astype(np.float32), (rates + x @ errors.T).astype(np.float32))
    np.testing.assert_allclose(network.calibration, errors, rtol=0, atol=1e-6)


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    """Bit for bit, because a resumed run continues from it."""
    saved = artifacts.checkpoint(seed=3)
    saved.save(tmp_path)
    assert_same(loaded(tmp_path), saved)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """A full disk in the middle of a save must not lose the epochs before."""
    good, bad = artifacts.checkpoint(seed=1), artifacts.checkpoint(seed=2)
    good.save(tmp_path)
    bad.history.append({"epoch": lambda: 2})  # type: ignore[dict-item]  # cannot be pickled: the save fails half-way
    with pytest.raises((AttributeError, PicklingError), match="lambda"):
        bad.save(tmp_path)
    assert_same(loaded(tmp_path), good)


class Harmful:
    """An object that, like any pickle, can call a function when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path: Path) -> None:
    """A checkpoint from an untrusted source may be wrong, but must not run code."""
    torch.save({"config": Harmful(tmp_path / "harm")}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="not a checkpoint"):
        loaded(tmp_path)
    assert not (tmp_path / "harm").exists()
    torch.load(tmp_path / "checkpoint.pt", weights_only=False)
    assert (tmp_path / "harm").exists()  # an unrestricted load runs the code


def test_a_checkpoint_of_another_version_names_what_it_does_not_know() -> None:
    """A run that was trained with an option this version lacks must not be resumed silently without it."""
    values = SMALL.to_dict()
    with pytest.raises(ValueError, match="dropout"):
        Config.from_dict({**values, "dropout": 0.1})
    assert Config.from_dict(values) == SMALL


def test_a_run_from_before_there_was_a_choice_goes_on_as_it_began() -> None:
    """Before these options, all recordings were in each update, motion had its full extent, and the head had no rows for rest."""
    values = SMALL.to_dict()
    del values["least_motion"], values["zero_rate"], values["batch"]
    before = {"least_motion": 1.0, "zero_rate": False, "batch": SMALL.recordings}
    assert Config.from_dict(values) == Config(**{**SMALL.to_dict(), **before})


@pytest.mark.parametrize(
    "choice",
    [
        {"hidden": 0},
        {"learning_rate": -1.0},
        {"learning_rate": float("nan")},
        {"seed": -1},
        {"jitter": -0.1},
        {"recording_seconds": 0.3},
        {"least_motion": 1.5},
    ],
    ids=lambda choice: next(iter(choice)),
)
def test_a_choice_that_makes_no_sense_is_refused(choice: dict[str, Any]) -> None:
    """The error comes before hours of training, and names the option."""
    with pytest.raises(ValueError, match=r"recording|" + next(iter(choice))):
        Config(**choice)
