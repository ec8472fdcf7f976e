"""When batches run, and where: lanes that take from a queue.

Owns the lanes and the promise that every caller is answered exactly once, whatever arrives, fails, is cancelled or
closes. Which instances run together is queue.py's. Knows nothing of ONNX Runtime or HTTP. There is no waiting
for company: a lane that is free takes what is there. What costs less than a hop to its thread runs on the event loop.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

from app.cost import CostModel
from app.errors import Draining, RecurveError
from app.queue import Entry, Limits, Queue, Ticket
from app.tensors import Instance, Prediction

log = logging.getLogger(__name__)

Predict = Callable[[Sequence[Instance]], list[Prediction]]

# Seconds of work that may hold up the event loop. With one lane it is the loop's own work to
# wait for it; with several the loop feeds the others, and only what costs less than a hop to a thread and back is worth it.
ALONE, AMONG_OTHERS = 5e-3, 1e-4


class Batcher:
    """Runs `predict` over what waits, `lanes` batches at once. Must be made inside a running event loop.

    `cost` may have learned already, from a warm-up.
    """

    def __init__(self, predict: Predict, limits: Limits, *, lanes: int, cost: CostModel | None = None) -> None:
        self._predict = predict
        self._queue = Queue(limits)
        self._cost = cost or CostModel()
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(lanes, thread_name_prefix="lane")
        self._free = self._lanes = lanes
        self._inline = ALONE if lanes == 1 else AMONG_OTHERS
        self._awake = False  # a turn is due
        self._closing = False
        self._done = asyncio.Event()

    async def predict(self, instances: Sequence[Instance], *, deadline: float | None = None) -> list[Prediction]:
        """Predictions in the order of the instances (one or more), by `deadline` (the loop's clock) if there is one.

        Raises QueueFull or Draining at once, DeadlineExceeded at the deadline. A caller that is cancelled leaves
        nothing behind: what it had waiting is dropped before it reaches a lane.
        """
        if self._closing:
            raise Draining("The service is shutting down and takes no new work.")
        ticket = Ticket(len(instances), future := self._loop.create_future())
        self._queue.put(instances, ticket)
        self._wake()
        timer = None if deadline is None else self._loop.call_at(deadline, ticket.expire)
        try:
            predictions: list[Prediction] = await future
        finally:
            if timer is not None:
                timer.cancel()
        return predictions

    def refuse(self) -> int:
        """Take nothing new and answer what waits with Draining; how many instances that were. What runs is finished."""
        self._closing = True
        self._wake()
        waiting = self._queue.clear()
        missed = [entry for entry in waiting if not entry.ticket.abandoned]
        for entry in missed:
            entry.settle(Draining("The service is shutting down and did not come to this request."))
        return len(missed)

    async def close(self) -> None:
        """Take nothing new, finish what waits and runs."""
        self._closing = True
        self._wake()
        await self._done.wait()
        self._threads.shutdown()

    def _wake(self) -> None:
        """Have a turn once everything that has arrived by now is in the queue."""
        if not self._awake:
            self._awake = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Give every free lane a batch, or run one here if that is cheaper."""
        self._awake = False
        while self._free:
            entries = self._queue.take()
            if not entries:
                break
            instances = [entry.instance for entry in entries]
            if self._cost.predict(len(instances), max(map(len, instances))) <= self._inline:
                self._settle(entries, *self._run(instances))
                if len(self._queue):
                    self._wake()  # the loop reads what has come in the meantime first
                break
            try:
                self._threads.submit(self._lane, entries, instances)
            except RuntimeError as error:  # the system gives no more threads
                self._settle(entries, [error] * len(entries))
            else:
                self._free -= 1
        if self._closing and self._free == self._lanes and not len(self._queue):
            self._done.set()

    def _lane(self, entries: list[Entry], instances: list[Instance]) -> None:
        """In a lane's thread."""
        results, seconds = self._run(instances)
        self._loop.call_soon_threadsafe(self._finished, entries, results, seconds)

    def _finished(self, entries: list[Entry], results: Sequence[Prediction | Exception], seconds: float | None) -> None:
        self._free += 1
        self._settle(entries, results, seconds)
        self._wake()

    def _settle(self, entries: list[Entry], results: Sequence[Prediction | Exception], seconds: float | None = None) -> None:
        """Answer a batch, and learn from the seconds it took."""
        if seconds is not None:
            self._cost.learn(len(entries), max(len(entry.instance) for entry in entries), seconds)
        for entry, result in zip(entries, results, strict=True):
            entry.settle(result)

    def _run(self, instances: list[Instance]) -> tuple[Sequence[Prediction | Exception], float | None]:
        """A prediction or an error for each instance, never an exception; and the seconds, where all went well."""
        begin = perf_counter()
        try:
            predictions = self._predict(instances)
            if len(predictions) == len(instances):
                return predictions, perf_counter() - begin
            raise RecurveError(f"The engine answered {len(predictions)} of {len(instances)} instances.")
        except Exception as error:
            if len(instances) == 1:
                log.exception("An instance of %d steps failed.", len(instances[0]))
                return [error], None
        log.warning("A batch of %d failed; its instances run one by one, so that none harms another.", len(instances))
        return [result for instance in instances for result in self._run([instance])[0]], None
