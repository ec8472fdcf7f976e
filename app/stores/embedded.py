"""Records in an LMDB database: a folder that all processes of one machine use at once, and that outlives them.

Owns the transactions: writes that are requested in one turn of the event loop share one. Written records survive the death of
any process at any moment. Only `close` forces them to the disk. When the files are removed, replaced or damaged while in use,
the store opens them again.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from math import inf
from pathlib import Path
from time import monotonic, time
from typing import ClassVar, TypeVar

import lmdb

from app.errors import StoreUnavailable
from app.stores.files import DOUBTFUL, MAP_SIZE, PREFIX, Files, Transaction, Write, advice, stamp_of

log = logging.getLogger(__name__)

LOOK = 0.1  # seconds between two checks that the files are in place: a check takes longer than writing a record

_Answer = TypeVar("_Answer")


class Embedded:
    """The store in one folder. A process opens a folder at most once, and must not use it after a fork."""

    name: ClassVar[str] = "embedded"

    def __init__(self, folder: Path, *, map_size: int = MAP_SIZE, look: float = LOOK) -> None:
        """Opens the folder; raises StoreUnavailable when it cannot be used."""
        self._folder = folder
        self._map_size = map_size
        self._look = look
        self._looked = -inf  # when the files were last checked
        self._doubted = False  # LMDB has reported that something is wrong with the files
        self._waiting: list[tuple[Write, asyncio.Future[bool]]] = []
        self._closed = False
        self._files: Files | None = Files.open(self._folder, self._map_size)

    now = staticmethod(time)

    async def read(self, key: str) -> bytes | None:
        name = key.encode()
        return self._within(lambda _, txn: bytes(kept[PREFIX:]) if (kept := txn.get(name)) is not None else None)

    async def swap(self, key: str, record: bytes, *, expected: bytes | None, until: float) -> bool:
        return await self._later(key.encode(), record, expected, stamp_of(until))

    async def remove(self, key: str, *, expected: bytes) -> bool:
        return await self._later(key.encode(), None, expected, b"")

    async def expired(self, key: str) -> bool:
        return self._within(lambda files, txn: txn.get(key.encode(), db=files.gone) is not None)

    async def sweep(self, now: float, *, limit: int) -> int:
        self._within(lambda files, _: files.env.reader_check())  # frees pages that killed readers still hold
        left = due = limit
        while left and due:
            due, dropped = self._within(partial(Files.drop, now=now, most=left), write=True)
            left -= dropped
            await asyncio.sleep(0)
        return limit - left

    async def count(self) -> int:
        return self._within(lambda files, txn: txn.stat(files.records)["entries"])

    async def page(self, cursor: str, *, limit: int) -> tuple[list[str], str]:
        keys = self._within(lambda files, txn: files.after(txn, cursor.encode(), limit + 1))
        return keys[:limit], keys[limit - 1] if len(keys) > limit else ""

    async def prove(self) -> None:
        for put in (True, False):
            self._within(partial(Files.prove, put=put), write=True)

    async def close(self) -> None:
        self._commit()
        self._closed = True
        if self._files is not None:
            try:
                self._files.env.sync(True)
            except lmdb.Error as error:
                log.error("%s could not be forced to the disk: %s", self._folder, error)
            self._let_go(self._files)

    def _later(self, key: bytes, record: bytes | None, expected: bytes | None, until: bytes) -> "asyncio.Future[bool]":
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bool] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._commit)
        self._waiting.append(((key, record, expected, until), answer))
        return answer

    def _commit(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._settle([each for each in waiting if not each[1].done()])  # done: cancelled, for its client has left

    def _settle(self, waiting: list[tuple[Write, asyncio.Future[bool]]]) -> None:
        """Do all writes in one transaction or, if that fails, each in its own: a single write may have caused the failure."""
        try:
            written = self._within(lambda files, txn: [files.write(txn, write) for write, _ in waiting], write=True)
            for (_, answer), done in zip(waiting, written, strict=True):
                answer.set_result(done)
        except Exception as error:
            if len(waiting) == 1:
                waiting[0][1].set_exception(error)
                return
            for each in waiting:
                self._settle([each])

    def _within(self, act: Callable[[Files, Transaction], _Answer], *, write: bool = False) -> _Answer:
        """Run `act` in a transaction and return its result; raises StoreUnavailable, with nothing changed, when LMDB fails."""
        try:
            if self._closed:
                raise StoreUnavailable(f"The store in {self._folder} is closed.")
            files = self._opened()
            with files.env.begin(files.records, None, write, True) as txn:
                return act(files, txn)
        except lmdb.Error as error:
            if isinstance(error, DOUBTFUL) and self._files is not None:
                self._let_go(self._files)
                self._doubted = True
            most = f" It may take {self._map_size / 2**20:g} MiB; nothing in it was lost."
            told = most if isinstance(error, lmdb.MapFullError) else advice(error)
            raise StoreUnavailable(f"The store in {self._folder} cannot be used: {error}.{told}") from error

    def _opened(self) -> Files:
        """The files; opened again after an LMDB failure, or when they were removed or replaced."""
        now = monotonic()
        if self._files is not None and now - self._looked > self._look:
            self._looked = now
            if not self._files.are_there():
                detail = (
                    "The files in %s were removed or replaced while they were in use: streams begin anew with what is there now."
                )
                log.error(detail, self._folder)
                self._let_go(self._files)
        if self._files is None:
            self._files = Files.open(self._folder, self._map_size, doubted=self._doubted)
            self._doubted = False
        return self._files

    def _let_go(self, files: Files) -> None:
        files.env.close()
        self._files = None
