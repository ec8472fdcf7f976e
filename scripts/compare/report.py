"""The comparison as Markdown: verdicts first, then every task, then the rules and how it was done.

Owns the verdicts' words and the rules'. Every number and every finding comes from the results. Knows nothing of how anything was
measured or drawn.
"""

from collections.abc import Sequence

from scripts.compare import cells, report_tasks
from scripts.compare.markdown import paragraph, table
from scripts.compare.summary import MOST, Results
from scripts.compare.verdicts import FAILED, HELD, RULES, Verdict

PAPER = "reset_before"  # the cell that the claims are about


def markdown(results: Results, verdicts: Sequence[Verdict], about: About) -> str:
    """The whole page."""
    parts = [
        "# The paper's claims, tested",
        paragraph(
            "The claims for the GRU in Han, Meng, Zhang and Yan, *Hybrid Deep Recurrent Neural Networks for Noise",
            "Reduction of MEMS-IMU",
            f"with Static and Dynamic Conditions*, each judged by a rule on {len(results.tasks)} tasks with",
            f"{counted(about.seeds, 'seed')}, at",
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
    return "\n\n".join([*parts, "## The rules", rules(), "## How it was done", *report_method.sections(results, about)]) + "\n"


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
    marks = {HELD: " (for)", FAILED: " (against)"}
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
