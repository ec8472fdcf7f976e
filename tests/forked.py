"""Starts services by forking a process that has already imported the service, which saves half a second for each.

A forked service has its own flags, environment, descriptors and ignored signals, like `python -m app`, and runs the same
`main`. Its parent is `python -m tests.forked FD`, which this process starts together with the first service.
"""

import atexit
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, TextIO

ROOT = Path(__file__).parent.parent


@dataclass(slots=True)
class Forked:
    """A forked service, with the part of the interface of `subprocess.Popen` that the tests use."""

    pid: int
    stderr: TextIO
    _ended: socket.socket  # its exit code is read from here
    returncode: int | None = None
    _lock: Lock = field(default_factory=Lock)

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        with self._lock:
            if self.returncode is None:
                if not select.select([self._ended], [], [], timeout)[0]:
                    raise subprocess.TimeoutExpired("a service", timeout or 0)
                self.returncode = int(self._ended.recv(16))
                self._ended.close()
            return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has ended, and its parent has not reported so yet
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Parent:
    """The parent of all forked services that this process has started."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "tests.forked", str(theirs.fileno())]
            self._process = subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()])
        self._lock = Lock()
        atexit.register(self._end)

    def start(self, flags: Sequence[str], environment: Mapping[str, str]) -> Forked:
        """Start `python -m app` with these flags in the project's folder; its stderr is a pipe."""
        ignored = [number for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN]
        wanted = json.dumps({"flags": flags, "environment": environment, "ignored": ignored}) + "\n"
        ended, telling = socket.socketpair()
        said, stderr = os.pipe()
        with telling, os.fdopen(stderr), self._lock:
            socket.send_fds(self._channel, [wanted.encode()], [telling.fileno(), 1, stderr])
            pid = int(self._channel.recv(16))
        return Forked(pid, os.fdopen(said), ended)

    def _end(self) -> None:
        self._channel.close()
        self._process.wait()


parent = cache(Parent)


def fork_for(channel: socket.socket) -> dict[str, Any] | None:
    """Fork services on request. Returns the request in each service; None in the parent, when the channel is closed."""
    tells: dict[int, socket.socket] = {}

    def bury(*_: object) -> None:
        with suppress(ChildProcessError):  # no children are left
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                with tells.pop(ended[0]) as telling, suppress(BrokenPipeError):
                    telling.send(str(os.waitstatus_to_exitcode(ended[1])).encode())

    signal.signal(signal.SIGCHLD, bury)
    while True:
        text, descriptors, *_ = socket.recv_fds(channel, 2**16, 3)
        if not text:
            return None
        while not text.endswith(b"\n"):
            text += channel.recv(2**16)
        telling, stdout, stderr = descriptors
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])  # until `tells` knows where to report its exit code
        if not (pid := os.fork()):
            break
        tells[pid] = socket.socket(fileno=telling)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        os.close(stdout)
        os.close(stderr)
        channel.send(str(pid).encode())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    for end in (channel, *tells.values()):
        end.close()
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    for descriptor in descriptors:
        os.close(descriptor)
    wanted: dict[str, Any] = json.loads(text)
    return wanted


if __name__ == "__main__":
    from app.__main__ import main  # the import that takes half a second

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.freeze()
    if wanted := fork_for(socket.socket(fileno=int(sys.argv[1]))):
        for number in wanted["ignored"]:
            signal.signal(number, signal.SIG_IGN)
        os.environ.clear()
        os.environ.update(wanted["environment"])
        sys.argv[1:] = wanted["flags"]
        sys.exit(main())
