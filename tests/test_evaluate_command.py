"""scripts.evaluate: on real data, a model in this process and the same one behind HTTP give equal answers, scores and files."""

import csv
import json
import resource
import shutil
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from app import manifest
from app.engine import Engine
from app.tensors import Instance
from scripts import adopt, command, evaluate, problems
from scripts.evaluation.card import Card, EvaluationError, WrongUse, pieces
from scripts.evaluation.connection import TRIES, Connection, Refused
from scripts.evaluation.local import Local
from scripts.evaluation.remote import Remote
from scripts.evaluation.training import DEFAULTS, READING, Training
from scripts.evaluation.written import Table
from scripts.series.config import Config
from scripts.training import fit, publish
from scripts.training.scores import Scores
from tests import graphs
from tests.series_files import gestures, hourly, regression, states
from tests.servers import serve

Shown = pytest.CaptureFixture[str]
SECRET = "a-secret-of-the-evaluation"


def published(model_dir: Path, config: Config) -> Scores:
    """Publish a model with all weights random, so that its states matter; returns the scores that training gives it."""
    problem = problems.problem_of(config)
    network, checkpoint = fit.start(problem)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        for parameter in network.parameters():
            parameter.uniform_(-0.5, 0.5)
    checkpoint.best_network = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    checkpoint.history = [{"epoch": 1, "training_loss": 1.0, "validation_loss": 1.0}]
    checkpoint.best_epoch, checkpoint.best_loss = 1, 1.0
    trained = problem.network()
    trained.load_state_dict(checkpoint.best_network)
    scores = problem.scores(trained, "cpu")
    checkpoint.facts["scores"] = scores.to_dict()
    artifact = problems.artifact_of(checkpoint)
    with publish.staging(model_dir, config.name) as folder:
        artifact.write_graphs(folder)
        artifact.golden().save(folder, outputs=artifact.outputs, states=artifact.states)
        publish.publish(folder, lambda version: artifact.spec(version, folder))
    return scores


def retold(folder: Path, model: Path, provenance: dict[str, Any]) -> Path:
    """A copy of the version as another model, whose manifest says this of its training."""
    found = model / folder.name
    shutil.copytree(folder, found)
    told = json.loads((found / manifest.FILE_NAME).read_bytes())
    (found / manifest.FILE_NAME).write_text(json.dumps(told | {"name": model.name, "provenance": provenance}))
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    """Data files, a repository with a model of each task and an adopted one, the scores from training, and a service."""
    folder = tmp_path_factory.mktemp("evaluation")
    model_dir = folder / "model"
    files = {
        "regress": regression(folder / "signal.csv"),
        "hours": hourly(folder / "hours.csv"),
        "classes": gestures(folder / "g.csv"),
        "states": states(folder / "states.csv"),
    }
    small: dict[str, Any] = {"hidden": 4, "layers": 1}
    signal = {"data": (str(files["regress"]),), "features": ("a", "b"), "targets": ("y",), **small}
    configs = [
        Config(name="regress", task="regress", cell="lstm", **signal),
        Config(name="denoise", task="denoise", **signal),
        Config(name="pair", task="regress", **signal | {"features": ("a",), "targets": ("b", "y")}),
        Config(name="states", task="classify", data=(str(files["states"]),), targets=("state",), **small),
        Config(name="classify", task="classify", data=(str(files["classes"]),), targets=("gesture",), group="trial", **small),
        Config(
            name="forecast", task="forecast", data=(str(files["hours"]),), context=48, horizon=12, quantiles=(0.1, 0.9), **small
        ),
        Config(
            name="one", task="forecast", data=(str(files["hours"]),), targets=("load",), context=24, horizon=6, segment=6, **small
        ),
    ]
    trained = {config.name: published(model_dir, config) for config in configs}
    graph = graphs.bidirectional(folder / "both-ways.onnx")
    assert adopt.main([str(graph), "--name", "both-ways", "--model-dir", str(model_dir)]) == 0
    retold(model_dir / "classify" / "1", model_dir / "odd", {"truth": {"columns": 3}})
    with serve(model_dir, "--default-model", "regress") as server:
        yield Namespace(folder=folder, model_dir=model_dir, files=files, trained=trained, url=server.url)


def lines_of(world: Namespace, name: str) -> list[str]:
    """The arguments that name the data on which a model is evaluated."""
    if name == "classify":
        return ["--data", str(world.files["classes"])]
    if name in ("forecast", "one"):
        return ["--data", str(world.files["hours"])]
    return ["--data", str(world.files["regress"])]


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [*csv.DictReader(file)]


