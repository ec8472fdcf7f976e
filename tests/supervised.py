"""A supervisor in a process of its own, on a clock that moves only where it would wait: `python -m tests.supervised SCENARIO`.

Prints what came of the scenario, as JSON; the log goes to stderr.
"""

import json
import logging
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app import supervisor
from app.sockets import bind, port_of
from app.supervisor import Supervisor


@dataclass(slots=True)
class Clock:
    """Stands still unless it is moved."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


clock = Clock()


class Stepping(selectors.DefaultSelector):
    """Waits for as long as nothing is due; else it moves the clock instead. `before` is called each time."""

    before: Callable[[], None] = staticmethod(lambda: None)

    def select(self, timeout: float | None = None) -> list[Any]:
        self.before()
        if timeout is None:
            return super().select()
        found = super().select(0)
        clock.now += 0 if found else timeout
        return found


def supervise(
    work: Callable[[socket.socket], int], count: int = 1, *, ended: Callable[[int], None] = lambda _: None
) -> tuple[Supervisor, Stepping, int]:
    """A supervisor that has not begun, what it waits with, and the port that it is going to listen on."""
    supervisor.monotonic = clock  # type: ignore[attr-defined]  # imported there by name
    listener = bind("127.0.0.1", 0)
    made = Supervisor([listener], work, count, ended=ended)
    made._selector = stepping = Stepping()
    return made, stepping, port_of(listener)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


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


if __name__ == "__main__":
    logging.basicConfig(level="INFO")
    print(json.dumps(globals()[sys.argv[1]]()))
