"""The overview of runs: each run's state, how it compares with the baselines, and what is reported of broken runs."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scripts import problems, runs, train
from scripts.overview import kept, presence, shown
from scripts.overview.extras import NotInstalled, needed
from scripts.overview.tensorboard import Board
from scripts.series.config import Config
from scripts.training import fit
from scripts.training.scores import Metric, Row, Scores
from tests.series_files import regression

Shown = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of every state: finished, stopped, and broken in four ways; do not write to it."""
    folder = tmp_path_factory.mktemp("runs")
    data = regression(folder / "data.csv", rows=100)
    line = ["--data", str(data), "--features=a,b", "--targets=y", "--hidden=4", "--layers=1", "--epochs=2"]
    assert train.main([*line, "--chunk=4", "--run", str(folder / "finished")]) == 0
    learned = problems.checkpoint_of(folder / "finished")
    for name in ("stopped", "cut-short", "cut-late", "no-json"):
        (folder / name).mkdir()
        learned.facts = {}
        learned.save(folder / name)
    for name, end in (("cut-short", 500), ("cut-late", -100)):
        cut = folder / name / "checkpoint.pt"
        cut.write_bytes(cut.read_bytes()[:end])
    (folder / "no-json" / "result.json").write_text('{"reason": ')
    (folder / "empty").mkdir()
    return folder


@pytest.fixture
def all_runs(folder: Path) -> dict[str, kept.Run]:
    return {run.name: run for run in kept.runs_in(folder)}