def ran(line: list[str], tmp_path: Path, name: str) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Run an evaluation, which must succeed; returns its JSON and its table."""
    told, table = tmp_path / f"{name}.json", tmp_path / f"{name}.csv"
    assert evaluate.main([*line, "--json", str(told), "--csv", str(table)]) == 0
    return json.loads(told.read_bytes()), table_of(table)


# -- the same here and there --------------------------------------------------------------------------------------------


def numbers(values: dict[str, float | None]) -> dict[str, float]:
    """The scores with NaN for None: JSON has no NaN."""
    return {name: float("nan") if value is None else value for name, value in values.items()}


@pytest.mark.parametrize("name", ["regress", "denoise", "classify", "forecast", "one"])
def test_a_service_answers_as_the_engine_does(name: str, world: Namespace, tmp_path: Path) -> None:
    """Scores and predictions must be the same in every row, for streams in chunks and for whole contexts."""
    here, rows = ran([str(world.model_dir / name / "1"), *lines_of(world, name)], tmp_path, "here")
    line = [world.url, "--model", name, "--chunk", "7", *lines_of(world, name)]
    if name == "classify":
        line += ["--group", "trial"]  # a service does not tell how training read this column
    there, served = ran(line, tmp_path, "there")
    assert there["task"] == here["task"] == (name if name != "one" else "forecast")
    assert there["steps"] == here["steps"]
    assert there["data"] == here["data"]
    assert there["scores"].keys() == here["scores"].keys()
    for method, values in here["scores"].items():
        assert numbers(there["scores"][method]) == pytest.approx(numbers(values), rel=1e-4, nan_ok=True)
    assert len(served) == len(rows)
    tolerance = manifest.read(world.model_dir / name / "1").tolerance
    for one, other in zip(rows, served, strict=True):
        assert one.keys() == other.keys()
        for column, text in one.items():
            if column.endswith(("_predicted", "_probability", "_0.1", "_0.9")) and text and column != "gesture_predicted":
                assert float(other[column]) == pytest.approx(float(text), rel=tolerance.rtol, abs=tolerance.atol)
            elif column != "gesture_predicted":
                assert other[column] == text


def test_streams_are_ended_when_their_recordings_are(world: Namespace) -> None:
    """The service's memory is freed at once, not only when the streams expire."""
    assert evaluate.main([world.url, "--model", "regress", *lines_of(world, "regress")]) == 0
    connection = Connection(world.url)
    assert connection.json("GET", "/streams")["count"] == 0
    connection.close()


def test_a_model_that_cannot_be_streamed_is_asked_about_whole_recordings(world: Namespace, tmp_path: Path) -> None:
    """Every row of a bidirectional model depends on the end of the recording, here and over HTTP; these data have no truth."""
    spec = manifest.read(world.model_dir / "both-ways" / "1")
    width = len(spec.features)
    data = tmp_path / "wide.csv"
    values = np.random.default_rng(0).normal(size=(40, width)).round(4)
    names = [f"f{index}" for index in range(width)]
    data.write_text(",".join(names) + "\n" + "\n".join(",".join(map(str, row)) for row in values) + "\n")
    line = ["--data", str(data), "--features", ",".join(names)]
    told, rows = ran([str(world.model_dir / "both-ways" / "1"), *line], tmp_path, "here")
    assert "scores" not in told
    _, served = ran([world.url, "--model", "both-ways", *line], tmp_path, "there")
    (expected,) = Engine(spec, world.model_dir / "both-ways" / "1", device="cpu").predict([Instance(values.astype(np.float32))])
    for table in (rows, served):
        predicted = np.array([[float(row[name]) for name in row if name.endswith("_predicted")] for row in table])
        first = predicted[:, : expected.output[0].size]
        assert first == pytest.approx(expected.output.reshape(40, -1), abs=1e-5)


def test_a_forecaster_of_one_target_may_answer_without_an_axis_for_it(world: Namespace, tmp_path: Path) -> None:
    """Others' forecasters of one series mostly answer (batch, horizon); the file names the target, or nothing is scored."""
    graph = graphs.forecaster(tmp_path / "next.onnx")
    assert adopt.main([str(graph), "--name", "next", "--model-dir", str(tmp_path / "model")]) == 0
    folder = tmp_path / "model" / "next" / "1"
    line = [str(folder), *lines_of(world, "one"), "--task", "forecast", "--features", "load,heat", "--every", "6"]
    told, rows = ran([*line, "--targets", "load"], tmp_path, "scored")
    assert "the model" in told["scores"]
    source = table_of(world.files["hours"])
    context = np.array([[float(row["load"]), float(row["heat"])] for row in source[:24]], np.float32)
    (expected,) = Engine(manifest.read(folder), folder, device="cpu").predict([Instance(context)])
    assert [float(row["load_predicted"]) for row in rows[:6]] == pytest.approx(expected.output.tolist(), abs=1e-5)
    assert [float(row["load"]) for row in rows[:6]] == pytest.approx([float(row["load"]) for row in source[24:30]], abs=1e-5)
    told, _ = ran(line, tmp_path, "unscored")
    assert "scores" not in told


# -- the scores are training's ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["regress", "denoise", "classify", "forecast", "one"])
def test_the_test_part_has_the_scores_that_training_gives_it(name: str, world: Namespace, tmp_path: Path) -> None:
    """The published graph must be as good as training said of the network; the same holds for the baselines."""
    told, _ = ran([str(world.model_dir / name / "1"), *lines_of(world, name), "--part", "test"], tmp_path, "test")
    trained = world.trained[name].to_dict()["scores"]
    renamed = {"majority class of these rows": "most frequent class"}
    assert len(told["scores"]) == {"regress": 1, "denoise": 2, "classify": 2, "forecast": 3, "one": 3}[name]
    for method, values in told["scores"].items():
        expected = trained[renamed.get(method, method)]
        assert values.keys() == expected.keys()
        for metric, value in numbers(values).items():
            assert value == pytest.approx(expected[metric], rel=1e-3, nan_ok=True), (method, metric)


