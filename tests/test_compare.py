"""The comparison of cells: its data are as described, sizes match, trials repeat, and finished trials do not run again."""

import json
import resource
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits  # type: ignore[import-untyped]  # published without types
from torch import Tensor, nn

from scripts.compare import __main__ as command
from scripts.compare import adding, cells, comparison, digits, plan, trial
from scripts.compare.adding import Adding
from scripts.compare.budget import BUDGETS, Budget
from scripts.compare.cells import Cell
from scripts.compare.gyro import Denoise
from scripts.compare.store import Store
from scripts.compare.task import Task
from scripts.compare.trial import Job, Outcome, Point

MACHINE = {"cpu": "a processor", "cpus": 2, "packages": {"python": "3.11"}}
EASY = Adding(steps=4, epochs=2, batch=8, tunes=True)
SHORT_GYRO = Denoise(epochs=1, recordings=2, chunks=2, validation=(1, 12.8), test=(1, 30.72))


def job(task: Task, cell: str = "lstm", *, seed: int = 0, rate: float = 0.01, hidden: int = 3) -> Job:
    return Job(task.name, cell, hidden, rate, seed, task.updates)


def outcome(of: Job, *, solved: int | None = None, error: float = 1.0, test: float | None = None) -> Outcome:
    """A made-up outcome; `solved`: the number of updates after which the trial was solved."""
    last = Point(solved or of.updates, 0.5, error)
    measures = {"error": error if test is None else test}
    return Outcome(of, 10, False, last if solved else None, (last,), measures, 1e-3, 0.6)


# -- data ---------------------------------------------------------------------------------------------------------------


def test_the_sum_asked_for_is_that_of_the_two_marked_numbers() -> None:
    """With another target the problem could not be solved; one mark in each half makes the memory needed grow with T."""
    sequences, sums = adding.draw(torch.Generator().manual_seed(1), count=200, steps=9)
    assert sequences.shape == (200, 9, 2)
    numbers, marks = sequences.unbind(dim=2)
    torch.testing.assert_close((numbers * marks).sum(dim=1, keepdim=True), sums)
    assert torch.equal(marks[:, :4].sum(dim=1), torch.ones(200))
    assert torch.equal(marks[:, 4:].sum(dim=1), torch.ones(200))
    assert set(marks.argmax(dim=1).tolist()) == set(range(4))
    assert 0 <= numbers.min() < 0.05
    assert 0.95 < numbers.max() < 1


def test_no_two_epochs_nor_the_test_share_a_sequence() -> None:
    """The losses count as errors on unseen data only because every sequence is new."""
    lesson = EASY.lesson(cells.named("lstm"), 3, 0)
    seen = torch.cat([sequences for epoch in range(2) for sequences, _ in lesson.prepare(epoch)])
    assert len(torch.unique(seen, dim=0)) == len(seen) == 2 * adding.BLOCK * EASY.batch
    again = torch.cat([sequences for epoch in range(2) for sequences, _ in EASY.lesson(cells.named("rnn"), 5, 0).prepare(epoch)])
    assert torch.equal(seen, again), "every cell reads the same sequences"


def test_digits_are_read_pixel_by_pixel_and_no_image_is_in_two_parts() -> None:
    """A permuted image is the same image in another order; training images in the test part would flatter the result."""
    plain, permuted = digits.parts(permuted=False), digits.parts(permuted=True)
    assert [len(classes) for _, classes in plain] == [1200, 200, 397]
    pixels = torch.cat([part for part, _ in plain])[..., 0]
    assert pixels.min() == -1
    assert pixels.max() == 1
    originals, classes = load_digits(return_X_y=True)
    rows = [tuple(row) for row in ((pixels.double() + 1) * 8).round().int().tolist()]
    assert sorted(rows) == sorted(tuple(row) for row in originals.astype(int).tolist())
    answers = {tuple(row): answer for row, answer in zip(originals.astype(int).tolist(), classes.tolist(), strict=True)}
    assert [answers[row] for row in rows] == torch.cat([answer for _, answer in plain]).tolist()
    shuffled = torch.cat([part for part, _ in permuted])[..., 0]
    order = np.random.default_rng(digits.ORDER).permutation(digits.PIXELS)
    assert torch.equal(shuffled, pixels[:, order])
    assert not torch.equal(shuffled, pixels)


