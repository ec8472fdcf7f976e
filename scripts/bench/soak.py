"""The soak test: a long run of all kinds of clients at once, with checks of what must hold throughout.

Owns the mixture, the checks and the report. Knows nothing of what a visit asks. The checks: every answer is right for its
request, and every prediction is the engine's; probes are answered soon, apart from delays that an idle process has too; memory
does not grow; abandoned streams are gone in the end.
"""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from random import Random
from time import monotonic

import orjson
import uvloop
from tqdm import tqdm

from app.manifest import ModelSpec
from scripts import results
from scripts.bench import greedy, servers, sittings, tree, visits
from scripts.bench.probing import SOON, Figures
from scripts.bench.scenarios import body
from scripts.bench.tally import Tally, Trend, Visit
from scripts.bench.truth import Truth
from scripts.bench.visits import Client

WORKERS, TTL = 2, 30  # of the service; seconds after which it drops an idle stream
QUICK: Mapping[str, tuple[Visit, int]] = {  # name -> the visit and its weight
    "JSON": (visits.json, 30),
    "octets": (visits.octets, 15),
    "JSON, gzip": (visits.packed, 5),
    "state tokens": (visits.token, 8),
    "V2, JSON and binary": (visits.v2, 10),
    "streams over HTTP": (sittings.over_http, 6),
    "streams over WebSockets": (sittings.over_websocket, 8),
    "many streams at once": (sittings.many_at_once, 3),
    "broken": (visits.broken, 10),
    "gone in the middle": (greedy.leave, 8),
}
SLOW: Mapping[str, tuple[Visit, int]] = {
    "trickling": (greedy.trickle, 6),
    "reading slowly": (greedy.read_slowly, 3),
    "at the limits": (greedy.huge, 2),
    "over the limits": (greedy.too_large, 2),
}
CALLERS = ((QUICK, 12), (SLOW, 4))  # the clients of each mixture; each makes one visit after the other
SAMPLES = 120  # of memory
GIVES_WAY = 10  # of 19: the niceness of this process
GROWTH = 0.05  # share by which memory may grow over the last two thirds, by a straight line fitted to it
LATE = 0.01  # share of probes that may be late, above that of the idle process
TIMEOUT = 1.0  # seconds that an orchestrator waits for a probe's answer by default
PATIENCE = 45.0  # seconds after the TTL by which streams must be gone: a chunk that waits may still need its stream


def run(version: Path, spec: ModelSpec, *, minutes: float, target: Path | None) -> int:
    """Run the soak test and print its results; 1 if a check failed, 2 if the model cannot be checked in this way."""
    try:
        truth = Truth(spec, version)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    flags = ("--workers", str(WORKERS), "--stream-ttl", str(TTL))
    with servers.service(version, spec, body(len(spec.features), 1), *flags) as server:
        return uvloop.run(_soak(server, truth, 60 * minutes, target))