@pytest.mark.parametrize("known", [True, False], ids=["training's", "these data's"])
def test_it_is_said_in_which_units_errors_of_a_forecast_are(known: bool, world: Namespace, tmp_path: Path, capsys: Shown) -> None:
    """Errors are divided by the deviation of training if the manifest tells it, else by the file's; checked against NumPy."""
    folder = world.model_dir / "one" / "1"
    if not known:
        folder = retold(folder, tmp_path / "one", {})
    told, _ = ran([str(folder), *lines_of(world, "one")], tmp_path, "told")
    load = np.array([float(row["load"]) for row in table_of(world.files["hours"])])
    errors = [np.full(6, load[origin - 1]) - load[origin : origin + 6] for origin in range(24, len(load) - 5)]
    unit = load[:280].var() if known else load.var()
    assert told["scores"]["last value"]["MSE, standardised"] == pytest.approx(np.square(errors).mean() / unit, rel=1e-4)
    assert told["scores"]["last value"]["RMSE"] == pytest.approx(np.square(errors).mean() ** 0.5, rel=1e-4)
    assert f"standard deviation in {'training' if known else 'these data'}" in capsys.readouterr().out


def test_deviations_are_told_where_targets_have_no_unit_in_common(world: Namespace, tmp_path: Path) -> None:
    """An error in standard deviations means nothing without the deviations."""
    told, _ = ran([str(world.model_dir / "pair" / "1"), *lines_of(world, "pair")], tmp_path, "pair")
    assert told["units"] == {"RMSE": "standard deviations", "MAE": "standard deviations"}
    assert any("each target's standard deviation in training" in note for note in told["notes"])
    told, _ = ran([str(world.model_dir / "regress" / "1"), *lines_of(world, "regress")], tmp_path, "regress")
    assert told["units"] == {}
    assert told["notes"] == []


# -- what training tells ------------------------------------------------------------------------------------------------


def test_data_are_read_as_in_training(world: Namespace, tmp_path: Path, capsys: Shown) -> None:
    """Choices in the manifest need not be repeated on the line; they are printed, and flags win over them."""
    line = [str(world.model_dir / "classify" / "1"), *lines_of(world, "classify")]
    told, _ = ran(line, tmp_path, "as-in-training")
    assert 'As in training: --group trial (a flag of your own takes its place, --group "" for none).' in capsys.readouterr().out
    said, _ = ran([*line, "--group", "trial"], tmp_path, "said")
    assert "As in training" not in capsys.readouterr().out
    assert said["scores"] == told["scores"]
    assert told["data"].endswith("24 recordings")


def test_a_service_tells_how_data_were_read_in_training(world: Namespace, tmp_path: Path, capsys: Shown) -> None:
    """A model behind HTTP must be measured on exactly the same rows as the model's folder."""
    lines = [*lines_of(world, "classify"), "--part", "test"]
    there, _ = ran([world.url, "--model", "classify", *lines], tmp_path, "there")
    assert "As in training: --group trial" in capsys.readouterr().out
    here, _ = ran([str(world.model_dir / "classify" / "1"), *lines], tmp_path, "here")
    assert there["data"] == here["data"]
    assert there["scores"] == here["scores"]


def test_a_reading_is_settled_flag_by_flag() -> None:
    """Flags win over training and training over the defaults; the split is printed if it matters."""
    config = {
        "task": "regress",
        "split": ["0.5", "0.25", "0.25"],
        "missing": "hold",
        "time": "my clock",
        "period": 0.5,
        "hidden": 3,
    }
    trained = Training.of({"config": config})
    silent: dict[str, Any] = dict.fromkeys(READING)
    found, notes = trained.settled(silent, parted=True)
    assert found == DEFAULTS | {"split": ("0.5", "0.25", "0.25"), "missing": "hold", "time": "my clock", "period": 0.5}
    assert notes[0].startswith("As in training: --time 'my clock' --missing hold --period 0.5 --split 0.5,0.25,0.25 (")
    found, notes = trained.settled(silent | {"missing": "drop", "time": "", "period": 0.0}, parted=False)
    assert (found["missing"], found["time"], found["period"]) == ("drop", "", 0.0)
    assert notes == []


@pytest.mark.parametrize(
    "provenance", [{}, {"config": "x"}, {"config": {"part": "ADIS16448"}}, {"config": {"task": "regress", "missing": "burn"}}]
)
def test_of_an_unknown_training_nothing_is_taken(provenance: dict[str, Any]) -> None:
    """A manifest may hold anything: then the defaults hold, and a warning says that the test part may differ from training's."""
    found, notes = Training.of(provenance | {"scores": {"data": 1}}).settled(dict.fromkeys(READING), parted=True)
    assert found == DEFAULTS
    assert len(notes) == 1
    assert "is not known here" in notes[0]
    assert "the test part is that of --split 0.7,0.15,0.15" in notes[0]


