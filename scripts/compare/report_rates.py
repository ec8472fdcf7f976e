"""What the comparison says about the learning rates: which were chosen, and what depends on the choice.

Owns the words and the table. Knows nothing of how they are chosen.
"""

from scripts.compare import cells
from scripts.compare.budget import Budget
from scripts.compare.plan import Rates, rates
from scripts.compare.summary import Results
from scripts.markdown import paragraph, table


def at_an_end(budget: Budget, chosen: Rates) -> list[str]:
    """A note on the chosen rates at the upper end of the grid."""
    highest = max(budget.learning_rates)
    ends = [f"{cells.named(cell).title} ({family})" for (family, cell), rate in chosen.items() if rate == highest]
    if not ends:
        return []
    return [paragraph(f"A rate at the upper end of the grid may have a better one above it: {'; '.join(ends)}.")]


def by_one_seed(results: Results, budget: Budget, chosen: Rates) -> list[str]:
    """A note on the rates that would be others if one tuning seed alone chose them; verdicts may depend on these."""
    told = []
    for seed in budget.tuning_seeds if len(budget.tuning_seeds) > 1 else ():
        alone = rates(results.tasks, [outcome for outcome in results.tuning if outcome.job.seed == seed])
        others = [(family, cell, rate) for (family, cell), rate in alone.items() if rate != chosen[family, cell]]
        told += [f"{cells.named(cell).title} ({family}) {rate:g} by seed {seed}" for family, cell, rate in others]
    if not told:
        return []
    return [
        paragraph(
            f"By one of those seeds alone other rates would have been chosen, and verdicts may hang on it: {'; '.join(told)}."
        )
    ]


def solved(results: Results, chosen: Rates) -> str:
    """How many trials solved a task, over the whole grid, and the rate that was chosen."""
    families = {task.family: task.name for task in results.tasks if task.tunes}
    lines = [["cell", *families]]
    for name in dict.fromkeys(group.entry.cell.name for group in results.groups):
        line = [cells.named(name).title]
        for family, task in families.items():
            trials = [outcome for outcome in results.tuning if (outcome.job.task, outcome.job.cell) == (task, name)]
            count = sum(outcome.solved is not None for outcome in trials)
            line.append(f"{count} of {len(trials)}, {chosen[family, name]:g}" if trials else "-")
        lines.append(line)
    return table(lines, left=1)
