"""The ways to read the axes of a graph: which is the batch, which is time, and the layout of the outputs that follows.

Owns the probing runs: the graph runs at two sizes, and an output's axis is the batch or time if its size changes with it.
Does not know whether a reading is right: trials show that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.manifest import OutputSpec
from scripts.adoption.inspection import Tensor
from scripts.adoption.probe import Probe
from scripts.adoption.questions import MOST_FEATURES
from scripts.adoption.refusal import Refused
from scripts.adoption.roles import Roles

Sizes = tuple[int, int]  # of batch and time

SIZES: tuple[Sizes, Sizes] = ((3, 5), (2, 7))  # none occurs twice, so that an axis cannot be taken for another
_BATCH, _TIME = {"batch", "batch_size", "n", "b"}, {"time", "seq", "sequence", "seq_len", "sequence_length", "steps", "t"}


@dataclass(frozen=True, slots=True)
class Reading:
    """Which axes are batch and time, and their sizes if the graph fixes them."""

    batch_axis: int
    time_axis: int | None
    batch: int | None
    time: int | None
    state_axes: tuple[int, ...]  # the batch axis of each state

    def __str__(self) -> str:
        if self.time_axis is None:
            return "one step a call"
        return "batch first" if self.batch_axis == 0 else "time first"


@dataclass(frozen=True, slots=True)
class Shapes:
    """The result of two probing runs: each output's shape, twice."""

    sizes: tuple[Sizes, Sizes]
    outputs: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    states: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]  # as they were fed


@dataclass(frozen=True, slots=True)
class Unsuited:
    """An output that is not served, and why."""

    name: str
    reason: str


@dataclass(slots=True)
class Readings:
    """The readings that the graph runs with, likely ones first, and why the others were dropped."""

    found: list[tuple[Reading, Shapes]] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    batch_of: int | None = None  # the size above 1 at which another reading would fix the batch
    named: bool = False  # whether the names of the axes say which is which


def readings(roles: Roles, width: int, probe: Probe) -> Readings:
    """All readings that the graph runs with; Refused with ONNX Runtime's reasons if there is none."""
    dims = roles.sequence.dims
    assert dims is not None
    result = Readings()
    orders: list[tuple[int, int | None]] = [(0, 1), (1, 0)] if len(dims) == 3 else [(0, None)]
    first, second = (str(dim).lower() for dim in dims[:2])
    if len(dims) == 3 and (second in _BATCH or first in _TIME):
        orders.reverse()
    result.named = first in _BATCH | _TIME or second in _BATCH | _TIME
    for batch_axis, time_axis in orders:
        batch = dims[batch_axis]
        if isinstance(batch, int) and batch > 1:
            result.batch_of = batch
        try:
            reading = _reading(roles, batch_axis, time_axis)
            result.found.append((reading, _shapes(roles, reading, width, probe)))
        except (ValueError, RuntimeError) as error:
            order = "as one step a call" if time_axis is None else f"with {('batch', 'time')[batch_axis]} first"
            result.dropped.append(f"{order}: {error}")
    if any(reading.time is None for reading, _ in result.found):  # time is more likely a free axis than one of size 1
        result.found = [(reading, shapes) for reading, shapes in result.found if reading.time != 1]
    if not result.found:
        raise Refused(
            f"{roles.sequence} cannot be run {'; nor '.join(result.dropped)}. Export the graph with free axes of batch and time, "
            "or with a batch of 1."
        )
    return result


def fixed_batch(size: int) -> str:
    return f"the batch is fixed at {size}, and Recurve runs batches of any size, or of 1"


