"""When the event loop runs batches, and for how long: the same thread also reads, decodes, refuses and answers.

Owns how its time is shared between batches and the rest, also under overload: accepted requests get their share, and refused
clients are told soon. Knows nothing of what the work is.
"""

import asyncio
from collections.abc import Callable
from time import perf_counter, thread_time

ROUNDS = 3  # of the loop: a request is read in one, decoded or refused in the next, and its answer leaves in the third
SLICE = 3e-3  # seconds of reading and answering after which work is due, whatever else has arrived
FAIR = 8e-3  # seconds that work may take at most before others have their turn


class LoopTime:
    """Calls `work` when it is due. Must be made inside a running event loop.

    All seconds are this thread's CPU time, so that waiting does not count. CPU time passes no faster than the clock, and the clock
    costs a tenth as much to read: so it is read first.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._called = False  # whether a call is scheduled
        self._ended = thread_time()  # when work ended last
        self._not_before = 0.0  # by the clock: the earliest time at which work can be overdue

    @property
    def overdue(self) -> bool:
        """Whether the loop has done other things for so long that the work must not wait any longer."""
        now = perf_counter()
        if now < self._not_before:
            return False
        remaining = self._ended + SLICE - thread_time()
        self._not_before = now + remaining
        return remaining < 0

    def call(self, *, rounds: int = 1) -> None:
        """Call `work` after so many rounds of the loop, unless a call is scheduled already."""
        if not self._called:
            self._called = True
            self._after(rounds)

    def work_until(self) -> float:
        """The time until which work that begins now may go on: for as long as the loop did other things, FAIR at most."""
        begin = thread_time()
        return begin + min(begin - self._ended, FAIR)

    def is_past(self, until: float) -> bool:
        """Whether the time `until`, from `work_until`, has passed."""
        return thread_time() >= until

    def work_ended(self) -> None:
        """Note that work has ended now; to be called each time."""
        self._ended = thread_time()
        self._not_before = perf_counter() + SLICE

    def _after(self, rounds: int) -> None:
        if rounds == 1:
            self._loop.call_soon(self._now)
        else:
            self._loop.call_soon(self._after, rounds - 1)

    def _now(self) -> None:
        self._called = False
        self._work()
