"""A stream has read all earlier rows of its recording before the rows on which it is scored, as it would have in use."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from scripts import evaluate
from scripts.evaluation.scoring import OfClasses, OfNumbers
from scripts.problems import problem_over
from scripts.series.config import WARM_UP, Config
from scripts.streaming import linear
from scripts.streaming.linear import Goal, Scaling
from scripts.streaming.network import Network
from scripts.streaming.problem import Following
from scripts.streaming.rows import Piece
from scripts.streaming.sample import sample_of
from scripts.streaming.targets import BACK
from scripts.tables.reading import load
from scripts.tables.recording import Dataset, Recording
from scripts.training.scores import Scores
from tests.recordings import numbered, of_task
from tests.series_files import gestures
from tests.tables import noted, table, write
from tests.test_evaluate_command import published, table_of

ROWS, ENDS = 80, (48, 64, 80)  # rows of each recording, and where its parts end
SPLIT = ("0.6", "0.2", "0.2")
Array = NDArray[np.float64]


def machines(folder: Path, *, runs: int = 3) -> tuple[Path, Array]:
    """Recordings of x, of y (the sum of its last 30 values), and of a state; and x and y as an array (runs, rows, 2)."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(runs, ROWS)).round(4)
    y = np.stack([np.convolve(each, np.ones(30))[:ROWS] for each in x]).round(4)
    columns = {
        "run": np.repeat(np.arange(runs), ROWS),
        "x": x.ravel(),
        "y": y.ravel(),
        "state": np.where(y.ravel() > 0, "high", "low"),
    }
    return write(folder, table(columns)), np.stack([x, y], axis=2)


def config_of(path: Path, task: str, **choices: Any) -> Config:
    target = "state" if task == "classify" else "y"
    known = {"data": (str(path),), "features": ("x",), "targets": (target,), "group": "run", "split": SPLIT}
    return Config(**{"task": task, "hidden": 4, "layers": 1, **known, **choices})


def problem_of(config: Config) -> tuple[Following, Dataset, Network]:
    """The problem, its data and a network with random weights, whose answers depend on all rows that it has read."""
    dataset = load(config.wanted())
    problem = problem_over(config, dataset)
    assert isinstance(problem, Following)
    torch.manual_seed(0)
    network = problem.network()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(-0.9, 0.9)
    return problem, dataset, network


def streamed(network: Network, x: Array, begin: int, end: int) -> list[Array]:
    """The network's answers in rows `begin` to `end` of each recording, which it follows from the very first row."""
    with torch.inference_mode():
        answers = [network.answers(torch.tensor(each[None, :end, None], dtype=torch.float32))[0][0] for each in x]
    return [each[begin:].double().numpy() for each in answers]


def judged(task: Any, dataset: Dataset, answers: list[Array], truths: list[Array]) -> Scores:
    """The scores of these answers."""
    if task == "classify":
        of_classes = OfClasses(2)
        for answer, truth in zip(answers, truths, strict=True):
            of_classes.add(answer, np.array([dataset.classes.index("high" if each > 0 else "low") for each in truth]))
        return of_classes.scores("")
    of_numbers = OfNumbers(task, dataset.targets, np.ones(1))
    for answer, truth in zip(answers, truths, strict=True):
        of_numbers.add(answer.astype(np.float32), truth[:, None].astype(np.float32), {})
    return of_numbers.scores("")


@pytest.mark.parametrize("task", ["regress", "denoise", "classify"])
def test_a_part_is_scored_as_a_stream_that_runs_since_its_recording_began(tmp_path: Path, task: str) -> None:
    """A cold start at each part would add errors that a stream in use does not have, or hide those that it has."""
    path, values = machines(tmp_path)
    problem, dataset, network = problem_of(config_of(path, task))
    metric, place = ("loss", 2) if task == "classify" else ("rmse", 0)
    for (begin, end), found in (
        (ENDS[:2], problem.validate(network, "cpu")[metric]),
        (ENDS[1:], problem.scores(network, "cpu").model.values[place]),
    ):
        answers = streamed(network, values[:, :, 0], begin, end)
        expected = judged(task, dataset, answers, [*values[:, begin:end, 1]])
        assert found == pytest.approx(expected.model.values[place], rel=1e-5)


