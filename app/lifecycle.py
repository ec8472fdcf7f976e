"""The life of one model version: load -> replay the golden sample -> warm up -> serve -> drain.

Owns this order: no version serves before it has reproduced its golden sample. Knows nothing of requests or HTTP.
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
LATELY = 60.0  # seconds for which a model counts as followed after a stream used it
ALONE = 20e-3  # seconds that a batch may block the event loop, health probes included


@dataclass(slots=True, eq=False)
class Model:
    """One loaded version, ready to predict. It is not freed while it is held: in a `with` block, or from `hold` to `release`."""

    spec: ModelSpec
    engine: Engine
    batcher: Batcher
    counts: ModelMetrics
    mark: Mark | None  # of the files that it was loaded from
    _followed: float = field(default=-inf, init=False)  # when a stream last used it
    # One entry for each holder, not a number: decoders hold it from threads, and append and pop are atomic, `+= 1` is not.
    _users: list[None] = field(default_factory=list, init=False)
    _unused: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def hold(self) -> Self:
        """Keep it loaded until `release`. Any thread may call it."""
        self._users.append(None)
        return self

    def release(self, *_: object) -> None:
        self._users.pop()
        if not self._users:
            self._unused.set()

    __enter__ = hold
    __exit__ = release

    def follow(self) -> None:
        """Note that a stream uses it now."""
        self._followed = monotonic()

    @property
    def followed(self) -> bool:
        """Whether a stream used it lately, and may use it again."""
        return monotonic() - self._followed < LATELY

    async def let_go(self) -> None:
        """Wait until nobody holds it, finish what waits, and free it."""
        while self._users:
            self._unused.clear()
            await self._unused.wait()
        await self.batcher.close()
        await asyncio.to_thread(self.engine.close)


@dataclass(frozen=True, slots=True)
class Proved:
    """A version whose files, graph and answers match its manifest, with its costs; it does not serve yet."""

    spec: ModelSpec
    engine: Engine
    limits: BatchLimits
    cost: CostModel
    mark: Mark | None
    worst: float  # largest difference to the golden sample, as a share of the tolerance
    seconds: float  # taken to load and prove it


@dataclass(frozen=True, slots=True)
class Loader:
    """Loads versions, all in the same way, inside a running event loop."""

    device: Device
    limits: BatchLimits
    lanes: int
    metrics: Metrics
    cuda_limits: BatchLimits | None = None  # for models on CUDA; None: the same as `limits`
    cuda_lanes: int = 1
    runtime: Runtime | None = None  # None: the installed one
    traces: Traces | None = None
    alone: Alone = nullcontext

    async def load(self, folder: Path) -> Model:
        """The version in `folder`, ready to serve. Loading does not block the event loop.

        Raises BadArtifact when its files, its graph or its answers do not match its manifest, and ProviderUnavailable when
        `device` insists on a provider that cannot be used.
        """
        try:
            return self._start(await asyncio.to_thread(self._prove, folder))
        except (BadArtifact, ProviderUnavailable):
            raise
        except Exception as error:  # whatever it is, only this version is refused: others can still serve
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
            engine.close()  # so that its memory on the device is freed on the thread that may do that
            raise
        limits = self._limits(engine)  # again: those of the CPU, if CUDA failed meanwhile
        if engine.provider.in_use == CPU:  # else the costs mix both providers, and on CUDA a padded step costs almost nothing
            limits = replace(limits, padding=cost.padding())
        return Proved(spec, engine, limits, cost, mark, worst, perf_counter() - started)

    def _limits(self, engine: Engine) -> BatchLimits:
        """The limits for this version on the provider in use."""
        spec = engine.spec
        limits = self.limits if engine.provider.in_use == CPU else self.cuda_limits or self.limits
        limits = replace(limits, max_batch_size=min(limits.max_batch_size, spec.max_batch_size or maxsize))
        if not spec.ragged:
            limits = replace(limits, max_padding_waste=0.0)  # only sequences of equal length run together
        return limits

    def _inline(self, engine: Engine) -> Inline:
        if self.lanes > 1:
            return lambda _size, _steps: HOP
        # With one lane the loop has nothing to do but wait while this CPU computes: a thread would only add hops.
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
    """Run batches of every power of two and the largest size, so that no request pays for first allocations; return the costs."""
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
    """The largest difference to the golden sample, over all providers. If only CUDA fails, CUDA is not used."""
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
    """The runner's difference to the golden sample; raises BadArtifact if it exceeds the tolerance."""
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
