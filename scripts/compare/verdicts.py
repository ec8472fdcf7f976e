"""The claims, and whether the numbers support them.

Owns the rules. Every finding is computed; none is written down here. Source of the claims: Han, Meng, Zhang, Yan, "Hybrid Deep
Recurrent Neural Networks for Noise Reduction of MEMS-IMU with Static and Dynamic Conditions". Knows nothing of the words around
them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from statistics import median
from typing import Literal

from scripts.compare.plan import EQUAL_HIDDEN
from scripts.compare.summary import Group, Results

MARGIN = 0.05  # a median ratio nearer to 1 is no difference
SEEDS = 0.8  # share of the seeds that must agree
GATE = 0.8  # three gates instead of four are 0.75; the margin is for the rest of the network
POINTS = 0.05  # a smaller difference in shares of all trials is no difference

Finding = Literal["held", "did not hold", "not decided"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One cell beside its rival where both were tried; `ratio`: the cell's number over its rival's."""

    task: str
    mode: str
    finding: Finding
    ratio: float


@dataclass(frozen=True, slots=True)
class Verdict:
    claim: str
    cell: str
    rival: str
    finding: Finding
    evidence: str
    comparisons: tuple[Comparison, ...] = ()


_UNSOLVED = "Tasks that neither cell solves in half of the seeds are left out"
RULES = {
    "competent as the LSTM": "the error at the end is not larger: the median of the seeds' ratios is at most "
    f"{1 + MARGIN:g}. It fails where that is larger and at least {SEEDS:.0%} of the seeds have a larger error. Where trials end "
    f"when solved, an error below the mark counts as the mark. {_UNSOLVED}",
    "one gate less: fewer parameters": f"at equal hidden size the whole network has at most {GATE:g} of the LSTM's parameters",
    "one gate less: less time an update": "at equal hidden size the median ratio of processor seconds an update is at most "
    f"{1 - MARGIN:g}, with at least {SEEDS:.0%} of the seeds below 1; it fails from {1 + MARGIN:g} up, likewise",
    "easier to train: updates until solved": f"the median of the seeds' ratios is at most {1 - MARGIN:g}, with at least "
    f"{SEEDS:.0%} of the seeds below 1; it fails from {1 + MARGIN:g} up, likewise. {_UNSOLVED}",
    "easier to train: seconds until solved": "the same in processor seconds of the updates",
    "easier to train: share of seeds solved": "of all trials at both sizes it solves a share that is larger by at least "
    f"{POINTS:.0%} of them; it fails where that is smaller by as much",
    "easier to train: any learning rate": "the same share, of the trials that chose the learning rates, over the whole grid",
    "holds longer memory than the tanh RNN": "the longest adding problem that it solves in at least half of the seeds is longer "
    "than the tanh RNN's; it fails where it is not, unless both solve the longest there is",
}


def all_of(results: Results, subjects: Sequence[tuple[str, str]], *, plain: str) -> list[Verdict]:
    """Every claim for every cell beside its rival; `plain`: the cell without gates."""
    found = []
    for cell, rival in subjects:
        if pairs := results.pairs(cell, rival):
            found += _beside(results, pairs, cell, rival)
        if results.pairs(cell, plain) and (memory := longer(results, cell, plain)):
            found.append(memory)
    return found


def _beside(results: Results, pairs: Sequence[tuple[Group, Group]], cell: str, rival: str) -> list[Verdict]:
    solvable = [pair for pair in pairs if pair[0].solves or pair[1].solves]
    same_size = [pair for pair in pairs if pair[0].entry.mode == EQUAL_HIDDEN]
    compared = (
        ("competent as the LSTM", solvable, _errors, not_worse),
        ("one gate less: fewer parameters", same_size, lambda group: [float(group.parameters)], _smaller),
        ("one gate less: less time an update", same_size, Group.update_milliseconds, less),
        ("easier to train: updates until solved", solvable, Group.updates, less),
        ("easier to train: seconds until solved", solvable, Group.seconds, less),
    )
    verdicts = [_over(claim, cell, rival, chosen, values, rule) for claim, chosen, values, rule in compared]
    solved = [sum(outcome.solved is not None for pair in pairs for outcome in pair[side].outcomes) for side in (0, 1)]
    trials = [sum(len(pair[side].outcomes) for pair in pairs) for side in (0, 1)]
    verdicts.append(_shares("easier to train: share of seeds solved", cell, rival, solved, trials))
    tried = [[outcome for outcome in results.tuning if outcome.job.cell == name] for name in (cell, rival)]
    solved = [sum(outcome.solved is not None for outcome in each) for each in tried]
    verdicts.append(_shares("easier to train: any learning rate", cell, rival, solved, [len(each) for each in tried]))
    return verdicts


