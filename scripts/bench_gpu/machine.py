"""Describes what it was measured on: the GPU and its driver, the CPU, the versions, the commit.

Owns where each fact is read. Knows nothing of what is measured. What cannot be found out is None.
"""

import platform
import subprocess
import sys
from pathlib import Path

import onnxruntime as ort

from app import cpus, manifest
from app.errors import ProviderUnavailable
from app.runtime import CUDA, Runtime
from scripts.bench.servers import ROOT
from scripts.bench_gpu import child
from scripts.bench_gpu.child import Job, Result
from scripts.training import processor
from scripts.training.packages import installed


def measure(job: Job) -> Result:
    """The facts; and `obstacle`, the reason if CUDA was asked for and cannot be used."""
    return {
        "gpu": _gpu() if job.device == "cuda" else None,
        "obstacle": _obstacle(Path(job.reference)) if job.device == "cuda" else None,
        "cpu": processor.name(),
        "cpus": cpus.available(),
        "onnxruntime_cuda": getattr(ort, "cuda_version", None) or None,
        "packages": installed(),
        "commit": _said("git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"),
        "platform": platform.platform(terse=True),
    }


def _obstacle(reference: Path) -> str | None:
    spec = manifest.read(reference)
    if CUDA not in spec.graphs:
        return f"{spec} has no graph for CUDA"
    try:
        Runtime().cuda(reference / spec.graphs[CUDA])
    except ProviderUnavailable as error:
        return str(error)
    return None


def _gpu() -> Result | None:
    said = _said("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    if said is None:
        return None
    name, memory, driver = (part.strip() for part in said.splitlines()[0].split(","))
    return {"name": name, "memory": memory, "driver": driver}


def gpu_memory() -> int | None:
    """MiB of the GPU's memory that are in use, by any process; None if that is not known."""
    said = _said("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits")
    first = (said or "").partition("\n")[0]
    return int(first) if first.isdecimal() else None


def _said(*command: str) -> str | None:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603  # constants
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


if __name__ == "__main__":
    sys.exit(child.answer(measure))
