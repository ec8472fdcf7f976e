"""Which instances run together, and when: a queue, and lanes that take from it.

Owns the waiting entries and the promise that every one of them is answered exactly once, whatever arrives, fails, is
cancelled or closes. Knows nothing of ONNX Runtime, streams or HTTP. There is no waiting for company: a lane that is
free takes what is there.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from app.errors import DeadlineExceeded, Draining, QueueFull, RecurveError
from app.tensors import Instance, Prediction

log = logging.getLogger(__name__)

Predict = Callable[[Sequence[Instance]], list[Prediction]]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one batch may hold, in instances and in padded steps, and what may wait."""

    max_batch_size: int
    max_batch_steps: int  # padded: instances times the longest of them
    max_padding_waste: float  # share of the padded steps that may be padding
    max_queue_size: int  # instances


class Ticket:
    """One request's claim: a slot for each of its instances, answered once, together."""

    __slots__ = ("_future", "_missing", "_predictions")

    def __init__(self, size: int, future: "asyncio.Future[list[Prediction]]") -> None:
        self._future = future
        self._missing = size
        self._predictions: list[Prediction | None] = [None] * size

    @property
    def abandoned(self) -> bool:
        """Nobody waits any more: the caller went away, was too late, or has been told of a failure."""
        return self._future.done()

    def answer(self, index: int, prediction: Prediction) -> None:
        if self.abandoned:
            return
        self._predictions[index] = prediction
        self._missing -= 1
        if self._missing == 0:
            self._future.set_result([p for p in self._predictions if p is not None])

    def fail(self, error: Exception) -> None:
        if not self.abandoned:
            self._future.set_exception(error)

    def __repr__(self) -> str:
        return f"Ticket({len(self._predictions) - self._missing}/{len(self._predictions)}{', abandoned' * self.abandoned})"


@dataclass(frozen=True, slots=True)
class Entry:
    """One waiting instance and the slot its answer goes to."""

    instance: Instance
    ticket: Ticket
    index: int

    def settle(self, result: Prediction | Exception) -> None:
        if isinstance(result, Exception):
            self.ticket.fail(result)
        else:
            self.ticket.answer(self.index, result)


@dataclass(slots=True)
class Queue:
    """Entries in the order of their arrival. No clock, no await: it decides, the batcher acts."""

    limits: Limits
    _entries: list[Entry] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def put(self, instances: Sequence[Instance], ticket: Ticket) -> None:
        """Queue all instances of a request, or none: QueueFull. An empty queue takes a request of any size."""
        if self._entries and len(self._entries) + len(instances) > self.limits.max_queue_size:
            self._drop_abandoned()
        waiting = len(self._entries)
        if waiting and waiting + len(instances) > self.limits.max_queue_size:
            raise QueueFull(
                f"{waiting} instances are waiting and {len(instances)} more would pass the limit of {self.limits.max_queue_size}."
            )
        self._entries.extend(Entry(instance, ticket, index) for index, instance in enumerate(instances))

    def take(self) -> list[Entry]:
        """The next batch, and out of the queue with it; empty when nothing waits.

        The oldest entry is always in it. Others join it, oldest first, as long as the batch stays within its limits
        and its padding within the budget; the rest keep their places.
        """
        self._drop_abandoned()
        if not self._entries:
            return []
        batch, rest = [self._entries[0]], []
        steps = longest = len(self._entries[0].instance)
        for position, entry in enumerate(self._entries[1:], start=1):
            if len(batch) == self.limits.max_batch_size:
                rest.extend(self._entries[position:])
                break
            length = len(entry.instance)
            padded = max(longest, length) * (len(batch) + 1)
            waste = 1 - (steps + length) / padded
            if padded <= self.limits.max_batch_steps and waste <= self.limits.max_padding_waste:
                batch.append(entry)
                steps, longest = steps + length, max(longest, length)
            else:
                rest.append(entry)
        self._entries = rest
        return batch

    def clear(self) -> list[Entry]:
        """Everything that waits, and out of the queue with it."""
        entries, self._entries = self._entries, []
        return entries

    def _drop_abandoned(self) -> None:
        self._entries = [entry for entry in self._entries if not entry.ticket.abandoned]


class Batcher:
    """Runs `predict` over what waits, in `lanes` threads. Must be made inside a running event loop."""

    def __init__(self, predict: Predict, limits: Limits, *, lanes: int) -> None:
        self._predict = predict
        self._queue = Queue(limits)
        self._arrived = asyncio.Event()
        self._closing = False
        self._threads = ThreadPoolExecutor(lanes, thread_name_prefix="lane")
        self._lanes = [asyncio.create_task(self._lane()) for _ in range(lanes)]

    async def predict(self, instances: Sequence[Instance], *, deadline: float | None = None) -> list[Prediction]:
        """Predictions in the order of the instances (one or more), by `deadline` (the loop's clock) if there is one.

        Raises QueueFull or Draining at once, DeadlineExceeded at the deadline. A caller that is cancelled leaves
        nothing behind: what it had waiting is dropped before it reaches a lane.
        """
        if self._closing:
            raise Draining("The service is shutting down and takes no new work.")
        future: asyncio.Future[list[Prediction]] = asyncio.get_running_loop().create_future()
        self._queue.put(instances, Ticket(len(instances), future))
        self._arrived.set()
        try:
            async with asyncio.timeout_at(deadline):
                return await future
        except TimeoutError:
            raise DeadlineExceeded("The deadline passed while the request waited or ran; ask for less at once, or later.") from None

    def refuse(self) -> int:
        """Take nothing new and answer what waits with Draining; how many instances that were. What runs is finished."""
        self._closing = True
        self._arrived.set()
        waiting = self._queue.clear()
        for entry in waiting:
            entry.settle(Draining("The service is shutting down and did not come to this request."))
        return len(waiting)

    async def close(self) -> None:
        """Take nothing new, finish what waits and runs."""
        self._closing = True
        self._arrived.set()
        await asyncio.gather(*self._lanes)
        self._threads.shutdown()

    async def _lane(self) -> None:
        loop = asyncio.get_running_loop()
        while entries := await self._next():
            results = await loop.run_in_executor(self._threads, self._run, [entry.instance for entry in entries])
            for entry, result in zip(entries, results, strict=True):
                entry.settle(result)

    async def _next(self) -> list[Entry]:
        """The next batch for a free lane; empty when the batcher closes and nothing is left."""
        while not (entries := self._queue.take()) and not self._closing:
            self._arrived.clear()
            await self._arrived.wait()
        return entries

    def _run(self, instances: list[Instance]) -> Sequence[Prediction | Exception]:
        """In a lane's thread: a prediction or an error for each instance, never an exception."""
        try:
            predictions = self._predict(instances)
            if len(predictions) == len(instances):
                return predictions
            raise RecurveError(f"The engine answered {len(predictions)} of {len(instances)} instances.")
        except Exception as error:
            if len(instances) == 1:
                log.exception("An instance of %d steps failed.", len(instances[0]))
                return [error]
        log.warning("A batch of %d failed; its instances run one by one, so that none harms another.", len(instances))
        return [result for instance in instances for result in self._run([instance])]
