"""The comparison as Markdown: verdicts first, then every task, then the rules and how it was done.

Owns the words, except those on tasks and on learning rates. Every number and every finding comes from the results.
Knows nothing of how anything was measured or drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scripts.compare import cells, report_rates, report_tasks
from scripts.compare.budget import Budget
from scripts.compare.plan import Rates
from scripts.compare.summary import MOST, Results
from scripts.compare.verdicts import RULES, Finding, Verdict
from scripts.markdown import paragraph, table
from scripts.tables.wording import count
from scripts.training import fit

BUSY = 1.2  # wall-clock time over processor time, from which on the machine was busy with other work
PAPER = "reset_before"  # the cell that the claims are about


@dataclass(frozen=True, slots=True)
class About:
    """What was asked for and where it ran. `jobs`: how many trials ran at the same time; `pictures`: file names by task."""

    budget: Budget
    seeds: int
    rates: Rates
    jobs: Sequence[int]
    machine: dict[str, Any]
    command: str
    pictures: dict[str, str]


def markdown(results: Results, verdicts: Sequence[Verdict], about: About) -> str:
    """The whole page."""
    parts = [
        "# The paper's claims, tested",
        paragraph(
            "The claims for the GRU in Han, Meng, Zhang and Yan, *Hybrid Deep Recurrent Neural Networks for Noise",
            "Reduction of MEMS-IMU",
            f"with Static and Dynamic Conditions*, each judged by a rule on {len(results.tasks)} tasks with",
            f"{count(about.seeds, 'seed')}, at",
            f"equal hidden size ({about.budget.hidden}) and at an equal number of parameters. Written by `{about.command}`, which",
            "computes every verdict from the trials; the rules stand below.",
        ),
        "## Verdicts",
        verdict_table(verdicts),
        paragraph(
            "*For* and *against* count comparisons: a task at one of the two sizes. The paper's cell is *GRU, reset before*.",
            "*Long memory at first*: the same cell, begun as this project begins it; its rival is the LSTM begun alike.",
        ),
    ]
    if any(verdict.cell == PAPER and verdict.comparisons for verdict in verdicts):
        parts += [f"### The paper's cell beside the LSTM, one by one\n\n{comparison_table(verdicts)}"]
    for task in results.tasks:
        parts += report_tasks.sections(results, task, about.pictures.get(task.name))
    return "\n\n".join([*parts, "## The rules", rules(), "## How it was done", *_done(results, about)]) + "\n"


def verdict_table(verdicts: Sequence[Verdict]) -> str:
    """A row for every claim, a column for every cell."""
    if not verdicts:
        return "No verdicts: no cell was tried beside a rival."
    subjects = list(dict.fromkeys(verdict.cell for verdict in verdicts))
    lines = [["claim", *(cells.named(name).title for name in subjects)]]
    for claim in RULES:
        found = {verdict.cell: verdict for verdict in verdicts if verdict.claim == claim}
        if found:
            told = [f"**{found[name].finding}**: {found[name].evidence}" if name in found else "not tried" for name in subjects]
            lines.append([claim, *told])
    return table(lines, left=len(lines[0]))


def comparison_table(verdicts: Sequence[Verdict]) -> str:
    """The ratios behind the verdicts on the paper's cell; below 1 it has less."""
    mine = [verdict for verdict in verdicts if verdict.cell == PAPER and verdict.comparisons]
    marks: dict[Finding, str] = {"held": " (for)", "did not hold": " (against)"}
    lines = [["task", "size", *(verdict.claim for verdict in mine)]]
    for task, mode in dict.fromkeys((each.task, each.mode) for verdict in mine for each in verdict.comparisons):
        line = [task, mode]
        for verdict in mine:
            found = next((each for each in verdict.comparisons if (each.task, each.mode) == (task, mode)), None)
            line.append(f"{found.ratio:.2f}{marks.get(found.finding, '')}" if found else "")
        lines.append(line)
    note = paragraph(
        "Its number over the LSTM's, the median of the seeds' ratios: 0 where the LSTM never came to it and it",
        "did, `inf` the other",
        "way round. Empty: not compared.",
    )
    return f"{table(lines, left=2)}\n\n{note}"


def rules() -> str:
    general = paragraph(
        "A claim with several comparisons **held** where it held in more than half of them and failed in none,",
        "and **did not hold**",
        "the other way round; everything else is **not decided**. A cell solves a task that it solves in at least",
        f"{MOST:.0%} of the seeds.",
    )
    return "\n".join([general, "", *(paragraph(f"* **{claim}**: {rule}.", hang=True) for claim, rule in RULES.items())])


def _done(results: Results, about: About) -> list[str]:
    """Backends, machine, learning rates, and what the numbers do not say."""
    kinds = dict.fromkeys(kind for group in results.groups for kind in group.entry.cell.kinds)
    backends = "\n".join(paragraph(f"* {cells.TITLES[kind]}: {cells.BACKENDS[kind]}.", hang=True) for kind in kinds)
    tuned = ", ".join(task.name for task in results.tasks if task.tunes)
    grid = ", ".join(f"{rate:g}" for rate in about.budget.learning_rates)
    packages = ", ".join(f"{name} {version}" for name, version in about.machine["packages"].items())
    return [
        paragraph(
            f"On {about.machine['cpu']}, {about.machine['cpus']} processors, {packages};",
            f"{' or '.join(map(str, about.jobs))} trials at the same time, each in a process with one thread.",
            "A second is one of processor time in the updates: forward pass, backward pass and optimizer, without data,",
            "validation or what other processes take. Processes that run at the same time still share caches and memory.",
            *_beside(results),
        ),
        "The backends, all of torch on the CPU; they decide the time of an update as much as the cells do:",
        backends,
        paragraph(
            f"Adam, gradients cut to a norm of 1, a warm-up of {fit.WARM_UP} updates; then the learning rate stays",
            "where trials end when solved, and falls along half a cosine elsewhere.",
            f"Rates were chosen from {grid} on {tuned}, at equal hidden size, with",
            f"{count(len(about.budget.tuning_seeds), 'other seed')}: by the fewest updates where trials end",
            "when solved, by the smallest last error elsewhere.",
            "A cell that solved such a task at no rate is not tried on longer ones of its kind.",
            "Solved in those trials, over the whole grid, and the rate that was chosen:",
        ),
        report_rates.solved(results, about.rates),
        *report_rates.at_an_end(about.budget, about.rates),
        *report_rates.by_one_seed(results, about.budget, about.rates),
        paragraph(
            "All cells begin with uniform weights and biases as torch's own do, the LSTM with a forget bias of 1.",
            "Parameters are counted as they are trained: torch's cells have two bias vectors where one would do.",
            "An equal number is the LSTM's at the equal hidden size.",
            f"Medians are of {count(about.seeds, 'seed')}, with the range in brackets; a dash stands for what did not",
            "happen within the budget.",
            "Small networks, few seeds and short budgets: what is not decided here may be with more of them.",
        ),
    ]


def _beside(results: Results) -> list[str]:
    """A note if the machine had other work."""
    # of a trial that diverged, the curve ends before its last updates
    trials = [outcome for group in results.groups for outcome in group.outcomes if not outcome.diverged]
    processor = sum(trial.curve[-1].seconds for trial in trials)
    slower = sum(trial.wall_seconds for trial in trials) / processor if processor else 0.0
    if slower < BUSY:
        return []
    return [
        f"The machine had other work: during these updates the clock on the wall went {slower:.1f} times as far as the",
        "processor's, so that times of an update are rough; `python -m scripts.compare.speed` measures the cells taking turns.",
    ]
