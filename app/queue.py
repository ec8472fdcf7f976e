"""The instances that wait, and the choice of those that run together as a batch.

Owns the waiting entries, each with its own answer slot, and the rules for a batch. No clock, no await, no thread: the queue
decides, the batcher acts.
"""

from asyncio import Future
from bisect import bisect_right
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from app.cost import ANY, Pace, Padding
from app.errors import DeadlineExceeded, NotFinite, QueueFull
from app.tensors import Instance, Prediction

LOOK_AHEAD = 256  # entries from which a batch is chosen


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """The limits of one batch, in instances and in padded steps, and of the queue."""

    max_batch_size: int
    max_batch_steps: int  # padded steps: instances times the steps of the longest
    max_padding_waste: float  # share of the padded steps that may be padding
    max_queue_size: int  # instances
    max_queue_delay: float = 0.0  # seconds that a batch which is not full may wait for more instances
    padding: Padding = ANY  # how much padding a larger batch is worth


class Ticket:
    """The pending answer to one request, with a slot for each instance. Await it for all predictions, or the first error."""

    __slots__ = ("_future", "_missing", "_predictions", "arrived", "deadline", "span")

    def __init__(self, size: int, future: "Future[list[Prediction]]", *, arrived: float, deadline: float) -> None:
        self.arrived = arrived
        self.span: Any = None  # the request's trace span, if tracing is on
        self.deadline = deadline
        self._future = future
        self._missing = size
        self._predictions: list[Prediction | None] = [None] * size

    def __await__(self) -> Generator[Any, None, list[Prediction]]:
        return self._future.__await__()

    @property
    def due(self) -> float:
        return (self.arrived + self.deadline) / 2

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits any more: the request was answered or cancelled, has failed, or its deadline has passed."""
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

    def drop(self) -> None:
        """Cancel it: nobody will await it."""
        self._future.cancel()

    def expire(self) -> None:
        """Fail it with DeadlineExceeded."""
        self.fail(DeadlineExceeded("The deadline passed while the request waited or ran; send less at once, or try again later."))


@dataclass(slots=True, eq=False)  # not frozen, which is slower to make: there is one for every instance
class Entry:
    """One waiting instance and the slot for its answer.

    `due` orders the queue: half-way between the request's arrival and its deadline, plus the time that the instances before it
    in the same request take. So urgent requests go first, and small requests pass a large one that is being worked on, as long as
    they are due before its entries.
    """

    instance: Instance
    ticket: Ticket
    index: int
    due: float  # seconds
    length: int  # steps
    weight: int

    def settle(self, result: Prediction | Exception, now: float) -> None:
        if now > self.ticket.deadline:
            self.ticket.expire()
        elif isinstance(result, NotFinite):
            self.ticket.fail(NotFinite(f"Instance {self.index}: {result.detail}"))
        elif isinstance(result, Exception):
            self.ticket.fail(result)
        else:
            self.ticket.answer(self.index, result)


@dataclass(slots=True)
class Queue:
    """The waiting entries, in the order in which they are due."""

    limits: BatchLimits
    weight: int = 0  # of all entries
    _entries: list[Entry] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def put(self, instances: Sequence[Instance], ticket: Ticket, *, per_step: float = 0.0) -> None:
        """Queue all instances of a request, or raise QueueFull and queue none. An empty queue takes a request of any size.

        `per_step`: seconds that a step of work costs.
        """
        if self._entries and len(self._entries) + len(instances) > self.limits.max_queue_size:
            self._keep([entry for entry in self._entries if not entry.ticket.abandoned])
        waiting = len(self._entries)
        if waiting and waiting + len(instances) > self.limits.max_queue_size:
            raise QueueFull(
                f"{waiting} instances are waiting and {len(instances)} more would pass the limit of {self.limits.max_queue_size}."
            )
        before = 0
        for index, instance in enumerate(instances):
            length = len(instance.steps)
            weight = Pace.weight(length)
            self._entries.append(Entry(instance, ticket, index, ticket.due + before * per_step, length, weight))
            before += weight
        self.weight += before
        if waiting and self._entries[waiting].due < self._entries[waiting - 1].due:
            self._entries.sort(key=attrgetter("due"))  # fast: it merges two runs that are sorted already

    def before(self, due: float) -> int:
        """The weight of the entries that are due by then."""
        later = self._entries[bisect_right(self._entries, due, key=attrgetter("due")) :]
        return self.weight - sum([entry.weight for entry in later])

    def take(self) -> list[Entry]:
        """Remove and return the next batch; empty when nothing waits.

        The entry that is due first is always in it. Entries nearest to it in length join, as long as the batch stays within
        its limits and its padding within the budget, and the padding costs less than it saves. The rest keep their places.
        """
        if first := self._alike():
            del self._entries[: len(first)]
            self.weight -= len(first) * first[0].weight
            return first
        head: list[Entry] = []
        while self._entries and not head:
            head = [entry for entry in self._entries[:LOOK_AHEAD] if not entry.ticket.abandoned]
            self._keep(head + self._entries[LOOK_AHEAD:])
        if not head:
            return []
        chosen = self._around_first([entry.length for entry in head])
        batch = [self._entries[index] for index in chosen]
        for index in reversed(chosen):
            self.weight -= self._entries[index].weight
            del self._entries[index]
        return batch

    def _alike(self) -> list[Entry]:
        """A fast path: a full batch, or all entries, if they have one length, so that the rules choose the same; else nothing."""
        first = self._entries[: self.limits.max_batch_size]
        length = first[0].length if first else 0
        for entry in first:
            if entry.length != length or entry.ticket.abandoned:
                return []
        return first if len(first) * length <= self.limits.max_batch_steps or len(first) == 1 else []

    def _around_first(self, lengths: list[int]) -> list[int]:
        """The indices of the batch, ascending: index 0, and its neighbours when the lengths are sorted."""
        worth = self.limits.padding
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        low = high = order.index(0)
        total = longest = lengths[0]
        while high - low + 1 < self.limits.max_batch_size:
            size = high - low + 2
            padded = longest * size
            shorter, least = 1.0, lengths[order[low - 1]] if low > 0 else 0
            if least and longest - least <= worth.allowed(least):
                shorter = 1 - (total + least) / padded
            longer, waste = lengths[order[high + 1]] if high + 1 < len(order) else 0, 1.0
            if longer and (longer - longest) * (size - 1) <= worth.allowed(longest):
                waste = 1 - (total + longer) / (longer * size)
            if waste <= shorter and waste <= self.limits.max_padding_waste and longer * size <= self.limits.max_batch_steps:
                high, longest = high + 1, longer
                total += longer
            elif shorter <= self.limits.max_padding_waste and padded <= self.limits.max_batch_steps:
                low -= 1
                total += least
            else:
                break
        return sorted(order[low : high + 1])

    def clear(self) -> list[Entry]:
        """Remove and return all entries."""
        entries = self._entries
        self._keep([])
        return entries

    def _keep(self, entries: list[Entry]) -> None:
        if len(entries) < len(self._entries):
            self.weight = sum(entry.weight for entry in entries)
        self._entries = entries
