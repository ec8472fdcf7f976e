"""The part of the page about one task: what it is, how every cell did at both sizes, and which stack of two layers is ahead.

Owns the words and columns. Every number comes from the results. Knows nothing of verdicts.
"""

from collections.abc import Sequence
from statistics import median

from scripts.compare import cells
from scripts.compare.plan import MODES
from scripts.compare.summary import Group, Results, Spread
from scripts.compare.task import Task
from scripts.compare.verdicts import SEEDS, ratios
from scripts.markdown import paragraph, table

HEADING = ("cell", "hidden", "parameters", "rate", "solved", "updates until solved", "seconds until solved", "ms an update")
DIGITS = {"angle, degrees": 2}  # decimals; every other measure has 3


def sections(results: Results, task: Task, picture: str | None) -> list[str]:
    """The paragraphs on one task; `picture`: its picture's file name, if there is one."""
    parts = [f"## {task.name}", paragraph(task.describes)]
    for mode in MODES:
        if groups := results.of(task.name, mode):
            parts += [f"At {mode}:", _table(groups)]
    if picture:
        parts.append(f"![{task.error_name} over updates and over seconds]({picture})")
    if not task.ends_when_solved and (told := [text for mode in MODES if (text := _beside(results, task, mode))]):
        parts.append(paragraph(*told))
    if task.layers > 1 and (
        told := [_ahead(results.of(task.name, mode)) for mode in MODES if len(results.of(task.name, mode)) > 1]
    ):
        parts.append(paragraph(*told))
    return parts


def _table(groups: Sequence[Group]) -> str:
    measures = next((group.measures for group in groups if group.measures), ())
    lines = [[*HEADING, *(f"test: {name}" for name in measures)], *(_line(group, measures) for group in groups)]
    return table(lines, left=1)


def _line(group: Group, measures: Sequence[str]) -> list[str]:
    first = group.entry.jobs[0]
    return [
        group.entry.cell.title,
        f"{first.hidden}",
        f"{group.parameters:,}",
        f"{first.learning_rate:g}",
        f"{sum(outcome.solved is not None for outcome in group.outcomes)} of {len(group.outcomes)}",
        Spread.of(group.updates()).text(0),
        Spread.of(group.seconds()).text(1),
        Spread.of(group.update_milliseconds()).text(1),
        *(Spread.of(group.tests(name)).text(DIGITS.get(name, 3)) for name in measures),
    ]


def _beside(results: Results, task: Task, mode: str) -> str:
    """Each cell's test error beside its rival's, seed by seed, solved or not."""
    told = []
    for cell, rival in cells.SUBJECTS:
        one, other = results.get(task.name, mode, cell), results.get(task.name, mode, rival)
        if one is not None and other is not None:
            found = ratios(one.tests(), other.tests())
            better = sum(ratio < 1 for ratio in found)
            told.append(
                f"*{one.entry.cell.title}* errs {median(found):.2f} times as much as *{other.entry.cell.title}* "
                f"(less in {better} of {len(found)} seeds)"
            )
    return f"On the test at {mode}, in the median of the seeds, {'; '.join(told)}." if told else ""


def _ahead(groups: Sequence[Group]) -> str:
    """Which cell has the smallest error, and whether enough seeds agree."""
    first, second = sorted(groups, key=lambda group: Spread.of(group.tests()).median)[:2]
    wins = sum(one < other for one, other in zip(first.tests(), second.tests(), strict=True))
    ahead = "is ahead of" if wins >= SEEDS * len(first.outcomes) else "cannot be told from"
    one, other = (Spread.of(group.tests()).text(3) for group in (first, second))
    return (
        f"At {groups[0].entry.mode}, *{first.entry.cell.title}* has the smallest median error, {one}, and {ahead} the next, "
        f"*{second.entry.cell.title}*, {other}: better in {wins} of {len(first.outcomes)} seeds."
    )
