"""The life of one model version: load -> replay the golden sample -> warm up -> serve -> drain.

Owns the order, and that nothing serves before it has proved itself. Knows nothing of requests or HTTP.
"""

import asyncio
import logging
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import product
from math import inf, prod
from pathlib import Path
from sys import maxsize
from time import monotonic, perf_counter
from typing import Self

import numpy as np

from app import golden, manifest
from app.batcher import HOP, Batcher, Inline
from app.cost import CostModel
from app.engine import Alone, Device, Engine, Provider
from app.errors import BadArtifact, ProviderUnavailable
from app.manifest import ModelSpec
from app.metrics import Metrics, ModelMetrics
from app.queue import BatchLimits
from app.repository import Mark, mark_of
from app.runner import Runner
from app.runtime import CPU, CUDA, Runtime
from app.tensors import Instance
from app.traces import Traces

log = logging.getLogger(__name__)

WARM_UP_STEPS = (1, 32)
LATELY = 60.0  # seconds
ALONE = 20e-3  # seconds that the event loop may be held up, probes with it


@dataclass(slots=True, eq=False)
class Model:
    """One loaded version, ready to predict. It is not let go while it is held: in a `with` block, or from `hold` to `release`."""

    spec: ModelSpec
    engine: Engine
    batcher: Batcher
    counts: ModelMetrics
    mark: Mark | None  # of the files that it was loaded from
    _followed: float = field(default=-inf, init=False)  # when a stream went on with it
    # One entry for each who holds it: append and pop are atomic, as `+= 1` is not, and decoders hold it from threads.
    _users: list[None] = field(default_factory=list, init=False)
    _unused: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def hold(self) -> Self:
        """From any thread; to be released."""
        self._users.append(None)
        return self

    def release(self, *_: object) -> None:
        self._users.pop()
        if not self._users:
            self._unused.set()

    __enter__ = hold
    __exit__ = release

    def follow(self) -> None:
        """A stream goes on with it."""
        self._followed = monotonic()

    @property
    def followed(self) -> bool:
        """Whether a stream went on with it lately, and may want to again."""
        return monotonic() - self._followed < LATELY

    async def let_go(self) -> None:
        """Wait for those who use it, finish what waits, and free it."""
        while self._users:
            self._unused.clear()
            await self._unused.wait()
        await self.batcher.close()
        await asyncio.to_thread(self.engine.close)


@dataclass(frozen=True, slots=True)
class Proved:
    """A version whose files, graph and answers are what its manifest says, and how fast it is; it does not serve yet."""

    spec: ModelSpec
    engine: Engine
    limits: BatchLimits
    cost: CostModel
    mark: Mark | None
    worst: float  # difference to the golden sample, of what is tolerated
    seconds: float  # that it took


