"""The two graphs of a model that are compared: the CPU's on one thread, and the one that runs on the GPU.

Owns opening each as the service does. Without a GPU the second runs on the CPU too: by the same code, but its figures say
nothing about a GPU. Knows nothing of what is compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Literal

import numpy as np

from app import manifest
from app.engine import Engine
from app.golden import Golden
from app.runner import Runner
from app.runtime import CPU, CUDA, Runtime
from app.tensors import Instance, Prediction
from scripts.training import verify

WARM_UP_STEPS = (1, 32)  # the lengths with which the service learns what a batch costs


@dataclass(frozen=True, slots=True)
class Side:
    engine: Engine
    runner: Runner

    def predict(self, instances: Sequence[Instance]) -> list[Prediction]:
        return self.engine.predict_on(self.runner, instances)


@dataclass(frozen=True, slots=True)
class Sides:
    cpu: Side
    gpu: Side  # on the CPU, if there is no GPU
    golden: Golden

    @classmethod
    def open(cls, folder: Path, device: Literal["cuda", "cpu"], runtime: Runtime | None = None) -> "Sides":
        """Open both graphs; ProviderUnavailable says why CUDA cannot be used, if it was asked for."""
        spec = manifest.read(folder)
        golden = Golden.load(folder, spec)
        if device == "cuda":
            engine = Engine(spec, folder, device="cuda", runtime=runtime)
            cpu, gpu = engine.runners
            return cls(Side(engine, cpu), Side(engine, gpu), golden)
        graphs = {CPU: spec.graphs.get(CUDA, spec.graphs[CPU])}
        engines = (Engine(spec, folder, device="cpu"), Engine(spec.model_copy(update={"graphs": graphs}), folder, device="cpu"))
        ours, other = (Side(engine, *engine.runners) for engine in engines)
        return cls(ours, other, golden)

    def learn(self, most: int) -> None:
        """Measure what batches of up to `most` instances cost on either side, as the service does before it serves."""
        sizes = [2**power for power in range((most - 1).bit_length() + 1)]
        batches = [self.zeros(size, steps) for size in sizes for steps in WARM_UP_STEPS]
        for engine in {id(side.engine): side.engine for side in (self.cpu, self.gpu)}.values():
            engine.warm_up(batches)

    def sent_to_gpu(self, size: int, steps: int) -> bool:
        """Whether the service would send such a batch to the GPU, by what was learned."""
        return self.gpu.runner.seconds(size, steps) <= self.cpu.runner.seconds(size, steps)

    def zeros(self, size: int, steps: int) -> list[Instance]:
        return [Instance(np.zeros((steps, self._features), np.float32))] * size

    def drawn(self, lengths: Sequence[int], *, seed: int) -> list[Instance]:
        """Sequences of these lengths, made from the steps of the model's golden sample, each from a random state.

        Random numbers would not do: on input unlike its training data, a model may amplify rounding.
        """
        spec, rng = self.cpu.engine.spec, np.random.default_rng(seed)
        steps = max((each.steps for each in self.golden.instances), key=len)
        there_and_back = np.concatenate([steps, steps[::-1]])
        enough = np.concatenate([there_and_back] * ceil(max(lengths) / len(there_and_back)))
        return verify.instances(enough, lengths, [state.shape for state in spec.states], rng)

    @property
    def _features(self) -> int:
        return len(self.cpu.engine.spec.features)
