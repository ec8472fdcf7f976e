"""Runs a graph that takes a fixed number of steps a call, as many times as the longest sequence of a batch needs.

Owns the graph's buffers, which stay on the device, and the choice of the buffers for a batch. Knows nothing of what the graph
computes.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from math import ceil, inf
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import BadArtifact
from app.manifest import ModelSpec
from app.runner import Computed, Runner
from app.runtime import Bound, Session
from app.tensors import Array, Batch, batch_shape, rows

REPLAYS = 3  # runs to time a size
NOISE = 1.2  # a size that takes at most so many times as long as the fastest counts as equally fast


def chunk_of(spec: ModelSpec, session: Session) -> int | None:
    """How many steps the graph takes a call, if that is fixed and sequences may have any length; else None."""
    node = session.inputs.get(spec.input.name)
    if node is None or spec.time_steps is not None or spec.input.time_axis is None or len(node.shape) != 3:
        return None
    steps = node.shape[spec.input.time_axis]
    return steps if isinstance(steps, int) else None


class Chunked(Runner):
    """Carries the states from chunk to chunk. Pads a batch to a power of two with rows of length 0."""

    def __init__(self, spec: ModelSpec, session: Session, provider: str) -> None:
        super().__init__(spec, session, provider)
        self._steps = chunk_of(spec, session) or 0
        axes = [(spec.input.batch_axis, spec.input.time_axis), *((each.batch_axis, each.time_axis) for each in spec.outputs)]
        if spec.lengths is None or set(axes) != {(0, 1)} or spec.constants or not spec.causal:
            raise BadArtifact(
                f"The graph of {spec} for {provider} takes {self._steps} steps a call: for that it needs lengths, batch and "
                "time as the first axes, and no constants, and must be causal."
            )
        self._bound: dict[int, Bound] = {}
        self._seconds: dict[int, float] = {}  # size -> seconds of a chunk
        self._around: dict[int, float] = {}  # size -> seconds of a batch before and after its chunks

    def prepare(self, most: int) -> None:
        """Allocate the buffers of each size, and time it; again if timed before, for others may have used the device then."""
        for power in range((most - 1).bit_length() + 1):
            self._session.perform(partial(self._time, 2**power))

    def close(self) -> None:
        self._session.perform(self._bound.clear)
        super().close()

    def learn(self, size: int, steps: int, seconds: float) -> None:
        self._around[size_for(size, self._seconds)] = max(0.0, seconds - self._computing(size, steps))

    def seconds(self, size: int, steps: int) -> float:
        return self._computing(size, steps) + self._around.get(size_for(size, self._seconds), 0.0)

    def _computing(self, size: int, steps: int) -> float:
        return ceil(steps / self._steps) * self._seconds.get(size_for(size, self._seconds), inf)

    def predict(self, batch: Batch) -> Computed:
        spec, count, chunk = self.spec, len(batch.input), self._steps
        size, chunks = size_for(count, self._seconds), ceil(batch.input.shape[1] / chunk)
        input = np.zeros((chunks, size, chunk, batch.input.shape[2]), np.float32)
        for part, begin in zip(input, range(0, batch.input.shape[1], chunk), strict=True):
            steps = batch.input[:, begin : begin + chunk]
            part[:count, : steps.shape[1]] = steps
        lengths = np.zeros((chunks, size), np.int64)
        lengths[:, :count] = batch.lengths - chunk * np.arange(chunks)[:, None]
        starts = []
        for state, array in zip(spec.states, batch.states, strict=True):
            start = np.zeros(batch_shape(state.shape, state.batch_axis, size), np.float32)
            rows(start, state.batch_axis)[:count] = rows(array, state.batch_axis)
            starts.append(start)
        answers, ends = self._session.perform(
            lambda: self._compute(size, input, lengths.clip(0, chunk).astype(self._lengths.type), starts)
        )
        outputs = [
            np.concatenate([part[:count].reshape(count, chunk, *output.width) for part in parts], axis=1)
            for output, parts in zip(spec.outputs, answers, strict=True)
        ]
        states = [array.take(range(count), state.batch_axis) for state, array in zip(spec.states, ends, strict=True)]
        return self._split(batch, outputs, states), [*outputs, *states]

    def _compute(
        self, size: int, input: Array, lengths: NDArray[Any], starts: Sequence[Array]
    ) -> tuple[list[list[Array]], list[Array]]:
        """For each output the arrays of all chunks, and the states after the last chunk."""
        spec, bound = self.spec, self._buffers(size)
        for state, start in zip(spec.states, starts, strict=True):
            bound.write(state.input, start)
        answers: list[list[Array]] = [[] for _ in spec.outputs]
        for steps, left in zip(input, lengths, strict=True):
            bound.write(spec.input.name, steps)
            bound.write(self._lengths.name, left)
            bound.run()
            for output, parts in zip(spec.outputs, answers, strict=True):
                parts.append(bound.read(output.name))
        return answers, [bound.read(state.input) for state in spec.states]

    @property
    def _lengths(self) -> Any:
        return self.spec.lengths

    def _buffers(self, size: int) -> Bound:
        bound = self._bound.get(size)
        if bound is None:
            spec = self.spec
            inputs: dict[str, NDArray[Any]] = {
                spec.input.name: np.zeros((size, self._steps, len(spec.features)), np.float32),
                self._lengths.name: np.zeros(size, self._lengths.type),
            }
            inputs |= {s.input: np.zeros(batch_shape(s.shape, s.batch_axis, size), np.float32) for s in spec.states}
            outputs = {o.name: np.zeros((size, self._steps, *o.shape), np.float32) for o in spec.outputs}
            bound = self._session.bound(inputs, outputs, {state.input: state.output for state in spec.states})
            self._seconds[size] = _timed(bound)
            self._bound[size] = bound
        return bound

    def _time(self, size: int) -> None:
        self._seconds[size] = _timed(self._buffers(size))


def size_for(count: int, seconds: Mapping[int, float]) -> int:
    """The smallest size that is large enough, unless a larger one is faster: some sizes have slow kernels."""
    large = [size for size in tuple(seconds) if size >= count]
    quickest = min((seconds[size] for size in large), default=0.0)
    enough = [size for size in large if seconds[size] <= quickest * NOISE]
    return min(enough, default=2 ** (count - 1).bit_length())


def _timed(bound: Bound) -> float:
    """The fewest seconds of REPLAYS runs."""
    times = []
    for _ in range(REPLAYS):
        begin = perf_counter()
        bound.run()
        times.append(perf_counter() - begin)
    return min(times)