def test_what_a_model_was_beside_in_training_is_shown(world: Namespace, tmp_path: Path, capsys: Shown) -> None:
    """Fitted methods need the training part, so their scores are those of training, with their units, if the manifest has them."""
    told, _ = ran([str(world.model_dir / "denoise" / "1"), *lines_of(world, "denoise")], tmp_path, "here")
    shown = capsys.readouterr().out
    assert "are not measured here. In training it stood beside them, on the test part, 36 rows:" in shown
    assert str(world.trained["denoise"]) in shown
    assert "noise reduction, dB" in shown
    assert "linear fit of the row" in told["training"]["scores"]
    told, _ = ran([world.url, "--model", "denoise", *lines_of(world, "denoise")], tmp_path, "there")
    assert "(moving averages, linear fits) are not measured here: that takes the training part." in capsys.readouterr().out
    assert told["training"] is None


def test_the_column_of_labels_is_asked_for_where_it_is_not_known(world: Namespace, capsys: Shown) -> None:
    """A model that was not trained here does not tell it, so the message gives the flag that names it."""
    line = [world.url, "--model", "odd", *lines_of(world, "classify"), "--group", "trial"]
    assert evaluate.main(line) == 0
    assert "the model does not tell in which column its labels were. Name it with --targets." in capsys.readouterr().out
    assert evaluate.main([*line, "--targets", "gesture"]) == 0
    assert "| the model " in capsys.readouterr().out


def test_windows_over_what_was_filled_in_are_not_scored(world: Namespace, tmp_path: Path, capsys: Shown) -> None:
    """Filled values are not truth: the model reads them and forecasts them, but they do not count."""
    text = world.files["hours"].read_text().splitlines()
    date, _, heat = text[201].split(",")
    text[201] = f"{date},,{heat}"
    data = tmp_path / "gaps.csv"
    data.write_text("\n".join(text) + "\n")
    whole, _ = ran([str(world.model_dir / "one" / "1"), *lines_of(world, "one")], tmp_path, "whole")
    line = [str(world.model_dir / "one" / "1"), "--data", str(data), "--missing", "hold"]
    told, rows = ran(line, tmp_path, "holes")
    assert "Not scored: 6 windows, since a target" in capsys.readouterr().out
    assert f"{400 - 24 - 5} windows" in whole["data"]
    assert f"{400 - 24 - 5 - 6} windows" in told["data"]
    assert len(rows) == 6 * len(range(24, 395, 6)) + 6
    assert [row["date"] for row in rows if row["date"] and not row["load"]] == [date]


def test_only_the_test_part_must_be_long_enough_for_its_test(world: Namespace, tmp_path: Path) -> None:
    """Nothing is trained: how short the training part is does not matter, and nobody can shorten the model's context."""
    lines = world.files["hours"].read_text().splitlines(keepends=True)
    short = tmp_path / "few.csv"
    short.write_text("".join(lines[:121]))
    line = [str(world.model_dir / "forecast" / "1"), "--data", str(short), "--part", "test", "--split", "0.1,0.3,0.6"]
    told, _ = ran(line, tmp_path, "short")
    assert told["data"].endswith("windows")


@pytest.mark.parametrize("part", ["all", "test"])
def test_rows_of_training_are_warned_of(part: str, world: Namespace, capsys: Shown) -> None:
    """Any model is good on data that it has learned by heart."""
    assert evaluate.main([str(world.model_dir / "regress" / "1"), *lines_of(world, "regress"), "--part", part]) == 0
    assert ("--part test leaves them out" in capsys.readouterr().out) == (part == "all")


# -- the table ----------------------------------------------------------------------------------------------------------


def test_the_table_stands_beside_the_rows_of_the_file(world: Namespace, tmp_path: Path) -> None:
    """Each row has the file's own time and truth, and the engine's answer to the whole recording at once."""
    _, rows = ran([str(world.model_dir / "regress" / "1"), *lines_of(world, "regress")], tmp_path, "rows")
    source = table_of(world.files["regress"])
    assert [row["time"] for row in rows] == [row["time"] for row in source]
    assert [float(row["y"]) for row in rows] == pytest.approx([float(row["y"]) for row in source], abs=1e-6)
    features = np.array([[row["a"], row["b"]] for row in source], np.float32)
    folder = world.model_dir / "regress" / "1"
    (expected,) = Engine(manifest.read(folder), folder, device="cpu").predict([Instance(features)])
    assert [float(row["y_predicted"]) for row in rows] == pytest.approx(expected.output[:, 0].tolist(), abs=1e-5)


def test_times_stay_with_their_rows_where_some_are_dropped(world: Namespace, tmp_path: Path) -> None:
    """A recording that is cut at a missing cell is two, each from the zero state, and the dropped row is not in the table."""
    text = world.files["regress"].read_text().splitlines()
    time, _, b, y = text[101].split(",")
    text[101] = f"{time},,{b},{y}"
    data = tmp_path / "holes.csv"
    data.write_text("\n".join(text) + "\n")
    _, rows = ran([str(world.model_dir / "regress" / "1"), "--data", str(data), "--missing", "drop"], tmp_path, "rows")
    assert [int(row["time"]) for row in rows] == [each for each in range(240) if each != 100]
    features = np.array([line.split(",")[1:3] for line in text[102:]], np.float32)
    folder = world.model_dir / "regress" / "1"
    (expected,) = Engine(manifest.read(folder), folder, device="cpu").predict([Instance(features)])
    assert [float(row["y_predicted"]) for row in rows[100:]] == pytest.approx(expected.output[:, 0].tolist(), abs=1e-5)


