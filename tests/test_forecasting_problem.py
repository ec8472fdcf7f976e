"""Training a forecaster: it beats the simple baselines, and a resumed run gives the same result as one that never stopped."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from forecasts import CONTEXT, HORIZON, NAMES, config, dataset, seasons
from numpy.typing import NDArray

from app.engine import Engine
from scripts.forecasting import evaluate, framing, trust
from scripts.forecasting.artifact import Forecaster
from scripts.forecasting.errors import Errors
from scripts.forecasting.network import Network
from scripts.forecasting.problem import Forecasting
from scripts.forecasting.windows import Windows
from scripts.series.config import Config
from scripts.tables.recording import DataError
from scripts.training import fit, verify
from scripts.training.checkpoint import Checkpoint


def trained(choices: Config, rows: NDArray[np.float32], run: Path) -> tuple[Forecasting, Network, Checkpoint]:
    problem = Forecasting(choices, dataset(rows))
    network, checkpoint = fit.start(problem)
    assert isinstance(network, Network)
    fit.fit(network, problem, checkpoint, run, device="cpu")
    network.load_state_dict(checkpoint.best_network)
    return problem, network, checkpoint


def heights(rows: int = 1200) -> NDArray[np.float32]:
    """Pieces of 6 rows; each height is 1 - 2 h^2 of the one before. Such heights are uncorrelated: a line cannot predict them."""
    height, found = 0.3, []
    for _ in range(rows // 6):
        height = 1 - 2 * height**2
        found.append(height * np.sin(np.pi * (np.arange(6) + 0.5) / 6))
    return np.concatenate(found).astype(np.float32)[:, None]


def test_a_tiny_run_beats_the_simple_forecasts_on_a_noisy_season(tmp_path: Path) -> None:
    """The scores of the table that users see: all on the same windows, and the first metric decides."""
    problem, network, _ = trained(config(learning_rate=1e-3), seasons(600, noise=3.0), tmp_path)
    scores = problem.scores(network, "cpu")
    by_name = {row.name: row.values for row in scores.rows}
    assert list(by_name) == ["mean of training", "last value", "seasonal naive, 24 rows", "linear (ridge)", "the model"]
    assert scores.data == f"the test part, {90 - HORIZON + 1} windows"
    for name in ("mean of training", "last value", "seasonal naive, 24 rows"):
        assert by_name["the model"][0] < 0.7 * by_name[name][0]
    assert by_name["the model"][0] < 1.02 * by_name["linear (ridge)"][0]


def test_what_no_line_can_tell_the_recurrence_learns(tmp_path: Path) -> None:
    """Otherwise the recurrence would be a costly way to write a matrix."""
    choices = config(context=24, horizon=6, segment=6, layers=1, hidden=32, epochs=8, batch=32, learning_rate=1e-2)
    problem, network, _ = trained(choices, heights(), tmp_path)
    *_, line, model = problem.scores(network, "cpu").rows
    assert line.name == "linear (ridge)"
    assert model.values[0] < 0.7 * line.values[0]


def driven(rows: int = 900) -> NDArray[np.float32]:
    """A column that follows another column seven rows later, so its own past cannot predict it."""
    rng = np.random.default_rng(5)
    driver = rng.normal(size=rows + HORIZON)
    return np.column_stack([driver[:rows] + 0.1 * rng.normal(size=rows), driver[HORIZON:]]).astype(np.float32)


@pytest.mark.parametrize("normalise", ["last", "instance", "none"])
def test_the_linear_baseline_and_the_start_of_the_network_read_all_that_it_reads(normalise: str) -> None:
    """Otherwise a network would seem better than the best line, which can read the driving column too."""
    problem = Forecasting(config(normalise=normalise), dataset(driven(), ("load",)))
    network, _ = fit.start(problem)
    scores = problem.scores(network, "cpu")
    own, line, model = scores.rows[-3:]
    assert (own.name, line.name) == ("linear (ridge), own past", "linear (ridge)")
    assert line.values[0] < 0.1 < 0.5 < own.values[0]
    assert model.values[0] < 0.2
    if normalise == "last":  # the very same line is fitted
        assert model.values[0] == pytest.approx(line.values[0], rel=1e-3)
    network.line.zero_()  # type: ignore[operator]  # a buffer
    assert any("does not beat linear (ridge):" in warning for warning in problem.scores(network, "cpu").warnings())


@pytest.mark.parametrize(("limit", "value", "most"), [("COEFFICIENTS", 600, 85), ("PRODUCTS", 900, 30)])
def test_a_line_from_all_columns_that_would_be_too_large_reads_the_own_past(
    limit: str, value: int, most: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its name says so, and the message says how large it may be."""
    monkeypatch.setattr(framing, limit, value)
    problem = Forecasting(config(), dataset(driven(), ("load",)))
    network, _ = fit.start(problem)
    *_, line, _ = problem.scores(network, "cpu").rows
    assert line.name == "linear (ridge), own past"
    assert f"and {most} are the most here: it reads each target's own past alone." in capsys.readouterr().out


