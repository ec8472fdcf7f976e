"""One shared connection to Redis, on redis-py's connection class, with pipelining.

Owns round trips: commands that are requested during one are sent together in the next. No command is sent twice. A change is
made before the deadline of its round trip or never, so that one whose reply was lost can be looked up afterwards. Knows nothing
of streams.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, NamedTuple, Protocol, cast

from redis.asyncio import ConnectionPool
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from app.errors import StoreUnavailable
from app.stores import TAG
from app.stores.lua import Script

log = logging.getLogger(__name__)

CONNECT = 1.0  # seconds that connecting may take
ROUND_TRIP = 2.0  # seconds that a round trip may take, connecting included
MOST_AT_ONCE = 256  # commands in one round trip
UNKNOWN = "Whether it was done is not known: with a number a chunk can be sent again"


class Change(NamedTuple):
    """The record that a script changes, and its tags before and after the change; an empty tag: there is no record."""

    name: str
    before: bytes
    after: bytes


class _Connection(Protocol):
    """The part of redis-py's connection that is used here: redis-py has no type hints for it."""

    @property
    def is_connected(self) -> bool: ...
    async def connect(self) -> None: ...
    async def disconnect(self, nowait: bool = False) -> None: ...
    async def can_read(self) -> bool: ...
    async def send_packed_command(self, command: Sequence[bytes], check_health: bool = True) -> None: ...
    async def read_response(self, disable_decoding: bool = False) -> Any: ...
    def pack_commands(self, commands: Sequence[Sequence[Any]]) -> Sequence[bytes]: ...


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """A command and the future for its reply. For a script, `command` holds its keys and arguments."""

    command: tuple[Any, ...]
    reply: "asyncio.Future[Any]"
    script: Script | None = None
    change: Change | None = None

    def as_sent(self, *, until: int, whole: bool) -> tuple[Any, ...]:
        """The command's words. `until`: the deadline of a change, in milliseconds of Redis's clock. `whole`: send the source."""
        if self.script is None:
            return self.command
        sent = ("EVAL", self.script.source, *self.command) if whole else ("EVALSHA", self.script.digest, *self.command)
        return (*sent, until) if self.change else sent

    def settle(self, reply: Any) -> None:
        if not self.reply.done():
            self.reply.set_result(reply)

    def fail(self, error: Exception) -> None:
        if not self.reply.done():
            self.reply.set_exception(error)


