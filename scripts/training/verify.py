"""The equalities that must hold for an artifact before it may be served.

Owns the checks and the grid they run on. They run through app.engine, the very code that will serve. Knows nothing of
how the artifact was made. A check that a graph does not allow, such as pieces of a sequence if it takes whole ones only,
is left out and says why. Models that others made are started from states that they reach, as random ones may be invalid.
How far a tensor may differ is decided in apart.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from app.engine import Engine
from app.golden import Golden
from app.manifest import ModelSpec
from app.tensors import Array, Instance, Prediction
from scripts.training.apart import Compare, Compared, compare, farthest

SEED = 20

Shapes = Sequence[tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Check:
    """One equality. worst: the largest difference in units of the tolerance, or None; left_out: why it was not checked.

    fault: of a check that only holds or fails, what is wrong, empty if nothing is. parts: the difference of each tensor, if
    known.
    """

    name: str
    worst: float | None
    left_out: str = ""
    fault: str | None = None
    parts: Compared = ()

    @classmethod
    def of(cls, name: str, fault: str) -> Self:
        """A check that only holds or fails; `fault` says what is wrong, and is empty if nothing is."""
        return cls(name, float("inf") if fault else 0.0, fault=fault)

    @classmethod
    def by(cls, name: str, parts: Compared) -> Self:
        """A check that found these differences."""
        return cls(name, max(each.share for each in parts), parts=parts)

    @property
    def holds(self) -> bool:
        return self.worst is None or self.worst <= 1

    def __str__(self) -> str:
        if self.fault is not None:
            return f"{self.name}: {f'FAILS, {self.fault}' if self.fault else 'holds'}"
        if self.worst is None:
            return f"{self.name}: left out, {self.left_out}"
        told = f"{self.name}: {'holds' if self.holds else 'FAILS'}, largest difference {self.worst:.3g} of the tolerance"
        ordered = sorted(self.parts, key=lambda each: each.share, reverse=True)
        shown = ordered[:1] if self.holds else [each for each in ordered if not each.share <= 1]
        return f"{told}: {'; '.join(map(str, shown))}" if shown else told


def verify(engine: Engine, golden: Golden) -> list[Check]:
    """Run every check; the golden sample is also where typical inputs come from."""
    spec = engine.spec
    apart = compare(engine, golden)
    of_ours = "equals the equations in float64"  # the trainer's golden samples hold their answers
    runtime = f"runtime-invariant ({of_ours if spec.cell else 'reproduces its golden sample'})"
    batch, split = (
        "batch-invariant (a row in a batch equals the row alone)",
        "split-invariant (a sequence in pieces equals the whole)",
    )
    checks = [Check.by(runtime, by_runtime(engine, golden, apart))]
    if spec.max_batch_size == 1:
        checks.append(Check(batch, None, "because its graph is run for one sequence at a time"))
    else:
        checks.append(Check.by(batch, by_batch(engine, golden, apart)))
    if not spec.causal:
        checks.append(Check(split, None, "because it answers whole sequences only (causal: false)"))
    elif spec.time_steps is not None:
        checks.append(
            Check(split, None, f"because its graph takes {spec.time_steps} steps and no more: there is no whole of two pieces")
        )
    else:
        checks.append(Check.by(split, by_split(engine, golden, apart)))
    return checks


def instances(steps: Array, lengths: Sequence[int], shapes: Shapes, rng: np.random.Generator) -> list[Instance]:
    """Pieces of typical steps (time, features), one of each length or of all steps if there are fewer, each from a random state
    of the given shapes."""
    found = []
    for wanted in lengths:
        length = min(wanted, len(steps))
        begin = int(rng.integers(0, len(steps) - length + 1))
        state = tuple(rng.uniform(-0.9, 0.9, shape).astype(np.float32) for shape in shapes)
        found.append(Instance(steps=steps[begin : begin + length], state=state))
    return found


def reached(engine: Engine, steps: Array, lengths: Sequence[int], rng: np.random.Generator) -> list[Instance]:
    """Pieces of these lengths, the first from zeros, each other from the state in which the one before it ended.

    Random states do not suit every graph: a state that it takes the square root of must not be negative.
    """
    found: list[Instance] = []
    state = None
    for piece in instances(steps, lengths, (), rng):
        found.append(Instance(piece.steps, state))
        ended = _alone(engine, found[-1]).state
        state = ended if all(np.isfinite(array).all() for array in ended) else None
    return found


def by_runtime(engine: Engine, golden: Golden, apart: Compare) -> Compared:
    """The largest differences to the golden sample, of its instances together and alone."""
    alone = [_alone(engine, instance) for instance in golden.instances]
    return farthest(apart(found, golden.predictions) for found in (engine.predict(golden.instances), alone))


def by_batch(engine: Engine, golden: Golden, apart: Compare) -> Compared:
    """The largest differences between a row in a batch and the row alone."""
    return farthest(
        apart(engine.predict(batch), [_alone(engine, instance) for instance in batch])
        for batch in drawn(engine, golden, _batches(engine.spec))
    )


def drawn(engine: Engine, golden: Golden, batches: Sequence[Sequence[int]]) -> Iterator[list[Instance]]:
    """A batch of instances for each list of lengths, from random states if the model is ours."""
    rng = np.random.default_rng(SEED)
    shapes = [state.shape for state in engine.spec.states]
    steps = max((instance.steps for instance in golden.instances), key=len)
    for lengths in batches:
        ours = engine.spec.cell is not None
        batch = instances(steps, lengths, shapes, rng) if ours else reached(engine, steps, lengths, rng)
        batch[0] = Instance(steps=batch[0].steps)  # one starts from zeros, its neighbours do not
        yield batch


def by_split(engine: Engine, golden: Golden, apart: Compare) -> Compared:
    """The largest differences between a sequence in pieces and the whole."""
    rng = np.random.default_rng(SEED)
    return farthest(
        apart([in_pieces(engine, instance, longest, rng)], [_alone(engine, instance)])
        for instance in golden.instances
        for longest in (1, 5, 50)
    )


def in_pieces(engine: Engine, instance: Instance, longest: int, rng: np.random.Generator) -> Prediction:
    """The answer to a sequence in pieces of `longest` steps at most, with the state carried on.

    Outputs for every step are joined; an output for the whole sequence is taken from the last piece.
    """
    pieces, state = [], instance.state
    for steps in _pieces(instance.steps, longest, rng):
        pieces.append(_alone(engine, Instance(steps=steps, state=state)))
        state = pieces[-1].state
    outputs = []
    for index, output in enumerate(engine.spec.outputs):
        answers = [piece.outputs[index] for piece in pieces]
        outputs.append(np.concatenate(answers) if engine.spec.every_step(output) else answers[-1])
    return Prediction(outputs=tuple(outputs), state=pieces[-1].state)


def _batches(spec: ModelSpec) -> Sequence[tuple[int, ...]]:
    """The lengths in each batch of the grid; if only equal lengths can run together, several of each."""
    if spec.time_steps is not None:
        return [(spec.time_steps,) * size for size in (1, 2, 8)]
    if not spec.ragged:
        return ((1,), (1, 1, 1), (7, 7), (128, 128, 128), (1, 7, 7, 1, 64, 7))
    return ((1,), (1, 1, 1), (7, 7), (1, 7, 128), (128, 1, 3, 127, 64, 2, 1, 100))


def _pieces(steps: Array, longest: int, rng: np.random.Generator) -> Iterator[Array]:
    begin = 0
    while begin < len(steps):
        end = begin + int(rng.integers(1, longest + 1))
        yield steps[begin:end]
        begin = end


def _alone(engine: Engine, instance: Instance) -> Prediction:
    (prediction,) = engine.predict([instance])
    return prediction
