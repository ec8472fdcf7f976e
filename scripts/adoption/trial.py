"""What running a manifest's reading of a graph shows: which of the equalities hold.

Owns the measure by which readings are told apart: the largest difference in units of float32 rounding, each tensor by
its own size, so that a small state beside a large output is not overlooked. Knows nothing of how readings come about.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.engine import Engine
from app.errors import BadArtifact
from app.manifest import ModelSpec
from app.tensors import Array, Instance, Prediction
from scripts.adoption.probe import shortened
from scripts.training.verify import in_pieces, instances

UNIT = 1e-5  # of the largest number in a tensor
EQUAL = 100.0  # units: right readings stay below 1 unless they are long, wrong ones are off by 10,000 and more
SEED = 21


@dataclass(frozen=True, slots=True)
class Trial:
    """Differences in units; None where it could not be asked, infinity where it did not run."""

    batch: float | None = None  # a row in a batch, and alone
    split: float | None = None  # pieces, and the whole
    future: float | None = None  # outputs of steps before one that was changed
    error: str = ""

    @property
    def rows_are_independent(self) -> bool:
        return not self.error and (self.batch is None or self.batch <= EQUAL)

    @property
    def pieces_are_the_whole(self) -> bool:
        return not self.error and self.split is not None and self.split <= EQUAL

    @property
    def sees_the_future(self) -> bool:
        return self.future is not None and self.future > EQUAL


def units(actual: Sequence[Prediction], expected: Sequence[Prediction]) -> float:
    """The largest difference; infinite where shapes differ or a number is not finite."""
    worst = 0.0
    for a, b in zip(actual, expected, strict=True):
        for x, y in zip((*a.outputs, *a.state), (*b.outputs, *b.state), strict=True):
            worst = max(worst, _units(x, y))
    return worst


def try_out(spec: ModelSpec, folder: Path, steps: Array) -> Trial:
    """Run the graph in `folder` as this manifest reads it; `steps` are typical ones."""
    try:
        engine = Engine(spec, folder, device="cpu")
        rng = np.random.default_rng(SEED)
        shapes = [state.shape for state in spec.states]
        lengths = (spec.time_steps,) * 4 if spec.time_steps else (6, 1, 6, 11, 6)
        some = instances(steps, lengths, shapes, rng)
        alone = [engine.predict([instance])[0] for instance in some]
        batch = None if spec.max_batch_size == 1 else units(engine.predict(some), alone)
        split = None if spec.time_steps else _split(engine, some, alone, rng)
        return Trial(batch, split, _future(engine, some[-1], alone[-1]))
    except (BadArtifact, ValueError) as error:
        return Trial(error=str(error))
    except Exception as error:  # ONNX Runtime raises its own and built-in types
        return Trial(error=shortened(error))


def _split(engine: Engine, some: Sequence[Instance], alone: Sequence[Prediction], rng: np.random.Generator) -> float:
    return max(
        units([in_pieces(engine, each, longest, rng)], [whole])
        for each, whole in zip(some, alone, strict=True)
        for longest in (1, 5)
    )


def _future(engine: Engine, instance: Instance, before: Prediction) -> float | None:
    """How much the answers to all steps but the last change when only the last step changes."""
    every = [index for index, output in enumerate(engine.spec.outputs) if engine.spec.every_step(output)]
    if len(instance) < 2 or not every:
        return None
    changed = instance.steps.copy()
    changed[-1] += 1
    (after,) = engine.predict([Instance(changed, instance.state)])
    return max(_units(after.outputs[index][:-1], before.outputs[index][:-1]) for index in every)


def _units(actual: Array, expected: Array) -> float:
    if actual.shape != expected.shape or not np.isfinite(actual).all() or not np.isfinite(expected).all():
        return float("inf")
    size = float(np.abs(expected).max(initial=0.0)) or float(np.abs(actual).max(initial=0.0))
    return float(np.abs(actual - expected).max(initial=0.0)) / (UNIT * size) if size else 0.0
