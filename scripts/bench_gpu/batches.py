"""What a batch costs in this process: the graph on the GPU and on one thread of the CPU, and all CPUs at once.

Measures through the engine, as the service runs it: with the arrays built, copied and split. Knows nothing of torch or HTTP.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from math import prod
from time import perf_counter

from app import cpus
from scripts.bench_gpu import child, grid
from scripts.bench_gpu.child import Job, Result
from scripts.bench_gpu.roofline import Network
from scripts.bench_gpu.sides import Side, Sides
from scripts.bench_gpu.timing import median_seconds

BUDGET, QUICK_BUDGET = 0.1, 0.005  # seconds for each cell
LANE_BATCH = 16  # the service's batch size on the CPU
LANE_SECONDS, QUICK_LANE_SECONDS = 0.5, 0.02


def measure(job: Job) -> Result:
    """Measure every batch of each model, and for each length how many sequences all CPUs compute together."""
    models = {}
    for title, folder in grid.folders(job).items():
        sides = Sides.open(folder, job.device)
        cells = grid.cells(title, quick=job.quick)
        child.say(f"{title}: learning what batches cost")
        sides.learn(min(grid.MOST, max(cell.size for cell in cells)))
        found = []
        for cell in cells:
            child.say(f"{title}: {cell.size} of {cell.steps} steps")
            found.append(_cell(job, sides, cell))
        lengths = sorted({cell.steps for cell in cells})
        lanes = [_lanes(job, sides, steps) for steps in lengths]
        models[title] = {"network": asdict(_network(sides)), "cells": found, "lanes": lanes}
    return {"models": models, "cpus": cpus.available(), "lane_batch": LANE_BATCH}


def _network(sides: Sides) -> Network:
    spec = sides.cpu.engine.spec
    assert spec.cell is not None, "it is one of ours"
    cell, outputs = spec.cell, sum(prod(output.width) for output in spec.outputs)
    return Network(len(spec.features), grid.SCALED, cell.hidden_size, cell.num_layers, outputs)


def _cell(job: Job, sides: Sides, cell: grid.Cell) -> Result:
    batch = sides.drawn([cell.steps] * cell.size, seed=cell.size)
    budget = QUICK_BUDGET if job.quick else BUDGET

    def seconds(side: Side) -> float:
        return median_seconds(lambda: side.predict(batch), budget=budget)

    sent = sides.sent_to_gpu(cell.size, cell.steps) if cell.size <= grid.MOST else None  # the service makes no such batches
    return {"size": cell.size, "steps": cell.steps, "gpu": seconds(sides.gpu), "cpu": seconds(sides.cpu), "sent_to_gpu": sent}


def _lanes(job: Job, sides: Sides, steps: int) -> Result:
    """Sequences per second with one thread per CPU, each running its own batches."""
    batch = sides.drawn([steps] * LANE_BATCH, seed=steps)
    lanes = cpus.available()
    begin = perf_counter()
    end = begin + (QUICK_LANE_SECONDS if job.quick else LANE_SECONDS)

    def lane(_: int) -> int:
        done = 0
        while not done or perf_counter() < end:
            sides.cpu.predict(batch)
            done += LANE_BATCH
        return done

    with ThreadPoolExecutor(lanes) as threads:
        done = sum(threads.map(lane, range(lanes)))
    return {"steps": steps, "sequences_per_second": done / (perf_counter() - begin)}


if __name__ == "__main__":
    sys.exit(child.answer(measure))
