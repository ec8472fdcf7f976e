"""Turns: a fair lock for each key; requests for one key run one at a time, in the order in which they came.

Owns that order within one process; between processes the stores decide. Knows nothing of what a turn is for.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.errors import DeadlineExceeded, QueueFull

MOST_WAITING = 256  # for one key


class Turns:
    """One turn at a time for each key, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # an empty deque: the turn is taken and nobody waits

    @asynccontextmanager
    async def of(self, key: str) -> AsyncIterator[None]:
        """Wait for the turn, and hold it until the block ends; raises QueueFull when too many wait."""
        await self.take(key)
        try:
            yield
        finally:
            self.give(key)

    async def take(self, key: str, *, timeout: float | None = None) -> None:
        """Wait for the turn; `give` must return it. Raises QueueFull, and DeadlineExceeded after `timeout` seconds."""
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = deque()
            return
        if len(waiting) >= MOST_WAITING:
            raise QueueFull(f"{MOST_WAITING} requests are already waiting for their turn on {key}.")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append(turn)
        try:
            async with asyncio.timeout(timeout):
                await turn
        except (TimeoutError, asyncio.CancelledError) as error:
            if turn.done() and not turn.cancelled():  # the turn was given just before: pass it on
                self.give(key)
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded("The deadline passed before the request had its turn on the stream.") from None
            raise

    def give(self, key: str) -> None:
        """End the turn, and give it to the next that waits."""
        waiting = self._waiting[key]
        while waiting:
            turn = waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._waiting[key]