def test_scores_are_those_of_a_loop_over_all_windows(tmp_path: Path) -> None:
    """The loop goes window by window in NumPy, in units of the deviation in training."""
    rows = seasons(400)
    problem, network, _ = trained(config(), rows, tmp_path)
    scores = problem.scores(network, "cpu")
    scale, begin = rows[:280].std(axis=0, dtype=np.float64), 340
    squares: dict[str, list[float]] = {"last value": [], "seasonal naive, 24 rows": [], "the model": []}
    for first in range(begin, 400 - HORIZON + 1):
        context, truth = rows[first - CONTEXT : first], rows[first : first + HORIZON]
        with torch.inference_mode():
            (answer,) = network.eval()(torch.from_numpy(context)[None])
        forecasts = {
            "last value": np.repeat(context[-1:], HORIZON, axis=0),
            "seasonal naive, 24 rows": rows[first - 24 : first - 24 + HORIZON],
            "the model": answer[0].numpy(),
        }
        for name, forecast in forecasts.items():
            squares[name].append(float((((forecast - truth) / scale) ** 2).mean()))
    for row in scores.rows:
        if row.name in squares:
            assert row.values[0] == pytest.approx(np.mean(squares[row.name]), rel=1e-4)


def test_quantiles_are_scored_by_how_often_they_hold(tmp_path: Path) -> None:
    """About four fifths of the truth lie between 0.1 and 0.9; the simple forecasts have no quantiles."""
    problem, network, _ = trained(config(quantiles=(0.1, 0.9)), seasons(600, noise=3.0), tmp_path)
    scores = problem.scores(network, "cpu")
    assert [str(metric) for metric in scores.metrics][2:] == ["pinball, standardised", "truth from 0.1 to 0.9"]
    assert all(math.isnan(value) for row in scores.rows[:-1] for value in row.values[2:])
    assert scores.model.values[3] == pytest.approx(0.8, abs=0.07)
    assert not scores.warnings() or "linear" in scores.warnings()[0]


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    """To the last bit, also with dropout and shuffled windows."""
    choices, rows = config(epochs=2, quantiles=(0.1, 0.9)), seasons(250)
    (whole, halves) = (tmp_path / name for name in ("whole", "halves"))
    whole.mkdir()
    halves.mkdir()
    _, _, straight = trained(choices, rows, whole)
    problem = Forecasting(choices, dataset(rows))
    network, checkpoint = fit.start(problem)

    class Stop(Exception):
        pass

    class Stopped(Forecasting):
        """A problem that fails in its second epoch."""

        def losses(self, network: torch.nn.Module, prepared: NDArray[np.int64], device: str):  # type: ignore[no-untyped-def]  # as the base class's
            if checkpoint.epoch == 1:
                raise Stop
            return super().losses(network, prepared, device)

    with pytest.raises(Stop):
        fit.fit(network, Stopped(choices, dataset(rows)), checkpoint, halves, device="cpu")
    resumed = Checkpoint.load(halves, Config.from_dict)
    again = Network(choices, problem._framing)
    again.load_state_dict(resumed.network)
    fit.fit(again, problem, resumed, halves, device="cpu")
    assert resumed.history == straight.history
    for name, tensor in straight.network.items():
        assert torch.equal(tensor, resumed.network[name]), name