async def _soak(server: servers.Running, truth: Truth, seconds: float, target: Path | None) -> int:
    tally = Tally()
    over = monotonic() + seconds
    prober = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "scripts.bench.probing", str(server.port), stdin=PIPE, stdout=PIPE, cwd=servers.ROOT
    )
    os.nice(GIVES_WAY)  # so that the clients take little processor time from the service, as if they were on another machine
    spent, waited = tree.cpu_seconds(server.pid) or 0.0, tree.waiting_seconds(server.pid) or 0.0
    sizes: list[tuple[float, float]] = []
    async with asyncio.TaskGroup() as group:
        for kind, (mixture, count) in enumerate(CALLERS):
            for number in range(count):
                client = Client(server.port, truth, Random(f"{kind} {number}"))  # noqa: S311  # chance, not secrets
                group.create_task(_call(tally, client, mixture, over))
        group.create_task(_weigh(server.pid, seconds, sizes))
    busy = ((tree.cpu_seconds(server.pid) or 0.0) - spent) / seconds
    kept = ((tree.waiting_seconds(server.pid) or 0.0) - waited) / seconds
    report, _ = await prober.communicate(b"")
    probes = {name: Figures(**found) for name, found in orjson.loads(report.replace(b"NaN", b"null")).items()}
    left = await _left(server.port, truth)

    trend = Trend.of(*zip(*sizes, strict=True))
    checks = verdicts(tally, probes, trend, left)
    print("\n".join(tally.lines()))
    print("\n| Probes | Asked | Failed | Within 50 ms | p50 | p99 | p99.9 | Slowest |\n|---|---|---|---|---|---|---|---|")
    for name, each in probes.items():
        times = " | ".join(f"{1e3 * value:,.1f} ms" for value in (each.p50, each.p99, each.p999, each.slowest))
        print(f"| {name} | {each.asked:,} | {each.failed} | {100 * (1 - each.late_share):.3f} % | {times} |")
    print(f"\nThe service ran on {busy:.2f} CPUs, and {kept:.2f} of its threads were ready to run and had none.")
    print("\n".join(f"{'held' if held else 'NOT HELD'}: {said}" for said, held in checks.items()))
    results.write(
        target,
        {
            "seconds": seconds,
            "cpus": busy,
            "waiting_threads": kept,
            "visits": tally.verdicts,
            "probes": {name: asdict(each) for name, each in probes.items()},
            "memory": {"samples": sizes, **asdict(trend)},
            "streams_left": left,
            "checks": checks,
        },
    )
    return 0 if all(checks.values()) else 1


def verdicts(tally: Tally, probes: Mapping[str, Figures], trend: Trend, left: int) -> dict[str, bool]:
    """Each check as a sentence, and whether it holds."""
    wrong = tally.wrong
    told = ", ".join(f"{times:,} {name}" for name, times in sorted(wrong.items(), key=lambda item: -item[1])[:10])
    service, idle = probes["service"], probes["idle"]
    return {
        f"every answer is right ({told or 'none is wrong'})": any(each["right"] for each in tally.verdicts.values()) and not wrong,
        f"{100 * service.late_share:.3f} % of the probes take more than {1e3 * SOON:.0f} ms, of those of an idle process "
        f"{100 * idle.late_share:.3f} %": service.late_share <= idle.late_share + LATE,
        f"the slowest probe took {1e3 * service.slowest:,.0f} ms, {service.failed} failed": service.slowest < TIMEOUT
        and service.failed == 0,
        f"memory (PSS): {trend.megabytes:.1f} MB after a third, {100 * trend.growth:+.1f} % at the end, by a line of "
        f"{trend.hourly:+.1f} MB an hour": trend.growth <= GROWTH,
        f"{left} streams are left": left == 0,
    }


async def _call(tally: Tally, client: Client, mixture: Mapping[str, tuple[Visit, int]], over: float) -> None:
    names, weights = list(mixture), [weight for _, weight in mixture.values()]
    async with client.peer:
        while monotonic() < over:
            (name,) = client.random.choices(names, weights)
            await tally.visit(name, mixture[name][0], client)


async def _weigh(pid: int, seconds: float, sizes: list[tuple[float, float]]) -> None:
    begin = monotonic()
    for sample in tqdm(range(1, SAMPLES + 1), desc="soaking", unit="sample", file=sys.stderr, disable=None):
        await asyncio.sleep(max(0.0, begin + sample * seconds / SAMPLES - monotonic()))
        sizes.append((monotonic() - begin, (tree.pss(pid) or 0) / 1e6))


async def _left(port: int, truth: Truth) -> int:
    """How many streams are left when all should have expired."""
    deadline, count = monotonic() + TTL + PATIENCE, 1
    async with Client(port, truth, Random(0)).peer as peer:  # noqa: S311  # the same
        while count and monotonic() < deadline:
            count = (await peer.ask("GET", "/streams")).json()["count"]
            await asyncio.sleep(1)
    return count
