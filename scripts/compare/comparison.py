"""A whole comparison: choose learning rates, try every cell on every task at both sizes, and write the page.

Owns the order of these steps. Knows nothing of command lines.
"""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from scripts.compare import cells, plan, plots, pool, report, verdicts
from scripts.compare.budget import Budget
from scripts.compare.cells import Cell
from scripts.compare.plan import Rates
from scripts.compare.store import Store
from scripts.compare.summary import Results
from scripts.compare.task import Task
from scripts.compare.trial import Job
from scripts.compare.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was asked for, and its results."""

    budget: Budget
    seeds: int
    rates: Rates
    results: Results
    verdicts: list[Verdict]


def run(budget: Budget, tasks: Sequence[Task], chosen: Sequence[Cell], store: Store, *, seeds: int, workers: int) -> Comparison:
    """Run every trial that the store lacks, keep it there, and judge the claims."""
    with pool.workers(workers) as executor:
        tuning = plan.tuning(budget, tasks, chosen)
        _try(executor, tuning, tasks, store, label="learning rates")
        tuned = [store.outcomes[job] for job in tuning]
        rates, left_out = plan.rates(tasks, tuned), plan.too_long(tasks, tuned)
        entries = plan.reported(budget, tasks, chosen, rates, seeds=seeds, left_out=left_out)
        _try(executor, plan.in_order(entries), tasks, store, label="trials")
    results = Results(entries, tuning, store.outcomes)
    return Comparison(budget, seeds, rates, results, verdicts.all_of(results, cells.SUBJECTS, plain=cells.PLAIN))


def write(comparison: Comparison, store: Store, path: Path) -> int:
    """Write the page, with its pictures beside it; returns the number of pictures."""
    pictures = {}
    for task in comparison.results.tasks:
        picture = path.with_name(f"{path.stem}-{task.name}.png")
        plots.draw(task, [comparison.results.of(task.name, mode) for mode in plan.MODES], picture)
        pictures[task.name] = picture.name
    about = report.About(
        budget=comparison.budget,
        seeds=comparison.seeds,
        rates=comparison.rates,
        jobs=store.jobs,
        machine=store.machine,
        command=f"python -m scripts.compare --budget {comparison.budget.name}",
        pictures=pictures,
    )
    path.write_text(report.markdown(comparison.results, comparison.verdicts, about))
    return len(pictures)


def _try(executor: Executor, jobs: Sequence[Job], tasks: Sequence[Task], store: Store, *, label: str) -> None:
    missing = store.missing(jobs)
    if len(missing) < len(jobs):
        print(f"{label}: {len(jobs) - len(missing)} of {len(jobs)} trials are done already.")
    for outcome in pool.run(executor, missing, {task.name: task for task in tasks}, label=label):
        store.add(outcome)