def test_an_epoch_trains_on_every_window_once_where_there_is_time_for_all() -> None:
    """The order of the windows is a function of the seed and the epoch."""
    problem = Forecasting(config(seed=5), dataset(seasons(400)))
    first, again, other = problem.prepare(0), problem.prepare(0), problem.prepare(1)
    assert sorted(first) == list(range(280 - CONTEXT - HORIZON + 1))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()
    network, _ = fit.start(problem)
    losses = list(problem.losses(network, first, "cpu"))
    assert len(losses) == problem.updates_per_epoch == math.ceil(len(first) / 16)


def test_long_series_are_drawn_from() -> None:
    """An epoch of ten million windows would never end, so patience would never run out."""
    problem = Forecasting(config(batch=2, context=12, segment=6), dataset(seasons(3000), lead=12))
    assert problem.updates_per_epoch == 200
    assert len(problem.prepare(0)) == 400
    assert set(problem.prepare(0)) != set(problem.prepare(1))


def test_validation_leaves_the_network_in_training() -> None:
    """Otherwise dropout would end after the first epoch."""
    problem = Forecasting(config(quantiles=(0.2, 0.8)), dataset(seasons()))
    network, _ = fit.start(problem)
    found = problem.validate(network, "cpu")
    assert network.training
    assert found == problem.validate(network, "cpu")  # so dropout is off
    assert found["loss"] == pytest.approx(found["mse"] + found["pinball"])
    assert 0 <= found["coverage"] <= 1


def test_the_loss_of_an_update_is_the_metric_that_decides() -> None:
    """In units of the deviation in training, whatever the windows are normalised by."""
    for normalise in ("last", "instance", "none"):
        problem = Forecasting(config(normalise=normalise, batch=512), dataset(seasons()))
        network, _ = fit.start(problem)
        assert isinstance(network, Network)
        network.eval()
        (loss,) = problem.losses(network, np.arange(50), "cpu")
        windows = Windows(dataset(seasons()).training, context=CONTEXT, horizon=HORIZON, part="training")
        context, _, truth = windows.take(np.arange(50))
        errors = Errors(HORIZON, network.normal.target_scale)
        with torch.inference_mode():
            errors.add(network(context)[0], truth)
        assert loss.item() == pytest.approx(errors.mse, rel=1e-4)


def test_a_recurrence_that_adds_chance_is_hardly_trusted() -> None:
    """The forecast is then nearly the line's, and never worse than it on validation."""
    problem = Forecasting(config(), dataset(seasons(600, noise=3.0)))
    network, _ = fit.start(problem)
    assert isinstance(network, Network)
    line = problem.validate(network, "cpu")["loss"]
    with torch.no_grad():
        network.head.weight.normal_(0, 0.3)
    assert problem.validate(network, "cpu")["loss"] <= line * (1 + 1e-6)
    assert 0 <= network.trust.item() < 0.3


def test_trust_is_the_best_share_less_its_standard_error() -> None:
    """Brute force: the share of least error on a fine grid, and the error of a ratio over stretches of time."""
    rng = np.random.default_rng(0)
    added = rng.normal(size=(400, 5))
    missing = 0.6 * added + rng.normal(size=(400, 5))
    found = trust.share((missing * added).sum(axis=1), (added**2).sum(axis=1))
    grid = np.linspace(0, 1, 10_001)
    best = grid[np.argmin([((missing - share * added) ** 2).sum() for share in grid])]
    off = [((missing - best * added) * added)[begin : begin + 50].sum() for begin in range(0, 400, 50)]
    assert found == pytest.approx(best - np.sqrt(8 * np.var(off, ddof=1)) / (added**2).sum(), abs=2e-3)
    assert found < best < 0.75


@pytest.mark.parametrize(("missing", "share"), [(1.0, 1.0), (3.0, 1.0), (0.4, 0.4), (-1.0, 0.0)])
def test_what_is_surely_right_is_trusted(missing: float, share: float) -> None:
    """With no doubt there is no error to subtract; the share stays between 0 and 1."""
    added = np.linspace(1, 2, 20)
    assert trust.share(missing * added, added) == pytest.approx(share)
    assert trust.share(missing * added[:1], added[:1]) == pytest.approx(share)
    assert trust.share(0 * added, 0 * added) == 1.0


