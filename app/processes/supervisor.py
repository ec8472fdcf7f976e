"""Several worker processes behind one address, or two: accepts every connection and hands it to the worker with the fewest.

Owns the listening sockets and the lives of the workers: one that dies is replaced, a signal stops them all. Knows nothing
of what they serve. Behind one shared socket, a worker may accept all connections that arrive together; here they are
spread evenly, however they arrive.
"""

import gc
import logging
import os
import selectors
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from time import monotonic

from app.processes.sockets import BACKLOG, LEVEL, SUMMONS, url_of
from app.processes.starts import PATIENCE, PAUSE, Starts
from app.processes.worker import SIGNALS, Watch, Worker, ended, start, stopping

log = logging.getLogger(__name__)


class Supervisor:
    """`count` processes behind the `listeners`, each of which does `work(channel)` and ends with the exit code it returns.

    Workers are forked, so that they share the memory of what is imported: nothing here may start a thread. `ended` is told the
    process id of each that has ended; what `look`, called about once a second, has seen, later workers know. A signal reaches
    workers at once, and connections for `delay` seconds more.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        work: Callable[[socket.socket], int],
        count: int,
        *,
        ended: Callable[[int], None],
        look: Callable[[], object] = lambda: None,
        delay: float = 0.0,
        scheme: str = "http",
    ) -> None:
        self._listeners = listeners
        self._scheme = scheme
        self._work = work
        self._count = count
        self._ended = ended
        self._workers: list[Worker] = []
        self._starts = Starts()
        self._selector = selectors.DefaultSelector()
        self._watch = Watch(look)
        self._listening = self._attending = False
        self._held: socket.socket | None = None  # a connection that no worker can take now
        self._again: float | None = None  # when connections are accepted again, while the system has no room for another
        self._signals = self._failed = 0
        self._delay = delay
        self._until: float | None = None  # when no more connections are accepted, once that is known

    def run(self) -> int:
        """Serve until a signal comes or no worker can start; the exit code."""
        self._signalled, woken = socket.socketpair()
        for end in (self._signalled, woken):
            end.setblocking(False)
        signal.set_wakeup_fd(woken.fileno())
        for number in stopping():
            signal.signal(number, lambda *_: None)  # what it means is decided in the loop, not between two instructions
        self._selector.register(self._signalled, selectors.EVENT_READ, self._on_signals)
        gc.freeze()  # what is shared stays shared: the collector writes into what it visits
        for _ in range(self._count):
            self._start()
        while self._workers or (self._starts.due and not self._signals):
            for key, _ in self._selector.select(self._patience()):
                key.data()
            while not self._signals and self._starts.take(monotonic()):
                self._start()
            self._watch.look(self._workers, monotonic())
            if self._again is not None and self._again <= monotonic():
                self._again = None
                self._attend()
            if self._until is not None and self._until <= monotonic():
                self._accept_no_more()
        return self._failed

    def _start(self) -> None:
        """A worker more; where the system has no room for one, another attempt after the pause."""
        try:
            worker = start(self._be_worker)
        except OSError as error:
            if self._starts.failed(str(error.strerror), monotonic()) and not (self._listening or self._workers):
                log.error("Not one worker could be started in %g s: %s.", PATIENCE, error.strerror)
                self._failed = 1
                self._stop(signal.SIGTERM)
            return
        self._starts.succeeded()
        self._workers.append(worker)
        self._selector.register(worker.channel, selectors.EVENT_READ, lambda: self._hear(worker))

    def _be_worker(self, ours: socket.socket, theirs: socket.socket) -> int:
        """In the child: let go of all that is the parent's, then work."""
        try:
            os.setsid()  # Ctrl-C reaches the supervisor alone, which passes it on
            signal.set_wakeup_fd(-1)
            for number in stopping():
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            own = filter(None, (self._held, self._signalled, ours))
            for end in (*self._listeners, *own, *(worker.channel for worker in self._workers)):
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
        worker.hear(said, now=monotonic())
        if not self._listening and not self._signals and all(each.ready for each in self._workers):
            self._listening = True
            for listener in self._listeners:
                listener.listen(BACKLOG)
                listener.setblocking(False)
            log.info("Ready on %s with %d workers.", url_of(self._listeners[0], self._scheme), len(self._workers))
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
        wanted = self._listening and self._held is None and self._again is None and any(worker.ready for worker in self._workers)
        for listener in self._listeners if wanted != self._attending else ():
            if wanted:
                self._selector.register(listener, selectors.EVENT_READ, partial(self._accept, listener))
            else:
                self._selector.unregister(listener)
        self._attending = wanted

    def _accept(self, listener: socket.socket) -> None:
        while self._held is None:
            try:
                self._held, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):  # nobody waits any more, or the caller has gone
                return
            except OSError:  # no file descriptors are left: asked at once again, it would say so again
                self._again = monotonic() + PAUSE
                self._attend()
                return
            self._hand_on()

    def _hand_on(self) -> None:
        """Give a worker the connection that was accepted; where none can take it now, no more are accepted until one can."""
        if self._held is not None:
            ready = sorted((worker for worker in self._workers if worker.ready), key=lambda worker: worker.load)
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
            if self._signals < 3 and code not in (0, -signal.SIGTERM):  # which ends one that was not ready yet
                log.error("%s while it stopped.", ended(worker, code))
                self._failed = 1
        elif not self._listening:  # the others would fail as it did
            if code != 1:  # else it has said why
                log.error("%s before it was ready.", ended(worker, code))
            self._failed = 1
            self._stop(signal.SIGTERM)
        else:
            log.error("%s and is replaced.", ended(worker, code))
            self._starts.replace(worker.ready_at, monotonic())

    def _on_signals(self) -> None:
        """The first stops the workers, after the delay, which another ends; the next has them refuse what waits, the last kills."""
        for number in self._signalled.recv(64):
            if number == signal.SIGHUP and self._signals:  # a terminal that is closed may send it twice, and is in no hurry
                continue
            if self._until is not None:
                self._accept_no_more()
            else:
                self._stop(signal.SIGTERM if self._signals < 2 else signal.SIGKILL)

    def _stop(self, number: int) -> None:
        self._signals += 1
        if self._signals == 1:
            if self._listening and self._delay:
                self._until = monotonic() + self._delay
            else:
                self._accept_no_more()
        for worker in self._workers:
            os.kill(worker.pid, number)

    def _accept_no_more(self) -> None:
        self._until = self._again = None
        self._attend()
        for listener in self._listeners if self._attending else ():
            self._accept(listener)  # closing it resets those who wait in it
        self._listening = False
        self._attend()
        if self._held is not None:
            self._held.close()  # its caller sees a refusal at once
            self._held = None
        for listener in self._listeners:
            listener.close()
        if self._delay:
            for worker in self._workers:
                with suppress(OSError):
                    worker.channel.shutdown(socket.SHUT_WR)  # that was the last: it stops when it has come to this

    def _patience(self) -> float:
        due = [self._watch.due, *([] if self._signals else self._starts.due[:1]), *filter(None, (self._until, self._again))]
        return max(0.0, min(due) - monotonic())
