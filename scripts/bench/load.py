"""Load on a server, from a process that is not the bottleneck: wrk, a load generator in C.

Owns how bodies reach wrk and how its report is read. Knows nothing of what is served.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

# Requests are made once; each thread walks through them in turn.
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
    """What a closed loop of callers saw. Latencies in seconds."""

    requests_per_second: float
    p50: float
    p99: float
    failed: int  # answers other than 2xx, and broken connections


def available() -> bool:
    return shutil.which("wrk") is not None


def closed_loop(
    url: str, bodies: Sequence[bytes], *, connections: int, seconds: int, headers: dict[str, str] | None = None
) -> Load:
    """`connections` callers, each sending the next body as soon as it is answered."""
    fields = {"Content-Type": "application/json"} | (headers or {})
    lua = "{" + ", ".join(f'["{name}"] = "{value}"' for name, value in fields.items()) + "}"
    with TemporaryDirectory() as folder:
        for index, body in enumerate(bodies):
            (Path(folder) / str(index)).write_bytes(body)
        script = Path(folder) / "load.lua"
        script.write_text(SCRIPT.format(count=len(bodies), folder=folder, headers=lua))
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
