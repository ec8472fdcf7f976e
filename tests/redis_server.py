"""A real `redis-server` for the tests: its own process in its own folder, which can be killed and started again."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.servers import free_port

PROGRAM = shutil.which("redis-server")
needs_redis = pytest.mark.skipif(PROGRAM is None, reason="there is no redis-server on the PATH")


@dataclass(slots=True)
class RedisServer:
    """A server that keeps its data on disk, so that they survive `kill` and `start`."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[str] | None" = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def socket(self) -> str:
        return f"unix://{self.folder / 'socket'}"

    def start(self, *options: str) -> None:
        """Start it and wait until it accepts connections; RuntimeError with its log if it does not."""
        assert PROGRAM is not None
        where = ["--bind", "127.0.0.1", "--port", str(self.port), "--unixsocket", str(self.folder / "socket")]
        keep = ["--dir", str(self.folder), "--save", "", "--appendonly", "yes", "--appendfsync", "no"]
        self.process = subprocess.Popen([PROGRAM, *where, *keep, *options], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        log = []
        for line in self.process.stdout:
            log.append(line)
            if "Ready to accept connections" in line:
                return
        raise RuntimeError("".join(log))

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            assert self.process.stdout is not None
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process.stdout.close()
            self.process = None


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[RedisServer]:
    server = RedisServer(folder)
    try:
        server.start(*options)
        yield server
    finally:
        server.kill()