# -- cells --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [EASY, BUDGETS["full"].tasks[4], SHORT_GYRO], ids=["adding", "digits", "gyro"])
@pytest.mark.parametrize("name", ["reset_before", "reset_after", "rnn"])
def test_cells_of_equal_parameters_differ_by_a_few_percent(task: Task, name: str) -> None:
    """Otherwise the larger network could win by its size; no neighbouring hidden size may match better."""
    target = task.size(cells.named("lstm"), 32)
    hidden = cells.matched(lambda size: task.size(cells.named(name), size), target)
    assert abs(task.size(cells.named(name), hidden) / target - 1) < 0.03
    distances = [abs(task.size(cells.named(name), size) - target) for size in (hidden - 1, hidden, hidden + 1)]
    assert min(distances) == distances[1]


def test_the_size_of_a_task_is_that_of_the_network_it_trains() -> None:
    """Sizes are matched by the computed count and reported from the trained network."""
    for task in (EASY, SHORT_GYRO):
        network = task.lesson(cells.named("reset_before"), 5, 0).network()
        assert task.size(cells.named("reset_before"), 5) == sum(parameter.numel() for parameter in network.parameters())


def test_cells_begin_alike_or_with_long_memories_as_they_are_named() -> None:
    """A cell's initialisation may decide more than its equations, so the two must not be mixed up."""
    torch.manual_seed(0)
    biases = {}
    for name in ("reset_before", "reset_before-memory", "lstm", "lstm-memory"):
        network = EASY.lesson(cells.named(name), 64, 0).network()
        found = [bias.detach() for key, bias in network.named_parameters() if "stack" in key and "bias" in key]
        biases[name] = torch.stack(found).sum(dim=0)  # torch's cells have two biases
    small = 1 / 64**0.5
    assert biases["reset_before"].abs().max() <= small
    assert biases["reset_before-memory"][64:128].min() < -4, "of the update gate: some units remember 50 steps and more"
    assert torch.all(biases["lstm"][64:128] == 1)
    assert biases["lstm"][:64].abs().max() <= 2 * small
    forget = biases["lstm-memory"][64:128]
    assert forget.max() > 4
    assert forget.min() >= 0
    assert torch.equal(biases["lstm-memory"][:64], -forget), "what is kept for long is taken in slowly"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gru", "'gru' is no cell: it must be one of reset_before, reset_after, lstm, rnn"),
        ("lstm+rnn+lstm", "'lstm+rnn+lstm' has 3 layers"),
        ("rnn-memory", "only reset_before and lstm can begin with long memories"),
    ],
    ids=["unknown", "three-layers", "memory-of-a-plain-cell"],
)
def test_a_cell_that_cannot_be_is_refused(name: str, said: str) -> None:
    """The refusal comes before any trial runs."""
    with pytest.raises(ValueError, match=said.replace("+", r"\+")):
        cells.named(name)


# -- trials -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reset_before", "reset_after", "lstm", "rnn"])
def test_a_trial_is_a_function_of_its_job(name: str) -> None:
    """Otherwise a resumed run would mix in trials that cannot be reproduced."""
    one, same, other = (trial.run(job(EASY, name, seed=seed), EASY) for seed in (0, 0, 1))
    errors, again, others = ([point.error for point in each.curve] for each in (one, same, other))
    assert errors == again
    assert one.test == same.test
    assert errors != others


def test_a_trial_ends_when_it_is_solved_and_says_when() -> None:
    """Updates and seconds until the task is solved are compared."""
    solvable = replace(EASY, epochs=40, batch=32, solved=0.1)
    found = trial.run(job(solvable, rate=0.03, hidden=8), solvable)
    assert found.solved == found.curve[-1]
    assert found.solved is not None
    assert found.solved.update == len(found.curve) * adding.BLOCK < solvable.updates
    assert all(point.error >= 0.1 for point in found.curve[:-1])
    assert 0 < found.curve[0].seconds < found.solved.seconds
    assert found.test["mean squared error"] < 0.2


