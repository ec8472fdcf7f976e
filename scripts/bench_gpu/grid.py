"""Which models are measured, and in which batches.

Owns the sizes. Knows nothing of how anything is measured.
"""

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

from scripts.bench_gpu.child import Job

REFERENCE, AFTER, LARGE = "reset_before", "reset_after", "reset_before, hidden 256"
MOST = 256  # sequences in a batch of the service on CUDA, by default
STEPS = 128  # of a sequence, where only one length is measured
SCALED = 12  # numbers per step that the GRU gets, scaled from the features


@dataclass(frozen=True, slots=True)
class Model:
    """A model that is made for the benchmark."""

    title: str
    name: str
    cell: Literal["reset_before", "reset_after"]
    hidden: int
    layers: int = 2


@dataclass(frozen=True, slots=True)
class Cell:
    """One batch of equally long sequences."""

    size: int
    steps: int


def made(*, quick: bool) -> list[Model]:
    return [Model(AFTER, "bench-after", "reset_after", 64), Model(LARGE, "bench-large", "reset_before", 96 if quick else 256)]


def folder_of(model: Model, job: Job) -> Path:
    return Path(job.models) / model.name / "1"


def folders(job: Job) -> dict[str, Path]:
    """The folder of each model by its title: the committed one, and those that are made."""
    return {REFERENCE: Path(job.reference), **{model.title: folder_of(model, job) for model in made(quick=job.quick)}}


def cells(title: str, *, quick: bool) -> list[Cell]:
    """The batches of a model, the smallest first."""
    sizes: tuple[int, ...]
    lengths: tuple[int, ...]
    if title == LARGE:
        sizes, lengths = ((1, 8), (32,)) if quick else ((1, 64, 256), (STEPS,))
    else:
        sizes, lengths = ((1, 8), (1, 33)) if quick else ((1, 8, 64, 256, 1024), (1, 32, STEPS, 512))
    return [Cell(size, steps) for steps, size in product(lengths, sizes)]


def compiled(*, quick: bool) -> Cell:
    """The one shape that torch.compile is tried with."""
    return Cell(8, 33) if quick else Cell(64, STEPS)
