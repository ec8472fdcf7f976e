"""Records in the memory of one process: the fastest store, lost when the process ends.

Owns when records are checked for expiry: a heap has one entry for each record, with a time before which it cannot have
expired. Using a record moves its expiry but not its entry; `sweep` notices that and moves the entry. No thread; the time is an
argument of `sweep`.
"""

import asyncio
from collections import deque
from heapq import heapify, heappop, heappush, nsmallest
from time import time
from typing import ClassVar, NamedTuple

from app.stores import GONE, TAG

SLICE = 1024  # entries that are looked at before the event loop does other work
MOST_GONE = 2**18  # keys of expired records that are remembered: about 60 MB
SPARE = 1024  # so many entries of removed records are not worth cleaning up


class _Kept(NamedTuple):
    record: bytes
    until: float
    due: float  # of its entry in the heap; never after `until`


class Memory:
    """A dict of records, and a heap of the times at which they may have expired."""

    name: ClassVar[str] = "memory"

    def __init__(self, *, most_gone: int = MOST_GONE) -> None:
        self._kept: dict[str, _Kept] = {}
        self._due: list[tuple[float, str]] = []  # a heap; an entry whose time is not its record's `due` is out of date
        self._gone: dict[str, float] = {}  # key -> when its record was dropped
        self._forget: deque[tuple[float, str]] = deque()  # the same, oldest first; some keys may have records again
        self._most_gone = most_gone

    def __repr__(self) -> str:
        return f"Memory({len(self._kept)} kept, {len(self._due)} due, {len(self._gone)} gone)"

    now = staticmethod(time)

    async def read(self, key: str) -> bytes | None:
        kept = self._kept.get(key)
        return None if kept is None else kept.record

    async def swap(self, key: str, record: bytes, *, expected: bytes | None, until: float) -> bool:
        kept = self._kept.get(key)
        if (None if kept is None else kept.record[:TAG]) != expected:
            return False
        if kept is not None and kept.due <= until:
            self._kept[key] = _Kept(record, until, kept.due)
        else:  # it is new, or its time was shortened
            self._kept[key] = _Kept(record, until, until)
            heappush(self._due, (until, key))
            self._gone.pop(key, None)
        return True

    async def remove(self, key: str, *, expected: bytes) -> bool:
        kept = self._kept.get(key)
        if kept is None or kept.record[:TAG] != expected:
            return False
        del self._kept[key]
        if len(self._due) > 2 * len(self._kept) + SPARE:  # so rebuilding costs each removal one entry, on average
            self._due = [(kept.due, key) for key, kept in self._kept.items()]
            heapify(self._due)
        return True

    async def expired(self, key: str) -> bool:
        return key in self._gone

    async def sweep(self, now: float, *, limit: int) -> int:
        left = due = limit
        while left and due:
            due, dropped = self._drop(now, left)
            left -= dropped
            await asyncio.sleep(0)
        return limit - left

    async def count(self) -> int:
        return len(self._kept)

    async def page(self, cursor: str, *, limit: int) -> tuple[list[str], str]:
        keys = nsmallest(limit + 1, (key for key in self._kept if key > cursor))
        return keys[:limit], keys[limit - 1] if len(keys) > limit else ""

    async def prove(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def _drop(self, now: float, most: int) -> tuple[int, int]:
        """Look at some entries that are due. Returns how many these were, and how many records were dropped."""
        for _ in range(min(most, SLICE)):
            if not self._forget or self._forget[0][0] > now - GONE:
                break
            self._forget_one()
        looked_at = dropped = 0
        while looked_at < min(most, SLICE) and self._due and self._due[0][0] <= now:
            due, key = heappop(self._due)
            looked_at += 1
            kept = self._kept.get(key)
            if kept is None or kept.due != due:
                continue
            if kept.until > now:
                self._kept[key] = kept._replace(due=kept.until)
                heappush(self._due, (kept.until, key))
                continue
            del self._kept[key]
            self._gone[key] = now
            self._forget.append((now, key))
            if len(self._forget) > self._most_gone:
                self._forget_one()
            dropped += 1
        return looked_at, dropped

    def _forget_one(self) -> None:
        since, key = self._forget.popleft()
        if self._gone.get(key) == since:  # else the key was written again since
            del self._gone[key]