def _errors(group: Group) -> list[float]:
    mark = group.task.solved if group.task.ends_when_solved else 0.0
    return [max(error, mark) for error in group.tests()]


def _over(
    claim: str,
    cell: str,
    rival: str,
    pairs: Sequence[tuple[Group, Group]],
    values: Callable[[Group], list[float]],
    rule: Callable[[Sequence[float]], Finding],
) -> Verdict:
    comparisons = []
    for one, other in pairs:
        found = ratios(values(one), values(other))
        comparisons.append(Comparison(one.task.name, one.entry.mode, rule(found), median(found)))
    finding = together([each.finding for each in comparisons])
    counts = [sum(each.finding == which for each in comparisons) for which in ("held", "did not hold")]
    evidence = f"{counts[0]} for, {counts[1]} against, of {len(comparisons)}"
    return Verdict(claim, cell, rival, finding, evidence, tuple(comparisons))


def ratios(mine: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """The ratios seed by seed; 1 if both are equal, also if both are infinite or 0."""
    return [1.0 if one == other else (one / other if other else inf) for one, other in zip(mine, theirs, strict=True)]


def less(found: Sequence[float]) -> Finding:
    """Whether the cell has less than its rival, by the ratios of the seeds."""
    if median(found) <= 1 - MARGIN and sum(ratio < 1 for ratio in found) >= SEEDS * len(found):
        return "held"
    if median(found) >= 1 + MARGIN and sum(ratio > 1 for ratio in found) >= SEEDS * len(found):
        return "did not hold"
    return "not decided"


def not_worse(found: Sequence[float]) -> Finding:
    """Whether the cell has no more than its rival, by the ratios of the seeds."""
    if median(found) <= 1 + MARGIN:
        return "held"
    return "did not hold" if sum(ratio > 1 for ratio in found) >= SEEDS * len(found) else "not decided"


def _smaller(found: Sequence[float]) -> Finding:
    return "held" if median(found) <= GATE else "did not hold"


def together(findings: Sequence[Finding]) -> Finding:
    """Held: in more than half of the comparisons, and failed in none. Did not hold: the other way round. Else not decided."""
    held, failed = findings.count("held"), findings.count("did not hold")
    if 2 * held > len(findings) and not failed:
        return "held"
    return "did not hold" if 2 * failed > len(findings) and not held else "not decided"


def _shares(claim: str, cell: str, rival: str, solved: Sequence[int], trials: Sequence[int]) -> Verdict:
    if not all(trials):
        return Verdict(claim, cell, rival, "not decided", "not tried")
    difference = solved[0] / trials[0] - solved[1] / trials[1]
    finding: Finding = "not decided" if abs(difference) < POINTS else "held" if difference > 0 else "did not hold"
    return Verdict(claim, cell, rival, finding, f"{solved[0]} of {trials[0]}, the rival {solved[1]} of {trials[1]}")


def longer(results: Results, cell: str, plain: str) -> Verdict | None:
    """The verdict on the length of memory; None if the adding problem was not tried."""
    findings: list[Finding] = []
    told = []
    for mode in results.modes:
        lengths = sorted(task.steps for task in results.tasks if task.family == "adding" and results.get(task.name, mode, cell))
        if not lengths:
            return None
        mine, theirs = (_longest(results, mode, name) for name in (cell, plain))
        findings.append("held" if mine > theirs else "not decided" if mine == theirs == lengths[-1] else "did not hold")
        told.append(f"T = {mine or 'none'} to {theirs or 'none'}")
    evidence = (
        f"{told[0]}, at both sizes" if len(set(told)) == 1 else "; ".join(map(" at ".join, zip(told, results.modes, strict=True)))
    )
    return Verdict("holds longer memory than the tanh RNN", cell, plain, together(findings), evidence)


def _longest(results: Results, mode: str, cell: str) -> int:
    """The length of the longest adding problem that was solved, 0 if none was."""
    groups = (results.get(task.name, mode, cell) for task in results.tasks if task.family == "adding")
    return max((group.task.steps for group in groups if group is not None and group.solves), default=0)
