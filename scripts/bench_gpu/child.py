"""A part of the measurement, in a process of its own: what it takes, what it answers, and what became of it.

Two parts that load CUDA's libraries in different versions cannot share a process, and one that dies must not take the others
along. Owns how they are started and ended. Knows nothing of what they measure. A part tells on stderr how far it is; the last
line of its stdout is its answer, JSON.
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
    """What every part is told. `quick`: as little as shows that it runs."""

    device: Literal["cuda", "cpu"]
    reference: str  # the folder of the version that is measured
    models: str  # a repository with those that are made for this
    seconds: float = 1.5  # of a point of load
    quick: bool = False

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))


def run(part: str, job: Job, *, patience: float) -> Result:
    """The answer of the module scripts.bench_gpu.`part`; where it gives none, {"failed": why}, after `patience` seconds at most."""
    command = [sys.executable, "-m", f"scripts.bench_gpu.{part}", json.dumps(asdict(job))]
    with TemporaryFile("w+") as said:  # not a pipe: its end would wait for whatever else the part has started
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
    """Do what this process was started for, and print what came of it; its exit code."""
    try:
        result = measure(Job.from_json(sys.argv[1]))
    except Exception as error:  # whatever it is, the others go on, and it is told
        traceback.print_exc()
        print(json.dumps({FAILED: f"{type(error).__name__}: {' '.join(str(error).split())}"}))
        return 1
    print(json.dumps(result))
    return 0


def say(text: str) -> None:
    """How far it is."""
    print(f"  {text}", file=sys.stderr, flush=True)
