"""Tracks which of the operator's orders (to load or unload a model) this worker and all workers of the service have carried out.

Owns this worker's view of that. Knows nothing of what an order says, nor of how workers talk to each other.
"""

import asyncio
from collections.abc import Callable


class Fleet:
    """The view of one worker; it is the only one unless `report` is set, which tells the supervisor of `done`.

    `summon` is called when another worker has carried out an order that this one has not.
    """

    def __init__(self) -> None:
        self.done = 0  # the number of the last order that this worker has carried out
        self.summon: Callable[[], None] = lambda: None
        self.report: Callable[[], None] | None = None
        self._everywhere = 0  # the same number, of the worker that is furthest behind
        self._news = asyncio.Event()

    def carried_out(self, number: int) -> None:
        """Note, and report, that this worker has carried out this order."""
        if number > self.done:
            self.done = number
            if self.report is not None:
                self.report()

    def level(self, number: int) -> None:
        """Note that all workers have carried out this order, and those before it."""
        self._everywhere = max(self._everywhere, number)
        self._news.set()

    async def wait_for(self, number: int, *, timeout: float) -> bool:
        """Wait until all workers have carried out this order; False when they have not within `timeout` seconds."""
        if self.report is None:
            return True
        try:
            async with asyncio.timeout(timeout):
                while self._everywhere < number:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True