def test_classes_of_rows_are_told_by_their_names(world: Namespace, tmp_path: Path) -> None:
    """Each row has its label, the class that is most likely, and the probabilities of all."""
    _, rows = ran([str(world.model_dir / "states" / "1"), "--data", str(world.files["states"])], tmp_path, "states")
    source = table_of(world.files["states"])
    assert [row["state"] for row in rows] == [row["state"] for row in source]
    for row in rows:
        high, low = float(row["high_probability"]), float(row["low_probability"])
        assert high + low == pytest.approx(1, abs=1e-5)
        assert row["state_predicted"] == ("high" if high > low else "low")


def test_a_class_of_a_recording_is_told_in_one_line(world: Namespace, tmp_path: Path) -> None:
    """The line has the model's answer after the last row, equal to the engine's for the whole recording at once."""
    folder = world.model_dir / "classify" / "1"
    told, rows = ran([str(folder), *lines_of(world, "classify")], tmp_path, "classes")
    source = table_of(world.files["classes"])
    labels = {row["trial"]: row["gesture"] for row in source}
    assert [(row["recording"].split(", ")[1], row["gesture"]) for row in rows] == [*labels.items()]
    engine = Engine(manifest.read(folder), folder, device="cpu")
    for row, trial in zip(rows, labels, strict=True):
        signal = np.array([[each["x"]] for each in source if each["trial"] == trial], np.float32)
        (expected,) = engine.predict([Instance(signal)])
        assert int(row["rows"]) == len(signal)
        assert [float(row["fall_probability"]), float(row["rise_probability"])] == pytest.approx(expected.output[-1], abs=1e-5)
        assert row["gesture_predicted"] == ("fall", "rise")[expected.output[-1].argmax()]
    right = sum(row["gesture"] == row["gesture_predicted"] for row in rows) / len(rows)
    assert told["scores"]["the model"]["accuracy"] == pytest.approx(right)


def test_a_recording_without_a_label_is_predicted_and_not_scored(world: Namespace, tmp_path: Path) -> None:
    """A label that stands only in a recording's first row counts for the whole recording."""
    folder = str(world.model_dir / "classify" / "1")
    whole, rows = ran([folder, *lines_of(world, "classify")], tmp_path, "whole")
    head, *lines = world.files["classes"].read_text().splitlines()
    firsts = [line if k % 12 == 0 and k else line.rpartition(",")[0] + "," for k, line in enumerate(lines)]
    sparse = tmp_path / world.files["classes"].name
    sparse.write_text("\n".join([head, *firsts]) + "\n")
    told, found = ran([folder, "--data", str(sparse), "--missing", "drop"], tmp_path, "sparse")
    assert found[0] == rows[0] | {"gesture": ""}
    assert found[1:] == rows[1:]
    assert whole["data"].endswith("24 recordings")
    assert told["data"].endswith("23 recordings")


def test_targets_that_never_stand_in_one_row_are_predicted_and_not_scored(world: Namespace, tmp_path: Path, capsys: Shown) -> None:
    """The table still has every row, and the picture shows only the predictions."""
    head, *lines = [line.split(",") for line in world.files["regress"].read_text().splitlines()]
    for k, cells in enumerate(lines):
        cells[2 + k % 2] = ""
    sparse = tmp_path / "apart.csv"
    sparse.write_text("\n".join(map(",".join, [head, *lines])) + "\n")
    line = [str(world.model_dir / "pair" / "1"), "--data", str(sparse), "--missing", "drop", "--picture"]
    told, rows = ran([*line, str(tmp_path / "apart.png")], tmp_path, "told")
    assert (tmp_path / "apart.png").stat().st_size > 5000
    assert "scores" not in told
    assert "No row of the data has all of its truth: nothing is scored." in capsys.readouterr().out
    assert len(rows) == len(lines)
    assert all(row["y_predicted"] for row in rows)


def test_numbers_that_meant_a_missing_value_in_training_need_not_here(world: Namespace, capsys: Shown) -> None:
    """The note about choices taken from training says so."""
    folder = world.model_dir / "regress" / "1"
    provenance = json.loads((folder / manifest.FILE_NAME).read_bytes())["provenance"]
    provenance["config"]["na"] = [-999.0]
    model = retold(folder, world.model_dir / "with-na", provenance)
    assert evaluate.main([str(model), *lines_of(world, "regress")]) == 0
    assert 'As in training: --na=-999 (a flag of your own takes its place, --na "" for none).' in capsys.readouterr().out
    assert evaluate.main([str(model), *lines_of(world, "regress"), "--na", ""]) == 0
    assert "As in training" not in capsys.readouterr().out


