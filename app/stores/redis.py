"""Records in Redis, or in Valkey: one store for services on several machines.

Owns the connection, which everything shares: what is asked for while a round trip is under way goes along in the next one.
Nothing is sent twice; a swap whose answer was lost is looked up. Every change is a script, so it happens as a whole:

    {recurve}:stream:KEY    the record; Redis frees it itself when no service is left to sweep
    {recurve}:due           the keys, sorted by when their records may be dropped, in milliseconds
    {recurve}:gone:KEY      that a record of this key was dropped; Redis forgets it after GONE seconds

The braces keep all of them on one node of a cluster. Redis 6.2 is the oldest that knows what is used here.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from math import ceil
from typing import Any, ClassVar, Protocol, cast

from redis.asyncio import ConnectionPool
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from app.errors import InvalidRequest, StoreUnavailable, Violation
from app.stores import GONE, TAG

CONNECT = 1.0  # seconds that a connection may take
ROUND_TRIP = 2.0  # seconds, with the connecting
MOST_AT_ONCE = 256  # operations in a round trip

DUE = "{recurve}:due"
RECORD = "{recurve}:stream:"
MEMORY = "{recurve}:gone:"


class _Connection(Protocol):
    """What is used of redis-py's connection, which lacks types."""

    @property
    def is_connected(self) -> bool: ...
    async def connect(self) -> None: ...
    async def disconnect(self, nowait: bool = False) -> None: ...
    async def can_read(self) -> bool: ...
    async def send_packed_command(self, command: Sequence[bytes], check_health: bool = True) -> None: ...
    async def read_response(self, disable_decoding: bool = False) -> Any: ...
    def pack_commands(self, commands: Sequence[Sequence[Any]]) -> Sequence[bytes]: ...


class _Script:
    """Lua that Redis runs as one step. It is sent once; then its digest stands for it, until Redis forgets it."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.digest = sha1(source.encode(), usedforsecurity=False).hexdigest()


# The first to change anything is what Redis refuses when its memory is full: then nothing has changed.
_SWAP = _Script("""
if redis.call('GETRANGE', KEYS[1], 0, 15) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PXAT', ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[5])
if ARGV[1] == '' then redis.call('DEL', KEYS[3]) end
return 1
""")
_REMOVE = _Script("""
if redis.call('GETRANGE', KEYS[1], 0, 15) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[2])
return 1
""")
# To drop is never refused, and who has begun to change something may go on.
_SWEEP = _Script("""
local over = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, key in ipairs(over) do
  redis.call('DEL', ARGV[3] .. key)
  redis.call('ZREM', KEYS[1], key)
  redis.call('SET', ARGV[4] .. key, '', 'EX', ARGV[5])
