"""A supervisor in a process of its own, on a clock that moves only where it would wait: `python -m tests.supervised SCENARIO`.

Prints what came of the scenario, as JSON; the log goes to stderr.
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
    """Stands still unless it is moved."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


clock = Clock()


class Stepping(selectors.DefaultSelector):
    """Waits for as long as nothing is due; else it moves the clock instead, unless that stands. `before` is called each time."""

    before: Callable[[], None] = staticmethod(lambda: None)
    stands = False  # while a process is about to do something, which takes it none of this time

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
    """A supervisor that has not begun, what it waits with, and the port that it is going to listen on.

    `watched`: workers that do not report are killed.
    """
    supervisor.monotonic = clock  # type: ignore[attr-defined]  # imported there by name
    listener = bind("127.0.0.1", 0)
    made = Supervisor([listener], work, workers, ended=ended)
    made._selector = stepping = Stepping()
    made._watch.due = 0.0 if watched else inf
    return made, stepping, port_of(listener)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def serve(channel: socket.socket) -> int:
    """Say hello to whoever comes, until the supervisor has gone or a signal comes."""
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
    """Workers that die as soon as they are ready, three times; then one that does when it has been ready for long, and another."""
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
    """A worker that reports once and never again, and one in its place."""
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
        stepping.stands = dying or len(ends) == 2  # a third is on its way by then
        if len(ready) == len(ends) < 2 and any(worker.ready for worker in made._workers):
            ready.append(clock.now)

    made, stepping, _ = supervise(work, ended=ended, watched=True)
    stepping.before = before
    code = made.run()
    return {"code": code, "rounds": [end - begin for begin, end in zip(ready, ends[:2], strict=True)]}


def leaving() -> dict[str, Any]:
    """A worker that is told to end and does nothing any more."""

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
    """Of two workers one is killed before it is ready."""

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
    """Have the calls of a function with these numbers say that the system has no room; when each of them was."""
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
    """One of two workers is killed; then no process can be had for another, then no sockets. A caller comes meanwhile."""
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
    pairs = failing(
        "socketpair", socket, [5], errno.EMFILE
    )  # the first is the supervisor's own, the fourth that of the fork that failed
    code = made.run()
    blocked = [*map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))]
    return {"code": code, "forks": forks, "pairs": pairs, "heard": heard, "blocked": blocked, "left": open_files[1] - open_files[0]}


def none_at_all() -> dict[str, Any]:
    """No process can be had for any of two workers."""
    made, _, _ = supervise(serve, 2)
    forks = failing("fork", os, [*range(1, 100)], errno.EAGAIN)
    return {"code": made.run(), "forks": forks, "blocked": [*map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))]}


def no_files() -> dict[str, Any]:
    """A caller comes while no connection can be accepted."""
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
