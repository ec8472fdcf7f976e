"""How much is tried: `quick` shows that it runs, `full` decides.

Owns the sizes of networks, tasks and budgets of updates. Knows nothing of how any of it is learned.
"""

from dataclasses import dataclass

from scripts.compare.adding import Adding
from scripts.compare.digits import Digits
from scripts.compare.gyro import Denoise
from scripts.compare.task import Task

FAMILIES = ("adding", "digits", "gyro")


@dataclass(frozen=True, slots=True)
class Budget:
    """`hidden`: the size of all cells at equal hidden size. `tuning_seeds` choose learning rates, and are not reported."""

    name: str
    hidden: int
    seeds: int
    tuning_seeds: tuple[int, ...]
    learning_rates: tuple[float, ...]
    tasks: tuple[Task, ...]


def _adding(lengths: tuple[int, ...], tuned: int, *, epochs: int) -> tuple[Task, ...]:
    return tuple(Adding(steps=steps, epochs=epochs, batch=64, tunes=steps == tuned) for steps in lengths)


def _digits(*, epochs: int) -> tuple[Task, ...]:
    return tuple(Digits(permuted=permuted, epochs=epochs, batch=64, tunes=not permuted) for permuted in (False, True))


BUDGETS = {
    budget.name: budget
    for budget in (
        Budget(
            name="quick",
            hidden=12,
            seeds=2,
            tuning_seeds=(1000,),
            learning_rates=(1e-2, 3e-2),
            tasks=(
                *_adding((10, 20), 10, epochs=16),
                *_digits(epochs=8),
                Denoise(epochs=2, recordings=4, chunks=16, validation=(2, 20.48), test=(4, 30.72)),
            ),
        ),
        Budget(
            name="full",
            hidden=32,
            seeds=5,
            tuning_seeds=(1000, 1001),
            learning_rates=(3e-3, 1e-2, 3e-2, 1e-1),
            tasks=(
                *_adding((50, 100, 200, 400), 100, epochs=80),
                *_digits(epochs=40),
                Denoise(epochs=25, recordings=24, chunks=20, validation=(12, 20.48), test=(24, 60.0)),
            ),
        ),
    )
}
