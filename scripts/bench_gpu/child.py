"""Runs one part of the measurement in its own process: its job, its answer, and its failure.

Parts that load different versions of CUDA's libraries cannot share a process, and one that crashes must not end the others.
Owns how they are started and ended. Knows nothing of what they measure. A part reports its progress on stderr; the last line of
its stdout is its answer, as JSON.
"""

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from tempfile import TemporaryFile
from typing import Any, Literal, Self

from scripts.bench.servers import ROOT

Result = dict[str, Any]  # plain values; "faults": what it found that is not as it must be

FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Job:
    """The input of every part. `quick`: only as much as shows that it runs."""

    device: Literal["cuda", "cpu"]
    reference: str  # the folder of the version that is measured
    models: str  # a repository with the models that are made for the benchmark
    seconds: float = 1.5  # for each point of load
    quick: bool = False

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))


def run(part: str, job: Job, *, patience: float) -> Result:
    """The answer of the module scripts.bench_gpu.`part`; {"failed": why} if it gives none within `patience` seconds."""
    command = [sys.executable, "-m", f"scripts.bench_gpu.{part}", json.dumps(asdict(job))]
    with TemporaryFile("w+") as said:  # not a pipe: its end comes when all that the part started has ended
        process = subprocess.Popen(command, cwd=ROOT, stdout=said, start_new_session=True)  # noqa: S603  # it runs what it measures
        try:
            process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            return {FAILED: f"it took longer than {patience:g} s"}
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it started is in its session, and ends with it
            process.wait()
        said.seek(0)
        *_, last = said.read().splitlines() or [""]
    try:
        result = json.loads(last)
    except ValueError:
        return {FAILED: f"its process ended with exit code {process.returncode} and no answer"}
    return result if isinstance(result, dict) else {FAILED: f"it answered {last[:100]!r}"}


def answer(measure: Callable[[Job], Result]) -> int:
    """Run the measurement that this process was started for, and print its result; returns the exit code."""
    try:
        result = measure(Job.from_json(sys.argv[1]))
    except Exception as error:  # whatever it is, it is reported, and the other parts go on
        traceback.print_exc()
        print(json.dumps({FAILED: f"{type(error).__name__}: {' '.join(str(error).split())}"}))
        return 1
    print(json.dumps(result))
    return 0


def say(text: str) -> None:
    """Report progress on stderr."""
    print(f"  {text}", file=sys.stderr, flush=True)
