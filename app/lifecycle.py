"""The life of one model version: load -> replay the golden sample -> warm up -> serve -> drain.

Owns the order, and that nothing serves before it has proved itself. Knows nothing of requests or HTTP.
"""

import asyncio
import logging
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from time import perf_counter

import numpy as np

from app import golden, manifest
from app.batcher import HOP, Batcher
from app.cost import CostModel
from app.engine import CPU, Device, Engine
from app.errors import BadArtifact
from app.manifest import ModelSpec
from app.metrics import Metrics
from app.queue import Limits
from app.tensors import Instance

log = logging.getLogger(__name__)

WARM_UP_STEPS = (1, 32)
ALONE = 20e-3  # seconds that the event loop may be held up, probes with it


@dataclass(frozen=True, slots=True)
class Model:
    """One loaded version, ready to predict."""

    spec: ModelSpec
    engine: Engine
    batcher: Batcher


@dataclass(frozen=True, slots=True)
class Proved:
    """A version whose files, graph and answers are what its manifest says, and how fast it is; it does not serve yet."""

    spec: ModelSpec
    engine: Engine
    cost: CostModel
    worst: float  # difference to the golden sample, of what is tolerated
    seconds: float  # that it took


@dataclass(frozen=True, slots=True)
class Loader:
    """Loads versions, each the same way, inside a running event loop."""

    device: Device
    limits: Limits
    lanes: int
    metrics: Metrics

    def load(self, folder: Path) -> Model:
        """The version in `folder`, ready.

        Raises BadArtifact when its files, its graph or its answers are not what its manifest says, and
        ProviderUnavailable when `device` insists on a provider that cannot be had.
        """
        return self._start(self._prove(folder))

    async def load_aside(self, folder: Path) -> Model:
        """The same, and the loop goes on meanwhile."""
        return self._start(await asyncio.to_thread(self._prove, folder))

    def _prove(self, folder: Path) -> Proved:
        started = perf_counter()
        spec = manifest.read(folder)
        engine = Engine(spec, folder, device=self.device)
        worst = _replay(engine, folder)
        cost = _warm_up(engine, self.limits)
        return Proved(spec, engine, cost, worst, perf_counter() - started)

    def _start(self, proved: Proved) -> Model:
        spec, engine, lanes = proved.spec, proved.engine, self.lanes
        provider = engine.provider
        counts = self.metrics.model(
            spec.name, spec.version, lanes=lanes, provider=provider.in_use, fallback=provider.fallback_reason is not None
        )
        # With one lane that computes on this CPU, waiting for it is all the loop has to do: a thread would only cost hops.
        inline = ALONE if lanes == 1 and provider.in_use == CPU else HOP
        batcher = Batcher(engine.answer, self.limits, lanes=lanes, inline=inline, cost=proved.cost, metrics=counts)
        log.info(
            "Loaded %s on %s (asked for %s%s): %d features -> %d outputs, golden sample reproduced within %.0f %% of its "
            "tolerance, %d lanes, in %.0f ms.",
            spec,
            provider.in_use,
            provider.requested,
            f"; {provider.fallback_reason}" if provider.fallback_reason else "",
            len(spec.features),
            len(spec.outputs),
            100 * proved.worst,
            lanes,
            1000 * proved.seconds,
        )
        return Model(spec=spec, engine=engine, batcher=batcher)


def _warm_up(engine: Engine, limits: Limits) -> CostModel:
    """Run batches of every power of two, so that no request pays for a first allocation; what they cost."""
    cost = CostModel()
    sizes = [2**power for power in range(limits.max_batch_size.bit_length())]
    for size, steps in product(sizes, WARM_UP_STEPS):
        instances = [Instance(steps=np.zeros((steps, len(engine.spec.features)), dtype=np.float32))] * size
        engine.predict(instances)
        begin = perf_counter()
        engine.predict(instances)
        cost.learn(size, steps, perf_counter() - begin)
    return cost


def _replay(engine: Engine, folder: Path) -> float:
    sample = golden.Golden.load(folder, engine.spec)
    try:
        actual = engine.predict(sample.instances)
    except Exception as error:  # ONNX Runtime raises its own and built-in types
        raise BadArtifact(f"{engine.spec} cannot run its golden sample on {engine.provider.in_use}: {error}") from error
    worst = golden.difference(actual, sample.predictions, engine.spec.tolerance)
    if worst > 1:
        raise BadArtifact(
            f"{engine.spec} does not reproduce its golden sample on {engine.provider.in_use}: the largest difference is "
            f"{worst:.3g} times the tolerance of {engine.spec.tolerance.atol:g} + {engine.spec.tolerance.rtol:g} |value|."
        )
    return worst
