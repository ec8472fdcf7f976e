"""Which trials there are: first those that choose a learning rate for each cell and family of tasks, then those that are reported.

Owns the two sizes at which cells are compared, and how a learning rate is chosen. Knows nothing of how a trial runs.
"""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from scripts.compare import cells
from scripts.compare.budget import Budget
from scripts.compare.cells import Cell
from scripts.compare.task import Task
from scripts.compare.trial import Job, Outcome

EQUAL_HIDDEN, EQUAL_PARAMETERS = "equal hidden size", "equal number of parameters"
MODES = (EQUAL_HIDDEN, EQUAL_PARAMETERS)
REFERENCE = "lstm"  # its number of parameters at the budget's hidden size is what the others are given

Rates = dict[tuple[str, str], float]  # by family and cell


@dataclass(frozen=True, slots=True)
class Entry:
    """A cell on a task at one of the two sizes, and its trials by seed."""

    task: Task
    mode: str
    cell: Cell
    jobs: tuple[Job, ...]


def fits(cell: Cell, task: Task) -> bool:
    """Whether the task has as many layers as the cell names."""
    return len(cell.kinds) in (1, task.layers)


def tuning(budget: Budget, tasks: Sequence[Task], chosen: Sequence[Cell]) -> list[Job]:
    """The trials on tuning seeds, at equal hidden size."""
    return [
        Job(task.name, cell.name, budget.hidden, rate, seed, task.updates)
        for seed in budget.tuning_seeds
        for task in tasks
        for cell in chosen
        for rate in budget.learning_rates
        if task.tunes and fits(cell, task)
    ]


def rates(tasks: Sequence[Task], outcomes: Iterable[Outcome]) -> Rates:
    """The best learning rate of each family and cell: by the fewest updates if trials end when solved, else by the least error.

    A trial that was not solved counts twice its budget of updates; of equals, the one with the smaller error is better.
    """
    known = {task.name: task for task in tasks}
    trials: dict[tuple[str, str], dict[float, list[Outcome]]] = {}
    for outcome in outcomes:
        by_rate = trials.setdefault((known[outcome.job.task].family, outcome.job.cell), {})
        by_rate.setdefault(outcome.job.learning_rate, []).append(outcome)
    return {
        (family, cell): min(by_rate, key=lambda rate, by_rate=by_rate: _badness(known, by_rate[rate]))  # type: ignore[misc]  # mypy has no type for a lambda's default
        for (family, cell), by_rate in trials.items()
    }


def _badness(known: dict[str, Task], trials: list[Outcome]) -> tuple[float, float]:
    error = fmean(trial.error for trial in trials)
    if not known[trials[0].job.task].ends_when_solved:
        return error, 0.0
    return fmean(trial.solved.update if trial.solved else 2 * trial.job.updates for trial in trials), error


def too_long(tasks: Sequence[Task], outcomes: Iterable[Outcome]) -> set[tuple[str, str]]:
    """Pairs of a task and a cell, by name, that are not tried: a shorter task was not solved by the cell at any learning rate.

    Only for tasks that end when solved.
    """
    outcomes = list(outcomes)
    found = set()
    for tuned in (task for task in tasks if task.tunes and task.ends_when_solved):
        trials = [outcome for outcome in outcomes if outcome.job.task == tuned.name]
        failed = {outcome.job.cell for outcome in trials} - {outcome.job.cell for outcome in trials if outcome.solved}
        longer = [task.name for task in tasks if task.family == tuned.family and task.steps > tuned.steps]
        found |= {(name, cell) for name in longer for cell in failed}
    return found


def reported(
    budget: Budget,
    tasks: Sequence[Task],
    chosen: Sequence[Cell],
    rates: Rates,
    *,
    seeds: int,
    left_out: Container[tuple[str, str]] = (),
) -> list[Entry]:
    """Every cell on every task at both sizes, except those `left_out`. The LSTM has the same trials at both."""
    entries = []
    for task in tasks:
        target = task.size(cells.named(REFERENCE), budget.hidden)
        for mode in MODES:
            for cell in chosen:
                if not fits(cell, task) or (task.name, cell.name) in left_out:
                    continue
                hidden = budget.hidden
                if mode == EQUAL_PARAMETERS:
                    hidden = cells.matched(lambda hidden, task=task, cell=cell: task.size(cell, hidden), target)  # type: ignore[misc]  # as above
                rate = rates[task.family, cell.name]
                jobs = tuple(Job(task.name, cell.name, hidden, rate, seed, task.updates) for seed in range(seeds))
                entries.append(Entry(task, mode, cell, jobs))
    return entries


def in_order(entries: Sequence[Entry]) -> list[Job]:
    """The entries' trials, each once, seed by seed: a run that is cut short has all cells, with fewer seeds."""
    return list(dict.fromkeys(sorted((job for entry in entries for job in entry.jobs), key=lambda job: job.seed)))
