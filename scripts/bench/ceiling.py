"""The ceiling: how many sequences per second ONNX Runtime alone computes on this machine.

Owns the search over lanes and batch sizes. Knows nothing of the service. Runs as its own process, so that neither side
warms the other's caches: python -m scripts.bench.ceiling VERSION_DIR
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app import cpus, manifest
from app.engine import Engine
from app.runner import Whole
from app.tensors import Batch, Instance
from scripts.bench.scenarios import STEPS

BATCHES = (1, 2, 4, 8, 16, 32)
SECONDS = 0.6
PAUSE = 2e-4  # seconds


def main() -> None:
    folder = Path(sys.argv[1])
    (runner,) = Engine(manifest.read(folder), folder, device="cpu").runners
    assert isinstance(runner, Whole)
    lanes = sorted({1, cpus.available()})
    rates = {f"{n} lanes, batch {size}": _rate(runner, n, size) for n in lanes for size in BATCHES}
    best = max(rates, key=rates.__getitem__)
    raw = {"raw_seconds": _latency(runner), "raw_paused_seconds": _latency(runner, pause=PAUSE)}
    print(json.dumps({"sequences_per_second": rates[best], "at": best, "all": rates, **raw}))


def _feeds(runner: Whole, size: int) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    features = len(runner.spec.features)
    instances = [Instance(steps=rng.standard_normal((STEPS, features)).astype(np.float32)) for _ in range(size)]
    return runner.feeds(Batch.collate(instances, runner.spec.states))


def _rate(runner: Whole, lanes: int, size: int) -> float:
    """Sequences per second of `lanes` threads, each with batches of `size`."""
    feeds = _feeds(runner, size)
    runner.run(feeds)
    end = perf_counter() + SECONDS

    def lane(_: int) -> int:
        done = 0
        while perf_counter() < end:
            runner.run(feeds)
            done += size
        return done

    begin = perf_counter()
    with ThreadPoolExecutor(lanes) as threads:
        done = sum(threads.map(lane, range(lanes)))
    return done / (perf_counter() - begin)


def _latency(runner: Whole, *, pause: float = 0.0) -> float:
    """Median seconds of one run of batch 1; `pause`: seconds before each, as a client makes them: processors slow down in them."""
    feeds = _feeds(runner, 1)
    times = []
    for _ in range(500):
        sleep(pause)
        begin = perf_counter()
        runner.run(feeds)
        times.append(perf_counter() - begin)
    return median(times)


if __name__ == "__main__":
    main()