def test_a_task_whose_last_error_counts_goes_on_when_solved() -> None:
    """All cells use the whole budget, so that their last errors can be compared."""
    going_on = replace(EASY, solved=100.0, ends_when_solved=False)
    found = trial.run(job(going_on), going_on)
    assert found.solved is not None
    assert found.solved.update == adding.BLOCK
    assert found.curve[-1].update == going_on.updates


@dataclass(frozen=True, slots=True)
class Exploding(Adding):
    """The adding problem with losses that are NaN after the first block."""

    def lesson(self, cell: Cell, hidden: int, seed: int) -> "ExplodingLesson":
        return ExplodingLesson(self, cell=cell, hidden=hidden, seed=seed)


class ExplodingLesson(adding.AddingLesson):
    epochs = 0

    def losses(self, network: nn.Module, prepared: Sequence[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
        self.epochs += 1
        for loss in super().losses(network, list(prepared)):
            yield loss * (float("nan") if self.epochs > 1 else 1.0)


def test_a_trial_that_diverges_ends_and_counts_as_infinitely_wrong() -> None:
    """The error of such a trial is NaN: it must neither be lost nor win."""
    exploding = Exploding(steps=4, epochs=5, batch=8, tunes=True)
    found = trial.run(job(exploding), exploding)
    assert found.diverged
    assert len(found.curve) == 1
    assert found.error == float("inf")
    assert found.test == {}


def test_gyro_trials_begin_at_the_calibration_and_learn_by_the_projects_loss() -> None:
    """The error is given relative to the error of a network before its first update."""
    lesson = SHORT_GYRO.lesson(cells.named("lstm+reset_before"), 4, 0)
    torch.manual_seed(0)
    network = lesson.network()
    assert lesson.error(network, ()) == pytest.approx(1.0, abs=1e-12)
    losses = list(lesson.losses(network, lesson.prepare(0)))
    assert len(losses) == SHORT_GYRO.chunks
    assert all(loss.requires_grad for loss in losses)
    found = lesson.test(network)
    assert list(found) == ["settled RMSE, deg/s", "angle, degrees"]
    assert all(0 < value < 10 for value in found.values())


# -- plan ---------------------------------------------------------------------------------------------------------------


def test_the_rate_with_the_fewest_updates_or_the_smallest_error_is_chosen() -> None:
    """The page describes this rule; an unsolved trial counts twice its budget."""
    rated = [(0.001, 40, None), (0.01, 30, 50), (0.1, 20, None)]
    outcomes = [
        outcome(job(EASY, seed=seed, rate=rate), solved=updates, error=0.1)
        for rate, *each in rated
        for seed, updates in enumerate(each)
    ]
    assert plan.rates([EASY], outcomes) == {("adding", "lstm"): 0.01}
    going_on = replace(EASY, ends_when_solved=False)
    errors = [outcome(job(going_on, rate=rate), error=error, solved=5) for rate, error in ((0.001, 3.0), (0.01, 2.0), (0.1, 2.5))]
    assert plan.rates([going_on], errors) == {("adding", "lstm"): 0.01}


def test_reported_seeds_are_not_those_that_chose_the_rates() -> None:
    """A rate chosen on the seeds that it is judged by would profit from their luck."""
    for budget in BUDGETS.values():
        chosen = [cells.named(name) for name in ("lstm", "rnn")]
        tuning = plan.tuning(budget, budget.tasks, chosen)
        rates = {(task.family, cell.name): 0.01 for task in budget.tasks for cell in chosen}
        entries = plan.reported(budget, budget.tasks, chosen, rates, seeds=budget.seeds)
        assert {job.seed for job in tuning}.isdisjoint(job.seed for job in plan.in_order(entries))
        jobs = plan.in_order(entries)
        assert len(set(jobs)) == len(jobs)
        assert [job.seed for job in jobs] == sorted(job.seed for job in jobs), "cut short, all cells are there with fewer seeds"


def test_hybrids_are_tried_where_there_are_two_layers() -> None:
    """A network of one layer cannot combine two kinds of cells."""
    hybrid = cells.named("lstm+reset_before")
    assert not plan.fits(hybrid, EASY)
    assert plan.fits(hybrid, SHORT_GYRO)
    assert plan.tuning(BUDGETS["quick"], [EASY], [hybrid]) == []


# -- what is kept -------------------------------------------------------------------------------------------------------

MINI = Budget("mini", 2, 2, (1000,), (0.01, 0.03), (EASY,))


def store(folder: Path, budget: Budget = MINI, *, jobs: int = 1) -> Store:
    return Store(folder, budget, budget.tasks, jobs=jobs, machine=MACHINE)


def test_a_killed_run_goes_on_after_its_last_whole_line(tmp_path: Path) -> None:
    """Finished trials must not run again, and half a line must not be read as an outcome."""
    first = store(tmp_path)
    jobs = [job(EASY, seed=seed) for seed in range(3)]
    for each in jobs[:2]:
        first.add(outcome(each, solved=5))
    lines = tmp_path / "outcomes.jsonl"
    lines.write_text(lines.read_text() + json.dumps(outcome(jobs[2]).to_dict())[:50])
    second = store(tmp_path, jobs=4)
    assert second.missing(jobs) == [jobs[2]]
    assert second.outcomes == first.outcomes
    assert second.jobs == [1, 4]
    second.add(outcome(jobs[2]))
    assert store(tmp_path).missing(jobs) == []


def test_settings_stand_until_the_new_ones_are_whole(tmp_path: Path) -> None:
    """They are written whenever a run goes on; without them an hour of outcomes could not be used. The limit is a full disk."""
    store(tmp_path)
    before, limits = (tmp_path / "settings.json").read_text(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            store(tmp_path, jobs=4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [each.name for each in tmp_path.iterdir()] == ["settings.json"]
    assert (tmp_path / "settings.json").read_text() == before
    assert store(tmp_path, jobs=4).jobs == [1, 4]


def test_a_run_with_other_settings_is_not_gone_on_with(tmp_path: Path) -> None:
    """Trials with different batch sizes must not be reported as one experiment."""
    store(tmp_path)
    other = replace(MINI, tasks=(replace(EASY, batch=16),))
    with pytest.raises(ValueError, match=r"holds a run whose adding-4 is .*'batch': 8.* and .*'batch': 16.* was asked for"):
        store(tmp_path, other)
    (tmp_path / "settings.json").unlink()
    (tmp_path / "outcomes.jsonl").touch()
    with pytest.raises(ValueError, match="nobody can tell what they are of"):
        store(tmp_path)


def test_a_comparison_from_the_first_trial_to_the_page(tmp_path: Path) -> None:
    """The trials run in separate processes, and a second run uses the kept outcomes without a single trial."""
    chosen = [cells.named(name) for name in ("reset_before", "lstm", "rnn")]
    done = comparison.run(MINI, MINI.tasks, chosen, store(tmp_path), seeds=2, workers=1)
    kept = (tmp_path / "outcomes.jsonl").read_text()
    assert len(kept.splitlines()) == 3 * 2 + (3 + 2) * 2, "rates, then two seeds of three cells, of which the LSTM has one size"
    again = comparison.run(MINI, MINI.tasks, chosen, store(tmp_path), seeds=2, workers=1)
    assert (tmp_path / "outcomes.jsonl").read_text() == kept
    assert again.verdicts == done.verdicts
    assert comparison.write(again, store(tmp_path), tmp_path / "page.md") == 1
    page = (tmp_path / "page.md").read_text()
    assert (tmp_path / "page-adding-4.png").read_bytes().startswith(b"\x89PNG")
    for told in ("# The paper's claims, tested", "| GRU, reset before |", "![mean squared error", "a processor, 2 processors"):
        assert told in page
    assert "nan" not in page


def test_wrong_use_is_told_before_anything_is_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A user must not wait an hour to learn of a typing error."""
    for argv, said in (
        (["--cells", "gru"], "'gru' is no cell"),
        (["--tasks", "adding,sums"], "'sums' is no task: name some of adding, digits, gyro"),
        (["--seeds", "0"], "a whole number from 1 up, got '0'"),
        (["--markdown", str(tmp_path / "none" / "page.md")], "its folder must exist"),
    ):
        with pytest.raises(SystemExit) as ended:
            command.main([*argv, "--resume", str(tmp_path / "run")])
        assert ended.value.code == 2
        assert said in capsys.readouterr().err
    store(tmp_path / "mini")
    assert command.main(["--resume", str(tmp_path / "mini")]) == 2
    assert "holds a run whose hidden is 2, and 12 was asked for" in capsys.readouterr().err
