"""The adding problem: remember two numbers out of many, and add them.

Owns its sequences. Source: Hochreiter & Schmidhuber, "Long short-term memory", Neural Computation 9 (1997), experiment 4, as it is
mostly used since: uniform numbers in [0, 1], one mark in each half of the sequence. Knows nothing of cells or of time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from scripts.compare import reader
from scripts.compare.cells import Cell
from scripts.compare.reader import Reader

BLOCK = 25  # updates, over which the error is taken
TRAINING, TEST = 1, 2
INPUTS, OUTPUTS = 2, 1


def draw(generator: torch.Generator, *, count: int, steps: int) -> tuple[Tensor, Tensor]:
    """Sequences (count, steps, 2) of a number and whether it is marked, and the sums (count, 1) of the two marked numbers."""
    numbers = torch.rand(count, steps, generator=generator)
    marks = torch.zeros(count, steps)
    first = torch.randint(0, steps // 2, (count, 1), generator=generator)
    second = torch.randint(steps // 2, steps, (count, 1), generator=generator)
    marks.scatter_(1, torch.cat([first, second], dim=1), 1.0)
    sums = numbers.gather(1, first) + numbers.gather(1, second)
    return torch.stack([numbers, marks], dim=2), sums


@dataclass(frozen=True, slots=True)
class Adding:
    """The adding problem, as a task.Task."""

    steps: int
    epochs: int
    batch: int
    tunes: bool
    layers: int = 1
    solved: float = 0.01  # mean squared error; always answering 1 has 1/6
    ends_when_solved: bool = True
    family: str = "adding"
    error_name: str = "mean squared error"

    @property
    def name(self) -> str:
        return f"adding-{self.steps}"

    @property
    def updates(self) -> int:
        return self.epochs * BLOCK

    @property
    def describes(self) -> str:
        return (
            f"**Adding problem, T = {self.steps}**: two of {self.steps} numbers are marked, and their sum is asked after the last. "
            f"{self.batch} new sequences an update, at most {self.updates:,} updates. Solved: a mean squared error below "
            f"{self.solved:g} on the new sequences of {BLOCK} updates (always to answer 1 has 0.167). Ends when solved."
        )

    def size(self, cell: Cell, hidden: int) -> int:
        return reader.size(INPUTS, OUTPUTS, cell=cell, hidden=hidden)

    def lesson(self, cell: Cell, hidden: int, seed: int) -> "AddingLesson":
        return AddingLesson(self, cell=cell, hidden=hidden, seed=seed)


class AddingLesson:
    """A task.Lesson. Every sequence is new, so that the losses are errors on unseen data."""

    def __init__(self, task: Adding, *, cell: Cell, hidden: int, seed: int) -> None:
        self._task, self._cell, self._hidden, self._seed = task, cell, hidden, seed

    def network(self) -> nn.Module:
        return Reader(INPUTS, OUTPUTS, cell=self._cell, hidden=self._hidden)

    def prepare(self, epoch: int) -> list[tuple[Tensor, Tensor]]:
        generator = self._generator(TRAINING, epoch)
        return [draw(generator, count=self._task.batch, steps=self._task.steps) for _ in range(BLOCK)]

    def losses(self, network: nn.Module, prepared: list[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
        for sequences, sums in prepared:
            yield mse_loss(network(sequences), sums)

    def error(self, network: nn.Module, losses: Sequence[float]) -> float:  # noqa: ARG002  # a Lesson's signature
        return fmean(losses)

    def test(self, network: nn.Module) -> dict[str, float]:
        sequences, sums = draw(self._generator(TEST, 0), count=512, steps=self._task.steps)
        with torch.inference_mode():
            return {"mean squared error": mse_loss(network(sequences), sums).item()}

    def _generator(self, part: int, epoch: int) -> torch.Generator:
        return torch.Generator().manual_seed((self._seed * 10 + part) * 100_000 + epoch)
