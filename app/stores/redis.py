"""Records in Redis, or in Valkey: one store for services on several machines.

Owns which commands are sent to Redis. Every change is a script of lua.py, so it is atomic. All services use Redis's clock. Knows
nothing of connections.
"""

import asyncio
import re
from math import ceil
from typing import ClassVar, cast

from app.errors import InvalidRequest
from app.stores import GONE, TAG
from app.stores.lua import DUE, EXPIRED, RECORD, REMOVE, SWAP, SWEEP
from app.stores.pipeline import Change, Pipeline


class Redis:
    """The store behind one address: redis://, rediss:// (with TLS), unix://, or valkey:// for redis://."""

    name: ClassVar[str] = "redis"

    def __init__(self, url: str) -> None:
        """Does not connect yet. Raises ValueError for an invalid address."""
        self._redis = Pipeline(url)

    def now(self) -> float:
        return self._redis.now()

    async def read(self, key: str) -> bytes | None:
        return cast("bytes | None", await self._redis.ask("GET", RECORD + key))

    async def swap(self, key: str, record: bytes, *, expected: bytes | None, until: float) -> bool:
        change = Change(RECORD + key, expected or b"", record[:TAG])
        end = ceil(until * 1000)
        arguments = (change.before, record, end, end + int(GONE * 1000), key)
        return bool(await self._redis.ask(3, change.name, DUE, EXPIRED + key, *arguments, script=SWAP, change=change))

    async def remove(self, key: str, *, expected: bytes) -> bool:
        change = Change(RECORD + key, expected, b"")
        return bool(await self._redis.ask(2, change.name, DUE, expected, key, script=REMOVE, change=change))

    async def expired(self, key: str) -> bool:
        return bool(await self._redis.ask("EXISTS", EXPIRED + key))

    async def sweep(self, now: float, *, limit: int) -> int:
        swept = self._redis.ask(1, DUE, int(now * 1000), limit, RECORD, EXPIRED, int(GONE), script=SWEEP)
        dropped, clock = await asyncio.gather(swept, self._redis.ask("TIME"))
        self._redis.learn_time(clock)
        return int(dropped)

    async def count(self) -> int:
        return int(await self._redis.ask("ZCARD", DUE))

    async def page(self, cursor: str, *, limit: int) -> tuple[list[str], str]:
        if not re.fullmatch("[0-9]{0,20}", cursor):
            raise InvalidRequest.at("/cursor", "expected `next` of the page before")
        following, found = await self._redis.ask("ZSCAN", DUE, cursor or "0", "COUNT", limit)
        return [key.decode() for key in found[::2]], "" if following == b"0" else following.decode()

    async def prove(self) -> None:
        await self._redis.ask("SET", "{recurve}:proof", "", "PX", 1000)

    async def close(self) -> None:
        await self._redis.close()
