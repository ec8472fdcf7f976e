"""Runs a graph as a manifest reads it, and measures which of the equalities hold.

Answers that are not finite are left out. Which answers depend on which steps is measured with small and large inputs too:
large ones saturate a network, which then reacts to the present step only, and a graph may react to the whole sequence only
if it is loud. Knows nothing of how readings come about.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from app.engine import Engine
from app.errors import BadArtifact
from app.manifest import ModelSpec
from app.tensors import Array, Instance, Prediction
from scripts.adoption.difference import difference, is_number, units
from scripts.adoption.probe import shortened
from scripts.training.exactness import tensors
from scripts.training.verify import in_pieces, reached

EQUAL = 100.0  # units: right readings stay below 1 on all but long sequences, wrong ones are off by 10,000 and more
MOVED = 1.0  # units: an answer that does not depend on a step stays the same to the bit when that step changes
DISTURBED = 0.9
SIZES = (0.1, 10.0, 1000.0)  # factors by which typical input is scaled
SMALLER = 1e-2  # factor from one of the ever smaller sizes to the next
SMALLEST = 1e-4  # mean magnitude of input, down to which it is made smaller
SEED = 21
FIRST_ONLY = (
    "its answers change with the first step of a sequence and with no other, as where a loop over time was recorded with an "
    "example of one step. Export its recurrent layers as nodes of ONNX"
)

Asked = list[tuple[Instance, Prediction]]  # instances, each with its answer when it runs alone


@dataclass(frozen=True, slots=True)
class Trial:
    """Differences in units; None if it could not be measured, infinity if shapes differ or a number is not finite."""

    batch: float | None = None  # between a row in a batch and alone, or beside another row
    split: float | None = None  # between a sequence in pieces and whole
    future: float | None = None  # in the outputs of earlier steps, when the last step changes
    past: float | None = None  # in the outputs of later steps, when the first step changes
    repeats: bool = True  # whether the same input gets the same answer, to the bit
    error: str = ""

    @property
    def rows_are_independent(self) -> bool:
        return not self.error and (self.batch is None or self.batch <= EQUAL)

    @property
    def pieces_are_the_whole(self) -> bool:
        return not self.error and self.split is not None and self.split <= EQUAL

    @property
    def sees_the_future(self) -> bool:
        return self.future is not None and self.future > MOVED

    @property
    def forgets(self) -> bool:
        """No answer depends on an earlier step: what was taken for time may be a batch."""
        return self.past is not None and self.past <= MOVED


def try_out(spec: ModelSpec, folder: Path, steps: Array) -> Trial:
    """Run the graph in `folder` as this manifest reads it; steps: typical input (time, features)."""
    try:
        engine = Engine(spec, folder, device="cpu")
        rng = np.random.default_rng(SEED)
        some = _instances(engine, steps, rng)
        alone, again = ([engine.predict([each])[0] for each in some] for _ in range(2))
        asked = [(each, answer) for each, answer in zip(some, alone, strict=True) if is_number(answer)]
        if not asked:
            return Trial()
        repeats = all(np.array_equal(x, y) for a, b in zip(alone, again, strict=True) if is_number(a) for x, y in _pairs(a, b))
        together = None if spec.max_batch_size == 1 else engine.predict([each for each, _ in asked])
        batch = None if together is None else units(together, [answer for _, answer in asked])
        split = None if spec.time_steps else _split(engine, asked, rng)
        changes = [(asked, (steps * size).astype(np.float32)) for size in SIZES]  # one loud step among quiet ones
        sizes = [(asked, steps), *changes, *(_sized(engine, steps, size, rng) for size in _sizes(steps))]
        if batch is not None:
            batch = max(batch, _largest(_beside(engine, some, like) for some, like in sizes) or 0.0)
        first, later = (_largest(_replaced(engine, *like, place) for like in sizes) for place in (slice(1), slice(1, None)))
        if first and later == 0:
            return Trial(error=FIRST_ONLY)
        future, past = (_largest(_moved(engine, some, like, last=last) for some, like in sizes) for last in (True, False))
        return Trial(batch, split, future, past, repeats)
    except (BadArtifact, ValueError) as error:
        return Trial(error=str(error))
    except Exception as error:  # ONNX Runtime raises its own and built-in types
        return Trial(error=shortened(error))


def _instances(engine: Engine, steps: Array, rng: np.random.Generator) -> list[Instance]:
    """Instances from states that the graph reaches, and from these with noise: states that stay zero would look alike."""
    time = engine.spec.time_steps
    found = reached(engine, steps, (time,) * 4 if time else (6, 1, 6, 11, 6), rng)
    states = [each.state for each in found if each.state]
    disturbed = [
        tuple((array + rng.uniform(-DISTURBED, DISTURBED, array.shape)).astype(np.float32) for array in state) for state in states
    ]
    return [*found, *(Instance(each.steps, state) for each, state in zip(found, disturbed, strict=False))]


def _sizes(steps: Array) -> Iterator[float]:
    """Factors for typical steps: `SIZES`, then ever smaller ones."""
    yield from SIZES
    least, size = float(np.abs(steps).mean()), 1.0
    while least * size > SMALLEST:
        size *= SMALLER
        yield size


def _sized(engine: Engine, steps: Array, size: float, rng: np.random.Generator) -> tuple[Asked, Array]:
    """Instances of the same steps at another size, each from a state that such steps lead to; and the steps at that size."""
    steps, time = (steps * size).astype(np.float32), engine.spec.time_steps
    found = reached(engine, steps, (time,) * 2 if time else (6, 6, 11), rng)
    answers = [engine.predict([each])[0] for each in found]
    return [(each, answer) for each, answer in zip(found, answers, strict=True) if is_number(answer)], steps


def _split(engine: Engine, asked: Asked, rng: np.random.Generator) -> float:
    return max(units([in_pieces(engine, each, longest, rng)], [whole]) for each, whole in asked for longest in (1, 5))


def _moved(engine: Engine, asked: Asked, steps: Array, *, last: bool) -> float | None:
    """How much the answers to all other steps change when the last step changes, or the first.

    None if that cannot be measured: there are no other steps, or the answer to the changed step itself does not change.
    """
    every = [index for index, output in enumerate(engine.spec.outputs) if engine.spec.every_step(output)]
    place, others = (-1, slice(None, -1)) if last else (0, slice(1, None))
    found = []
    for instance, before in asked:
        if engine.spec.stepwise or len(instance) < 2 or not every:
            continue
        changed = instance.steps.copy()
        changed[place] = (instance.steps[len(instance) // 2 if last else -1] + _away(steps)).astype(np.float32)
        (after,) = engine.predict([Instance(changed, instance.state)])
        if not is_number(after):
            continue
        own = [difference(after.outputs[index][place], before.outputs[index][place]) for index in every]
        own += [difference(x, y) for x, y in zip(after.state, before.state, strict=True)] if last else []
        if max(own) > MOVED:
            found += [difference(after.outputs[index][others], before.outputs[index][others]) for index in every]
    return max(found, default=None)


def _replaced(engine: Engine, asked: Asked, steps: Array, place: slice) -> float | None:
    """How much the answers change in all when these steps change; None if no sequence has more than one step."""
    found = []
    for instance, before in asked:
        if len(instance) < 2:
            continue
        changed = instance.steps.copy()
        changed[place] += _away(steps).astype(np.float32)
        (after,) = engine.predict([Instance(changed, instance.state)])
        if is_number(after):
            found.append(units([after], [before]))
    return max(found, default=None)


def _beside(engine: Engine, asked: Asked, steps: Array) -> float | None:
    """How much the answer to a row changes with the row beside it; None if no two neighbours are equally long."""
    found = []
    for (one, _), (other, _) in pairwise(asked):
        if len(one) != len(other):
            continue
        kept = engine.predict([one, other])
        for place, pair in ((1, [_other(one, steps), other]), (0, [one, _other(other, steps)])):
            after = engine.predict(pair)
            if is_number(after[place]) and is_number(kept[place]):
                found.append(units([after[place]], [kept[place]]))
    return max(found, default=None)


def _other(instance: Instance, steps: Array) -> Instance:
    return Instance((instance.steps + _away(steps)).astype(np.float32), instance.state)


def _away(steps: Array) -> Array:
    """By how much a step is changed: the standard deviation of typical steps, since their scale depends on the graph."""
    deviation, size = steps.std(axis=0), np.abs(steps).mean(axis=0)
    return np.where(deviation > 0, deviation, np.where(size > 0, size, 1))


def _largest(found: Iterable[float | None]) -> float | None:
    return max((each for each in found if each is not None), default=None)


def _pairs(a: Prediction, b: Prediction) -> list[tuple[Array, Array]]:
    return [*zip(tensors(a), tensors(b), strict=True)]
