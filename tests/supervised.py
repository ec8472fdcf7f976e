"""A supervisor in its own process, on a fake clock that advances instead of waiting: `python -m tests.supervised SCENARIO`.

Prints the outcome of the scenario as JSON; the log goes to stderr.
"""

import errno
import json
import logging
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from math import inf
from pathlib import Path
from typing import Any

from app.processes import supervisor
from app.processes.sockets import bind, port_of
from app.processes.supervisor import Supervisor
from app.processes.worker import HANGS


@dataclass(slots=True)
class Clock:
    """A clock that stands still unless it is moved."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


clock = Clock()


class Stepping(selectors.DefaultSelector):
    """Moves the clock instead of waiting for a timeout; without one, or while `stands` is set, it really waits.

    `before` is called before each select.
    """

    before: Callable[[], None] = staticmethod(lambda: None)
    stands = False  # set while a process is about to do something: that takes real time, and none on this clock

    def select(self, timeout: float | None = None) -> list[Any]:
        self.before()
        if self.stands or timeout in (None, inf):
            return super().select()
        found = super().select(0)
        clock.now += 0 if found else timeout
        return found


def supervise(
    work: Callable[[socket.socket], int], workers: int = 1, *, ended: Callable[[int], None] = lambda _: None, watched: bool = False
) -> tuple[Supervisor, Stepping, int]:
    """A supervisor that has not started yet, the selector that it waits with, and the port that it will listen on.

    `watched`: workers that do not report are killed.
    """
    supervisor.monotonic = clock  # type: ignore[attr-defined]  # supervisor.py imported it by name
    listener = bind("127.0.0.1", 0)
    made = Supervisor([listener], work, workers, ended=ended)
    made._selector = stepping = Stepping()
    made._watch.due = 0.0 if watched else inf
    return made, stepping, port_of(listener)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def serve(channel: socket.socket) -> int:
    """A worker that says hello on every connection, until the supervisor has gone or a signal comes."""
    channel.send(b"0:0:0\n")
    adopted = 0
    while True:
        data, descriptors, *_ = socket.recv_fds(channel, 4096, 64)
        if not data:
            return 0
        for descriptor in descriptors:
            adopted += 1
            with socket.socket(fileno=descriptor) as caller:
                caller.sendall(b"hello")
            channel.send(b"%d:0:0\n" % adopted)


def dying() -> dict[str, Any]:
    """Three workers die as soon as they are ready, the fourth after it has been ready for long, and the fifth at once again."""
    deaths: list[float] = []

    def work(channel: socket.socket) -> int:
        channel.send(b"0:0:0\n")
        if len(deaths) == 3:
            channel.recv(1)
        return 7

    def ended(_: int) -> None:
        deaths.append(clock.now)
        if len(deaths) == 5:
            stop()

    def end_the_old() -> None:
        if len(deaths) == 3 and made._workers and made._workers[0].ready:
            clock.now += 100
            made._workers[0].channel.send(b"x")

    made, stepping, _ = supervise(work, ended=ended)
    stepping.before = end_the_old
    return {"code": made.run(), "deaths": deaths}


def hanging() -> dict[str, Any]:
    """A worker reports once and never again, and so does the worker that replaces it."""
    ready: list[float] = []
    ends: list[float] = []

    def work(channel: socket.socket) -> int:
        channel.send(b"0:0:0\n")
        signal.pause()
        return 0

    def ended(_: int) -> None:
        ends.append(clock.now)
        if len(ends) == 2:
            stop()

    def before() -> None:
        dying = any(worker.silent >= HANGS for worker in made._workers)
        stepping.stands = dying or len(ends) == 2  # a third worker is starting by then
        if len(ready) == len(ends) < 2 and any(worker.ready for worker in made._workers):
            ready.append(clock.now)

    made, stepping, _ = supervise(work, ended=ended, watched=True)
    stepping.before = before
    code = made.run()
    return {"code": code, "rounds": [end - begin for begin, end in zip(ready, ends[:2], strict=True)]}


def leaving() -> dict[str, Any]:
    """A worker is told to end and does not react."""

    def work(channel: socket.socket) -> int:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        channel.send(b"0:0:0\n")
        while True:
            signal.pause()

    def before() -> None:
        if not made._signals and made._workers[0].ready:
            stop()

    made, stepping, _ = supervise(work, watched=True)
    stepping.before = before
    return {"code": made.run()}


def killed() -> dict[str, Any]:
    """One of two workers is killed before it is ready."""

    def work(_: socket.socket) -> int:
        signal.pause()
        return 0

    def before() -> None:
        if not made._signals:
            os.kill(made._workers[0].pid, signal.SIGKILL)

    made, stepping, _ = supervise(work, 2)
    stepping.before = before
    return {"code": made.run()}


def failing(name: str, of: Any, times: list[int], error: int) -> list[float]:
    """Make the calls of a function with these numbers, from 1, fail with `error`; returns the list of the times of those calls."""
    real, calls, failed = getattr(of, name), count(1), list[float]()

    def call(*arguments: Any) -> Any:
        if next(calls) in times:
            failed.append(clock.now)
            raise OSError(error, os.strerror(error))
        return real(*arguments)

    setattr(of, name, call)
    return failed


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def no_room() -> dict[str, Any]:
    """One of two workers is killed; to replace it, first fork fails, then socketpair. A client connects meanwhile."""
    open_files: list[int] = []
    callers: list[socket.socket] = []
    heard: list[str] = []

    def before() -> None:
        workers = made._workers
        if made._listening and not open_files:
            open_files.append(descriptors())
            os.kill(workers[0].pid, signal.SIGKILL)
        elif len(forks) == 1 and not callers:
            callers.append(socket.create_connection(("127.0.0.1", port)))
        elif callers and not heard and len(workers) == 2 and all(worker.ready for worker in workers):
            with callers[0] as caller:
                heard.append(caller.recv(5).decode())
            open_files.append(descriptors())
            stop()

    made, stepping, port = supervise(serve, 2)
    stepping.before = before
    forks = failing("fork", os, [3], errno.EAGAIN)
    pairs = failing("socketpair", socket, [5], errno.EMFILE)  # call 1 is the supervisor's own, call 4 that of the failed fork
    code = made.run()
    blocked = [*map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))]
    return {"code": code, "forks": forks, "pairs": pairs, "heard": heard, "blocked": blocked, "left": open_files[1] - open_files[0]}


def none_at_all() -> dict[str, Any]:
    """Fork fails for both workers."""
    made, _, _ = supervise(serve, 2)
    forks = failing("fork", os, [*range(1, 100)], errno.EAGAIN)
    return {"code": made.run(), "forks": forks, "blocked": [*map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))]}


def no_files() -> dict[str, Any]:
    """A client connects while the system has no files left to accept it."""
    callers: list[socket.socket] = []
    heard: list[str] = []

    def before() -> None:
        if made._listening and not callers:
            callers.append(socket.create_connection(("127.0.0.1", port)))
        elif callers and not heard and made._workers[0].handed:
            with callers[0] as caller:
                heard.append(caller.recv(5).decode())
            stop()

    made, stepping, port = supervise(serve)
    stepping.before = before
    accepts = failing("accept", socket.socket, [1, 2, 3], errno.ENFILE)
    return {"code": made.run(), "accepts": accepts, "heard": heard}


if __name__ == "__main__":
    logging.basicConfig(level="INFO")
    print(json.dumps(globals()[sys.argv[1]]()))
