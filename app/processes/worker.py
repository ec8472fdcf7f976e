"""One worker as its supervisor sees it: a process, the connections it was given, and its reports.

Owns how it is started, how its connections are counted, and when it is killed because it hangs. Knows nothing of what it serves.
"""

import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.processes.sockets import CONNECTION

log = logging.getLogger(__name__)

ROUND = 1.0  # seconds between two looks at the workers; each reports about as often
QUIET, HANGS = 3, 30  # rounds without a report: after QUIET, other workers get the connections; after HANGS, it is killed
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # the signals that may stop the service


@dataclass(slots=True, eq=False)
class Worker:
    """A process, and the channel on which it gets connections and reports how many it has."""

    pid: int
    channel: socket.socket
    ready_at: float | None = None  # since when it is ready, on the monotonic clock
    handed: int = 0  # connections it was given
    adopted: int = 0  # of these, the ones that it had received when it last reported
    open: int = 0  # of those, the ones that were open then
    done: int = 0  # the number of the last order that it has carried out
    summoned: int = 0  # the number of the last order that it was told to carry out
    levelled: int = 0  # the number of the last order that it was told all workers have carried out
    unfinished: bytes = b""  # a report that has arrived in part
    silent: int = 0  # rounds of the supervisor since it last reported

    @property
    def ready(self) -> bool:
        return self.ready_at is not None

    @property
    def load(self) -> tuple[bool, int]:
        """Whether it seems to hang, and the connections that it has: the worker with the least gets the next connection."""
        return self.silent > QUIET, self.open + self.handed - self.adopted

    def hear(self, said: bytes, *, now: float) -> None:
        """Read its reports, one a line; only the last complete one counts."""
        *reports, self.unfinished = (self.unfinished + said).split(b"\n")
        if reports:
            self.ready_at = now if self.ready_at is None else self.ready_at
            self.silent = 0
            self.adopted, self.open, self.done = map(int, reports[-1].split(b":"))

    def hand(self, connection: socket.socket) -> bool:
        """Give it a connection; False when it cannot take one now."""
        try:
            socket.send_fds(self.channel, [CONNECTION], [connection.fileno()])
        except OSError:
            return False
        self.handed += 1
        return True

    def tell(self, what: bytes) -> bool:
        """Send it a message; False when it cannot take one now."""
        try:
            return self.channel.send(what) == len(what)
        except OSError:
            return False


class Watch:
    """Kills workers that hang. It counts its own rounds, not seconds: when the whole service was frozen, no worker was silent.

    The `look` that it is given is called in each round.
    """

    def __init__(self, look: Callable[[], object]) -> None:
        self.due = 0.0  # when the next round is, on the monotonic clock
        self._look = look

    def look(self, workers: Sequence[Worker], now: float) -> None:
        if now < self.due:
            return
        self.due = now + ROUND
        self._look()
        for worker in workers:
            worker.silent += worker.ready
            if worker.silent == HANGS:
                log.error("Worker %d hangs: it has not reported for about %g s, and is killed.", worker.pid, HANGS * ROUND)
                os.kill(worker.pid, signal.SIGKILL)


def ended(worker: Worker, code: int) -> str:
    """A text for the log: how the worker ended."""
    by_the_system = code == -signal.SIGKILL and worker.silent < HANGS
    why = " (SIGKILL, as the system does it where memory is short)" if by_the_system else ""
    return f"Worker {worker.pid} ended with exit code {code}{why}"


def stopping() -> list[signal.Signals]:
    """The signals that stop the service: not SIGHUP (the terminal was closed) if that is ignored, as under nohup."""
    return [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]


def start(be_worker: Callable[[socket.socket, socket.socket], int]) -> Worker:
    """Fork a process that ends with the exit code of `be_worker`, called with the supervisor's end of the channel and its own end.

    `be_worker` must unblock `SIGNALS`. Raises OSError if the system has no room for a process; then nothing is left of it.
    """
    ours, theirs = socket.socketpair()
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until the child has its own handlers, it must not run the parent's
    try:
        pid = os.fork()
        if pid == 0:
            os._exit(be_worker(ours, theirs))
    except OSError:
        ours.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        theirs.close()
    ours.setblocking(False)
    return Worker(pid, ours)
