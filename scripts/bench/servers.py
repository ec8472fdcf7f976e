"""Runs the servers that are measured, each in its own process and on its own port, and stops them at the end.

Owns starting and stopping, and single requests to a server. Knows nothing of load or of what is compared.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

from app.manifest import ModelSpec

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0  # seconds
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Running:
    """A running server; `cold_start`: seconds from its start to its first answered prediction."""

    port: int
    pid: int
    cold_start: float
    path: str = "/predict"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"

    def answering(self, size: int) -> "Running":
        """The bare route, set to answer `size` bytes."""
        return replace(self, path=f"/predict?{size}")

    def ask(self, body: bytes, headers: Mapping[str, str] = JSON) -> bytes:
        """Ask for a prediction; RuntimeError if the status is not 200."""
        status, answer = _call(self.port, "POST", self.path, body, headers)
        if status != 200:
            raise RuntimeError(f"{self.url} answered {status}: {answer[:300].decode(errors='replace')}")
        return answer

    def begin_stream(self) -> str:
        """Begin a stream, and return its path; RuntimeError if the server refuses."""
        status, answer = _call(self.port, "POST", "/streams", b"{}")
        if status != 201:
            raise RuntimeError(f"POST /streams answered {status}: {answer[:300].decode(errors='replace')}")
        return f"/streams/{json.loads(answer)['id']}"

    def counter(self, name: str) -> float | None:
        """The sum of a metric over its labels; None if the server does not have it."""
        status, text = _call(self.port, "GET", "/metrics")
        values = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)", text.decode(), re.MULTILINE)
        return sum(map(float, values)) if status == 200 and values else None


@contextmanager
def service(version: Path, spec: ModelSpec, first: bytes, *more: str) -> Iterator[Running]:
    """Run the service with its defaults and the flags `more`, over a repository that holds only this version.

    first: the body of a prediction, which must be answered before the server counts as running.
    """
    port = free_port()
    with TemporaryDirectory() as place:
        repository, data = Path(place) / "model", Path(place) / "data"
        folder = repository / spec.name
        folder.mkdir(parents=True)
        (folder / spec.version).symlink_to(version)
        flags = (
            "--model-dir",
            str(repository),
            "--data-dir",
            str(data),
            "--default-model",
            spec.name,
            "--log-level",
            "error",
            *more,
        )
        with _running(["-m", "app", "--port", str(port), *flags], port, first) as server:
            yield server


@contextmanager
def module(name: str, *arguments: str, port: int, first: bytes) -> Iterator[Running]:
    """Run another server of this package."""
    with _running(["-m", f"scripts.bench.{name}", *arguments], port, first) as server:
        yield server


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def _running(arguments: Sequence[str], port: int, first: bytes) -> Iterator[Running]:
    begin = time.perf_counter()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RECURVE_")}
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=clean)
    try:
        _wait(process, port, first)
        yield Running(port=port, pid=process.pid, cold_start=time.perf_counter() - begin)
    finally:
        process.terminate()
        try:
            process.wait(timeout=PATIENCE)
        finally:
            process.kill()


def _wait(process: "subprocess.Popen[bytes]", port: int, first: bytes) -> None:
    """Wait until the server answers the first prediction."""
    end = time.perf_counter() + PATIENCE
    said = "nothing"
    while time.perf_counter() < end:
        if process.poll() is not None:
            raise RuntimeError(f"The server on port {port} ended with exit code {process.returncode} before it answered.")
        try:
            status, answer = _call(port, "POST", "/predict", first)
        except (OSError, HTTPException):
            time.sleep(0.005)  # the other servers have no other sign that they are ready
            continue
        if status == 200:
            return
        said = f"{status}: {answer[:300].decode(errors='replace')}"
        time.sleep(0.005)  # it answers, but has no model yet
    raise RuntimeError(f"The server on port {port} gave no prediction within {PATIENCE:g} s; it said {said}.")


def _call(port: int, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = JSON) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, body, headers if body else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