class Pipeline:
    """Sends commands to the Redis at one address; connects when the first one is sent."""

    def __init__(self, url: str) -> None:
        """Raises ValueError for an invalid address."""
        pool = ConnectionPool.from_url(
            re.sub("^valkey", "redis", url),
            socket_connect_timeout=CONNECT,
            socket_timeout=None,
            protocol=2,
            driver_info=None,
        )
        known = pool.connection_kwargs
        self._where: str = known.get("path") or f"{known.get('host', 'localhost')}:{known.get('port', 6379)}"
        self._connection = cast("Callable[[], _Connection]", pool.make_connection)()
        self._waiting: list[_Asked] = []
        self._sender: asyncio.Task[None] | None = None
        self._closed = False
        self._ahead: float | None = None  # seconds that Redis's clock is ahead of the monotonic clock, or a little less
        self._sent = False  # whether anything was sent in the last round trip
        self._policy = ""  # Redis's maxmemory-policy

    def now(self) -> float:
        if self._ahead is None:
            raise StoreUnavailable(f"Redis at {self._where} has not been reached yet.")
        return monotonic() + self._ahead

    def learn_time(self, told: Sequence[bytes]) -> None:
        """Set the clock from `told`, Redis's reply to TIME. The reply is a little old, so `now` is never ahead of Redis's clock."""
        self._ahead = int(told[0]) + int(told[1]) / 1e6 - monotonic()

    async def close(self) -> None:
        self._closed = True
        if self._sender is not None:
            await asyncio.wait([self._sender])  # so that all waiting commands are answered
        await self._connection.disconnect()

    def ask(self, *command: Any, script: Script | None = None, change: Change | None = None) -> "asyncio.Future[Any]":
        """A future for the reply to a command, or to the script with these keys and arguments. Raises StoreUnavailable."""
        if self._closed:
            raise StoreUnavailable(f"The connection to Redis at {self._where} is closed.")
        reply = asyncio.get_running_loop().create_future()
        self._waiting.append(_Asked(command, reply, script, change))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.get_running_loop().create_task(self._send())
        return reply

    async def _send(self) -> None:
        """Make one round trip after the other while commands wait."""
        await asyncio.sleep(0)  # lets the loop notice that Redis has closed the connection, before anything is sent over it
        while self._waiting:
            asked = [one for one in self._waiting[:MOST_AT_ONCE] if not one.reply.done()]  # done: nobody waits any more
            del self._waiting[:MOST_AT_ONCE]
            end = monotonic() + ROUND_TRIP
            try:
                await self._round_trip(asked, end)
            except Exception as error:
                lost = [(one, one.change) for one in asked if one.change and not one.reply.done()] if self._sent else []
                if not (lost and await self._look_up(lost, end)):
                    for one, _ in lost:
                        one.fail(StoreUnavailable(f"{error} {UNKNOWN}.") if isinstance(error, StoreUnavailable) else error)
                    asked += self._waiting  # these fail now too, instead of waiting for another timeout
                for one in asked:
                    one.fail(error)

    async def _look_up(self, lost: list[tuple[_Asked, Change]], end: float) -> bool:
        """Find out which changes were made although their replies were lost, and answer those; False if Redis cannot be reached.

        After `end` a change has been made or never will be. If the record has neither the tag before the change nor the one after
        it, some other change came first or came later; whether this one was made is then unknown, and its error says so.
        """
        loop = asyncio.get_running_loop()
        while True:
            left = end - monotonic()
            tags = [_Asked(("GETRANGE", change.name, 0, TAG - 1), loop.create_future()) for _, change in lost]
            try:
                await self._round_trip(tags, monotonic() + CONNECT)
                found = await asyncio.gather(*[tag.reply for tag in tags])
            except Exception:
                return False
            for (one, change), tag in zip(lost, found, strict=True):
                if tag == change.after:
                    one.settle(1)
                elif tag != change.before:
                    one.fail(StoreUnavailable(f"Redis at {self._where} did not say, and another came too. {UNKNOWN}."))
            lost = [(one, change) for one, change in lost if not one.reply.done()]
            if not lost or left <= 0:
                return True
            await asyncio.sleep(left)

    async def _round_trip(self, asked: list[_Asked], end: float) -> None:
        """Answer all commands. After StoreUnavailable the unanswered ones may have been done, if anything was sent."""
        if not asked:
            return
        self._sent = False
        try:
            async with asyncio.timeout(end - monotonic()):
                if self._connection.is_connected and await self._connection.can_read():
                    await self._connection.disconnect(nowait=True)  # there is something to read: Redis has closed it
                if not self._connection.is_connected:
                    await self._connection.connect()
                    await self._greet()
                if forgotten := await self._exchange(asked, end, whole=False):
                    await self._exchange(forgotten, end, whole=True)
        except Exception as error:
            await self._connection.disconnect(nowait=True)  # else the next command would get the replies still to come
            if isinstance(error, (RedisError, OSError)):
                raise self._trouble(error) from error
            raise

    async def _greet(self) -> None:
        """Learn Redis's time, and warn if Redis would drop records when its memory is full."""
        await self._connection.send_packed_command(self._connection.pack_commands([("TIME",), ("INFO", "memory")]))
        self.learn_time(await self._connection.read_response(disable_decoding=True))
        with suppress(ResponseError):  # the user may lack the right to INFO
            said = await self._connection.read_response(disable_decoding=True)
            told = dict(re.findall(rb"(maxmemory|maxmemory_policy):(\S*)", said))
            policy = told.get(b"maxmemory_policy", b"").decode()
            if told.get(b"maxmemory", b"0") != b"0" and policy not in ("noeviction", self._policy):
                log.warning(
                    "Redis at %s drops streams when it is full, by maxmemory-policy %s: set noeviction.", self._where, policy
                )
            self._policy = policy

    async def _exchange(self, asked: list[_Asked], end: float, *, whole: bool) -> list[_Asked]:
        """Send the commands and answer them. Returns those whose script Redis does not know, and so has not run."""
        until = int(1000 * (self.now() + end - monotonic()))
        commands = self._connection.pack_commands([one.as_sent(until=until, whole=whole) for one in asked])
        self._sent = True
        await self._connection.send_packed_command(commands)
        forgotten, replica = [], False
        for one in asked:
            try:
                one.settle(await self._connection.read_response(disable_decoding=True))
            except NoScriptError:
                forgotten.append(one)
            except ResponseError as error:
                one.fail(self._trouble(error))
                replica |= isinstance(error, ReadOnlyError)
        if replica:  # connect again next time: the host name may point to the new primary by then
            await self._connection.disconnect(nowait=True)
        return forgotten

    def _trouble(self, error: Exception) -> StoreUnavailable:
        if isinstance(error, TimeoutError):
            return StoreUnavailable(f"Redis at {self._where} did not answer in time.")
        code = getattr(error, "status_code", None) or ""  # redis-py cuts this off Redis's message
        return StoreUnavailable(f"Redis at {self._where} cannot be used: {f'{code} {error}'.strip(' .')}.")