end
return #over
""")


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """A command, and who waits for the reply. Of a script, the command is its keys and arguments."""

    command: tuple[Any, ...]
    reply: "asyncio.Future[Any]"
    script: _Script | None = None
    leaves: tuple[str, bytes] | None = None  # the key and the tag that a swap leaves behind

    def as_sent(self, *, whole: bool) -> tuple[Any, ...]:
        if self.script is None:
            return self.command
        return ("EVAL", self.script.source, *self.command) if whole else ("EVALSHA", self.script.digest, *self.command)

    def settle(self, reply: Any) -> None:
        if not self.reply.done():
            self.reply.set_result(reply)

    def fail(self, error: Exception) -> None:
        if not self.reply.done():
            self.reply.set_exception(error)


class Redis:
    """The store behind one address: redis://, rediss:// (with TLS), unix://, or valkey:// for redis://."""

    name: ClassVar[str] = "redis"

    def __init__(self, url: str) -> None:
        """Connects to nothing yet. ValueError for an address that is none."""
        pool = ConnectionPool.from_url(
            re.sub("^valkey", "redis", url),
            socket_connect_timeout=CONNECT,
            socket_timeout=None,
            protocol=2,
            driver_info=None,
            max_connections=1,
        )
        known = pool.connection_kwargs
        self._where = known.get("path") or f"{known.get('host', 'localhost')}:{known.get('port', 6379)}"
        self._connection = cast("Callable[[], _Connection]", pool.make_connection)()
        self._waiting: list[_Asked] = []
        self._sender: asyncio.Task[None] | None = None
        self._closed = False

    async def read(self, key: str) -> bytes | None:
        return cast("bytes | None", await self._ask("GET", RECORD + key))

    async def swap(self, key: str, record: bytes, *, expected: bytes | None, until: float) -> bool:
        end = ceil(until * 1000)
        arguments = (expected or b"", record, end, end + int(GONE * 1000), key)
        asked = (3, RECORD + key, DUE, MEMORY + key, *arguments)
        return bool(await self._ask(*asked, script=_SWAP, leaves=(key, record[:TAG])))

    async def remove(self, key: str, *, expected: bytes) -> bool:
        return bool(await self._ask(2, RECORD + key, DUE, expected, key, script=_REMOVE))

    async def expired(self, key: str) -> bool:
        return bool(await self._ask("EXISTS", MEMORY + key))

    async def sweep(self, now: float, *, limit: int) -> int:
        return int(await self._ask(1, DUE, int(now * 1000), limit, RECORD, MEMORY, int(GONE), script=_SWEEP))

    async def count(self) -> int:
        return int(await self._ask("ZCARD", DUE))

    async def page(self, cursor: str, *, limit: int) -> tuple[list[str], str]:
        if not re.fullmatch("[0-9]{0,20}", cursor):
            raise InvalidRequest([Violation("/cursor", "expected `next` of the page before")])
        following, found = await self._ask("ZSCAN", DUE, cursor or "0", "COUNT", limit)
        return [key.decode() for key in found[::2]], "" if following == b"0" else following.decode()

    async def prove(self) -> None:
        await self._ask("SET", "{recurve}:proof", "", "PX", 1000)

    async def close(self) -> None:
        self._closed = True
        if self._sender is not None:
            await asyncio.wait([self._sender])  # whoever waits is answered
        await self._connection.disconnect()

    def _ask(self, *command: Any, script: _Script | None = None, leaves: tuple[str, bytes] | None = None) -> "asyncio.Future[Any]":
        """The reply to a command, or to the script with these keys and arguments; StoreUnavailable."""
        if self._closed:
            raise StoreUnavailable(f"The connection to Redis at {self._where} is closed.")
        reply = asyncio.get_running_loop().create_future()
        self._waiting.append(_Asked(command, reply, script, leaves))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.get_running_loop().create_task(self._send())
        return reply

    async def _send(self) -> None:
        """One round trip after the other, for as long as something waits."""
        await asyncio.sleep(0)  # the loop learns of a connection that was closed, before something is sent over it
        while self._waiting:
            asked = [one for one in self._waiting[:MOST_AT_ONCE] if not one.reply.done()]  # or who asked has left
            del self._waiting[:MOST_AT_ONCE]
            try:
                await self._round_trip(asked, within=ROUND_TRIP)
            except Exception as error:
                if not await self._look_up([one for one in asked if one.leaves is not None and not one.reply.done()]):
                    asked += self._waiting  # nobody is to wait for the same once more
                for one in asked:
                    one.fail(error)

    async def _look_up(self, lost: list[_Asked]) -> bool:
        """Answer the swaps that happened, though their replies were lost; whether Redis could be asked.

        Where neither the old record nor the new one stands, another was faster, or came after: who knows.
        """
        loop = asyncio.get_running_loop()
        tags = [_Asked(("GETRANGE", RECORD + one.leaves[0], 0, TAG - 1), loop.create_future()) for one in lost if one.leaves]
        try:
            await self._round_trip(tags, within=CONNECT)
        except Exception:
            return False
        found = await asyncio.gather(*[tag.reply for tag in tags], return_exceptions=True)
        for one, tag in zip(lost, found, strict=True):
            if one.leaves is not None and tag == one.leaves[1]:
                one.settle(1)
        return bool(lost)

    async def _round_trip(self, asked: list[_Asked], *, within: float) -> None:
        """Answer all of them. StoreUnavailable: those that are not answered may have been done."""
        if not asked:
            return
        try:
            async with asyncio.timeout(within):
                if self._connection.is_connected and await self._connection.can_read():
                    await self._connection.disconnect(nowait=True)  # Redis has closed it since
                await self._connection.connect()
                if forgotten := await self._exchange(asked, whole=False):
                    await self._exchange(forgotten, whole=True)
        except Exception as error:
            await self._connection.disconnect(nowait=True)  # or the next one to ask would get what is still to come
            if isinstance(error, (RedisError, OSError)):
                raise self._trouble(error) from error
            raise

    async def _exchange(self, asked: list[_Asked], *, whole: bool) -> list[_Asked]:
        """Answer all of them but those whose script Redis does not know, and so has not run."""
        await self._connection.send_packed_command(self._connection.pack_commands([one.as_sent(whole=whole) for one in asked]))
        forgotten, replica = [], False
        for one in asked:
            try:
                one.settle(await self._connection.read_response(disable_decoding=True))
            except NoScriptError:
                forgotten.append(one)
            except ResponseError as error:
                one.fail(self._trouble(error))
                replica |= isinstance(error, ReadOnlyError)
        if replica:  # the name may lead to the new primary by now
            await self._connection.disconnect(nowait=True)
        return forgotten

    def _trouble(self, error: Exception) -> StoreUnavailable:
        if isinstance(error, TimeoutError):
            return StoreUnavailable(f"Redis at {self._where} did not answer in time.")
        code = getattr(error, "status_code", None) or ""  # which redis-py cuts off from what Redis says
        return StoreUnavailable(f"Redis at {self._where} cannot be used: {f'{code} {error}'.strip(' .')}.")
