"""Measures how far CUDA's outputs and final states are from the CPU's, and what TF32 would cost and gain.

Owns the batches that are compared. Knows nothing of how a graph is run. TF32 is no setting of the service: sessions with it
are opened here only.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime as ort

from app.golden import difference
from app.manifest import Tolerance
from app.runtime import CPU, CUDA, CUDA_OPTIONS, Runtime, Session
from app.tensors import Array, Instance, Prediction
from scripts.bench_gpu import child, grid
from scripts.bench_gpu.child import Job, Result
from scripts.bench_gpu.sides import Sides
from scripts.bench_gpu.timing import median_seconds

SIZE, QUICK_SIZE = 64, 8  # sequences in the largest batch, and in the one that is timed
BUDGET = 0.2  # seconds
LAST_BIT = 2.0**-23  # of float32
RARE = 0.05  # share of the sequences that may be beyond the tolerance


class WithTF32(Runtime):
    """Sessions on CUDA that may round the factors of products to 10 bits."""

    def cuda(self, path: Path, *, record: bool = False) -> Session:
        session = super().cuda(path, record=record)  # ProviderUnavailable where there is no CUDA
        options = ort.SessionOptions()
        options.log_severity_level = 4
        given = CUDA_OPTIONS | {"use_tf32": "1", "enable_cuda_graph": str(int(record))}
        raw = ort.InferenceSession(str(path), options, providers=[(CUDA, given), CPU])
        return Session(raw, session.device, recorded=record)


@dataclass(frozen=True, slots=True)
class Apart:
    """The difference between two answers to each of many sequences: absolute, and in tolerances."""

    outputs: list[float] = field(default_factory=list)
    states: list[float] = field(default_factory=list)
    tolerances: list[float] = field(default_factory=list)

    def add(self, ours: Sequence[Prediction], theirs: Sequence[Prediction], tolerance: Tolerance) -> None:
        for one, other in zip(ours, theirs, strict=True):
            self.outputs.append(_largest(one.outputs, other.outputs))
            self.states.append(_largest(one.state, other.state))
            self.tolerances.append(difference([one], [other], tolerance))

    @property
    def beyond(self) -> int:
        """Sequences that are further apart than the tolerance."""
        return sum(each > 1 for each in self.tolerances)

    def summary(self) -> Result:
        return {
            "sequences": len(self.outputs),
            "beyond": self.beyond,
            "outputs": max(self.outputs),
            "outputs_median": median(self.outputs),
            "states": max(self.states),
            "states_median": median(self.states),
            "tolerances": max(self.tolerances),
        }


def measure(job: Job) -> Result:
    """For each model, with and without TF32: how far the answers are apart, and how long a batch takes."""
    compared, faults = [], []
    for title, folder in grid.folders(job).items():
        for tf32 in (False, True) if job.device == "cuda" else (False,):
            child.say(f"{title}{', TF32' if tf32 else ''}")
            sides = Sides.open(folder, job.device, WithTF32() if tf32 else None)
            apart, last_bit = compare(sides, quick=job.quick)
            seconds = median_seconds(partial(sides.gpu.predict, sides.zeros(_size(job.quick), grid.STEPS)), budget=BUDGET)
            found = {"title": title, "tf32": tf32, "apart": apart.summary(), "last_bit": last_bit.summary(), "seconds": seconds}
            if not tf32 and apart.beyond > allowed(len(apart.outputs)):
                faults.append(f"{title}: {apart.beyond} of {len(apart.outputs)} sequences are beyond the tolerance")
            compared.append(found)
    return {"compared": compared, "size": _size(job.quick), "steps": grid.STEPS, "faults": faults}


def compare(sides: Sides, *, quick: bool) -> tuple[Apart, Apart]:
    """Differences on ragged batches from random states: between the sides, and on the CPU when the input's last bits change."""
    rng = np.random.default_rng(7)
    size = _size(quick)
    batches = [[1], [1, 1, 1], [31, 32, 33], [128, 1, 7, 64, 65], [256, 3]]
    batches += [rng.integers(1, 257, size).tolist() for _ in range(1 if quick else 4)]
    tolerance = sides.cpu.engine.spec.tolerance
    apart, last_bit = Apart(), Apart()
    for seed, lengths in enumerate(batches):
        instances = sides.drawn(lengths, seed=seed)
        theirs = sides.cpu.predict(instances)
        apart.add(sides.gpu.predict(instances), theirs, tolerance)
        last_bit.add(sides.cpu.predict([_moved(each, rng) for each in instances]), theirs, tolerance)
    return apart, last_bit


def allowed(sequences: int) -> int:
    """How many sequences may be beyond the tolerance: a network amplifies rounding in rare places, whatever computes it."""
    return max(1, int(RARE * sequences))


def _largest(ours: Sequence[Array], theirs: Sequence[Array]) -> float:
    return max((float(np.abs(x - y).max()) for x, y in zip(ours, theirs, strict=True)), default=0.0)


def _moved(instance: Instance, rng: np.random.Generator) -> Instance:
    """The instance with the last bit of each input changed: the effect of that is the scale for all differences."""
    signs = rng.choice(np.array([-LAST_BIT, LAST_BIT], np.float32), instance.steps.shape)
    return Instance(instance.steps * (1 + signs), instance.state)


def _size(quick: bool) -> int:
    return QUICK_SIZE if quick else SIZE


if __name__ == "__main__":
    sys.exit(child.answer(measure))
