"""Several worker processes behind one or two addresses: accepts every connection and hands it to the worker with the fewest.

Owns the listening sockets and the lives of the workers: one that dies is replaced, a signal stops them all. Knows nothing
of what they serve. With one shared socket, one worker may accept all connections that arrive together; here they are
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
    process id of each that has ended. `look` is called about once a second; later workers inherit what it has loaded. A signal is
    passed to the workers at once; connections are still accepted for `delay` seconds.
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
        self._held: socket.socket | None = None  # an accepted connection, until a worker takes it
        self._again: float | None = None  # when connections are accepted again, after no file descriptors were left
        self._signals = self._failed = 0
        self._delay = delay
        self._until: float | None = None  # when the drain delay ends, if it has begun

    def run(self) -> int:
        """Serve until a signal comes or no worker can start; returns the exit code."""
        self._signalled, woken = socket.socketpair()
        for end in (self._signalled, woken):
            end.setblocking(False)
        signal.set_wakeup_fd(woken.fileno())
        for number in stopping():
            signal.signal(number, lambda *_: None)  # handled in the loop below, not between any two instructions
        self._selector.register(self._signalled, selectors.EVENT_READ, self._on_signals)
        gc.freeze()  # memory stays shared: the garbage collector writes into the objects it visits
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
        """Start a worker; if the system has no room for one, try again after a pause."""
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
        """In the child: close everything that is the parent's, then work."""
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
        """Read a worker's reports, or bury it if it has ended."""
        try:
            said = worker.channel.recv(4096)
        except BlockingIOError:  # it has reported nothing, but can take a connection again
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
        """Tell workers that have not carried out the last order; tell all workers which order all have carried out."""
        ready = [worker for worker in self._workers if worker.ready]
        last = max((worker.done for worker in ready), default=0)
        for worker in ready:
            if worker.done < last and worker.summoned < last and worker.tell(SUMMONS):
                worker.summoned = last
        least = min((worker.done for worker in self._workers), default=0)  # a worker that is not ready has carried out none
        for worker in ready:
            if worker.levelled < least and worker.tell(b"%s%d\n" % (LEVEL, least)):
                worker.levelled = least

    def _attend(self) -> None:
        """Accept connections while there is a worker to take them; else leave them in the backlog."""
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
            except (BlockingIOError, ConnectionAbortedError):  # the backlog is empty, or the client has gone
                return
            except OSError:  # no file descriptors are left: to accept again at once would fail again
                self._again = monotonic() + PAUSE
                self._attend()
                return
            self._hand_on()

    def _hand_on(self) -> None:
        """Give a worker the connection that was accepted. If no worker can take it now, accept no more until one can."""
        if self._held is not None:
            ready = sorted((worker for worker in self._workers if worker.ready), key=lambda worker: worker.load)
            if any(worker.hand(self._held) for worker in ready):
                self._held.close()
                self._held = None
        self._listen_for(selectors.EVENT_READ if self._held is None else selectors.EVENT_READ | selectors.EVENT_WRITE)
        self._attend()

    def _listen_for(self, events: int) -> None:
        """Wake on these events of the workers' channels: on reports, or also when a worker can take a connection."""
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
            if self._signals < 3 and code not in (0, -signal.SIGTERM):  # SIGTERM ends a worker that is not ready yet
                log.error("%s while it stopped.", ended(worker, code))
                self._failed = 1
        elif not self._listening:  # the other workers would fail the same way
            if code != 1:  # else the worker has logged the reason
                log.error("%s before it was ready.", ended(worker, code))
            self._failed = 1
            self._stop(signal.SIGTERM)
        else:
            log.error("%s and is replaced.", ended(worker, code))
            self._starts.replace(worker.ready_at, monotonic())

    def _on_signals(self) -> None:
        """Each signal is the next step: begin the drain delay, if any; stop; have workers refuse waiting requests; kill them."""
        for number in self._signalled.recv(64):
            if number == signal.SIGHUP and self._signals:  # a closed terminal may send it twice: that must not hurry the stop
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
            self._accept(listener)  # closing resets the connections in its backlog
        self._listening = False
        self._attend()
        if self._held is not None:
            self._held.close()  # its client sees at once that it is refused
            self._held = None
        for listener in self._listeners:
            listener.close()
        if self._delay:
            for worker in self._workers:
                with suppress(OSError):
                    worker.channel.shutdown(socket.SHUT_WR)  # no more connections: the worker stops when it has read the last

    def _patience(self) -> float:
        due = [self._watch.due, *([] if self._signals else self._starts.due[:1]), *filter(None, (self._until, self._again))]
        return max(0.0, min(due) - monotonic())