def test_a_table_of_forecasts_has_every_row_once(world: Namespace, tmp_path: Path, capsys: Shown) -> None:
    """All windows are scored, but only windows that lie end to end are written: otherwise each row would appear many times."""
    line = [str(world.model_dir / "one" / "1"), *lines_of(world, "one")]
    told, rows = ran(line, tmp_path, "once")
    windows = range(24, 400 - 5)
    assert f"{len(windows)} windows" in told["data"]
    shown = capsys.readouterr().out
    assert f"{len(rows)} lines: {len(rows) // 6} windows of 6 rows that lie end to end" in shown
    assert f"--every 1, would be {6 * (len(windows) + 1):,}" in shown
    dates = [row["date"] for row in table_of(world.files["hours"])]
    assert [row["date"] for row in rows[:-6]] == dates[24 : 24 + len(rows) - 6]
    every, all_rows = ran([*line, "--every", "1"], tmp_path, "all")
    assert every["scores"] == told["scores"]
    assert len(all_rows) == 6 * (len(windows) + 1)
    assert [row for row in all_rows if row in rows] == rows


@pytest.mark.parametrize("name", ["regress", "classify", "forecast"])
def test_a_parquet_file_holds_what_a_csv_file_does(name: str, world: Namespace, tmp_path: Path) -> None:
    """The name of the file decides its format, and Parquet keeps numbers as numbers."""
    line, table = [str(world.model_dir / name / "1"), *lines_of(world, name)], tmp_path / "table.parquet"
    _, rows = ran(line, tmp_path, "table")
    assert evaluate.main([*line, "--csv", str(table)]) == 0
    frame = pl.read_parquet(table)
    assert frame.write_csv() == (tmp_path / "table.csv").read_text()
    assert len(frame) == len(rows)
    assert all(kind == pl.Float32 for column, kind in frame.schema.items() if column.endswith(("_probability", "y_predicted")))


def test_an_earlier_table_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    """A reader cannot tell half a table from a whole one."""
    path = tmp_path / "table.csv"
    path.write_text("old")
    with suppress(EvaluationError), Table(path) as table:
        table.add([("row", [1, 2])])
        raise EvaluationError("The service is gone.")
    assert [each.name for each in tmp_path.iterdir()] == ["table.csv"]
    assert path.read_text() == "old"
    with pytest.raises(WrongUse, match="cannot be written: No such file"):
        Table(tmp_path / "gone" / "table.csv")
    with Table(path) as table:
        table.add([("row", [1, 2]), ("value", [1.5, float("nan")])])
    assert path.read_text() == "row,value\n1,1.5\n2,\n"


def test_no_column_of_a_table_takes_the_place_of_another(tmp_path: Path) -> None:
    """A file may hold a column that is called as a prediction is: that of another model, say."""
    with Table(tmp_path / "table.csv") as table:
        table.add([("row", [1]), ("load", [2.0]), ("load_predicted", [3.0]), ("load_predicted", [4.0]), ("row", [5])])
    assert (tmp_path / "table.csv").read_text() == "row,load,load_predicted,load_predicted_2,row_2\n1,2.0,3.0,4.0,5\n"


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_for_which_there_is_no_room_is_told_and_leaves_nothing(suffix: str, tmp_path: Path) -> None:
    """The limit on the size of files stands for a disk that is full when the last rows are written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with (
            pytest.raises(EvaluationError, match=r"table\.\w+ cannot be written: .*File too large"),
            Table(tmp_path / f"table{suffix}") as table,
        ):
            table.add([("row", [*range(1000)])])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not [*tmp_path.iterdir()]


def test_a_forecast_is_told_row_by_row_and_beyond_the_end(world: Namespace, tmp_path: Path) -> None:
    """Each row has the truth and time of the row it forecasts; the last window begins at the file's end and has no truth yet."""
    _, rows = ran([str(world.model_dir / "forecast" / "1"), *lines_of(world, "forecast"), "--every", "50"], tmp_path, "forecast")
    source = {row["date"]: row for row in table_of(world.files["hours"])}
    dates = [*source]
    known, coming = rows[:-12], rows[-12:]
    assert {row["date_of_last_row_read"] for row in known} == {dates[origin - 1] for origin in range(48, 389, 50)}
    for row in known:
        place = dates.index(row["date_of_last_row_read"]) + int(row["step"])
        assert row["date"] == dates[place]
        assert float(row["load"]) == pytest.approx(float(source[row["date"]]["load"]), abs=1e-5)
        assert float(row["load_0.1"]) <= float(row["load_0.9"])
    assert [int(row["step"]) for row in coming] == [*range(1, 13)]
    assert {(row["date_of_last_row_read"], row["date"], row["load"]) for row in coming} == {(dates[-1], "", "")}
    assert all(row["heat_predicted"] for row in coming)


@pytest.mark.parametrize("flag", ["--csv", "--json"])
def test_the_data_are_not_written_over(flag: str, world: Namespace, tmp_path: Path, capsys: Shown) -> None:
    """The user's only copy is worth more than the predictions."""
    data = regression(tmp_path / "mine.csv")
    before = data.read_bytes()
    assert evaluate.main([str(world.model_dir / "regress" / "1"), "--data", str(tmp_path / "m*.csv"), flag, str(data)]) == 2
    assert "is read: what is written needs another name" in capsys.readouterr().err
    assert data.read_bytes() == before


