"""Records in an LMDB database: a folder that all processes of one machine use at once, and that outlives them.

Owns the files. Writes that are asked for in one turn of the event loop share a transaction. What was written survives the
death of any process at any moment. Only `close` forces it to the disk: the files of a machine that lost its power may be
damaged, so the first process after a boot looks through them. Times are milliseconds, 8 bytes, big-endian: they sort.

    records   key -> until, due, record; using it moves `until` alone, which writes to this database only
    due       due, key -> nothing: when to look at a record, never after its `until`, or at the memory of one
    gone      key -> when it may be forgotten that a record of this key was dropped
"""

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from errno import EDQUOT, EFBIG, EIO, ENOSPC
from fcntl import LOCK_EX, flock
from functools import partial
from itertools import islice, takewhile
from math import ceil
from pathlib import Path
from struct import Struct
from time import time, time_ns
from typing import ClassVar, TypeAlias, TypeVar

import lmdb
from lmdb import _Database
from lmdb.verify import VerifyError, verify

from app.errors import StoreUnavailable
from app.stores import GONE, TAG

log = logging.getLogger(__name__)

MAP_SIZE = 2**38  # bytes of address space; the file is as large as what was in it at once
READERS = 1024  # processes
PREFIX = 16  # bytes before a record
SLICE = 128  # entries that are looked at in one transaction, before others have their turn
FULL = {ENOSPC, EDQUOT, EFBIG, EIO}  # LMDB says EIO of a write that was cut short
DAMAGED = (VerifyError, lmdb.CorruptedError, lmdb.InvalidError, lmdb.PageNotFoundError, lmdb.VersionMismatchError)
BOOT = Path("/proc/sys/kernel/random/boot_id")

_BEGINNING = Struct(f"8s8s{TAG}s")  # until, due, the record's tag
_problems: Callable[[str], list[str]] = verify  # which lacks types
_Answer = TypeVar("_Answer")
_Transaction: TypeAlias = "lmdb.Transaction[memoryview]"  # what it gives is valid until its next write


def _stamp(seconds: float) -> bytes:
    return ceil(seconds * 1000).to_bytes(8, "big")


# One swap, or a removal where the record is None: key, record, the tag expected, until. A bare tuple: there is one for each chunk.
_Write: TypeAlias = tuple[bytes, bytes | None, bytes | None, bytes]


@dataclass(frozen=True, slots=True)
class _Files:
    """The open environment and its databases: what is done within one transaction."""

    env: lmdb.Environment
    records: _Database
    due: _Database
    gone: _Database

    @classmethod
    def open(cls, folder: Path, map_size: int) -> "_Files":
        with (folder / "lock.mdb").open("ab") as lock:  # LMDB maps it as it is: on a full disk that would end the process
            os.posix_fallocate(lock.fileno(), 0, 64 * (READERS + 3))
        unsynced = {"sync": False, "metasync": False, "readahead": False}
        env = lmdb.open(str(folder), map_size, mode=0o600, max_dbs=3, max_readers=READERS, max_spare_txns=1, **unsynced)
        try:
            env.reader_check()
            with env.begin(write=True, buffers=True) as txn:
                return cls(env, *(env.open_db(name, txn) for name in (b"records", b"due", b"gone")))
        except BaseException:
            env.close()
            raise

    def write(self, txn: _Transaction, write: _Write) -> bool:
        key, record, expected, until = write
        kept = txn.get(key)
        if kept is not None:
            _, due, tag = _BEGINNING.unpack_from(kept)
            if tag != expected:
                return False
        elif expected is not None or record is None:
            return False
        elif (forget := txn.get(key, db=self.gone)) is not None:
            txn.delete(bytes(forget) + key, db=self.due)
            txn.delete(key, db=self.gone)
        if record is None:
            return txn.delete(due + key, db=self.due) and txn.delete(key)
        if kept is None or until < due:  # it is new, or its time was shortened
            if kept is not None:
                txn.delete(due + key, db=self.due)
            due = until
            txn.put(due + key, b"", db=self.due)
        return txn.put(key, until + due + record)

    def after(self, txn: _Transaction, key: bytes, most: int) -> list[str]:
        cursor = txn.cursor(self.records)
        found = cursor.set_range(key + b"\0")  # or it would stand at the first
        return [bytes(key).decode() for key in islice(cursor.iternext(values=False), most)] if found else []

    def drop(self, txn: _Transaction, now: float, most: int) -> tuple[int, int]:
        """How many entries were due, of as many as were looked at, and how many records were dropped."""
        stamp, forget = int(now * 1000).to_bytes(8, "big"), _stamp(now + GONE)
        first = map(bytes, islice(txn.cursor(self.due).iternext(values=False), min(most, SLICE)))
        entries = list(takewhile(lambda entry: entry[:8] <= stamp, first))
        dropped = 0
        for entry in entries:
            due, key = entry[:8], entry[8:]
            txn.delete(entry, db=self.due)
            kept = txn.get(key)
            if kept is None or kept[8:16] != due:
                txn.delete(key, db=self.gone)
            elif (until := bytes(kept[:8])) > stamp:
                txn.put(key, until + until + bytes(kept[16:]))
                txn.put(until + key, b"", db=self.due)
            else:
                txn.delete(key)
                txn.put(key, forget, db=self.gone)
                txn.put(forget + key, b"", db=self.due)
                dropped += 1
        return len(entries), dropped


