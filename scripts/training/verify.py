"""The three equalities that an artifact must hold before anyone may be served by it.

Owns the checks and the grid they run on. They run through app.engine, the very code that will serve. Knows nothing of
how the artifact was made.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from app.engine import Engine
from app.golden import Golden, difference
from app.tensors import Array, Instance, Prediction, State

SEED = 20


@dataclass(frozen=True, slots=True)
class Check:
    """One equality: how far off it is, in units of what the tolerance allows."""

    name: str
    worst: float

    @property
    def holds(self) -> bool:
        return self.worst <= 1

    def __str__(self) -> str:
        return f"{self.name}: {'holds' if self.holds else 'FAILS'}, largest difference {self.worst:.3g} of the tolerance"


def verify(engine: Engine, golden: Golden) -> list[Check]:
    """Run every check, from random states; the golden sample is also where typical inputs come from."""
    return [
        Check("runtime-invariant (equals the equations in float64)", _runtime(engine, golden)),
        Check("batch-invariant (a row in a batch equals the row alone)", _batch(engine, golden)),
        Check("split-invariant (a sequence in pieces equals the whole)", _split(engine, golden)),
    ]


def instances(steps: Array, lengths: Sequence[int], shapes: Sequence[tuple[int, ...]], rng: np.random.Generator) -> list[Instance]:
    """Pieces of typical steps (time, features), one of each length or as long as there are steps, each from a random state
    of the given shapes."""
    found = []
    for wanted in lengths:
        length = min(wanted, len(steps))
        begin = int(rng.integers(0, len(steps) - length + 1))
        state = tuple(rng.uniform(-0.9, 0.9, shape).astype(np.float32) for shape in shapes)
        found.append(Instance(steps=steps[begin : begin + length], state=state))
    return found


def _runtime(engine: Engine, golden: Golden) -> float:
    tolerance = engine.spec.tolerance
    together = difference(engine.predict(golden.instances), golden.predictions, tolerance)
    alone = [_alone(engine, instance) for instance in golden.instances]
    return max(together, difference(alone, golden.predictions, tolerance))


def _batch(engine: Engine, golden: Golden) -> float:
    rng = np.random.default_rng(SEED)
    shapes = [state.shape for state in engine.spec.states]
    steps = max((instance.steps for instance in golden.instances), key=len)
    worst = 0.0
    for lengths in ((1,), (1, 1, 1), (7, 7), (1, 7, 128), (128, 1, 3, 127, 64, 2, 1, 100)):
        batch = instances(steps, lengths, shapes, rng)
        batch[0] = Instance(steps=batch[0].steps)  # one starts from zeros, its neighbours do not
        alone = [_alone(engine, instance) for instance in batch]
        worst = max(worst, difference(engine.predict(batch), alone, engine.spec.tolerance))
    return worst


def _split(engine: Engine, golden: Golden) -> float:
    rng = np.random.default_rng(SEED)
    worst = 0.0
    for instance in golden.instances:
        whole = _alone(engine, instance)
        for longest in (1, 5, 50):
            pieces, state = [], instance.state
            for piece in _pieces(instance.steps, longest, rng):
                prediction = _alone(engine, Instance(steps=piece, state=state))
                pieces.append(prediction.output)
                state = prediction.state
            joined = Prediction(output=np.concatenate(pieces), state=_given(state))
            worst = max(worst, difference([joined], [whole], engine.spec.tolerance))
    return worst


def _pieces(steps: Array, longest: int, rng: np.random.Generator) -> Iterator[Array]:
    begin = 0
    while begin < len(steps):
        end = begin + int(rng.integers(1, longest + 1))
        yield steps[begin:end]
        begin = end


def _alone(engine: Engine, instance: Instance) -> Prediction:
    (prediction,) = engine.predict([instance])
    return prediction


def _given(state: State | None) -> State:
    assert state is not None, "a sequence has one step or more"
    return state
