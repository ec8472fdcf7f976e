"""Measure the service beside what ONNX Runtime alone can do and beside a plain service, in one run.

    python -m scripts.bench                          about 3 minutes; needs wrk
    python -m scripts.bench --seconds 2 --repeat 1   a quick look
    python -m scripts.bench --json bench.json

Every figure is a median over the repeats. Ratios of one run can be compared between machines, figures cannot.
Exits 0 when measured, 1 when something failed, 2 on wrong use.
"""

import json
import subprocess
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from tqdm import tqdm

from app import cpus, manifest
from scripts import results
from scripts.bench import load, servers
from scripts.bench.ceiling import STEPS
from scripts.bench.load import Load


def body(*lengths: int, **options: Any) -> bytes:
    """A JSON request with instances of these lengths."""
    rng = np.random.default_rng(len(lengths))
    instances = [(50 * rng.standard_normal((length, 6))).round(3).tolist() for length in lengths]
    return json.dumps({"instances": instances, **options}).encode()


def main(argv: list[str] | None = None) -> int:
    parser = ArgumentParser(prog="python -m scripts.bench", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--version", type=Path, default=servers.ROOT / "model/gyro-denoiser/1", help="the version to serve")
    parser.add_argument("--seconds", type=int, default=4, help="length of one measurement (4)")
    parser.add_argument("--repeat", type=int, default=3, help="measurements of each, of which the median counts (3)")
    results.add_option(parser)
    args = parser.parse_args(argv)
    if not load.available():
        print("This needs wrk: apt-get install wrk", file=sys.stderr)
        return 2

    version = args.version.resolve()
    spec = manifest.read(version)
    bar = tqdm(desc="measuring", unit="run", file=sys.stderr)

    def repeated(measure: Callable[[], Any]) -> list[Any]:
        found = []
        for _ in range(args.repeat):
            found.append(measure())
            bar.update()
        return found

    def closed(url: str, bodies: list[bytes], connections: int, **headers: str) -> Load:
        load.closed_loop(url, bodies, connections=connections, seconds=1, headers=headers)  # warm
        runs = repeated(lambda: load.closed_loop(url, bodies, connections=connections, seconds=args.seconds, headers=headers))
        if failed := sum(run.failed for run in runs):
            raise RuntimeError(f"{failed} requests failed")
        rate, p50, p99 = (median(getattr(run, name) for run in runs) for name in ("requests_per_second", "p50", "p99"))
        return Load(requests_per_second=rate, p50=p50, p99=p99, failed=0)

    # -- what is compared with -----------------------------------------------------------------------------------------
    command = [sys.executable, "-m", "scripts.bench.ceiling", str(version)]
    raw = [json.loads(out) for out in repeated(lambda: subprocess.check_output(command, cwd=servers.ROOT))]
    ceiling, raw_latency = (median(run[name] for run in raw) for name in ("sequences_per_second", "raw_seconds"))
    one, many = [body(STEPS)], [body(*[STEPS] * 32)]
    rng = np.random.default_rng(6)
    mixed_lengths = np.exp(rng.uniform(0, np.log(512), 256)).astype(int).tolist()
    mixed = [body(length) for length in mixed_lengths]

    measured: dict[str, Load] = {}
    port = servers.free_port()
    with servers.module("afternoon", str(version), str(port), str(cpus.available()), port=port) as other:
        measured["plain service: one sequence, 64 callers"] = closed(other.url, one, 64)

    # -- the service ---------------------------------------------------------------------------------------------------
    with servers.service(version, spec) as server:
        cold = server.started
        for connections in (1, 16, 64):
            measured[f"one sequence, {connections} caller{'s' * (connections > 1)}"] = closed(server.url, one, connections)
        measured["32 sequences a request, 4 callers"] = closed(server.url, many, 4)
        octets = np.zeros((STEPS, 6), dtype="<f4").tobytes()
        binary = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}
        measured["one sequence as octets, 64 callers"] = closed(server.url, [octets], 64, **binary)
        measured["one sequence, last step only, 64 callers"] = closed(server.url, [body(STEPS, return_sequences=False)], 64)
        measured["one sequence of 1 to 512 steps, 64 callers"] = closed(server.url, mixed, 64)
    bar.close()

    # -- tell ----------------------------------------------------------------------------------------------------------
    # in sequences of STEPS steps
    per_request = {
        "32 sequences a request, 4 callers": 32.0,
        "one sequence of 1 to 512 steps, 64 callers": float(np.mean(mixed_lengths)) / STEPS,
    }
    ratios = {name: run.requests_per_second * per_request.get(name, 1.0) / ceiling for name, run in measured.items()}
    print(
        f"{spec}: ceiling {ceiling:,.0f} sequences/s of {STEPS} steps, raw run {1e6 * raw_latency:.0f} us; cold start {cold:.2f} s"
    )
    print(f"{'scenario':<44} {'requests/s':>11} {'p50 ms':>8} {'p99 ms':>8} {'of the ceiling':>15}")
    for name, run in measured.items():
        print(f"{name:<44} {run.requests_per_second:>11,.0f} {1e3 * run.p50:>8.2f} {1e3 * run.p99:>8.2f} {ratios[name]:>15.2f}")
    faster = ratios["one sequence, 64 callers"] / ratios["plain service: one sequence, 64 callers"]
    print(f"64 callers: requests over those of the plain service: {faster:.1f} times")
    print(f"One caller: p50 over a raw run: {measured['one sequence, 1 caller'].p50 / raw_latency:.2f} times")
    results.write(args.json, {"ceiling": ceiling, "raw_seconds": raw_latency, "cold_start_seconds": cold, "ratios": ratios})
    return 0


if __name__ == "__main__":
    sys.exit(main())