def test_lagged_baselines_read_the_same_rows(tmp_path: Path) -> None:
    """What the model may read, the baselines may read too. Checked against the same fit on rows that are laid out by hand."""
    path, values = machines(tmp_path)
    problem, _, network = problem_of(config_of(path, "regress"))
    scores = {row.name: row.values[0] for row in problem.scores(network, "cpu").rows}
    lagged = np.stack([np.stack([x[np.maximum(np.arange(ROWS) - k, 0)] for k in range(1 + BACK)], axis=1) for x in values[:, :, 0]])

    def rows(begin: int, end: int) -> tuple[Array, Array]:
        own = lagged[:, begin:end].reshape(-1, 1 + BACK)
        return np.concatenate([np.ones((len(own), 1)), own], axis=1), values[:, begin:end, 1].ravel()

    errors = {}
    for penalty in (1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0):
        inputs, truth = rows(0, ENDS[0])
        scale = values[:, : ENDS[0], 0].std()
        added = penalty * len(inputs) * scale**2 * np.eye(inputs.shape[1])  # the penalty is on weights of scaled features
        added[0] = 0
        centre = np.concatenate([[0], np.full(1 + BACK, values[:, : ENDS[0], 0].mean())])
        weights = np.linalg.solve((inputs - centre).T @ (inputs - centre) + added, (inputs - centre).T @ truth)
        validation, test = (
            float(np.sqrt(np.square((inputs - centre) @ weights - truth).mean()))
            for inputs, truth in (rows(ENDS[0], ENDS[1]), rows(ENDS[1], ENDS[2]))
        )
        errors[validation] = test
    assert scores[f"linear fit of the last {1 + BACK} rows"] == pytest.approx(errors[min(errors)], rel=1e-4)


def test_of_a_long_recording_so_many_rows_are_read_first(tmp_path: Path) -> None:
    """What a stream has forgotten need not be read again in every epoch; a note says how many rows are read first."""
    rows = 2 * WARM_UP
    path = write(tmp_path, table({"x": np.sin(np.arange(rows)).round(4), "y": np.cos(np.arange(rows)).round(4)}))
    config = config_of(path, "regress", group="")
    dataset = load(config.wanted())
    (training,), (validation,), (test,) = dataset.training, dataset.validation, dataset.test
    assert (training.lead, validation.lead, test.lead) == (0, WARM_UP, WARM_UP)
    begin = int(0.8 * rows)
    np.testing.assert_array_equal(test.features[:, 0], np.sin(np.arange(begin - WARM_UP, rows)).round(4).astype(np.float32))
    assert noted(dataset, "Scored as streams that run already", f"up to {WARM_UP:,} rows before the validation and the test part")
    problem = problem_over(config, dataset)
    assert problem.facts["rows"] == {"training": int(0.6 * rows), "validation": begin - int(0.6 * rows), "test": rows - begin}


def test_recordings_that_are_dealt_out_whole_have_nothing_before_them(tmp_path: Path) -> None:
    """If dates split the recordings they would have a lead, but a label of a whole recording is predicted from its own rows."""
    config = Config(task="classify", data=(str(gestures(tmp_path / "g.csv")),), targets=("gesture",), group="trial")
    dataset = load(config.wanted())
    assert dataset.label_per_recording
    assert {each.lead for each in dataset.training + dataset.validation + dataset.test} == {0}
    assert not noted(dataset, "Scored as streams")


def test_a_class_that_only_earlier_rows_have_is_not_in_a_part(tmp_path: Path) -> None:
    """The rows that are read first are not scored, so their classes do not count for the part."""
    states = ["a" if k < 40 or k % 2 else "b" for k in range(100)]
    path = write(tmp_path, table({"x": [k * k % 17 for k in range(100)], "state": [*states[:80], *["a"] * 20]}))
    dataset = load(config_of(path, "classify", group="").wanted())
    assert noted(dataset, "The test part has no row of the class 'b'")


def test_golden_samples_are_of_rows_that_were_held_out() -> None:
    """The rows that are read first belong to training."""
    recordings = numbered([90], lead=60)
    scaling = Scaling(np.zeros(2, np.float32), np.full(2, 1e3, np.float32))
    assert sample_of(recordings, scaling)[:, 0].tolist() == list(range(61, 91))


@pytest.mark.parametrize("task", ["regress", "denoise", "classify"])
def test_an_evaluation_follows_the_recording_to_its_test_part(tmp_path: Path, task: str) -> None:
    """Each row of the test part gets the answer of a stream over the whole file, and the scores equal those after training."""
    path, _ = machines(tmp_path)
    trained = published(tmp_path, config_of(path, task, name="model"))
    tables = {}
    for part in ("all", "test"):
        line = [str(tmp_path / "model" / "1"), "--data", str(path), "--part", part, "--csv", str(tmp_path / "out.csv")]
        assert evaluate.main([*line, "--json", str(tmp_path / "out.json")]) == 0
        tables[part] = table_of(tmp_path / "out.csv")
    whole = [row for k, row in enumerate(tables["all"]) if k % ROWS >= ENDS[1]]
    assert len(whole) == len(tables["test"]) == 3 * (ENDS[2] - ENDS[1])
    column = "high_probability" if task == "classify" else "y_predicted"
    found, expected = ([float(row[column]) for row in rows] for rows in (tables["test"], whole))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    told = json.loads((tmp_path / "out.json").read_bytes())["scores"]["the model"]
    assert list(told.values()) == pytest.approx(trained.model.values, rel=1e-3)


# -- truth in some rows only ------------------------------------------------------------------------------------------


