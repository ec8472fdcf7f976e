"""Learning from recordings, from the first update to a published version: it can be interrupted, and serves what was trained."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app import manifest
from app.engine import Engine
from app.golden import Golden, difference
from app.tensors import Instance
from scripts.series.config import Config
from scripts.streaming.artifact import Follower
from scripts.streaming.evaluate import follow
from scripts.streaming.network import Network
from scripts.streaming.problem import Following
from scripts.tables.recording import Dataset
from scripts.training import cuda_graph, fit, publish, verify
from scripts.training.checkpoint import Checkpoint
from scripts.training.scores import FEW
from tests.fakes import interruption
from tests.recordings import labelled, network_of, of_task, smoothed

SMALL: dict[str, Any] = {"hidden": 4, "layers": 1, "epochs": 2, "batch": 8, "chunk": 32}


def trained(data: Dataset, run: Path, **choices: Any) -> tuple[Following, Network, Checkpoint]:
    """A whole run: the problem, the network with its best weights, and the checkpoint on disk."""
    run.mkdir()
    problem = Following(Config(**{"task": data.task, **SMALL, **choices}), data)
    network, checkpoint = fit.start(problem)
    fit.fit(network, problem, checkpoint, run, device="cpu")
    loaded = Checkpoint.load(run, Config.from_dict)
    return problem, network_of(loaded), loaded


def assert_same(one: Checkpoint, other: Checkpoint) -> None:
    """Weights, optimizer and history are equal to the bit."""
    assert one.history == other.history
    assert (one.epoch, one.best_epoch) == (other.epoch, other.best_epoch)
    for name, tensor in one.network.items():
        assert torch.equal(tensor, other.network[name]), name
    for index, state in one.optimizer["state"].items():
        assert torch.equal(state["exp_avg"], other.optimizer["state"][index]["exp_avg"])


# -- it learns --------------------------------------------------------------------------------------------------------


def test_a_running_mean_is_learned_which_no_map_of_the_row_can_give(tmp_path: Path) -> None:
    """A memory must learn at least this: the loss, which is 1 for the best linear answer, falls below a half."""
    problem, network, checkpoint = trained(smoothed(), tmp_path / "run", hidden=8, epochs=6, learning_rate=0.02)
    losses = [row["validation_loss"] for row in checkpoint.history]
    assert min(losses) < 0.5
    scores = problem.scores(network, "cpu")
    assert [row.name for row in scores.rows] == [
        "mean of training",
        "linear fit of the row",
        "linear fit of the last 17 rows",
        "the model",
    ]
    model, linear = scores.model.values, scores.rows[1].values
    assert model[0] < 0.75 * linear[0]
    assert model[2] > linear[2]  # R2
    assert str(scores.metrics[0]) == "RMSE, A"
    best = checkpoint.best
    assert best is not None
    np.testing.assert_allclose(problem.validate(network, "cpu")["rmse"], best["validation_rmse"], rtol=1e-6)


def test_denoising_beats_the_moving_average(tmp_path: Path) -> None:
    """The moving average in turn beats the raw signal; the gain is reported in decibels."""
    problem, network, _ = trained(smoothed(denoise=True), tmp_path / "run", hidden=8, epochs=5, learning_rate=0.02)
    scores = problem.scores(network, "cpu")
    raw, average = scores.rows[0].values, scores.rows[1].values
    assert scores.rows[1].name.startswith("moving average of ")
    assert scores.model.values[0] < average[0] < raw[0]
    assert raw[2] == 0
    np.testing.assert_allclose(scores.model.values[2], 20 * np.log10(raw[0] / scores.model.values[0]))


def test_a_label_of_a_recording_is_learned_where_statistics_say_nothing(tmp_path: Path) -> None:
    """Whether a signal rises or falls is known only after its last row; the most frequent class is right half of the time."""
    problem, network, checkpoint = trained(labelled(per_recording=True), tmp_path / "run", hidden=8, epochs=3, learning_rate=0.02)
    assert set(checkpoint.history[0]) == {
        "epoch", "training_loss", "validation_loss", "validation_accuracy", "validation_macro_f1",
    }  # fmt: skip
    scores = problem.scores(network, "cpu")
    assert scores.data == "the test part, 24 recordings"
    assert scores.rows[0].name == "most frequent class"
    assert scores.rows[0].values[0] == 0.5
    assert max(row.values[0] for row in scores.rows[:-1]) < 0.8  # statistics do not show the direction
    assert scores.model.values[0] > 0.9
    assert not scores.warnings()


def test_a_label_of_each_row_is_learned(tmp_path: Path) -> None:
    """The label is the direction in which the signal goes now, which a single row does not show."""
    problem, network, _ = trained(labelled(per_recording=False), tmp_path / "run", hidden=8, epochs=4, learning_rate=0.02)
    scores = problem.scores(network, "cpu")
    assert scores.data.endswith(" rows")
    by_name = {row.name: row.values[0] for row in scores.rows}
    assert by_name["the model"] > max(by_name["linear fit of the row"], by_name["most frequent class"]) + 0.1


# -- it can be stopped ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_recording", [None, False, True], ids=["targets", "labels_of_rows", "labels_of_recordings"])
def test_an_interrupted_run_goes_on_as_if_it_had_never_stopped(tmp_path: Path, per_recording: bool | None) -> None:
    """Ctrl-C costs only the epoch that it interrupts."""
    data = smoothed(rows=200) if per_recording is None else labelled(per_recording=per_recording, count=8, rows=12)
    problem, _, whole = trained(data, tmp_path / "whole")
    run = tmp_path / "run"
    run.mkdir()
    network, checkpoint = fit.start(problem)
    checkpoint.save(run)
    with pytest.raises(KeyboardInterrupt), interruption(after=problem.updates_per_epoch + 20, of=Network):
        fit.fit(network, problem, checkpoint, run, device="cpu")
    resumed = Checkpoint.load(run, Config.from_dict)
    assert resumed.epoch == 1
    again = Following(resumed.config, data)  # type: ignore[arg-type]  # its config
    network = again.network()
    network.load_state_dict(resumed.network)
    fit.fit(network, again, resumed, run, device="cpu")
    assert_same(Checkpoint.load(run, Config.from_dict), whole)


# -- it is published --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["denoise", "regress", "classify"])
@pytest.mark.parametrize("cell", ["reset_before", "lstm,reset_after"])
def test_what_was_trained_is_what_is_published(tmp_path: Path, task: str, cell: str) -> None:
    """The whole way from recordings to a version that the service opens, with every check."""
    data = of_task(task, **({"count": 6} if task == "classify" else {"rows": 300}))
    problem, network, checkpoint = trained(data, tmp_path / "run", cell=cell, layers=cell.count(",") + 1, epochs=1)
    checkpoint.facts["scores"] = problem.scores(network, "cpu").to_dict()
    checkpoint.save(tmp_path / "run")
    checkpoint = Checkpoint.load(tmp_path / "run", Config.from_dict)  # a checkpoint can be loaded without the full powers of pickle
    artifact = Follower(checkpoint.config, checkpoint)  # type: ignore[arg-type]  # its config
    with publish.staging(tmp_path / "models", "model") as folder:
        artifact.write_graphs(folder)
        golden = artifact.golden()
        golden.save(folder, outputs=artifact.outputs, states=artifact.states)
        spec = artifact.spec("1", folder)
        checks = [*verify.verify(Engine(spec, folder, device="cpu"), golden), *cuda_graph.verify(spec, folder, golden)]
        assert [str(check) for check in checks if not check.holds] == []
        assert difference(artifact.by_torch(golden.instances), golden.predictions, spec.tolerance) <= 1
        version = publish.publish(folder, lambda version: artifact.spec(version, folder))

    read = manifest.read(version)
    assert read.task == task
    assert [signal.name for signal in read.features] == [column.name for column in data.features]
    signals = [(signal.name, signal.unit) for signal in read.outputs[0].signals]
    assert signals == ([("rises", ""), ("falls", "")] if task == "classify" else [("mean", data.targets[0].unit)])
    assert read.sample_rate == (None if task == "classify" else 50.0)
    assert read.causal
    assert read.provenance["scores"]["data"].startswith("the test part")
    assert read.provenance["metrics"]["epoch"] == 1
    assert Golden.load(version, read).instances[0].state is not None
    engine = Engine(read, version, device="cpu")
    recording = data.test[0]
    (answers,) = engine.predict([Instance(recording.features)])
    followed = np.concatenate([each.values for each in follow(network, [recording], "cpu")])
    np.testing.assert_allclose(answers.output, followed, rtol=1e-5, atol=read.tolerance.atol)


@pytest.mark.parametrize("rows", [FEW - 1, FEW])
def test_scores_on_a_handful_of_rows_are_told_to_be_worth_little(rows: int) -> None:
    """The warning names the number: otherwise a run that looks good on eleven rows is taken for good."""
    data = of_task("regress")
    few = replace(data.test[0], features=data.test[0].features[:rows], targets=data.test[0].targets[:rows])
    problem = Following(Config(task="regress", **SMALL), replace(data, test=(few,)))
    warnings = problem.scores(problem.network(), "cpu").warnings()
    expected = f"All this was measured on the test part, {rows} rows: so few tell hardly anything."
    assert any(each.startswith(expected) for each in warnings) == (rows < FEW)


@pytest.mark.parametrize("task", ["denoise", "regress", "classify"])
def test_pictures_are_drawn_of_the_test_part(tmp_path: Path, task: str) -> None:
    """Predictions beside the truth, or which class is mistaken for which."""
    data = of_task(task)
    problem = Following(Config(**{"task": task, **SMALL}), data)
    paths = problem.pictures(problem.network(), "cpu", tmp_path)
    expected = ["confusion.png", "probabilities.png"] if task == "classify" else ["predictions.png"]
    assert [path.name for path in paths] == expected
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
