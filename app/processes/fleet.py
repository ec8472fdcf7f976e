"""Which orders of the operator, to serve a model or not, this worker and all workers of the service have carried out.

Owns what this worker knows of that. Knows nothing of what an order is, nor of how workers speak to each other.
"""

import asyncio
from collections.abc import Callable


class Fleet:
    """A worker among the others; alone, unless `report` is set to something that tells them.

    `summon` is called when another has an order that this one has not carried out yet.
    """

    def __init__(self) -> None:
        self.done = 0  # the number of the last order that this worker has carried out
        self.summon: Callable[[], None] = lambda: None
        self.report: Callable[[], None] | None = None
        self._everywhere = 0  # the same of the worker that is furthest behind
        self._news = asyncio.Event()

    def carried_out(self, number: int) -> None:
        """It has done what this order wants."""
        if number > self.done:
            self.done = number
            if self.report is not None:
                self.report()

    def level(self, number: int) -> None:
        """All workers have carried out this order, and those before it."""
        self._everywhere = max(self._everywhere, number)
        self._news.set()

    async def wait_for(self, number: int, *, timeout: float) -> bool:
        """Until all workers have carried out this order; False when they have not within `timeout` seconds."""
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
