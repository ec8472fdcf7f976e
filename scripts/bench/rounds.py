"""One round: the ceiling, the plain service, the service, the bare route, and streams, each measured once, close in time.

Owns the order, and that ratios are of figures of the same round: if the machine is slower for a minute, it is slower for both.
Knows nothing of how often rounds are repeated or how they are shown.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from statistics import mean

from app import cpus
from app.manifest import ModelSpec
from scripts.bench import load, scenarios, servers, streaming, tree
from scripts.bench.job import Figure, Job
from scripts.bench.scenarios import Arrivals, Expiry, Scenario, Streams
from scripts.bench.servers import Running

Figures = dict[str, Figure]  # by scenario; also "ceiling" and "service"

IDLE = 5.0  # seconds
CONNECTIONS = 1024  # of an open loop


@dataclass(frozen=True, slots=True)
class Plan:
    version: Path
    spec: ModelSpec
    closed: Sequence[Scenario]
    open: Sequence[Arrivals]
    streams: Sequence[Streams]
    expiries: Sequence[Expiry]
    seconds: int  # of one measurement

    def of(self, server: str, *, stateful: bool = False) -> list[Scenario]:
        return [each for each in self.closed if each.server == server and each.stateful == stateful]

    @property
    def bounded(self) -> list[Scenario]:
        return [each for each in self.closed if each.bounded]

    def __len__(self) -> int:
        """How often `measure` calls `tell`."""
        parts = (self.closed, self.bounded, self.open, self.streams, self.expiries)
        return (2 if self.closed else 0) + sum(map(len, parts))


def measure(plan: Plan, tell: Callable[[str], None]) -> Figures:
    """Measure all that is planned, once; `tell` is called with the name of each step. RuntimeError if a closed loop fails."""
    figures = _sequences(plan, tell) if plan.closed else {}
    first = scenarios.body(len(plan.spec.features), 1)
    for flags, group in groupby(plan.streams, lambda each: each.flags):
        with servers.service(plan.version, plan.spec, first, *flags) as server:
            for scenario in group:
                tell(scenario.name)
                figures[scenario.name] = streaming.measure(server, scenario, plan.seconds)
    for expiry in plan.expiries:
        tell(expiry.name)
        figures[expiry.name] = streaming.expire(plan.version, expiry)
    return figures


def _sequences(plan: Plan, tell: Callable[[str], None]) -> Figures:
    """Measure the requests without streams, and what they are compared with."""
    version, workers, features = str(plan.version), str(cpus.available()), len(plan.spec.features)
    first = scenarios.body(features, 1)
    figures: Figures = {}

    tell("the ceiling")
    raw = json.loads(subprocess.check_output([sys.executable, "-m", "scripts.bench.ceiling", version], cwd=servers.ROOT))
    figures["ceiling"] = {name: raw[name] for name in ("sequences_per_second", "raw_seconds", "raw_paused_seconds")}

    def closed(server: Running, scenario: Scenario) -> None:
        tell(scenario.name)
        figures[scenario.name] = _closed(server, scenario, plan.seconds, raw["sequences_per_second"])

    if plan.of("plain"):
        port = servers.free_port()
        with servers.module("afternoon", version, str(port), workers, port=port, first=first) as server:
            for scenario in plan.of("plain"):
                closed(server, scenario)

    token, answer, sizes = "", b"", dict[str, int]()
    with servers.service(plan.version, plan.spec, first) as server:
        service = figures["service"] = {"cold_start": server.cold_start, "fresh_pss": tree.pss(server.pid)}
        for scenario in plan.of("service"):
            before, worked = _steps(server), _engine(server)
            closed(server, scenario)
            figures[scenario.name]["model"] = _each(worked, _engine(server))
            if scenario.name == scenarios.MIXED:
                service["padding_waste"] = _waste(before, _steps(server))
        for arrivals in plan.open:
            tell(arrivals.name)
            capacity = figures[arrivals.capacity]["requests_per_second"] or 0.0
            figures[arrivals.name] = _open(server, arrivals, capacity, plan.seconds)
        for scenario in plan.bounded:
            sizes[scenario.name] = round(mean(len(server.ask(body, scenario.headers)) for body in scenario.bodies))
        tell("idle")
        service |= {"idle_cpu": _idle(server), "pss": tree.pss(server.pid)}
        stepping = [each for each in plan.closed if each.stateful]
        if stepping:
            (token,) = json.loads(server.ask(scenarios.body(features, 1, return_state=True)))["states"]
            answer = server.ask(stepping[0].carrying(token).bodies[0])
        for scenario in plan.of("service", stateful=True):  # last, so that the bare route follows at once
            closed(server, scenario.carrying(token))

    if sizes or answer:
        port = servers.free_port()
        with servers.module("bare", str(port), workers, port=port, first=first) as server:
            for scenario in plan.of("bare", stateful=True):
                closed(server.answering(len(answer)), scenario.carrying(token))
            for scenario in plan.bounded:
                tell(f"bare route: {scenario.name}")
                bare = _closed(server.answering(sizes[scenario.name]), scenario, plan.seconds, raw["sequences_per_second"])
                found = {"bare_p50": bare["p50"], "bound": _bound(scenario, bare["of_ceiling"]), "http": bare["spent"]}
                figures[scenario.name] |= found
    return figures


def _closed(server: Running, scenario: Scenario, seconds: int, ceiling: float) -> Figure:
    run = partial(load.closed_loop, server.url, scenario.bodies, connections=scenario.callers, headers=scenario.headers)
    run(seconds=1)  # warm
    found = run(seconds=seconds)
    if found.failed:
        raise RuntimeError(f"{scenario.name}: {found.failed} requests failed")
    rate = found.requests_per_second
    share = None if scenario.sequences is None else rate * scenario.sequences / ceiling
    spent = cpus.available() / (rate * scenario.instances) if rate else None  # processor time, as if no processor was idle
    return {"requests_per_second": rate, "p50": found.p50, "p99": found.p99, "of_ceiling": share, "spent": spent}


def _bound(scenario: Scenario, of_ceiling: float | None) -> float | None:
    """The share of the ceiling that would be reached if only HTTP, the generator and the model took time, one after the other
    on the same processors. None if processors are not the bottleneck: with a single client.

    of_ceiling: the bare route's share of the ceiling; it runs no model.
    """
    return 1 / (1 + 1 / of_ceiling) if of_ceiling and scenario.callers > 1 else None


def _open(server: Running, arrivals: Arrivals, capacity: float, seconds: int) -> Figure:
    job = Job(
        url=server.url,
        bodies=[arrivals.body],
        headers=dict(servers.JSON),
        connections=CONNECTIONS,
        rate=arrivals.share * capacity,
        deadline=arrivals.deadline,
        warm=1.0,
        seconds=seconds,
    )
    report = load.generate(job)
    numbers = {name: value for name, value in asdict(report).items() if name != "answers"}
    accepted, expired = (report.answers.get(status, 0) for status in ("200", "504"))
    failed = report.failed - report.refusals - expired - report.unanswered
    return {"offered": job.rate, **numbers, "accepted": accepted, "expired": expired, "failed": failed}


def _steps(server: Running) -> tuple[float | None, float | None]:
    """Time steps that were asked for, and those that were computed, padding included."""
    return server.counter("recurve_steps_total"), server.counter("recurve_padded_steps_total")


def _engine(server: Running) -> tuple[float | None, float | None]:
    """Seconds in the engine, and instances that were predicted."""
    return server.counter("recurve_execution_seconds_sum"), server.counter("recurve_inferences_total")


def _each(before: tuple[float | None, float | None], after: tuple[float | None, float | None]) -> float | None:
    """Seconds in the engine per instance, between two readings of the counters."""
    seconds, count = (None if a is None else a - (b or 0.0) for b, a in zip(before, after, strict=True))
    return None if seconds is None or not count else seconds / count


def _waste(before: tuple[float | None, float | None], after: tuple[float | None, float | None]) -> float | None:
    """The share of padding in the computed time steps."""
    asked, computed = (None if a is None else a - (b or 0.0) for b, a in zip(before, after, strict=True))
    return None if asked is None or not computed else 1 - asked / computed


def _idle(server: Running) -> float | None:
    """CPUs that the server uses without requests, after the earlier ones are over."""
    time.sleep(1.0)  # work that ends after its answer must not count
    before = tree.cpu_seconds(server.pid)
    time.sleep(IDLE)  # the time that is measured
    after = tree.cpu_seconds(server.pid)
    return None if before is None or after is None else (after - before) / IDLE
