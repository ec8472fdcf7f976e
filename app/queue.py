"""What waits for its turn, and which of it runs together.

Owns the waiting entries, each of which carries its own answer slot, and the rules of a batch. No clock, no await, no
thread: it decides, the batcher acts.
"""

from asyncio import Future
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from app.errors import DeadlineExceeded, QueueFull
from app.tensors import Instance, Prediction

LOOK_AHEAD = 256  # entries among which company is looked for


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

    def __init__(self, size: int, future: "Future[list[Prediction]]") -> None:
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

    def expire(self) -> None:
        """Tell the caller that it is too late."""
        self.fail(DeadlineExceeded("The deadline passed while the request waited or ran; ask for less at once, or later."))


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
    """Entries in the order of their arrival."""

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

        The oldest entry is always in it. Those nearest to it in length join it, as long as the batch stays within its
        limits and its padding within the budget; the rest keep their places.
        """
        head: list[Entry] = []
        while self._entries and not head:
            head = [entry for entry in self._entries[:LOOK_AHEAD] if not entry.ticket.abandoned]
            self._entries[:LOOK_AHEAD] = head
        if not head:
            return []
        chosen = self._around_oldest([len(entry.instance) for entry in head])
        batch = [self._entries[index] for index in chosen]
        for index in reversed(chosen):
            del self._entries[index]
        return batch

    def _around_oldest(self, lengths: list[int]) -> list[int]:
        """Which of these, in ascending order, make the batch: the first, and its neighbours among the sorted lengths."""
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        low = high = order.index(0)
        total = longest = lengths[0]
        while high - low + 1 < self.limits.max_batch_size:
            size = high - low + 2
            padded = longest * size
            shorter = 1 - (total + lengths[order[low - 1]]) / padded if low > 0 else 1.0
            longer, waste = 0, 1.0
            if high + 1 < len(order):
                longer = lengths[order[high + 1]]
                waste = 1 - (total + longer) / (longer * size)
            if waste <= shorter and waste <= self.limits.max_padding_waste and longer * size <= self.limits.max_batch_steps:
                high, longest = high + 1, longer
                total += longer
            elif shorter <= self.limits.max_padding_waste and padded <= self.limits.max_batch_steps:
                low -= 1
                total += lengths[order[low]]
            else:
                break
        return sorted(order[low : high + 1])

    def clear(self) -> list[Entry]:
        """Everything that waits, and out of the queue with it."""
        entries, self._entries = self._entries, []
        return entries

    def _drop_abandoned(self) -> None:
        self._entries = [entry for entry in self._entries if not entry.ticket.abandoned]