def test_trust_makes_no_difference_to_training() -> None:
    """The recurrence learns the residual of the line, however little it was trusted an epoch ago."""
    problem = Forecasting(config(), dataset(seasons()))
    network, _ = fit.start(problem)
    assert isinstance(network, Network)
    with torch.no_grad():
        network.head.weight.normal_(0, 0.3)
    losses = []
    for share in (0.0, 1.0):
        network.trust.fill_(share)
        torch.manual_seed(0)
        losses.append(next(problem.losses(network, problem.prepare(0), "cpu")).item())
    assert losses[0] == losses[1]


def test_a_part_that_is_too_short_is_an_error_that_names_it() -> None:
    """The error comes before anything has been trained."""
    with pytest.raises(DataError, match="The test part has no window"):
        Forecasting(config(), dataset(seasons(), cuts=(280, 396)))


def test_the_user_is_told_why_columns_are_taken_together(capsys: pytest.CaptureFixture[str]) -> None:
    """The network is then another one than the user asked for."""
    Forecasting(config(), dataset(seasons(), ("load",)))
    assert "flow, heat are read, and not forecast. So all columns are read together" in capsys.readouterr().out


def test_a_target_of_other_columns_is_learned(tmp_path: Path) -> None:
    """The target's own past is not among the features: the model sees only other columns."""
    problem = Forecasting(config(epochs=3, learning_rate=1e-2), dataset(seasons(600), ("sum",)))
    network, checkpoint = fit.start(problem)
    assert isinstance(network, Network)
    fit.fit(network, problem, checkpoint, tmp_path, device="cpu")
    network.load_state_dict(checkpoint.best_network)
    rows = {row.name: row.values[0] for row in problem.scores(network, "cpu").rows}
    assert rows["the model"] < 0.8 * rows["mean of training"]


def test_a_handful_of_windows_is_told_to_tell_little() -> None:
    rows = seasons()
    problem = Forecasting(config(), dataset(rows, cuts=(300, len(rows) - HORIZON)))
    network, _ = fit.start(problem)
    (told, *_) = problem.scores(network, "cpu").warnings()
    assert told.startswith("All this was measured on the test part, 1 window: so few tell hardly anything.")


def test_pictures_are_drawn(tmp_path: Path) -> None:
    """PNG files, with quantile bands and without them."""
    for name, choices in {"points": config(), "bands": config(quantiles=(0.1, 0.9))}.items():
        problem = Forecasting(choices, dataset(seasons()))
        network, _ = fit.start(problem)
        folder = tmp_path / name
        folder.mkdir()
        paths = problem.pictures(network, "cpu", folder)
        assert [path.name for path in paths] == ["forecasts.png", "errors.png"]
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_a_run_becomes_an_artifact_without_its_data(tmp_path: Path) -> None:
    """From the checkpoint on disk alone: the data files may be gone by then."""
    _, network, checkpoint = trained(config(quantiles=(0.5,)), seasons(), tmp_path)
    checkpoint.facts["scores"] = {"data": "the test part"}
    checkpoint.save(tmp_path)
    loaded = Checkpoint.load(tmp_path, Config.from_dict)
    artifact = Forecaster(config(quantiles=(0.5,)), loaded)
    artifact.write_graphs(tmp_path)
    golden = artifact.golden()
    golden.save(tmp_path, outputs=artifact.outputs, states=())
    (tmp_path / "checkpoint.pt").unlink()
    spec = artifact.spec("1", tmp_path)
    assert all(check.holds for check in verify.verify(Engine(spec, tmp_path, device="cpu"), golden))
    assert spec.provenance["scores"] == {"data": "the test part"}
    assert spec.provenance["metrics"] == checkpoint.best
    with evaluate.answering(network):
        (direct, _) = network(torch.from_numpy(np.stack([instance.steps for instance in golden.instances])))
    for answer, prediction in zip(direct.numpy(), golden.predictions, strict=True):
        np.testing.assert_allclose(answer, prediction.output, rtol=1e-4, atol=1e-3)
    assert len(NAMES) == prediction.output.shape[1]