def sparsely(dataset: Dataset) -> tuple[Dataset, Dataset]:
    """The dataset with a truth in every fifth row only: once as a table gives it, once with absurd values for the unknown ones."""

    def changed(parts: tuple[Recording, ...], *, absurd: bool) -> tuple[Recording, ...]:
        found = []
        for each in parts:
            filled = np.arange(len(each.features)) % 5 != 0
            targets = np.where(filled[:, None], 1e9 if absurd else np.nan, each.targets).astype(np.float32)
            labels = None if each.labels is None else np.where(filled, 0 if absurd else -1, each.labels)
            found.append(replace(each, targets=targets, labels=labels, filled=filled))
        return tuple(found)

    return tuple(  # type: ignore[return-value]  # a tuple of two
        replace(
            dataset,
            training=changed(dataset.training, absurd=absurd),
            validation=changed(dataset.validation, absurd=absurd),
            test=changed(dataset.test, absurd=absurd),
        )
        for absurd in (False, True)
    )


@pytest.mark.parametrize("task", ["regress", "denoise", "classify"])
def test_what_is_not_known_changes_nothing(tmp_path: Path, task: str) -> None:
    """Unknown truth affects no initial weight, loss, baseline or score: all are finite and the same whatever is in its place."""
    found = []
    for data in sparsely(of_task(task)):
        problem = Following(Config(task=task, hidden=4, layers=1, batch=4, chunk=32), data)  # type: ignore[arg-type]  # a task
        network = problem.network()
        losses = [float(loss.detach()) for loss in problem.losses(network, problem.prepare(0)[:1], "cpu")]
        values = [losses, problem.validate(network, "cpu").values(), *(row.values for row in problem.scores(network, "cpu").rows)]
        found.append((np.concatenate([[*each] for each in values]), problem.scores(network, "cpu")))
        assert problem.pictures(network, "cpu", tmp_path)
    (first, scores), (second, _) = found
    np.testing.assert_array_equal(first, second)
    assert np.isfinite([row.values[0] for row in scores.rows]).all()
    told = sum(int(each.told().sum()) for each in sparsely(of_task(task))[0].test)
    assert scores.data == f"the test part, {told:,} rows"


def test_baselines_are_fitted_to_the_rows_with_a_truth() -> None:
    """The fit equals least squares over these rows alone; earlier rows are inputs whether they have a truth or not."""
    data = sparsely(of_task("regress"))[0]
    (recording,) = data.training
    fitted = linear.fit(Goal("regress"), Scaling.of([recording]), 3, training=[recording], validation=[recording])
    rows = np.flatnonzero(recording.told())
    scaled = Scaling.of([recording])(recording.features)
    inputs = np.concatenate([np.ones((len(rows), 1)), *(scaled[np.maximum(rows - k, 0)] for k in range(4))], axis=1)
    expected = inputs @ np.linalg.lstsq(inputs, recording.targets[rows].astype(np.float64), rcond=None)[0]
    np.testing.assert_allclose(fitted.linear(recording, Piece(0, 0, len(recording.features)))[rows], expected, atol=1e-3)


@pytest.mark.parametrize("task", ["regress", "classify"])
def test_history_is_kept_where_truth_is_missing(tmp_path: Path, task: str) -> None:
    """With a lab value in every fifth row, the answers are those of a stream over all rows; those with a truth are scored."""
    path, values = machines(tmp_path)
    lines = path.read_text().splitlines()
    column = 3 if task == "classify" else 2
    for k, line in enumerate(lines[1:], start=1):
        cells = line.split(",")
        lines[k] = ",".join("" if place == column and (k - 1) % 5 else cell for place, cell in enumerate(cells))
    path.write_text("\n".join(lines) + "\n")
    config = config_of(path, task, missing="drop", name="model")
    dataset = load(config.wanted())
    assert [len(part) for part in (dataset.training, dataset.validation, dataset.test)] == [3, 3, 3]
    assert noted(dataset, "Test: 48 rows, 9 with a truth, of 3 recordings")
    problem, _, network = problem_of(config)
    places = np.arange(ENDS[1], ENDS[2])
    shown = places[places % 5 == 0]
    answers = [each[shown - ENDS[1]] for each in streamed(network, values[:, :, 0], *ENDS[1:])]
    expected = judged(task, dataset, answers, [*values[:, shown, 1]]).model.values[0]
    assert problem.scores(network, "cpu").model.values[0] == pytest.approx(expected, rel=1e-5)

    trained = published(tmp_path, config)
    line = [
        str(tmp_path / "model" / "1"),
        "--data",
        str(path),
        "--csv",
        str(tmp_path / "out.csv"),
        "--picture",
        str(tmp_path / "a.png"),
    ]
    assert evaluate.main([*line, "--part", "test", "--json", str(tmp_path / "out.json")]) == 0
    told = json.loads((tmp_path / "out.json").read_bytes())
    assert list(told["scores"]["the model"].values()) == pytest.approx(trained.model.values, rel=1e-3)
    assert told["data"].endswith(", 9 rows")
    table = table_of(tmp_path / "out.csv")
    assert len(table) == 48
    assert sum(row["state" if task == "classify" else "y"] != "" for row in table) == 9