@pytest.mark.parametrize("name", ["regress", "denoise", "classify", "forecast"])
def test_a_picture_is_drawn(name: str, world: Namespace, tmp_path: Path) -> None:
    """Every task gets a PNG that is more than an empty page."""
    path = tmp_path / "picture.png"
    assert evaluate.main([str(world.model_dir / name / "1"), *lines_of(world, name), "--picture", str(path)]) == 0
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 5000


@pytest.mark.parametrize(
    ("cells", "why"),
    [("a,b\n1,2\n3,4\n", "has no column `y`"), ("a,b,y\n1,2,\n3,4,\n", "`y` holds no value at all, in `data.csv`.")],
)
def test_data_without_truth_are_predicted_and_not_scored(
    cells: str, why: str, world: Namespace, tmp_path: Path, capsys: Shown
) -> None:
    """Most data that a model meets have no truth; a message says which column would hold it."""
    data = tmp_path / "data.csv"
    data.write_text(cells)
    told, rows = ran([str(world.model_dir / "regress" / "1"), "--data", str(data)], tmp_path, "new")
    shown = capsys.readouterr().out
    assert why in shown
    assert "nothing is scored" in shown
    assert "scores" not in told
    assert [row["row"] for row in rows] == ["1", "2"]
    assert all(row["y_predicted"] for row in rows)


# -- what cannot be -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("{models}/nothing/1 --data {signal}", 2, "holds no manifest.json"),
        ("{models}/regress --data {signal}", 2, "it is a model, name one of its versions: "),
        ("{models} --data {signal}", 2, "it is a model repository"),
        ("{url} --model regres --data {signal}", 2, "Did you mean regress?"),
        ("{url} --model regress --version 7 --data {signal}", 2, "serves no version 7 of regress; it has 1"),
        ("ftp://somewhere --data {signal}", 2, "is no URL of a service"),
        ("http://127.0.0.1:9 --data {signal}", 1, f"Start one with: {command.line('app')}"),
        ("{url}/elsewhere --data {signal}", 1, "does not tell which models it has"),
        ("{models}/regress/1 --data {folder}/signl.csv", 2, "does not exist. Did you mean signal.csv"),
        ("{models}/regress/1 --data {hours}", 2, "has no column `a`"),
        ("{models}/regress/1 --data {signal} --features a", 2, "takes 2 features (`a`, `b`), and --features names 1"),
        ("{models}/regress/1 --data {signal} --features a,bb", 2, "has no column `bb`"),
        ("{models}/regress/1 --data {signal} --targets y,b", 2, "answers 1 target, and --targets names 2"),
        ("{models}/regress/1 --data {signal} --task forecast", 2, "was trained for the task regress"),
        ("{models}/both-ways/1 --data {signal} --task forecast", 2, "is no forecaster"),
        ("{models}/forecast/1 --data {short}", 2, "No recording is long enough"),
        ("{models}/classify/1 --data {others} --group trial", 2, "holds the class 'wave', and the model knows `fall`, `rise` only"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    line: str, code: int, says: str, world: Namespace, tmp_path: Path, capsys: Shown
) -> None:
    """The exit status is 2 if other arguments would work and 1 if something failed; there is never a traceback."""
    short, others = tmp_path / "few.csv", tmp_path / "others.csv"
    short.write_text("".join(world.files["hours"].read_text().splitlines(keepends=True)[:40]))
    others.write_text(world.files["classes"].read_text().replace("rise", "wave"))
    names = {"models": world.model_dir, "url": world.url, "folder": world.folder, "signal": world.files["regress"]}
    names |= {"hours": world.files["hours"], "short": short, "others": others}
    assert evaluate.main([word.format(**names) for word in line.split()]) == code
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        "",
        "model/x/1",
        "model/x/1 --data a.csv --model x",
        "model/x/1 --data a.csv --every 0",
        "model/x/1 --data a --picture a.jpg",
        "model/x/1 --data a --csv a.xlsx",
        "model/x/1 --data a --csv table",
        "model/x/1 --data a --period -5",
    ],
)
def test_a_line_that_cannot_be_understood_exits_2(line: str, capsys: Shown) -> None:
    """The command must end before it reads any data."""
    with pytest.raises(SystemExit) as ended:
        evaluate.main(line.split())
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_help_shows_the_examples(capsys: Shown) -> None:
    """Users can copy the most frequent commands from the help."""
    with pytest.raises(SystemExit) as ended:
        evaluate.main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(line.strip() in shown for line in str(evaluate.__doc__).splitlines() if "python -m" in line)


def test_a_key_is_sent_where_one_is_needed(world: Namespace, capsys: Shown) -> None:
    """Without a key, the service's own message is shown."""
    line = ["--model", "regress", *lines_of(world, "regress")]
    with serve(world.model_dir, "--default-model", "regress", RECURVE_API_KEYS=f"me:predict:{SECRET}") as server:
        assert evaluate.main([server.url, *line]) == 1
        assert "401" in capsys.readouterr().err
        assert evaluate.main([server.url, *line, "--key", SECRET]) == 0


