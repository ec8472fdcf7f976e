"""One worker as its supervisor sees it: a process, what it was given, and what it has said of itself.

Owns how it is started and the counting of its connections. Knows nothing of the other workers, nor of what any of them serves.
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
QUIET, HANGS = 3, 30  # rounds without a report: after so many others get the connections, and after so many it is killed
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # that may stop the service


@dataclass(slots=True, eq=False)
class Worker:
    """A process, and the channel on which it gets connections and says how many it has."""

    pid: int
    channel: socket.socket
    ready_at: float | None = None  # since when it is ready, on the monotonic clock
    handed: int = 0  # connections it was given
    adopted: int = 0  # of them, those that it had got when it last reported
    open: int = 0  # of those, the ones that were open then
    done: int = 0  # the number of the last order that it has carried out
    summoned: int = 0  # the same of the last that it was called for
    levelled: int = 0  # the same of the last of which it knows that all have carried it out
    unfinished: bytes = b""  # a report that has come in part
    silent: int = 0  # rounds of the supervisor since it last reported

    @property
    def ready(self) -> bool:
        return self.ready_at is not None

    @property
    def load(self) -> tuple[bool, int]:
        """The smaller, the sooner it gets a connection: whether it seems to hang, and the connections that it has."""
        return self.silent > QUIET, self.open + self.handed - self.adopted

    def hear(self, said: bytes, *, now: float) -> None:
        """Read its reports, a line each; only the last whole one counts."""
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
        """Send it a word; False when it cannot take one now."""
        try:
            return self.channel.send(what) == len(what)
        except OSError:
            return False


class Watch:
    """Kills workers that hang. It counts rounds, not seconds: when all were frozen, the supervisor with them, nobody was silent.

    `look` is called in each round.
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
    """That it has, and how, for the log."""
    by_the_system = code == -signal.SIGKILL and worker.silent < HANGS
    why = " (SIGKILL, as the system does it where memory is short)" if by_the_system else ""
    return f"Worker {worker.pid} ended with exit code {code}{why}"


def stopping() -> list[signal.Signals]:
    """The signals that stop the service: the one of a terminal that is closed is not, where it is ignored, as under nohup."""
    return [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]


def start(be_worker: Callable[[socket.socket, socket.socket], int]) -> Worker:
    """Fork a process that ends with the exit code of `be_worker`, which is given the supervisor's end of the channel, then its own,
    and takes signals again. OSError where the system has no room for one; then nothing is left of it."""
    ours, theirs = socket.socketpair()
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # a child must not take the parent's signals for its own
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
