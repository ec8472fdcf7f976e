"""The servers that are measured: each a process of its own, on a port of its own, gone at the end.

Owns starting and stopping. Knows nothing of load or of what is compared.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory

from app.manifest import ModelSpec

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers at `url`; `started` is how long it took to, in seconds."""

    url: str
    started: float


@contextmanager
def service(version: Path, spec: ModelSpec) -> Iterator[Running]:
    """The service itself, with its defaults, over a repository that holds this version alone."""
    port = free_port()
    with TemporaryDirectory() as repository:
        folder = Path(repository) / spec.name
        folder.mkdir()
        (folder / spec.version).symlink_to(version)
        flags = ("--model-dir", repository, "--default-model", spec.name, "--log-level", "error")
        with _running(["-m", "app", "--port", str(port), *flags], port) as server:
            yield server


@contextmanager
def module(name: str, *arguments: str, port: int) -> Iterator[Running]:
    """Another server of this package."""
    with _running(["-m", f"scripts.bench.{name}", *arguments], port) as server:
        yield server


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def _running(arguments: Sequence[str], port: int) -> Iterator[Running]:
    begin = time.perf_counter()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RECURVE_")}
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=clean)
    try:
        _wait(process, port)
        yield Running(url=f"http://127.0.0.1:{port}/predict", started=time.perf_counter() - begin)
    finally:
        process.terminate()
        try:
            process.wait(timeout=PATIENCE)
        finally:
            process.kill()


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    """Until it answers HTTP, whatever it says."""
    end = time.perf_counter() + PATIENCE
    while time.perf_counter() < end:
        if process.poll() is not None:
            raise RuntimeError(f"The server on port {port} ended with exit code {process.returncode} before it answered.")
        connection = HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", "/health/ready")
            connection.getresponse()
        except OSError:
            time.sleep(0.005)  # a server that is not ours says in no other way that it is there
        else:
            return
        finally:
            connection.close()
    raise RuntimeError(f"The server on port {port} did not answer within {PATIENCE:g} s.")
