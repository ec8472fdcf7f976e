"""Measures streams in one round: the highest rate that is held, closed loops, and how long expiry blocks the event loop.

Owns what it means that a rate is held, and which figures a load on streams gives. Knows nothing of the order of measurements
or of how they are shown.
"""

import json
import subprocess
import sys
from pathlib import Path

from scripts.bench import load, search, servers, tree
from scripts.bench.job import Figure, Job, Report
from scripts.bench.scenarios import OCTETS, Expiry, Streams
from scripts.bench.servers import Running

WITHIN = 0.025  # seconds; a rate is held if its p99 is below this
PROBE = 2  # seconds for which a rate is tried, at most
WARM = 1.0  # seconds
FIRST = 0.5  # the first rate that is tried, as a share of the closed loop's: about what is held
SHOWN = ("messages_per_second", "steps_per_second", "p50", "p99", "batch", "work", "late_p99", "cpus")


def measure(server: Running, scenario: Streams, seconds: int) -> Figure:
    """The figures of one scenario; RuntimeError if a message fails in a closed loop."""
    if scenario.loop == "closed":
        return _closed(server, scenario, seconds)
    probe = min(PROBE, seconds)
    capacity = _closed(server, scenario, probe)["messages_per_second"] or 0.0

    def attempt(rate: float) -> tuple[bool, Figure]:
        report, *counted = _load(server, scenario, probe, rate)
        return held(report), _figure(scenario, rate, report, *counted)

    found = search.highest(FIRST * capacity, attempt)
    return dict.fromkeys(SHOWN) if found is None else found[1]


def held(report: Report) -> bool:
    """Whether every message was answered, and 99 % of them in time."""
    return not report.failed and report.p99 is not None and report.p99 < WITHIN


def expire(version: Path, expiry: Expiry) -> Figure:
    command = [sys.executable, "-m", "scripts.bench.expiry", str(version), expiry.store, str(expiry.streams)]
    found = json.loads(subprocess.check_output(command, cwd=servers.ROOT))
    return {name: found[name] for name in ("longest_pause", "longest_work", "seconds")}


def _closed(server: Running, scenario: Streams, seconds: int) -> Figure:
    report, *counted = _load(server, scenario, seconds, None)
    if report.failed:
        raise RuntimeError(f"{scenario.name}: {report.failed} messages failed; the answers were {report.answers}")
    return _figure(scenario, report.requests_per_second, report, *counted)


def _load(server: Running, scenario: Streams, seconds: int, rate: float | None) -> tuple[Report, float | None, float | None]:
    """The load's report; the mean number of instances in a batch meanwhile, and the service's processor seconds per instance."""
    over_http = scenario.over == "http"
    paths = [f"{server.begin_stream()}/predict" for _ in range(scenario.callers)] if over_http else ()
    job = Job(
        url=f"http://127.0.0.1:{server.port}/streams/ws",
        bodies=[scenario.body],
        connections=scenario.callers,
        seconds=seconds,
        headers=dict(OCTETS) if over_http else {},
        paths=paths,
        rate=rate,
        warm=WARM,
    )
    before, spent = _counted(server), tree.cpu_seconds(server.pid)
    report = load.generate(job, by="generator" if over_http else "sockets")
    after, spent_since = _counted(server), tree.cpu_seconds(server.pid)
    instances = (after[0] or 0.0) - (before[0] or 0.0)
    work = None if spent is None or spent_since is None or not instances else (spent_since - spent) / instances
    return report, mean_batch(before, after), work


def _counted(server: Running) -> tuple[float | None, float | None]:
    return server.counter("recurve_inferences_total"), server.counter("recurve_executions_total")


def mean_batch(before: tuple[float | None, float | None], after: tuple[float | None, float | None]) -> float | None:
    """Instances per batch, from the counts of both before and after; None if nothing ran."""
    instances, batches = ((b or 0.0) - (a or 0.0) for a, b in zip(before, after, strict=True))
    return instances / batches if batches else None


def _figure(scenario: Streams, rate: float, report: Report, batch: float | None, work: float | None) -> Figure:
    values = (rate, rate * scenario.steps, report.p50, report.p99, batch, work, report.late_p99, report.cpus)
    return dict(zip(SHOWN, values, strict=True))