def output_spec(name: str, reading: Reading, shapes: Shapes) -> OutputSpec | Unsuited:
    """The layout of an output, from how its shape changed."""
    (b0, t0), (b1, t1) = shapes.sizes
    first, second = shapes.outputs[name]
    if len(first) != len(second):
        return Unsuited(name, "the number of its axes changes")
    pairs = list(zip(first, second, strict=True))
    batch = [axis for axis, pair in enumerate(pairs) if reading.batch is None and pair == (b0, b1)]
    time = [axis for axis, pair in enumerate(pairs) if reading.time_axis is not None and reading.time is None and pair == (t0, t1)]
    if reading.time is not None and reading.time_axis is not None:
        same_place = reading.time_axis < len(pairs) and pairs[reading.time_axis] == (t0, t1)
        time = [reading.time_axis] if same_place and len(pairs) > 1 else []
    if reading.batch is not None:
        ones = [axis for axis, pair in enumerate(pairs) if pair == (1, 1) and axis not in time]
        likely = [axis for axis in (reading.batch_axis, len(pairs) - 2) if axis in ones]
        batch = (likely or ones)[:1]
    if len(batch) != 1:
        return Unsuited(name, f"{len(batch) or 'none'} of its axes is the batch: its shape was {list(first)} for a batch of {b0}")
    if len(time) > 1:
        return Unsuited(name, f"it has several axes of time: its shape was {list(first)} for {t0} steps")
    width = [pair for axis, pair in enumerate(pairs) if axis not in (*batch, *time)]
    if any(a != b or a == 0 for a, b in width):
        return Unsuited(
            name, f"an axis of it is neither fixed nor as long as the sequence: its shape was {list(first)} for {t0} steps"
        )
    return OutputSpec(name=name, shape=tuple(a for a, _ in width), batch_axis=batch[0], time_axis=time[0] if time else None)


def _reading(roles: Roles, batch_axis: int, time_axis: int | None) -> Reading:
    dims = roles.sequence.dims
    assert dims is not None
    batch, time = dims[batch_axis], None if time_axis is None else dims[time_axis]
    axes = tuple(_batch_axis(state, batch) for state in roles.states)
    fixed = not isinstance(batch, str) or any(not state.free for state in roles.states)
    if isinstance(batch, int) and batch != 1:
        raise ValueError(fixed_batch(batch))
    return Reading(batch_axis, time_axis, 1 if fixed else None, time if isinstance(time, int) else None, axes)


def _batch_axis(state: Tensor, batch: int | str) -> int:
    """The batch axis of a state; ValueError if it cannot be determined."""
    dims = state.dims
    assert dims is not None
    same = [axis for axis in state.free if dims[axis] == batch]
    if len(same) == 1 and len(state.free) == 1:
        return same[0]
    if len(state.free) == 1:
        return state.free[0]
    if state.free:
        raise ValueError(f"the state {state} has several free axes; a state has one, the batch")
    ones = [axis for axis, dim in enumerate(dims) if dim == 1]
    if not ones:
        raise ValueError(f"the state {state} has no axis of batch")
    return len(dims) - 2 if len(dims) - 2 in ones else ones[0]


def _shapes(roles: Roles, reading: Reading, width: int, probe: Probe) -> Shapes:
    """Run the graph at both sizes; RuntimeError with ONNX Runtime's reason if it does not run."""
    a, b = ((reading.batch or batch, reading.time or time) for batch, time in SIZES)
    first, second = (probe.run(feeds(roles, reading, width, sizes)) for sizes in (a, b))
    for name, array in first.items():
        if (numbers := array.size // (a[0] * a[1])) > MOST_FEATURES:
            raise Refused(
                f"{name} has {numbers:,} numbers for each step of a sequence, and Recurve takes {MOST_FEATURES:,} at most."
            )
    outputs = {name: (array.shape, second[name].shape) for name, array in first.items()}
    states = zip(_states(roles, reading, a[0]), _states(roles, reading, b[0]), strict=True)
    return Shapes((a, b), outputs, tuple((x.shape, y.shape) for x, y in states))


def feeds(roles: Roles, reading: Reading, width: int, sizes: Sizes) -> dict[str, NDArray[Any]]:
    """Inputs of these sizes: noise as the sequence, and zero states."""
    batch, time = sizes
    shape = [batch, width] if reading.time_axis is None else [time, width]
    if reading.time_axis is not None:
        shape.insert(reading.batch_axis, batch)
    noise = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    found: dict[str, NDArray[Any]] = {roles.sequence.name: noise}
    if roles.lengths is not None:
        found[roles.lengths.name] = np.full(batch, time, dtype=roles.lengths.type)
    found.update((each.name, np.array(each.value, dtype=each.type)) for each in roles.constants)
    found.update((state.name, array) for state, array in zip(roles.states, _states(roles, reading, batch), strict=True))
    return found


def _states(roles: Roles, reading: Reading, batch: int) -> Sequence[NDArray[np.float32]]:
    found = []
    for state, axis in zip(roles.states, reading.state_axes, strict=True):
        assert state.dims is not None
        found.append(np.zeros([batch if at == axis else int(dim) for at, dim in enumerate(state.dims)], np.float32))
    return found
