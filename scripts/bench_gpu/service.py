"""The whole service over HTTP, on the GPU and on the CPU, with more or fewer processes, for a narrow and a wide model.

Owns how it is started and which requests it gets. Knows nothing of the layers below. The load comes from several generators at
once if there are CPUs for them, so that they are not the bottleneck; if one had no processor time left, the result says so.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import product
from time import perf_counter, sleep

from app import cpus, manifest
from app.manifest import ModelSpec
from scripts.bench import load, scenarios, servers, tree
from scripts.bench.job import Job as Load
from scripts.bench.job import Report
from scripts.bench.scenarios import Scenario
from scripts.bench.servers import Running
from scripts.bench_gpu import child, grid, machine, mps, state
from scripts.bench_gpu.child import Job, Result

WARM, QUICK_WARM = 1.0, 0.1  # seconds before each point that do not count, in which workers learn how busy the GPU is
MOST = 16  # workers on CUDA
GENERATORS, CPUS_EACH, CALLERS_EACH = 4, 4, 16  # generators at most; CPUs and callers for each, at least
PATIENCE = 30.0  # seconds
BUSY = 0.9  # CPUs; a generator that uses more could not send more

S1, S2, S3, S5 = "one sequence, JSON", "32 sequences, JSON", "one sequence, octets", "one step with its state, JSON"


@dataclass(frozen=True, slots=True)
class Setup:
    name: str
    flags: tuple[str, ...]
    workers: int
    together: bool = False  # through NVIDIA's Multi-Process Service


def setups(device: str) -> list[Setup]:
    cpu = [Setup("CPU, a worker for each CPU", ("--device", "cpu"), cpus.available())]
    if device == "cpu":
        return cpu
    counts = sorted({1, 4, min(MOST, cpus.available())})
    cuda = [
        Setup(f"CUDA, {count} worker{'s' * (count > 1)}", ("--device", "cuda", "--workers", str(count)), count) for count in counts
    ]
    if mps.installed():
        cuda.append(replace(cuda[-1], name=f"{cuda[-1].name}, MPS", together=True))
    return cuda + cpu


def points(features: int) -> list[Scenario]:
    """The requests, taken from the scenarios of scripts.bench; sequences of 128 steps, but single steps in the last two."""
    loops = scenarios.closed_loops(features)
    by_name = {each.name: each for each in loops}
    octets = next(each for each in loops if each.headers == scenarios.OCTETS)
    chosen = [
        (S1, by_name[scenarios.CAPACITY], 64),
        (S1, by_name[scenarios.CAPACITY], 256),
        (S2, by_name[scenarios.MANY], 8),
        (S3, octets, 256),
        (S5, by_name[scenarios.STEP_1], 1),
        (S5, by_name[scenarios.STEP_64], 64),
    ]
    return [replace(scenario, name=name, callers=callers) for name, scenario, callers in chosen]


def measure(job: Job) -> Result:
    """For each model, setup and point the rate, p50, p99 and the providers of the batches; for each setup its start and memory."""
    found: list[Result] = []
    starts: list[Result] = []
    faults: list[str] = []
    folders = grid.folders(job)
    for title, setup in product((grid.REFERENCE, grid.LARGE), setups(job.device)):
        which = {"model": title, "setup": setup.name}
        child.say(f"service: {title}, {setup.name}")
        version = folders[title]
        spec = manifest.read(version)
        used = machine.gpu_memory()
        try:
            first = scenarios.body(len(spec.features), 1)
            with (
                mps.running() if setup.together else nullcontext(),
                servers.service(version, spec, first, *setup.flags) as server,
            ):
                _wait_for_all(server, setup)
                starts.append(which | {"cold_start": server.cold_start, "pss": tree.pss(server.pid), "gpu_before": used})
                for point in _points(server, spec, job, steps=title == grid.REFERENCE):
                    found.append(which | point)  # noqa: PERF401  # those before a failure are kept
                starts[-1]["gpu_after"] = machine.gpu_memory()
        except Exception as error:  # it did not start, or gave a wrong answer; the next setup may work
            faults.append(f"{title}, {setup.name}: {type(error).__name__}: {error}")
    failed = [each for each in found if each["failed"]]
    faults += [f"{each['model']}, {each['setup']}, {each['name']}: {each['failed']} requests failed" for each in failed]
    return {"points": found, "starts": starts, "faults": faults}


def _wait_for_all(server: Running, setup: Setup) -> None:
    """Wait for all workers, since the service answers as soon as one does; RuntimeError if the others do not start."""
    end = perf_counter() + PATIENCE
    while (lanes := server.counter("recurve_lanes")) != setup.workers:  # each has one
        if perf_counter() > end:
            raise RuntimeError(f"{lanes} lanes were there after {PATIENCE:g} s, and not {setup.workers}")
        sleep(0.05)  # a worker has no other sign that it is ready


def _points(server: Running, spec: ModelSpec, job: Job, *, steps: bool) -> Iterator[Result]:
    """Measure each point; `steps`: those of single steps too."""
    features = len(spec.features)
    (token,) = json.loads(server.ask(scenarios.body(features, 1, return_state=True)))["states"]
    for point in points(features):
        if point.stateful and not steps:
            continue
        child.say(f"  {point.name}, {point.callers} callers")
        scenario = point.carrying(token) if point.stateful else point
        before = state.executions(server.port)
        result = loaded(server.url, scenario, seconds=job.seconds, warm=QUICK_WARM if job.quick else WARM)
        ran = state.executions(server.port) - before
        health = state.health(server.port)
        yield result | {
            "name": point.name,
            "callers": point.callers,
            "batches": dict(ran),
            "status": health.status,
            "reason": health.reason,
        }


def loaded(url: str, scenario: Scenario, *, seconds: float, warm: float) -> Result:
    """A closed loop of the scenario's callers, by as many generators at once as there are CPUs for."""
    jobs = [
        Load(url=url, bodies=scenario.bodies, connections=share, seconds=seconds, headers=dict(scenario.headers), warm=warm)
        for share in shares(scenario.callers, cpus.available())
    ]
    with ThreadPoolExecutor(len(jobs)) as threads:
        return together(scenario, list(threads.map(load.generate, jobs)))


def shares(callers: int, cpus: int) -> list[int]:
    """How many of the callers each generator gets."""
    count = max(1, min(GENERATORS, cpus // CPUS_EACH, callers // CALLERS_EACH))
    return [callers // count + (index < callers % count) for index in range(count)]


def together(scenario: Scenario, reports: Sequence[Report]) -> Result:
    """The generators' reports as one: the sum of their rates, and the worst p50 and p99."""
    rate = sum(report.served for report in reports)
    return {
        "requests_per_second": rate,
        "sequences_per_second": rate * (scenario.sequences or 1.0),
        "p50": max((report.p50 for report in reports if report.p50 is not None), default=None),
        "p99": max((report.p99 for report in reports if report.p99 is not None), default=None),
        "failed": sum(report.failed for report in reports),
        "generator_busy": max(report.cpus for report in reports) > BUSY,
    }


if __name__ == "__main__":
    sys.exit(child.answer(measure))
