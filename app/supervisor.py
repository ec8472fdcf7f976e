"""Several worker processes behind one address: accepts every connection and hands it to the worker with the fewest.

Owns the listening socket and the lives of the workers: one that dies is replaced, a signal stops them all. Knows nothing
of what they serve. Behind one shared socket, a worker may accept all connections that arrive together; here they are
spread evenly, however they arrive.
"""

import gc
import logging
import os
import selectors
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from app.sockets import CONNECTION, LEVEL, SUMMONS, url_of

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
BACKLOG = 2048
PAUSE = 1.0  # seconds before a worker is replaced that died without ever being ready


@dataclass(slots=True, eq=False)
class Worker:
    """A process, and the channel on which it gets connections and says how many it has."""

    pid: int
    channel: socket.socket
    ready: bool = False
    handed: int = 0  # connections it was given
    adopted: int = 0  # of them, those that it had got when it last reported
    open: int = 0  # of those, the ones that were open then
    done: int = 0  # the number of the last order that it has carried out
    summoned: int = 0  # the same of the last that it was called for
    levelled: int = 0  # the same of the last of which it knows that all have carried it out
    unfinished: bytes = b""  # a report that has come in part

    @property
    def connections(self) -> int:
        return self.open + self.handed - self.adopted

    def hear(self, said: bytes) -> None:
        """Take in what it reports, in lines; only the last whole one counts."""
        *reports, self.unfinished = (self.unfinished + said).split(b"\n")
        if reports:
            self.ready = True
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


class Supervisor:
    """`count` processes behind `listener`, each of which does `work(channel)` and ends with the exit code it returns.

    Workers are forked, so that they share the memory of what is imported: nothing here may start a thread. `ended` is told
    the process id of each that has ended.
    """

    def __init__(
        self, listener: socket.socket, work: Callable[[socket.socket], int], count: int, *, ended: Callable[[int], None]
    ) -> None:
        self._listener = listener
        self._work = work
        self._count = count
        self._ended = ended
        self._workers: list[Worker] = []
        self._due: list[float] = []  # when the next replacements start
        self._selector = selectors.DefaultSelector()
        self._listening = False
        self._attending = False
        self._held: socket.socket | None = None  # a connection that no worker can take now
        self._signals = 0
        self._failed = 0

    def run(self) -> int:
        """Serve until a signal comes or no worker can start; the exit code."""
        self._signalled, woken = socket.socketpair()
        for end in (self._signalled, woken):
            end.setblocking(False)
        signal.set_wakeup_fd(woken.fileno())
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)  # what it means is decided in the loop, not between two instructions
        self._selector.register(self._signalled, selectors.EVENT_READ, self._on_signals)
        gc.freeze()  # what is shared stays shared: the collector writes into what it visits
        for _ in range(self._count):
            self._start()
        while self._workers or (self._due and not self._signals):
            for key, _ in self._selector.select(self._patience()):
                key.data()
            while self._due and self._due[0] <= monotonic() and not self._signals:
                self._due.pop(0)
                self._start()
        return self._failed

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # a child must not take the parent's signals for its own
        pid = os.fork()
        if pid == 0:
            os._exit(self._be_worker(ours, theirs))
        theirs.close()
        worker = Worker(pid, ours)
        self._workers.append(worker)
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._hear(worker))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def _be_worker(self, ours: socket.socket, theirs: socket.socket) -> int:
        """In the child: let go of all that is the parent's, then work."""
        try:
            os.setsid()  # Ctrl-C reaches the supervisor alone, which passes it on
            signal.set_wakeup_fd(-1)
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            for end in (self._listener, self._signalled, ours, *(worker.channel for worker in self._workers)):
                end.close()
            self._selector.close()
            return self._work(theirs)
        except BaseException:
            log.exception("A worker failed.")
            return 1

    def _hear(self, worker: Worker) -> None:
        """A worker reports its connections, or has ended."""
        try:
            said = worker.channel.recv(4096)
        except BlockingIOError:  # it has said nothing, and can take a connection again
            self._hand_on()
            return
        except ConnectionError:
            said = b""
        if not said:
            self._bury(worker)
            return
        worker.hear(said)
        if not self._listening and not self._signals and all(each.ready for each in self._workers):
            self._listening = True
            self._listener.listen(BACKLOG)
            self._listener.setblocking(False)
            log.info("Ready on %s with %d workers.", url_of(self._listener), len(self._workers))
        self._hand_on()
        self._level()

    def _level(self) -> None:
        """Call those who have not carried out the last order; say so when all have."""
        ready = [worker for worker in self._workers if worker.ready]
        last = max((worker.done for worker in ready), default=0)
        for worker in ready:
            if worker.done < last and worker.summoned < last and worker.tell(SUMMONS):
                worker.summoned = last
        least = min((worker.done for worker in self._workers), default=0)  # one that is not ready has carried out nothing
        for worker in ready:
            if worker.levelled < least and worker.tell(b"%s%d\n" % (LEVEL, least)):
                worker.levelled = least

    def _attend(self) -> None:
        """Accept connections while there is a worker to take them; else they wait where they are."""
        wanted = self._listening and self._held is None and any(worker.ready for worker in self._workers)
        if wanted and not self._attending:
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        elif self._attending and not wanted:
            self._selector.unregister(self._listener)
        self._attending = wanted

    def _accept(self) -> None:
        while self._held is None:
            try:
                self._held, _ = self._listener.accept()
            except OSError:  # nobody waits any more, or the caller has gone
                return
            self._hand_on()

    def _hand_on(self) -> None:
        """Give a worker the connection that was accepted; where none can take it now, no more are accepted until one can."""
        if self._held is not None:
            ready = sorted((worker for worker in self._workers if worker.ready), key=lambda worker: worker.connections)
            if any(worker.hand(self._held) for worker in ready):
                self._held.close()
                self._held = None
        self._listen_for(selectors.EVENT_READ if self._held is None else selectors.EVENT_READ | selectors.EVENT_WRITE)
        self._attend()

    def _listen_for(self, events: int) -> None:
        """Wake when a worker says something, or can take something."""
        for worker in self._workers:
            key = self._selector.get_key(worker.channel)
            if key.events != events:
                self._selector.modify(worker.channel, events, key.data)

    def _bury(self, worker: Worker) -> None:
        self._selector.unregister(worker.channel)
        worker.channel.close()
        self._workers.remove(worker)
        self._hand_on()
        self._level()
        code = os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1])
        self._ended(worker.pid)
        if self._signals:
            return
        if not self._listening:  # it has said why; the others would fail as it did
            self._failed = 1
            self._stop(signal.SIGTERM)
            return
        log.error("Worker %d ended with exit code %d and is replaced.", worker.pid, code)
        self._due = sorted([*self._due, monotonic() + (0.0 if worker.ready else PAUSE)])

    def _on_signals(self) -> None:
        """The first stops the workers in order, the second has them refuse what waits, the third kills them."""
        for _ in self._signalled.recv(64):
            self._stop(signal.SIGTERM if self._signals < 2 else signal.SIGKILL)

    def _stop(self, number: int) -> None:
        self._signals += 1
        if self._listening:
            self._listening = False
            self._attend()
        if self._held is not None:
            self._held.close()  # its caller sees a refusal at once
            self._held = None
            self._listen_for(selectors.EVENT_READ)
        self._listener.close()
        for worker in self._workers:
            os.kill(worker.pid, number)

    def _patience(self) -> float | None:
        return max(0.0, self._due[0] - monotonic()) if self._due else None
