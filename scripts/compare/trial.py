"""One trial: a cell learns a task from one seed at one learning rate, and every update is timed.

Owns the loop and what is timed: the forward pass, the backward pass and the optimizer's step, in processor seconds of this
process, in one thread. On an idle machine those equal wall-clock seconds; on a shared one they leave out the time of other
processes. Knows nothing of tasks.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from statistics import median
from time import perf_counter, process_time
from typing import Any, Self

import torch
from torch import nn

from scripts.compare import cells
from scripts.compare.task import Task
from scripts.training import fit, threads
from scripts.training.config import RunConfig

CLIP = 1.0  # norm of the gradient, as in the training of this project
BETAS = (0.9, 0.99)  # of Adam, likewise


@dataclass(frozen=True, slots=True)
class Job:
    """The settings of a trial; `updates`: its budget."""

    task: str
    cell: str
    hidden: int
    learning_rate: float
    seed: int
    updates: int

    def __str__(self) -> str:
        return f"{self.task}, {self.cell}, hidden {self.hidden}, rate {self.learning_rate:g}, seed {self.seed}"


@dataclass(frozen=True, slots=True)
class Point:
    """The error of a trial after so many updates, which took so many processor seconds."""

    update: int
    seconds: float
    error: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a job. A trial whose loss or error was no longer finite has `diverged`, and its test is empty."""

    job: Job
    parameters: int
    diverged: bool
    solved: Point | None  # the first point below the task's mark
    curve: tuple[Point, ...]
    test: dict[str, float]
    update_seconds: float  # processor seconds of one update, the median
    wall_seconds: float  # of the updates

    @property
    def error(self) -> float:
        """The last error measured; infinite for a trial that diverged."""
        return float("inf") if self.diverged else self.curve[-1].error

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        return cls(
            **values
            | {
                "job": Job(**values["job"]),
                "solved": Point(**values["solved"]) if values["solved"] else None,
                "curve": tuple(Point(**point) for point in values["curve"]),
            }
        )


def run(job: Job, task: Task) -> Outcome:
    """Train from the seed to the end, in one thread; the same job has the same outcome, except for the seconds."""
    with threads.limited(1):
        return _run(job, task)


def _run(job: Job, task: Task) -> Outcome:
    cell = cells.named(job.cell)
    lesson = task.lesson(cell, job.hidden, job.seed)
    torch.manual_seed(job.seed)
    network = lesson.network()
    optimizer = torch.optim.Adam(network.parameters(), lr=job.learning_rate, betas=BETAS)
    schedule = RunConfig(learning_rate=job.learning_rate)
    seconds: list[float] = []
    curve: list[Point] = []
    solved: Point | None = None
    wall = 0.0
    losses: Sequence[float] = ()
    for epoch in range(task.epochs):
        upcoming = lesson.losses(network, lesson.prepare(epoch))
        losses = []
        while True:
            for group in optimizer.param_groups:
                group["lr"] = rate(schedule, len(seconds), task)
            began, processor = perf_counter(), process_time()
            loss = next(upcoming, None)
            if loss is None:
                break
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves `backward` untyped
            nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            optimizer.step()
            seconds.append(process_time() - processor)
            wall += perf_counter() - began
            losses.append(loss.item())
        error = lesson.error(network, losses)
        if not (isfinite(error) and all(map(isfinite, losses))):
            break
        curve.append(Point(len(seconds), sum(seconds), error))
        if solved is None and error < task.solved:
            solved = curve[-1]
            if task.ends_when_solved:
                break
    diverged = not curve or curve[-1].update < len(seconds)
    return Outcome(
        job=job,
        parameters=cells.parameters(network),
        diverged=diverged,
        solved=solved,
        curve=tuple(curve),
        test={} if diverged else lesson.test(network),
        update_seconds=median(seconds),
        wall_seconds=wall,
    )


def rate(schedule: RunConfig, update: int, task: Task) -> float:
    """The learning rate of an update: that of the project's training, or only its warm-up if a trial ends when solved."""
    if task.ends_when_solved:
        return schedule.learning_rate * min(1.0, (update + 1) / fit.WARM_UP)
    return fit.learning_rate(schedule, update, task.updates)
