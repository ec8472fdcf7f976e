"""Runs batches on threads, the lanes, that take them from a queue.

Owns the lanes and the promise that every request is answered exactly once, whatever arrives, fails, is cancelled or closes.
queue.py decides which instances run together. Knows nothing of ONNX Runtime or HTTP. A free lane takes what waits at once, unless
the limits allow a delay; only after a batch of several does it let a few rounds of the event loop pass, so that others can join.
A batch that takes no longer than `inline` allows runs on the event loop itself.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from math import ceil, inf
from time import monotonic, perf_counter

from app.cost import CostModel
from app.errors import Draining, Overloaded, RecurveError
from app.experience import Experience, provider_of
from app.loop_time import ROUNDS, LoopTime
from app.metrics import ModelMetrics
from app.queue import BatchLimits, Entry, Queue, Ticket
from app.tensors import Instance, Prediction
from app.traces import BatchTraces

log = logging.getLogger(__name__)

Predict = Callable[[Sequence[Instance]], Sequence[Prediction | Exception]]
Inline = Callable[[int, int], float]  # (instances, steps of the longest) -> seconds that the batch may block the event loop

HOP = 3e-4  # seconds that a hop to a thread and back costs, when the loop is busy
MARGIN = 0.3  # share of a timeout that a request may be expected to wait; urgent work may delay it further, and estimates are rough
BEHIND = 0.02  # seconds of waiting work from which on requests will soon be refused
HUNG = (300.0, 10.0)  # a batch hangs when it has run for more than so many seconds and so many times the expected time
GRAIN = 5e-3  # seconds: deadlines that are closer together are checked together


class Batcher:
    """Runs `predict` on the waiting instances, `lanes` batches at once. Must be made inside a running event loop.

    `name`: the model's, for the log. `cost`: may have learned from a warm-up already.
    """

    def __init__(
        self,
        predict: Predict,
        limits: BatchLimits,
        *,
        lanes: int,
        name: str = "The model",
        inline: Inline = lambda _size, _steps: HOP,
        cost: CostModel | None = None,
        metrics: ModelMetrics | None = None,
        traces: BatchTraces | None = None,
    ) -> None:
        self._predict = predict
        self._limits = limits
        self._queue = Queue(limits)
        self._experience = Experience(limits, lanes=lanes, cost=cost, metrics=metrics)
        self.lanes = lanes
        self._name = name
        self._traces = traces
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(lanes, thread_name_prefix="lane")
        self._free = lanes
        self._inline = inline
        self._running: dict[int, tuple[list[Entry], float]] = {}  # id() -> a batch in a lane, and from when on it hangs
        self._timer: asyncio.Handle | None = None  # for the next deadline
        self._next_deadline = inf
        self._company: asyncio.Handle | None = None  # the timer of a batch that waits for more instances
        self._time = LoopTime(self._run_waiting)
        self._together = 1  # instances in the last batch
        self._closing = False
        self._done = asyncio.Event()

    @property
    def backlog(self) -> float:
        """Estimated seconds until all that waits now is done."""
        return self._queue.weight * self._experience.per_step

    @property
    def hangs(self) -> bool:
        """Whether a lane has a batch that hangs, by the limits in HUNG."""
        now = monotonic()
        return any(until < now for _, until in self._running.values())

    def predict(self, instances: Sequence[Instance], *, timeout: float) -> Ticket:
        """A ticket: await it for the predictions, in the order of the instances (one or more).

        Raises at once QueueFull, Overloaded when the deadline could not be kept, and Draining. The ticket raises the error of an
        instance that failed (NotFinite for one that overflows float32), and DeadlineExceeded after `timeout` seconds. When the
        task that awaits it is cancelled, its waiting instances are dropped before they reach a lane.
        """
        self.admit(timeout)
        now = monotonic()
        deadline = now + timeout
        ticket = Ticket(len(instances), self._loop.create_future(), arrived=now, deadline=deadline)
        if self._traces is not None:
            ticket.span = self._traces.current()
        self._queue.put(instances, ticket, per_step=self._experience.per_step)
        self._time.call(rounds=self._rounds())
        if deadline < self._next_deadline:
            self._watch(deadline)
        return ticket

    def admit(self, timeout: float) -> None:
        """Raises Draining, and Overloaded when a request with this timeout, in seconds, would have to wait for too much of it.

        Runs overdue work first: refusing new requests must not delay accepted ones.
        """
        if self._closing:
            raise Draining("The service is shutting down and takes no new work.")
        if len(self._queue) and self._time.overdue:
            self._run_waiting()
        if self.backlog > timeout * MARGIN:
            wait = self._queue.before(monotonic() + timeout / 2) * self._experience.per_step
            if wait > timeout * MARGIN:
                detail = f"The request would wait about {wait:.3g} s, more than {MARGIN:.0%} of its timeout of {timeout:g} s."
                raise Overloaded(detail, retry_after=ceil(self.backlog))

    def refuse(self) -> int:
        """Accept nothing new and fail what waits with Draining; return how many instances that were. Running batches finish."""
        self._closing = True
        self._time.call()
        now = monotonic()
        missed = [entry for entry in self._queue.clear() if not entry.ticket.abandoned]
        for entry in missed:
            entry.settle(Draining("The service is shutting down and did not get to this request."), now)
        return len(missed)

    async def close(self) -> None:
        """Accept nothing new, and finish what waits and what runs."""
        self._closing = True
        self._time.call()
        await self._done.wait()
        self._threads.shutdown()
        if self._timer is not None:
            self._timer.cancel()

    def _run_waiting(self) -> None:
        """Give every free lane a batch, or run batches here when that is cheaper, for as long as the loop's time allows."""
        until = self._time.work_until()
        while self._free and not self._waits_for_company():
            entries = self._queue.take()
            if not entries:
                break
            self._together = len(entries)
            instances = [entry.instance for entry in entries]
            size, steps = len(instances), max([entry.length for entry in entries])
            expected = self._experience.predict(size, steps)
            if expected <= self._inline(size, steps):
                self._settle(entries, *self._run(instances))
                if len(self._queue) and self._time.is_past(until):
                    self._time.call(rounds=self._rounds())
                    break
                continue
            least, times = HUNG
            self._running[id(entries)] = entries, monotonic() + max(least, times * expected)
            try:
                self._threads.submit(self._lane, entries, instances)
            except RuntimeError as error:  # the system allows no more threads
                self._settle(entries, [error.with_traceback(None)] * len(entries), None)
            else:
                self._free -= 1
        self._time.work_ended()
        self._loop.call_soon(self._experience.learn, len(self._queue))  # later, so that it does not delay the answers
        if self._closing and self._free == self.lanes and not len(self._queue):
            self._done.set()

    def _rounds(self) -> int:
        """Rounds of the loop before a batch runs: several if the last batch was, to let more join and refusals be answered."""
        full = self._together == self._limits.max_batch_size <= len(self._queue)
        return 1 if self._together == 1 or (full and self.backlog < BEHIND) else ROUNDS

    def _waits_for_company(self) -> bool:
        """Whether the next batch is not full and may wait for more; if so, a timer runs it when its time is over."""
        if not self._limits.max_queue_delay or self._closing or not 0 < len(self._queue) < self._limits.max_batch_size:
            return False
        delay = self._limits.max_queue_delay
        over = min(min(entry.ticket.arrived + delay, entry.ticket.due) for entry in self._queue)
        if over <= monotonic():
            return False
        if self._company is not None:
            self._company.cancel()
        self._company = self._loop.call_later(over - monotonic(), self._time.call)
        return True

    def _lane(self, entries: list[Entry], instances: list[Instance]) -> None:
        """Runs in a lane's thread."""
        results, seconds = self._run(instances)
        self._loop.call_soon_threadsafe(self._finished, entries, results, seconds)

    def _finished(self, entries: list[Entry], results: Sequence[Prediction | Exception], seconds: float | None) -> None:
        if id(entries) not in self._running:
            return  # it failed for lack of a thread and was answered; the pool had queued it all the same, and a thread ran it
        self._free += 1
        self._settle(entries, results, seconds)
        self._time.call()

    def _settle(self, entries: list[Entry], results: Sequence[Prediction | Exception], seconds: float | None) -> None:
        """Answer a batch, which took `seconds`; None if it failed."""
        now = monotonic()
        self._running.pop(id(entries), None)
        for entry, result in zip(entries, results, strict=True):
            entry.settle(result, now)
        if self._traces is not None:
            lengths = [entry.length for entry in entries]
            self._traces.executed((entry.ticket.span for entry in entries), lengths, seconds, provider_of(results))
        if seconds is not None:
            self._experience.note(entries, results, seconds, ended=now, more=len(self._queue) > 0)

    def _run(self, instances: list[Instance]) -> tuple[Sequence[Prediction | Exception], float | None]:
        """A prediction or an error for each instance, and the seconds, None unless all went well. Does not raise."""
        begin = perf_counter()
        try:
            predictions = self._predict(instances)
            if len(predictions) == len(instances):
                return predictions, perf_counter() - begin
            raise RecurveError(f"The engine answered {len(predictions)} of {len(instances)} instances.")
        except Exception as error:
            if len(instances) == 1:
                log.exception("%s: an instance of %d steps failed.", self._name, len(instances[0].steps))
                return [error.with_traceback(None)], None  # the traceback would keep the batch, and through it the error, in memory
        log.warning("%s: a batch of %d failed; its instances run one by one, so none harms another.", self._name, len(instances))
        return [result for instance in instances for result in self._run([instance])[0]], None

    def _watch(self, deadline: float) -> None:
        """Set the one timer for all deadlines to this deadline."""
        if self._timer is not None:
            self._timer.cancel()
        self._next_deadline = deadline
        self._timer = self._loop.call_later(max(0.0, deadline - monotonic()), self._expire)

    def _expire(self) -> None:
        """Fail the tickets whose deadline has passed, and set the timer for the next one."""
        self._timer, self._next_deadline = None, inf
        now = monotonic()
        entries = chain(self._queue, *[running for running, _ in self._running.values()])
        live = [entry.ticket for entry in entries if not entry.ticket.abandoned]
        for ticket in live:
            if ticket.deadline <= now:
                ticket.expire()
        later = [ticket.deadline for ticket in live if ticket.deadline > now]
        if later:
            self._watch(max(min(later), now + GRAIN))