def test_every_run_has_its_state(all_runs: dict[str, kept.Run]) -> None:
    """The user looks here for what can be exported, what must be resumed, and what can be deleted."""
    states = {name: run.state for name, run in all_runs.items()}
    broken = dict.fromkeys(("cut-short", "cut-late", "no-json", "empty"), "broken")
    assert states == {"finished": "finished", "stopped": "stopped", **broken}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty", "holds no checkpoint.pt"),
        ("cut-short", "is broken or not a checkpoint"),
        ("cut-late", "is broken or not a checkpoint: it is cut short"),
        ("no-json", "is not JSON"),
    ],
)
def test_a_broken_run_is_listed_with_the_reason(name: str, reason: str, folder: Path, capsys: Shown) -> None:
    """One bad folder must not hide the others, and must not pass for a good one."""
    assert runs.main([str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = [line for line in lines if line.startswith(f"{name} is broken: ")]
    assert len(told) == 1
    assert reason in told[0]
    assert [line for line in lines if line.startswith("finished ")]


def test_a_run_that_is_being_trained_is_running(folder: Path) -> None:
    """A run in training must not be taken for a stopped one and resumed a second time."""
    with presence.held(folder / "stopped"):
        assert kept.read(folder / "stopped").state == "running"
        with pytest.raises(ValueError, match="trained by another process"), presence.held(folder / "stopped"):
            pass
    assert kept.read(folder / "stopped").state == "stopped"


def test_a_run_whose_process_was_killed_is_stopped(folder: Path) -> None:
    """The user need not clean up: the operating system releases the lock of a dead process."""
    code = (
        "import sys; from pathlib import Path; from scripts.overview import presence\n"
        "with presence.held(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    line = [sys.executable, "-c", code, str(folder / "stopped")]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert kept.read(folder / "stopped").state == "running"
        process.kill()
    assert kept.read(folder / "stopped").state == "stopped"


def test_the_table_tells_what_the_result_says(folder: Path, capsys: Shown) -> None:
    """The run's test score and its best baseline are those that training printed, and the JSON has them in full."""
    assert runs.main([str(folder), "--json", str(folder / "runs.json")]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("finished "))
    result = json.loads((folder / "finished" / "result.json").read_bytes())
    scores = {name: values["RMSE"] for name, values in result["scores"].items()}
    *baselines, model = scores
    best = min(baselines, key=lambda name: scores[name])
    assert f"RMSE {scores[model]:.4g}" in line
    assert f"{scores[best]:.4g} {best}" in line
    assert ("(not beaten)" in line) == (scores[best] < 0.99 * scores[model])
    assert ("(as good)" in line) == (0.99 * scores[model] <= scores[best] <= scores[model] / 0.99)
    assert "regress" in line
    assert "1 x 4" in line
    assert "2/2" in line
    told = {run["run"]: run for run in json.loads((folder / "runs.json").read_bytes())["runs"]}[str(folder / "finished")]
    assert told["best_baseline"] == best
    assert told["history"] == result["history"]
    (folder / "runs.json").unlink()


def test_one_run_is_shown_in_full(folder: Path, capsys: Shown) -> None:
    """Its config can be given to scripts.train again, and every epoch and every file is there."""
    assert runs.main([str(folder / "finished")]) == 0
    told = capsys.readouterr().out
    assert (folder / "finished" / "config.toml").read_text() in told
    assert "all 2 epochs are done" in told
    history = problems.checkpoint_of(folder / "finished").history
    assert all(f"{row['validation_loss']:.4g}" in told for row in history)
    assert all(f"{path.name} " in told for path in (folder / "finished").iterdir() if not path.name.startswith("."))


def test_a_broken_run_is_shown_in_full_too(folder: Path, capsys: Shown) -> None:
    """It shows all that is known: what is wrong, and which files there are."""
    assert runs.main([str(folder / "cut-short")]) == 0
    told = capsys.readouterr().out
    assert "broken" in told
    assert "checkpoint.pt" in told


@pytest.mark.parametrize("column", [column.name for column in shown.COLUMNS])
def test_runs_are_sorted_by_any_column(column: str, folder: Path, all_runs: dict[str, kept.Run]) -> None:
    """Each run is listed once, and runs without a value in the column come last."""
    ordered = shown.ordered(list(all_runs.values()), column)
    assert sorted(run.name for run in ordered) == sorted(all_runs)
    texts = [next(each for each in shown.COLUMNS if each.name == column).text(run) for run in ordered]
    known = [text != "-" for text in texts]
    assert known == sorted(known, reverse=True)
    assert runs.main([str(folder), "--sort", column]) == 0


def test_the_newest_run_comes_last(all_runs: dict[str, kept.Run]) -> None:
    """The run that was just trained is at the bottom, next to the prompt."""
    whens = [run.when for run in shown.ordered(list(all_runs.values()), "when")]
    assert whens == sorted(whens)


@pytest.mark.parametrize(("higher", "best"), [(False, "b"), (True, "c")], ids=["less is better", "more is better"])
def test_the_best_baseline_hangs_on_the_metric(higher: bool, best: str) -> None:
    """Small errors are better, large accuracies are; NaN never wins, and the model is no baseline."""
    rows = (Row("nan", (math.nan,)), Row("b", (1.0,)), Row("c", (2.0,)), Row("model", (0.5,)))
    found = kept.lead(Scores("data", (Metric("m", higher=higher),), rows))
    assert found is not None
    assert found.name == best


@pytest.mark.parametrize(
    ("model", "baseline", "higher", "verdict"),
    [
        (0.2614147, 0.2614013, False, "is only as good as x, within 1%: m 0.2614 against 0.2614"),
        (0.2614013, 0.2614147, False, "is only as good as x, within 1%: m 0.2614 against 0.2614"),
        (0.0, 0.0, False, "is only as good as x, within 1%: m 0 against 0"),
        (0.26, 0.25, False, "does not beat x: m 0.26 against 0.25"),
        (math.nan, 0.25, False, "does not beat x: m nan against 0.25"),
        (math.inf, 0.25, False, "does not beat x: m inf against 0.25"),
        (0.25, 0.26, False, ""),
        (0.25, math.nan, False, ""),
        (0.995, 0.99, True, ""),
        (0.99, 0.995, True, "does not beat x: m 0.99 against 0.995"),
        (0.99991, 0.99992, True, "does not beat x: m 0.99991 against 0.99992"),
        (0.7, 0.699, True, "is only as good as x, within 1%: m 0.7 against 0.699"),
    ],
)
def test_what_is_hardly_apart_is_called_as_good(model: float, baseline: float, higher: bool, verdict: str) -> None:
    """The fifth digit must not decide; but half as many mistakes make a different model, even if both make few."""
    scores = Scores("the data", (Metric("m", higher=higher),), (Row("x", (baseline,)), Row("the model", (model,))))
    assert scores.warnings() == ([f"The model {verdict}, on the data."] if verdict else [])


def test_scores_are_read_as_they_were_written() -> None:
    """Nothing is lost, such as units, that more accuracy is better, and that there was too little data to tell."""
    metrics = Metric("accuracy", higher=True), Metric("log loss"), Metric("RMSE", "deg/s")
    scores = Scores("the test part", metrics, (Row("x", (0.5, 1.0, 3.0)), Row("y", (0.6, 0.9, 2.0))), 3)
    assert Scores.from_dict(scores.to_dict()) == scores
    assert "RMSE, deg/s" in str(Scores.from_dict(scores.to_dict()))
    assert any("so few tell hardly anything" in warning for warning in Scores.from_dict(scores.to_dict()).warnings())
    with pytest.raises(ValueError, match="scores cannot be read"):
        Scores.from_dict({"data": "x", "scores": [1]})


def test_a_folder_that_is_none_exits_2(tmp_path: Path, capsys: Shown) -> None:
    """A user who has not trained yet learns where runs are kept."""
    assert runs.main([str(tmp_path / "nowhere")]) == 2
    assert "is no folder" in capsys.readouterr().err
    assert runs.main([str(tmp_path)]) == 0
    assert "holds no runs" in capsys.readouterr().out


# -- TensorBoard --------------------------------------------------------------------------------------------------------


def _curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_shows_every_epoch(tmp_path: Path) -> None:
    """Training and validation of one metric share a chart; an epoch that is written twice is shown once."""
    history = [{"epoch": epoch, "training_loss": 1 / epoch, "validation_loss": 2.0, "validation_rmse": 0.5} for epoch in (1, 2, 3)]
    for _ in range(2):
        with Board(tmp_path) as board:
            for row in history:
                board.epoch(row)
    curves = _curves(tmp_path)
    assert sorted(curves) == ["loss/training", "loss/validation", "rmse/validation"]
    assert curves["loss/training"] == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]


def test_a_run_that_goes_on_replaces_what_was_not_saved(tmp_path: Path) -> None:
    """An epoch that was shown but lost with its process is replaced when it is trained again."""
    with Board(tmp_path) as board:
        for epoch in (1, 2):
            board.epoch({"epoch": epoch, "training_loss": float(epoch)})
    with Board(tmp_path, after=1) as board:
        board.epoch({"epoch": 2, "training_loss": 20.0})
    assert _curves(tmp_path)["loss/training"] == [(1, 1.0), (2, 20.0)]


def test_a_watched_run_learns_the_same_and_tells_its_history(folder: Path, tmp_path: Path) -> None:
    """Watching changes nothing; an epoch is reported exactly as the checkpoint keeps it."""
    alone = problems.checkpoint_of(folder / "finished")
    assert isinstance(alone.config, Config)
    told: list[dict[str, float]] = []
    problem = problems.problem_of(alone.config)
    network, checkpoint = fit.start(problem)
    fit.fit(network, problem, checkpoint, tmp_path, device="cpu", told=told.append)
    assert told == checkpoint.history
    assert checkpoint.best_loss == alone.best_loss
    assert all((checkpoint.best_network[name] == alone.best_network[name]).all() for name in alone.best_network)


def test_what_ends_a_watched_run_does_so_when_its_epoch_is_kept(folder: Path, tmp_path: Path) -> None:
    """The epoch's training is not lost, and a resumed run begins with the next one."""
    config = problems.checkpoint_of(folder / "finished").config
    problem = problems.problem_of(config)
    network, checkpoint = fit.start(problem)
    with pytest.raises(OverflowError, match="enough"):
        fit.fit(network, problem, checkpoint, tmp_path, device="cpu", told=lambda _: OverflowError("enough"))
    assert problems.checkpoint_of(tmp_path).epoch == len(checkpoint.history) == 1


def test_a_missing_package_is_named_with_the_line_that_installs_it() -> None:
    """Most users have not installed the extras, and need to know only how to get them."""
    with pytest.raises(NotInstalled, match=r"--x needs the package no_such_package.*pip install -r requirements/extras\.txt"):
        needed("no_such_package.module", "--x")
    assert needed("json", "--x") is json
