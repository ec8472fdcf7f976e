"""Handwritten digits read pixel by pixel, in the order of rows or in a fixed random order.

Owns how the images are split. Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998, the 1,797 images of 8 x 8 pixels that scikit-learn carries; read like the sequential MNIST of Le, Jaitly & Hinton,
"A simple way to initialize recurrent networks of rectified linear units", 2015. Knows nothing of cells or of time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits  # type: ignore[import-untyped]  # published without types
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from scripts.compare import reader
from scripts.compare.cells import Cell
from scripts.compare.reader import Reader

CLASSES, PIXELS = 10, 64
PARTS = (1200, 1400)  # images: where validation begins, and where the test begins
SPLIT, ORDER = 1, 2  # seeds of the two shuffles, the same in every trial

Part = tuple[Tensor, Tensor]


@cache
def parts(*, permuted: bool) -> tuple[Part, Part, Part]:
    """Training, validation and test: pixels (images, 64, 1) in [-1, 1], and classes (images,)."""
    pixels, classes = load_digits(return_X_y=True)
    images = np.random.default_rng(SPLIT).permutation(len(pixels))
    order = np.random.default_rng(ORDER).permutation(PIXELS) if permuted else np.arange(PIXELS)
    sequences = torch.from_numpy((pixels[images][:, order, None] / 8 - 1).astype(np.float32))
    answers = torch.from_numpy(classes[images].astype(np.int64))
    one, two, three = (
        (sequences[begin:end], answers[begin:end]) for begin, end in zip((0, *PARTS), (*PARTS, len(images)), strict=True)
    )
    return one, two, three


@dataclass(frozen=True, slots=True)
class Digits:
    """The sequential digits, as a task.Task."""

    permuted: bool
    epochs: int
    batch: int
    tunes: bool
    layers: int = 1
    steps: int = PIXELS
    solved: float = 0.15  # share of wrong answers
    ends_when_solved: bool = False
    family: str = "digits"
    error_name: str = "share of wrong answers"

    @property
    def name(self) -> str:
        return "digits-permuted" if self.permuted else "digits"

    @property
    def updates(self) -> int:
        return self.epochs * (PARTS[0] // self.batch)

    @property
    def describes(self) -> str:
        order = "in one fixed random order" if self.permuted else "row by row"
        return (
            f"**Sequential digits{', permuted' if self.permuted else ''}**: images of 8 x 8 pixels, read one a step, {order}; "
            f"{PARTS[0]:,} to learn from, {PARTS[1] - PARTS[0]} to validate on, 397 to test on. {self.batch} images an update, "
            f"{self.updates:,} updates. Solved: fewer than {self.solved:.0%} of the validation images wrong."
        )

    def size(self, cell: Cell, hidden: int) -> int:
        return reader.size(1, CLASSES, cell=cell, hidden=hidden)

    def lesson(self, cell: Cell, hidden: int, seed: int) -> "DigitsLesson":
        return DigitsLesson(self, cell=cell, hidden=hidden, seed=seed)


class DigitsLesson:
    """A task.Lesson."""

    def __init__(self, task: Digits, *, cell: Cell, hidden: int, seed: int) -> None:
        self._task, self._cell, self._hidden, self._seed = task, cell, hidden, seed
        self._training, self._validation, self._test = parts(permuted=task.permuted)

    def network(self) -> nn.Module:
        return Reader(1, CLASSES, cell=self._cell, hidden=self._hidden)

    def prepare(self, epoch: int) -> list[Part]:
        pixels, classes = self._training
        order = torch.from_numpy(np.random.default_rng([self._seed, epoch]).permutation(len(pixels)))
        whole = len(pixels) // self._task.batch  # batches
        batches = order[: whole * self._task.batch].view(whole, self._task.batch)
        return [(pixels[batch], classes[batch]) for batch in batches]

    def losses(self, network: nn.Module, prepared: list[Part]) -> Iterator[Tensor]:
        for pixels, classes in prepared:
            yield cross_entropy(network(pixels), classes)

    def error(self, network: nn.Module, losses: Sequence[float]) -> float:  # noqa: ARG002  # a Lesson's signature
        return _wrong(network, self._validation)

    def test(self, network: nn.Module) -> dict[str, float]:
        return {"share of wrong answers": _wrong(network, self._test)}


def _wrong(network: nn.Module, part: Part) -> float:
    pixels, classes = part
    with torch.inference_mode():
        wrong: Tensor = network(pixels).argmax(dim=1) != classes
    return wrong.double().mean().item()
