"""Puts load on a server, from a process that is not the bottleneck.

Owns how bodies reach wrk, a load generator in C, and how its report is read. Without wrk, the generator of this package does
closed loops; it always does the open loops. Knows nothing of what is served.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from scripts.bench.job import Job, Report

ROOT = Path(__file__).parents[2]

# One request, built once by wrk itself: without a `request` function, wrk calls no Lua while it measures.
STATIC = """
wrk.method = "POST"
wrk.headers = {headers}
local file = io.open("{folder}/0", "rb")
wrk.body = file:read("*a")
file:close()
"""
# Requests are built once; each thread sends them in turn.
SCRIPT = """
local requests = {{}}
local turn = 0
function init(args)
  for index = 0, {count} - 1 do
    local file = io.open("{folder}/" .. index, "rb")
    requests[index] = wrk.format("POST", nil, {headers}, file:read("*a"))
    file:close()
  end
end
function request()
  turn = (turn + 1) % {count}
  return requests[turn]
end
"""
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


@dataclass(frozen=True, slots=True)
class Load:
    """The result of a closed loop. Latencies in seconds."""

    requests_per_second: float
    p50: float
    p99: float
    failed: int  # answers other than 2xx, and broken connections


def has_wrk() -> bool:
    return shutil.which("wrk") is not None


def closed_loop(url: str, bodies: Sequence[bytes], *, connections: int, seconds: int, headers: Mapping[str, str]) -> Load:
    """Run `connections` clients, each sending the next body as soon as the last is answered; `seconds`: for how long."""
    if has_wrk():
        return _wrk(url, bodies, connections, seconds, headers)
    report = generate(Job(url=url, bodies=bodies, headers=dict(headers), connections=connections, seconds=seconds))
    nan = float("nan")
    return Load(report.requests_per_second, p50=report.p50 or nan, p99=report.p99 or nan, failed=report.failed)


def generate(job: Job, *, by: Literal["generator", "sockets"] = "generator") -> Report:
    """Have the job done by a load generator in its own process; CalledProcessError if nothing listens."""
    command = [sys.executable, "-m", f"scripts.bench.{by}"]
    done = subprocess.run(command, cwd=ROOT, input=job.to_json(), stdout=subprocess.PIPE, text=True, check=True)
    return Report.from_json(done.stdout)


def _wrk(url: str, bodies: Sequence[bytes], connections: int, seconds: int, headers: Mapping[str, str]) -> Load:
    lua = "{" + ", ".join(f'["{name}"] = "{value}"' for name, value in headers.items()) + "}"
    with TemporaryDirectory() as folder:
        for index, body in enumerate(bodies):
            (Path(folder) / str(index)).write_bytes(body)
        script = Path(folder) / "load.lua"
        text = STATIC if len(bodies) == 1 else SCRIPT
        script.write_text(text.format(count=len(bodies), folder=folder, headers=lua))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "--latency", "-s", str(script), url]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return _read(report)


def _read(report: str) -> Load:
    failed = sum(int(n) for n in re.findall(r"Non-2xx or 3xx responses: (\d+)", report))
    if errors := re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", report):
        failed += sum(map(int, errors.groups()))
    rate = re.search(r"Requests/sec:\s+([\d.]+)", report)
    if rate is None:
        raise RuntimeError(f"wrk's report cannot be read:\n{report}")
    return Load(requests_per_second=float(rate[1]), p50=_latency(report, 50), p99=_latency(report, 99), failed=failed)


def _latency(report: str, percent: int) -> float:
    found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m)\s*$", report, re.MULTILINE)
    return float(found[1]) * UNITS[found[2]] if found else float("nan")
