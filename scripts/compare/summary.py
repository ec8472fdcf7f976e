"""Trials of one cell on one task, as medians and ranges.

Owns how trials become numbers for tables and verdicts. Knows nothing of either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from statistics import median

from scripts.compare.plan import Entry
from scripts.compare.task import Task
from scripts.compare.trial import Job, Outcome

MOST = 0.5  # of the seeds, for a task to count as solved by a cell


@dataclass(frozen=True, slots=True)
class Spread:
    """The median and the extremes of a few numbers; infinite where a goal was never reached."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(median(values), min(values), max(values))

    def text(self, digits: int) -> str:
        """`12 (10 to 15)`; a dash for what is infinite."""
        if self.low == self.high:
            return _number(self.median, digits)
        return f"{_number(self.median, digits)} ({_number(self.low, digits)} to {_number(self.high, digits)})"


def _number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}" if isfinite(value) else "-"


@dataclass(frozen=True, slots=True)
class Group:
    """An entry of the plan and its outcomes, by seed."""

    entry: Entry
    outcomes: tuple[Outcome, ...]

    @property
    def task(self) -> Task:
        return self.entry.task

    @property
    def parameters(self) -> int:
        return self.outcomes[0].parameters

    @property
    def share(self) -> float:
        """The share of the seeds in which the task was solved."""
        return sum(outcome.solved is not None for outcome in self.outcomes) / len(self.outcomes)

    @property
    def solves(self) -> bool:
        return self.share >= MOST

    def updates(self) -> list[float]:
        """Updates until it was solved; infinite if it was not."""
        return [outcome.solved.update if outcome.solved else inf for outcome in self.outcomes]

    def seconds(self) -> list[float]:
        """Processor seconds of updates until it was solved; infinite if it was not."""
        return [outcome.solved.seconds if outcome.solved else inf for outcome in self.outcomes]

    def update_milliseconds(self) -> list[float]:
        return [1e3 * outcome.update_seconds for outcome in self.outcomes]

    @property
    def measures(self) -> tuple[str, ...]:
        """The names of the test errors, the one that counts first; empty if every trial diverged."""
        return next((tuple(outcome.test) for outcome in self.outcomes if outcome.test), ())

    def tests(self, measure: str | None = None) -> list[float]:
        """The test errors with one name, by default the one that counts; infinite if a trial diverged."""
        named = measure or next(iter(self.measures), "")
        return [outcome.test.get(named, inf) for outcome in self.outcomes]


class Results:
    """All groups, by task, size and cell; and the trials that chose the learning rates."""

    def __init__(self, entries: Sequence[Entry], tuning: Sequence[Job], outcomes: Mapping[Job, Outcome]) -> None:
        self.groups = [Group(entry, tuple(outcomes[job] for job in entry.jobs)) for entry in entries]
        self.tuning = [outcomes[job] for job in tuning]
        self._by_key = {(group.task.name, group.entry.mode, group.entry.cell.name): group for group in self.groups}

    @property
    def tasks(self) -> list[Task]:
        return list({group.task.name: group.task for group in self.groups}.values())

    @property
    def modes(self) -> list[str]:
        return list(dict.fromkeys(group.entry.mode for group in self.groups))

    def get(self, task: str, mode: str, cell: str) -> Group | None:
        return self._by_key.get((task, mode, cell))

    def of(self, task: str, mode: str) -> list[Group]:
        return [group for group in self.groups if group.task.name == task and group.entry.mode == mode]

    def pairs(self, cell: str, rival: str) -> list[tuple[Group, Group]]:
        """The groups of both cells on the same task at the same size, wherever both were tried."""
        found = ((self.get(task.name, mode, cell), self.get(task.name, mode, rival)) for task in self.tasks for mode in self.modes)
        return [(one, other) for one, other in found if one is not None and other is not None]