@dataclass(frozen=True, slots=True)
class Loader:
    """Loads versions, each the same way, inside a running event loop."""

    device: Device
    limits: BatchLimits
    lanes: int
    metrics: Metrics
    cuda_limits: BatchLimits | None = None  # the same for models on CUDA; None: no others
    cuda_lanes: int = 1
    runtime: Runtime | None = None  # None: the one that is installed
    traces: Traces | None = None
    alone: Alone = nullcontext

    async def load(self, folder: Path) -> Model:
        """The version in `folder`, ready; the loop goes on meanwhile.

        Raises BadArtifact when its files, its graph or its answers are not what its manifest says, and
        ProviderUnavailable when `device` insists on a provider that cannot be had.
        """
        try:
            return self._start(await asyncio.to_thread(self._prove, folder))
        except (BadArtifact, ProviderUnavailable):
            raise
        except Exception as error:  # whatever it is, this version cannot serve, and others can
            log.exception("%s could not be loaded.", folder)
            raise BadArtifact(f"{folder} could not be loaded: {error}") from error

    def _prove(self, folder: Path) -> Proved:
        started = perf_counter()
        mark = mark_of(folder)
        spec = manifest.read(folder)
        engine = Engine(spec, folder, device=self.device, runtime=self.runtime)
        try:
            worst = _replay(engine, folder)
            cost = _warm_up(engine, self._limits(engine), self.alone)
        except BaseException:
            engine.close()  # what it has on a device is freed where that may be done
            raise
        limits = self._limits(engine)  # those of the CPU, where CUDA was given up meanwhile
        if engine.provider.in_use == CPU:  # else the costs are of both, and a padded step of CUDA is next to nothing
            limits = replace(limits, padding=cost.padding())
        return Proved(spec, engine, limits, cost, mark, worst, perf_counter() - started)

    def _limits(self, engine: Engine) -> BatchLimits:
        """For this version, where it runs."""
        spec = engine.spec
        limits = self.limits if engine.provider.in_use == CPU else self.cuda_limits or self.limits
        limits = replace(limits, max_batch_size=min(limits.max_batch_size, spec.max_batch_size or maxsize))
        if not spec.ragged:
            limits = replace(limits, max_padding_waste=0.0)  # only sequences that are equally long
        return limits

    def _inline(self, engine: Engine) -> Inline:
        if self.lanes > 1:
            return lambda _size, _steps: HOP
        # With one lane: while this CPU computes, waiting is all the loop has to do, and a thread would only cost hops.
        return lambda size, steps: ALONE if engine.runs_on_cpu(size, steps) else HOP

    def _start(self, proved: Proved) -> Model:
        spec, engine, provider = proved.spec, proved.engine, proved.engine.provider
        lanes = self.lanes if provider.in_use == CPU else self.cuda_lanes
        counts = self.metrics.model(spec.name, spec.version, lanes=lanes)

        def changed(provider: Provider) -> None:
            counts.runs_on(provider.in_use, fallback=provider.fallback_reason is not None)

        changed(provider)
        engine.on_change = changed
        traces = None if self.traces is None else self.traces.batches(spec.name, spec.version)
        batcher = Batcher(
            engine.answer,
            proved.limits,
            lanes=lanes,
            name=str(spec),
            inline=self._inline(engine),
            cost=proved.cost,
            metrics=counts,
            traces=traces,
        )
        log.info(
            "Loaded %s on %s (asked for %s%s): %d features -> %d outputs, golden sample reproduced within %.0f %% of its "
            "tolerance, %s, in %.0f ms.",
            spec,
            provider.in_use,
            provider.requested,
            f"; {provider.fallback_reason}" if provider.fallback_reason else "",
            len(spec.features),
            sum(prod(output.width) for output in spec.outputs),
            100 * proved.worst,
            "1 lane" if lanes == 1 else f"{lanes} lanes",
            1000 * proved.seconds,
        )
        return Model(spec, engine, batcher, counts, proved.mark)


def _warm_up(engine: Engine, limits: BatchLimits, alone: Alone) -> CostModel:
    """Run batches of every power of two, and the largest, so that no request pays for a first allocation; what they cost."""
    cost = CostModel()
    sizes = sorted({limits.max_batch_size, *(2**power for power in range(limits.max_batch_size.bit_length()))})
    lengths = WARM_UP_STEPS if engine.spec.time_steps is None else (engine.spec.time_steps,)
    grid = [*product(sizes, lengths)]
    zeros = {steps: Instance(steps=np.zeros((steps, len(engine.spec.features)), dtype=np.float32)) for steps in lengths}
    batches = [[zeros[steps]] * size for size, steps in grid]
    for (size, steps), seconds in zip(grid, engine.warm_up(batches, alone=alone), strict=True):
        cost.learn(size, steps, seconds)
    return cost


def _replay(engine: Engine, folder: Path) -> float:
    """The largest difference to the golden sample, on all providers; one other than the CPU's that fails is not used."""
    sample = golden.Golden.load(folder, engine.spec)
    worst = 0.0
    for runner in engine.runners:
        try:
            worst = max(worst, _difference(engine, runner, sample))
        except BadArtifact as error:
            if runner.provider != CUDA:
                raise
            engine.lose_cuda(str(error))
    return worst


def _difference(engine: Engine, runner: Runner, sample: golden.Golden) -> float:
    """BadArtifact where it is more than is tolerated."""
    try:
        actual = engine.predict_on(runner, sample.instances)
    except Exception as error:  # ONNX Runtime raises its own and built-in types
        raise BadArtifact(f"{engine.spec} cannot run its golden sample on {runner.provider}: {error}") from error
    worst = golden.difference(actual, sample.predictions, engine.spec.tolerance)
    if worst > 1:
        raise BadArtifact(
            f"{engine.spec} does not reproduce its golden sample on {runner.provider}: the largest difference is "
            f"{worst:.3g} times the tolerance of {engine.spec.tolerance.atol:g} + {engine.spec.tolerance.rtol:g} |value|."
        )
    return worst