def test_a_rate_is_told_once_and_is_not_the_speed_of_the_service(world: Namespace, tmp_path: Path, capsys: Shown) -> None:
    """A slow evaluation should say why and for how long; its speed is that of the key's rate limit, not of the service."""
    result = tmp_path / "found.json"
    line = ["--model", "forecast", *lines_of(world, "forecast"), "--every", "40", "--key", SECRET, "--json", str(result)]
    with serve(world.model_dir, "--default-model", "regress", RECURVE_API_KEYS=f"me:predict@2:{SECRET}") as server:
        assert evaluate.main([server.url, *line]) == 0
    shown = capsys.readouterr()
    assert shown.err.count("429") == 1
    assert "The service answers 429: The key me may ask 2 times a second" in shown.err
    assert " 9 requests take about 4.5 seconds so: a larger --chunk, or of a forecast a larger --every, makes fewer" in shown.err
    assert "steps/s" not in shown.out
    assert "by how often the key may ask" in shown.out
    assert json.loads(result.read_bytes())["steps_per_second"] is None


# -- the connection -----------------------------------------------------------------------------------------------------


@contextmanager
def answering(statuses: list[int]) -> Iterator[str]:
    """A server that answers with these statuses in turn, then always with the last, and closes each connection after an answer."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
            answer = body[::-1] if status == 200 else b'{"detail": "Too much to do."}'
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(answer)
            self.close_connection = True  # without a Connection: close header

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("busy", [503, 429])
def test_a_busy_service_is_asked_again(busy: int) -> None:
    """The client waits for the time that the service names, and reopens a connection that was closed between requests."""
    with answering([busy, busy, 200]) as url:
        connection = Connection(url)
        assert connection.octets("/predict", b"abc") == b"cba"
        assert connection.octets("/predict", b"def") == b"fed"
        connection.close()


def test_a_request_that_others_go_before_at_a_low_rate_waits_for_long() -> None:
    """All connections share the rate, and chance decides which of them comes next."""
    with answering([429] * 30 + [200]) as url:
        connection = Connection(url)
        assert connection.octets("/predict", b"abc") == b"cba"
        connection.close()


def test_a_service_that_stays_busy_is_not_asked_for_ever() -> None:
    """In the end, the user gets the service's own message."""
    statuses = [503] * TRIES[503]
    with answering(statuses) as url:
        connection = Connection(url)
        with pytest.raises(Refused, match=r"503: Too much to do\."):
            connection.octets("/predict", b"abc")
        connection.close()


def test_what_is_no_answer_of_the_service_is_refused() -> None:
    """Something else may listen there, or a proxy may answer for it."""
    with answering([400]) as url, pytest.raises(EvaluationError, match=r"No service|does not tell"):
        Remote(url)


# -- the parts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "size", "time_steps", "expected"),
    [(5, 2, None, [2, 2, 1]), (4, 2, None, [2, 2]), (1, 8, None, [1]), (7, 2, 3, [3, 3]), (2, 2, 3, [])],
)
def test_a_recording_is_cut_without_loss(length: int, size: int, time_steps: int | None, expected: list[int]) -> None:
    """The pieces follow each other; with a model of fixed pieces, the rest at the end has no answer."""
    cuts = pieces(length, size, time_steps)
    assert [len(range(*cut.indices(length))) for cut in cuts] == expected
    assert [index for cut in cuts for index in range(*cut.indices(length))] == [*range(sum(expected))]


@pytest.mark.parametrize("name", ["regress", "classify", "states", "forecast", "both-ways", "odd"])
def test_a_service_tells_of_a_model_what_its_manifest_says(name: str, world: Namespace) -> None:
    """Only the scores of its training are missing: they are in the manifest alone."""
    local, remote = Local(world.model_dir / name / "1"), Remote(world.url, name)
    assert remote.card == replace(local.card, training=replace(local.card.training, scores=None))
    remote.close()
    local.close()


@pytest.mark.parametrize(
    ("name", "label", "per_recording", "targets"),
    [
        ("classify", "gesture", True, 0),
        ("states", "state", False, 0),
        ("one", "", False, 1),
        ("both-ways", "", None, 0),
        ("odd", "", None, 0),
    ],
)
def test_a_card_says_what_answers_are_measured_against(
    name: str, label: str, per_recording: bool | None, targets: int, world: Namespace
) -> None:
    """The trainer writes it; for an adopted model, or a truth that cannot be read, nothing is known."""
    local = Local(world.model_dir / name / "1")
    assert (local.card.label, local.card.label_per_recording, len(local.card.deviations)) == (label, per_recording, targets)
    local.close()


@pytest.mark.parametrize("told", [None, "x", {"columns": []}, {"columns": ["a"], "per_recording": True, "deviations": ["x"]}])
def test_a_truth_that_is_not_to_be_understood_is_none(told: Any, world: Namespace) -> None:
    """A manifest's provenance may hold anything; if it cannot be read, neither the service nor the card tells it."""
    spec = manifest.read(world.model_dir / "classify" / "1").model_copy(update={"provenance": {"truth": told}})
    card = Card.of(spec)
    assert (card.label, card.label_per_recording, card.deviations) == ("", None, ())
