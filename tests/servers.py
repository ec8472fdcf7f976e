"""Real servers for the tests: `python -m app` in a process of its own, on a port of its own."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tests import forked
from tests.forked import ROOT, Forked

LISTENING = re.compile(r"Ready on (https?://[^ ]+:\d+)")


def free_port() -> int:
    """A free port that stays free: outside the range that the system gives to outgoing connections."""
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    raise AssertionError("there is no free port")


@dataclass(slots=True)
class Server:
    """A running service: where it listens, and what it has logged so far."""

    process: "subprocess.Popen[str] | Forked"
    url: str = ""
    log: list[str] = field(default_factory=list)
    _more: threading.Condition = field(default_factory=threading.Condition)

    def read_on(self) -> None:
        """Read the log to its end, or the service would block on a full pipe."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._more:
                self.log.append(line)
                self._more.notify_all()

    def wait_for(self, text: str, *, times: int = 1) -> None:
        """Wait until the log contains the text `times` times; AssertionError after 30 seconds."""
        with self._more:
            assert self._more.wait_for(lambda: "".join(self.log).count(text) >= times, timeout=30), "".join(self.log)

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        """Send the signal, wait for the process to end, and return its exit code."""
        self.process.send_signal(signal_number)
        return self.process.wait(timeout=30)


@contextmanager
def serve(model_dir: Path, *flags: str, module: str | None = None, **environment: str) -> Iterator[Server]:
    """Run the service over this repository until the block ends; RuntimeError with its log if it does not start.

    Its streams are deleted afterwards, unless `flags` name a folder for them. `module`: the module to run with the flags, as users
    run `app`; None: the service, forked from a process that has already imported it.
    """
    with TemporaryDirectory() as data_dir, _serve(module, model_dir, ("--data-dir", data_dir, *flags), environment) as server:
        yield server


@contextmanager
def _serve(module: str | None, model_dir: Path, flags: Sequence[str], environment: Mapping[str, str]) -> Iterator[Server]:
    flags = ["--port", "0", "--model-dir", str(model_dir), "--log-format", "plain", *flags]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RECURVE_")} | {**environment}
    process: subprocess.Popen[str] | Forked
    if module is None:
        process = forked.parent().start(flags, environment)
    else:
        command = [sys.executable, "-m", module, *flags]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    server = Server(process)
    reader = threading.Thread(target=server.read_on, daemon=True)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            server.log.append(line)
            if found := LISTENING.search(line):
                server.url = found[1]
                break
        else:
            raise RuntimeError("".join(server.log))
        reader.start()
        yield server
        if process.poll() is None:
            server.stop()
    finally:
        process.kill()
        process.wait()
        if reader.is_alive():
            reader.join()
        assert process.stderr is not None
        process.stderr.close()