class Embedded:
    """The store in one folder. A process opens a folder once, and must not carry it over a fork."""

    name: ClassVar[str] = "embedded"

    def __init__(self, folder: Path, *, map_size: int = MAP_SIZE) -> None:
        """StoreUnavailable where the folder cannot be used."""
        self._folder = folder
        self._map_size = map_size
        self._waiting: list[tuple[_Write, asyncio.Future[bool]]] = []
        self._closed = False
        self._files: _Files | None = self._open()

    now = staticmethod(time)

    async def read(self, key: str) -> bytes | None:
        name = key.encode()
        return self._within(lambda _, txn: bytes(kept[PREFIX:]) if (kept := txn.get(name)) is not None else None)

    async def swap(self, key: str, record: bytes, *, expected: bytes | None, until: float) -> bool:
        return await self._later(key.encode(), record, expected, _stamp(until))

    async def remove(self, key: str, *, expected: bytes) -> bool:
        return await self._later(key.encode(), None, expected, b"")

    async def expired(self, key: str) -> bool:
        return self._within(lambda files, txn: txn.get(key.encode(), db=files.gone) is not None)

    async def sweep(self, now: float, *, limit: int) -> int:
        self._within(lambda files, _: files.env.reader_check())  # who was killed while it read keeps pages from being reused
        left = due = limit
        while left and due:
            due, dropped = self._within(partial(_Files.drop, now=now, most=left), write=True)
            left -= dropped
            await asyncio.sleep(0)
        return limit - left

    async def count(self) -> int:
        return self._within(lambda files, txn: txn.stat(files.records)["entries"])

    async def page(self, cursor: str, *, limit: int) -> tuple[list[str], str]:
        keys = self._within(lambda files, txn: files.after(txn, cursor.encode(), limit + 1))
        return keys[:limit], keys[limit - 1] if len(keys) > limit else ""

    async def close(self) -> None:
        self._commit()
        self._closed = True
        if self._files is not None:
            try:
                self._files.env.sync(True)
            except lmdb.Error as error:
                log.error("%s could not be forced to the disk: %s", self._folder, error)
            self._files.env.close()
            self._files = None

    def _later(self, key: bytes, record: bytes | None, expected: bytes | None, until: bytes) -> "asyncio.Future[bool]":
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bool] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._commit)
        self._waiting.append(((key, record, expected, until), answer))
        return answer

    def _commit(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._settle([each for each in waiting if not each[1].done()])  # or who asked has left

    def _settle(self, waiting: list[tuple[_Write, asyncio.Future[bool]]]) -> None:
        """Answer all of them: in one transaction or, should that fail, in one each, for the fault may be a single one's."""
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

    def _within(self, act: Callable[[_Files, _Transaction], _Answer], *, write: bool = False) -> _Answer:
        """What `act` returns, once its transaction is through; StoreUnavailable, and then nothing has changed."""
        try:
            if self._closed:
                raise StoreUnavailable(f"The store in {self._folder} is closed.")
            files = self._files = self._files or self._open()
            with files.env.begin(files.records, None, write, True) as txn:
                return act(files, txn)
        except lmdb.Error as error:
            if isinstance(error, lmdb.PanicError) and self._files is not None:  # it will never say anything else
                self._files.env.close()
                self._files = None
            advice = " Free space on its disk; nothing in it was lost." if error.code in FULL else ""
            if isinstance(error, lmdb.MapFullError):
                advice = f" It may take {self._map_size / 2**20:g} MiB; nothing in it was lost."
            raise StoreUnavailable(f"The store in {self._folder} cannot be used: {error}.{advice}") from error

    def _open(self) -> _Files:
        """Open the files, one process at a time; those that cannot be read are set aside, and it begins anew."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with (self._folder / "opened").open("a+") as last:
                flock(last, LOCK_EX)  # or a second process would set aside what the first one has just begun
                boot = BOOT.read_text() if BOOT.exists() else ""
                last.seek(0)
                try:
                    looked_through = last.read() == boot or not (self._folder / "data.mdb").exists()
                    if not looked_through and (problems := _problems(str(self._folder))):  # LMDB would trust it, to the death
                        raise VerifyError(problems[0])
                    files = _Files.open(self._folder, self._map_size)
                except DAMAGED as error:
                    aside = f"damaged-{time_ns()}"
                    for file in self._folder.glob("*.mdb"):
                        os.replace(file, f"{file}.{aside}")
                    log.error("%s cannot be read (%s). It is kept as data.mdb.%s; streams begin anew.", self._folder, error, aside)
                    files = _Files.open(self._folder, self._map_size)
                last.truncate(0)
                last.write(boot)
                return files
        except (OSError, lmdb.Error) as error:
            raise StoreUnavailable(f"Streams cannot be kept in {self._folder}, which has to be writable: {error}.") from error
